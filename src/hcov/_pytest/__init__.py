"""The pytest plugin: does the work of `--hcov` inside pytest."""
