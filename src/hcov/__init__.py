"""The `hcov` command: what people type and see.

It knows nothing of how data is stored (`hcoverage`) or of how containers are measured (`hdocker`).

PYTEST_DONT_REWRITE: pytest loads our plugin, and would warn if this was imported before.
"""
