"""The possible values of the pytest plugin's options."""

from __future__ import annotations

from typing import Final

# Beside these, coverage.py's file reports: `hcov._tell.formats.FILE_REPORTS`.
REPORTS: Final = ("term", "html", "xml", "json", "lcov", "")
CORES: Final = ("auto", "recorder", "coverage")
CONTEXTS: Final = ("test",)
