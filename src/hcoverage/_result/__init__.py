"""The merged data file: its content, putting it in place, and the report about it."""
