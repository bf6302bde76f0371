"""Reports files that were imported before measuring began, so that their imports are missing.

This happens inside pytest, which loads all plugins before one of them can measure.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import hcoverage
from hcov._tell.messages import tell
from hcov._tell.summary import first_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hcov._tell.analysis import Analysis

_SHOWN: Final = 3


def tell_imported_before(files: Iterable[str], analysis: Analysis) -> None:
    """Print which files lack the lines that their import ran, and how to get them.

    If a file's first statement is missing, which each import runs, no other process imported it.

    Args:
        files: The files that were imported before.
        analysis: The analysis for the report, which has all of them that count.
    """
    lacking = {
        os.path.realpath(file.measured)
        for file in analysis.files()
        if file.statements and min(file.statements) in file.missing
    }
    if lacking:
        lacking.intersection_update(map(os.path.realpath, files))
    if lacking:
        text = (
            f"not measured: pytest imported {first_of(sorted(lacking), _SHOWN)} before --hcov "
            "could begin, so the lines of that import are missing: measure with "
            "`hcov run -- pytest`"
        )
        tell(hcoverage.with_slug(hcoverage.printable(text), hcoverage.Page.IMPORTED_BEFORE))
