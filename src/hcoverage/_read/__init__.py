"""From bytes to facts: reads recordings and data files, also in worker processes."""
