"""Reports: coverage.py's own, printed or written."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from hcov._tell.messages import writer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hcov._tell.analysis import Analysis


def report(
    analysis: Analysis,
    *,
    layout: str | None = None,
    files: Iterable[str] = (),
    fail_under: float | None = None,
    context: str | None = None,
    printed: bool = True,
    quiet: bool = False,
) -> int:
    """Print coverage.py's report, and write the other requested ones.

    Args:
        analysis: The analysis of the merged data file.
        layout: Which of `formats.FORMATS` to print; None for the rcfile's own.
        files: Which of `formats.FILE_REPORTS` to write, to the rcfile's or coverage.py's paths.
        fail_under: The total, in percent, under which the status is 2; None for the rcfile's own.
        context: Print only what ran in this context.
        printed: Print the report, and not only why the status is not 0, which does not depend on
            this.
        quiet: Print nothing at all.

    Returns:
        The first exit status of coverage.py that is not 0, else 0.
    """
    said = analysis.report(layout, fail_under, context)
    if not quiet:
        print_text(said.text if printed else said.reason)
    statuses = [said.status]
    for name in files:
        # Only the printed report checks the threshold; the others would repeat its message.
        said = analysis.write(name)
        if not quiet:
            print_text(said.text)
        statuses.append(said.status)
    return next((status for status in statuses if status), 0)


def report_text(analysis: Analysis, layout: str) -> str:
    """Return coverage.py's report as text; empty if it has nothing to report.

    Args:
        analysis: The analysis of the merged data file.
        layout: Which of `formats.FORMATS`.
    """
    said = analysis.report(layout, fail_under=0)
    return "" if said.status else said.text


def print_text(text: str) -> None:
    """Print a report to stdout, or wherever reports go inside pytest."""
    write = writer()
    if write is not None:
        write(text)
        return
    # A name may contain bytes that are no characters.
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
    sys.stdout.flush()
