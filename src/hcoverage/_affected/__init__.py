"""Finds the tests that a change needs, from records of earlier runs and what has changed since."""
