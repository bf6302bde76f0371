"""Sources: which file here is the one that ran, is it the same, and does it count."""
