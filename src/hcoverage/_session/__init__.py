"""Runs around the measured command: opens the doors into processes, and closes them again."""
