"""The names of reports, and the exit status for a total that is too low."""

from __future__ import annotations

from typing import Final

FILE_REPORTS: Final = ("html", "xml", "json", "lcov")
FORMATS: Final = ("text", "markdown", "total")

# GitHub's name for the file that gets the summary of a step.
STEP_SUMMARY_VARIABLE: Final = "GITHUB_STEP_SUMMARY"

# coverage.py's own exit status for a total under --fail-under.
UNDER_THRESHOLD: Final = 2
