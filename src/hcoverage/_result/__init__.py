"""The merged data file: what is in it, how it is put in place, and what is told of it."""
