"""The `hcov` command: what people type and see.

Knows nothing of how data is stored (`hcoverage`) or of how containers are measured (`hdocker`).

PYTEST_DONT_REWRITE: pytest has our plugin, and would warn where we are imported before it.
"""
