"""Runs in measured processes, from copies: the standard library alone, Python 3.8 and later."""
