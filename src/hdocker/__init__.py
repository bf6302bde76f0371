"""Containers: images with measuring baked in, and `docker run` commands that bring the data home.

Knows nothing of pytest or of reports (`hcov`); leaves processes and data to `hcoverage`, and
building and running to the engine (docker or podman).
"""
