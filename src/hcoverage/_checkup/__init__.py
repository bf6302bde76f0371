"""The check-up: looks at all that measuring needs, then proves that it works."""
