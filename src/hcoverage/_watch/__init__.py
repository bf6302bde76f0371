"""Beside the run: which Pythons started, which of them left nothing, and why."""
