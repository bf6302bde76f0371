"""The check-up: looks at everything that measuring needs, then proves that it works."""
