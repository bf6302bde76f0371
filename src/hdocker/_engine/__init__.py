"""The engine: its client's commands, and what it sees of this machine."""
