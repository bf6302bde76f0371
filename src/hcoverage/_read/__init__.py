"""Turns bytes into facts: reads recordings and data files, also in worker processes."""
