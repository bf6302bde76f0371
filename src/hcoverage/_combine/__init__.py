"""After the run: gathers what processes left, selects, and merges it."""
