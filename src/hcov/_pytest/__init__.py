"""The pytest plugin: what `--hcov` does, from inside of pytest."""
