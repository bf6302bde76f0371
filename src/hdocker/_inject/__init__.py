"""Measures containers by mounts and variables that they get as they start."""
