"""The settings of a run: the rcfile and the environment."""
