"""Runs beside the command: finds which Pythons started, which left no data, and why."""
