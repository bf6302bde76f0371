"""What a run is told: the rcfile, and the environment."""
