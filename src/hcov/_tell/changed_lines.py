"""The coverage of the lines that a change touched, per file: `hcov report --since`."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import hcoverage

if TYPE_CHECKING:
    from hcov._tell.analysis import Analysis

HEADINGS: Final = ("changed", "statements", "missed", "cover", "missing")


@dataclasses.dataclass(frozen=True)
class ChangedFile:
    """A file with changed lines.

    Attributes:
        name: Its name in the reports.
        statements: The statements with a changed line, by their first lines.
        missed: Those that nothing ran.
        missing: The same in the form of coverage.py's report: `3-7, 12`.
        is_older: Whether the source was written to after it was measured.
    """

    name: str
    statements: frozenset[int]
    missed: frozenset[int]
    missing: str = ""
    is_older: bool = False


@dataclasses.dataclass(frozen=True)
class ChangedLines:
    """The coverage of all changes since a revision.

    Attributes:
        since: The revision.
        files: The files with changed statements.
    """

    since: str
    files: tuple[ChangedFile, ...]

    @property
    def statements(self) -> int:
        """How many statements have changed."""
        return sum(len(file.statements) for file in self.files)

    @property
    def missed(self) -> int:
        """How many of them nothing ran."""
        return sum(len(file.missed) for file in self.files)

    @property
    def percent(self) -> float:
        """How much of it ran, in percent; 100 if nothing has changed."""
        return _percent(self.statements, self.missed)

    def rows(self) -> list[tuple[str, ...]]:
        """Return the cells of a table, without the headings; the last row is the total."""
        rows = [
            _row(each.name, len(each.statements), len(each.missed), each) for each in self.files
        ]
        return [*rows, _row("TOTAL", self.statements, self.missed)]

    def text(self) -> str:
        """Return it as a table for a terminal."""
        if not self.statements:
            return f"no statement has changed since {self.since}"
        table = [HEADINGS, *self.rows()]
        widths = [max(len(row[column]) for row in table) for column in range(len(HEADINGS))]
        lines = [
            "  ".join(
                cell.rjust(width) if 0 < column < len(HEADINGS) - 1 else cell.ljust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in table
        ]
        older = [file.name for file in self.files if file.is_older]
        notes = [
            f"{hcoverage.printable(name)} was written to after it was measured" for name in older
        ]
        return "\n".join([f"changed since {self.since}:", *lines, *notes])


def changed_coverage(analysis: Analysis, data_file: Path, since: str) -> ChangedLines:
    """Count the statements that have changed since a revision, and those of them that ran.

    Args:
        analysis: The analysis of a merged data file.
        data_file: That file.
        since: A git revision.

    Raises:
        RevisionError: The changes cannot be found out.
    """
    from coverage.results import format_lines  # noqa: PLC0415 - most commands do not need it

    changed = hcoverage.changed_lines(Path.cwd(), since)
    ran = hcoverage.read_measured(data_file).by_file()
    measured_at = data_file.stat().st_mtime
    found = []
    for file in analysis.files():
        path = os.path.realpath(file.measured)
        statements = file.statements_in(changed.get(path, ()))
        if statements:
            missed = statements - file.statements_in(ran.get(file.measured, ()))
            missing = format_lines(file.statements, missed)
            is_older = Path(path).stat().st_mtime > measured_at
            found.append(ChangedFile(file.name, statements, missed, missing, is_older))
    return ChangedLines(since, tuple(sorted(found, key=lambda file: file.name)))


def _row(
    name: str, statements: int, missed: int, file: ChangedFile | None = None
) -> tuple[str, ...]:
    cover = f"{_percent(statements, missed):.0f}%"
    missing = "" if file is None else file.missing
    return hcoverage.printable(name), str(statements), str(missed), cover, missing


def _percent(statements: int, missed: int) -> float:
    """Return the percentage; as in coverage.py, it is 100 only if nothing is missed."""
    percent = 100 * (statements - missed) / statements if statements else 100.0
    return min(percent, 99.0) if missed and round(percent) == 100 else percent  # noqa: PLR2004
