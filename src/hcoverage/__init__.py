"""Processes and data: the hook, the session, and combining what processes wrote.

Knows nothing of containers (`hdocker`) or of the command line (`hcov`); leaves configuration, data
files and reports to coverage.py.
"""
