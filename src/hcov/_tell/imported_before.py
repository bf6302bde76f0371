"""What was imported before measuring began: the lines that its import ran are missing.

That is so inside of pytest, whose plugins are loaded before any of them can measure.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import hcoverage
from hcov._tell.messages import tell
from hcov._tell.summary import first_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hcov._tell.analysis import Analysis

_SHOWN: Final = 3


def tell_imported_before(
    files: Iterable[str], analysis: Analysis, rcfile: hcoverage.Rcfile
) -> None:
    """Tell which files lack what their import ran, and how to have it.

    No other process had it, if the first statement is missing, which each import runs.

    Args:
        files: Those that were imported before.
        analysis: What is reported.
        rcfile: The rcfile, which says what counts.
    """
    counted = hcoverage.counted(files, rcfile.settings)
    if not counted:
        return
    whole = {
        str(Path(file.measured).absolute())
        for file in analysis.files()
        if not file.statements or min(file.statements) not in file.missing
    }
    lacking = sorted(counted - whole)
    if lacking:
        text = (
            f"not measured: pytest imported {first_of(lacking, _SHOWN)} before --hcov could begin, "
            "so what that import ran is missing: `hcov run -- pytest` has it"
        )
        tell(hcoverage.with_slug(hcoverage.printable(text), hcoverage.Page.IMPORTED_BEFORE))
