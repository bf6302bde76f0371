"""Measures a container from its start, by what it is given; its image is not changed."""
