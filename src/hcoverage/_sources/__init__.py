"""Sources: finds the file here that ran, compares it, and decides whether it counts."""
