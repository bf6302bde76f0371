"""The work of the commands, one file for each."""
