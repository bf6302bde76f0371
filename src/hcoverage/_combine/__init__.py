"""Runs after the measured command: gathers, selects and merges what processes wrote."""
