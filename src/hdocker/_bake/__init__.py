"""Builds images with coverage baked in."""
