"""The `hcov` command: what people type and see.

Knows nothing of how data is stored (`hcoverage`) or of how containers are measured (`hdocker`).
"""
