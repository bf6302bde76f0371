"""The summary of a GitHub job: Markdown, appended to the file that GitHub gives to each step.

The table of files is coverage.py's own. The rest comes from data that anybody may have written, so
it is escaped: nothing in it is Markdown or HTML for the program that renders the summary.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final

import hcoverage
from hcov._tell.formats import STEP_SUMMARY_VARIABLE as VARIABLE
from hcov._tell.messages import message_of, tell
from hcov._tell.origin_table import HEADINGS as ORIGIN_HEADINGS, rows
from hcov._tell.report import report_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from hcov._tell.analysis import Analysis
    from hcov._tell.origin_counts import CountedOrigins

# The branch that a pull request targets.
BASE_VARIABLE: Final = "GITHUB_BASE_REF"
_SHOWN: Final = 50
# GitHub takes 1 MiB from a step, and shows nothing at all of a longer summary.
_LONGEST_TABLE: Final = 500_000
_MARKUP: Final = r"[\\`*_{}\[\]<>#|~&!@$]"
# Characters that only file names can bring into coverage.py's table. Newer versions escape them; a
# second backslash would undo that.
_MARKUP_OF_NAMES: Final = r"(?P<escaped>\\[^\n])|[`\[\]<>&]"


def append_step_summary(
    analysis: Analysis,
    counted: CountedOrigins | None,
    problems: Sequence[str],
    data_file: Path,
) -> None:
    """Append the summary of a run to the file that `VARIABLE` names, if it names one.

    Args:
        analysis: The analysis of the merged data file.
        counted: Its origins, counted; None if the data has none.
        problems: What is missing, in lines for a person.
        data_file: The data file.
    """
    path = os.environ.get(VARIABLE)
    if not path:
        return
    blocks = [
        _total(analysis),
        _list(problems),
        _changed(analysis, data_file),
        _origins(counted),
        _files(analysis),
    ]
    text = "\n\n".join(block for block in blocks if block)
    try:
        # A blank line first: the file may end with a paragraph or a table.
        with open(path, "a", encoding="utf-8") as file:  # noqa: PTH123 - a name, of any kind
            file.write(f"\n{text}\n")
    except OSError as error:
        tell(f"warning: {VARIABLE}: the summary cannot be written: {message_of(error)}")


def escaped(text: str) -> str:
    r"""Escape text for Markdown, also in a table's cell: `\|`, `\<`, `` \` ``.

    Args:
        text: Text that may come from anywhere.
    """
    return re.sub(_MARKUP, r"\\\g<0>", hcoverage.printable(text))


def _total(analysis: Analysis) -> str:
    total = report_text(analysis, "total").strip()
    return f"## Coverage: {escaped(total)} %" if total else "## Coverage: nothing to report"


def _changed(analysis: Analysis, data_file: Path) -> str:
    """Return the coverage of a pull request's changes; empty if this is no pull request."""
    base = os.environ.get(BASE_VARIABLE)
    if not base:
        return ""
    from hcov._tell.changed_lines import HEADINGS, changed_coverage  # noqa: PLC0415 - only here

    try:
        changed = changed_coverage(analysis, data_file, f"origin/{base}")
    except (hcoverage.HcoverageError, OSError) as error:
        return f"It is not known which lines have changed: {escaped(str(error))}"
    title = f"### Changed lines: {changed.percent:.0f} %, of {changed.statements} statements"
    if not changed.statements:
        return "### No statement has changed"
    rule = ["---", *("---:" for _ in HEADINGS[1:-1]), "---"]
    cells = changed.rows()
    shown = cells if len(cells) <= _SHOWN else [*cells[:_SHOWN], cells[-1]]
    lines = [_row(HEADINGS), _row(rule), *(_row(map(escaped, row)) for row in shown)]
    return "\n".join([title, "", *lines])


def _list(problems: Sequence[str]) -> str:
    return "\n".join(f"- {escaped(problem)}" for problem in problems)


def _origins(counted: CountedOrigins | None) -> str:
    if counted is None:
        return ""
    cells = rows(counted.origins, counted.files())
    rule = ["---", *("---:" for _ in ORIGIN_HEADINGS[1:])]
    shown = cells[:_SHOWN]
    lines = [_row(ORIGIN_HEADINGS), _row(rule), *(_row(map(escaped, row)) for row in shown)]
    if cells[_SHOWN:]:
        lines += ["", f"and {len(cells) - _SHOWN} more"]
    return "\n".join(lines)


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _files(analysis: Analysis) -> str:
    table = re.sub(_MARKUP_OF_NAMES, _once_escaped, report_text(analysis, "markdown")).strip()
    if len(table.encode()) > _LONGEST_TABLE:
        return "The table of files is too long for a summary: `coverage report` prints it."
    return f"<details><summary>Files</summary>\n\n{table}\n\n</details>" if table else ""


def _once_escaped(found: re.Match[str]) -> str:
    return found["escaped"] or f"\\{found[0]}"
