"""Around the run: opens the doors into processes, and closes them again."""
