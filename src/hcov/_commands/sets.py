"""`hcov diff`, `hcov only`, `hcov common`: set algebra on results, counted in statements."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

import hcoverage
from hcov._tell.messages import tell
from hcov._tell.summary import short

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from hcov._tell.analysis import ReportedFile

LOSS: Final = 1
_ORIGIN: Final = "origin:"


@dataclass(frozen=True)
class _Had:
    """What one side has of a file.

    Attributes:
        lines: Statements, or, if the source is not here, the lines that ran.
        branches: Arcs that are one of several ways on.
    """

    lines: frozenset[int]
    branches: frozenset[tuple[int, int]] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.lines or self.branches)

    def minus(self, other: _Had) -> _Had:
        """Return what this has and another has not; without branches that the lines imply."""
        lines = self.lines - other.lines
        branches = self.branches - other.branches
        return _Had(lines, frozenset(arc for arc in branches if lines.isdisjoint(arc)))

    def common(self, other: _Had) -> _Had:
        """Return the lines that both have; branches are left out."""
        return _Had(self.lines & other.lines)

    def text(self, statements: frozenset[int]) -> str:
        """Return it in coverage.py's form: `3-7, 12`, if all statements from 3 to 7 are in it."""
        from coverage.results import format_lines  # noqa: PLC0415 - as in `_tell.analysis`

        lines = format_lines(statements or self.lines, self.lines)
        return ", ".join(filter(None, [lines, *map(_arrow, sorted(self.branches))]))


@dataclass(frozen=True)
class _File:
    """A file of two results.

    Attributes:
        name: Its name in the output.
        ours: What the first result has.
        theirs: What the second result has.
        statements: Its statements; none if its source is not here.
        has_changed: Whether its source was written to after one of the results.
    """

    name: str
    ours: _Had
    theirs: _Had
    statements: frozenset[int] = frozenset()
    has_changed: bool = False


@dataclass(frozen=True)
class Place:
    """Where the commands read and write.

    Attributes:
        rcfile: The rcfile.
        data_file: The merged data file with the origins.
        output: The data file to write the result to, or None.
    """

    rcfile: hcoverage.Rcfile
    data_file: Path
    output: Path | None = None


def diff(first: str, second: str, place: Place, *, fail_on_loss: bool) -> int:
    """Print what one result has and another has not, and the other way round.

    Returns:
        `LOSS` if the second lost something and `fail_on_loss` is set, else 0.

    Raises:
        HcoverageError, OSError: A result cannot be read, or the output cannot be written.
    """
    ours, theirs = _operand(first, place), _operand(second, place)
    _write(ours.minus(theirs), place)
    files = _compare(ours, theirs, place, [first, second])
    lost = [(file, file.ours.minus(file.theirs)) for file in files]
    gained = [(file, file.theirs.minus(file.ours)) for file in files]
    _print(f"lost: in {first}, not in {second}", lost)
    _print(f"gained: in {second}, not in {first}", gained)
    if files and not ours.files & theirs.files:
        text = "the two have no file in common: do they need [paths] in the rcfile?"
        tell(hcoverage.with_slug(text, hcoverage.Page.NO_COMMON_FILE))
    return LOSS if fail_on_loss and any(had for _, had in lost) else 0


def only(origin: str, place: Place) -> None:
    """Print what one origin ran and no other did.

    Raises:
        HcoverageError, OSError: The data cannot be read, or the output cannot be written.
    """
    origins = hcoverage.read_origins(place.data_file)
    name = origins.resolve(origin.removeprefix(_ORIGIN))
    mine, others = origins.ran(name), origins.ran_by_others(name)
    # With its contexts, which only the merged data has.
    whole = hcoverage.read_measured(place.data_file, place.rcfile)
    _write(whole.common(mine.minus(others)), place)
    files = _compare(mine, others, place, [str(place.data_file)])
    _print(f"only {name}", [(file, file.ours.minus(file.theirs)) for file in files])


def common(first: str, second: str, place: Place) -> None:
    """Print what two results have in common.

    Raises:
        HcoverageError, OSError: A result cannot be read, or the output cannot be written.
    """
    ours, theirs = _operand(first, place), _operand(second, place)
    _write(ours.common(theirs), place)
    files = _compare(ours, theirs, place, [first, second])
    _print(
        f"common: in {first} and in {second}",
        [(file, file.ours.common(file.theirs)) for file in files],
    )


def _operand(name: str, place: Place) -> hcoverage.Measured:
    """Return the data for an argument: a data file, or `origin:NAME` of the last run."""
    if name.startswith(_ORIGIN):
        return hcoverage.read_origins(place.data_file).ran(name.removeprefix(_ORIGIN))
    return hcoverage.read_measured(name, place.rcfile)


def _write(measured: hcoverage.Measured, place: Place) -> None:
    if place.output is not None:
        measured.write(place.output)
        tell(f"wrote {short(place.output.absolute())}")


def _compare(
    ours: hcoverage.Measured,
    theirs: hcoverage.Measured,
    place: Place,
    operands: Iterable[str],
) -> list[_File]:
    """Count what both results have of each file, sorted by name."""
    from hcov._tell.analysis import analysed  # noqa: PLC0415 - with most of coverage.py

    both = ours.union(theirs)
    had = _Counted(ours), _Counted(theirs)
    measured_at = min(_times(operands), default=0.0)
    found, known = [], set()
    with tempfile.TemporaryDirectory(prefix="hcov-") as directory:
        merged = Path(directory) / "both"
        both.write(merged)
        with analysed(merged, place.rcfile) as analysis:
            for file in analysis.files():
                known.add(file.measured)
                mine, other = (side.statements(file) for side in had)
                changed = _changed(file.measured, measured_at)
                found.append(_File(file.name, mine, other, file.statements, changed))
    for path in both.files - known:
        # Without the source, statements are not known. If it is here, the file must stay hidden.
        if not Path(path).exists():
            mine, other = (side.lines(path) for side in had)
            found.append(_File(short(path), mine, other))
    return sorted(found, key=lambda file: file.name)


class _Counted:
    """The statements and branches of one side, counted."""

    def __init__(self, measured: hcoverage.Measured) -> None:
        self._lines = measured.by_file()
        self._arcs = measured.arcs_by_file()

    def statements(self, file: ReportedFile) -> _Had:
        lines = file.statements_in(self._lines.get(file.measured, ()))
        arcs = self._arcs.get(file.measured)
        return _Had(lines, file.branches_in(arcs) if arcs else frozenset())

    def lines(self, path: str) -> _Had:
        return _Had(self._lines.get(path, frozenset()))


def _times(operands: Iterable[str]) -> Iterator[float]:
    for name in operands:
        if not name.startswith(_ORIGIN):
            yield Path(name).stat().st_mtime


def _changed(path: str, measured_at: float) -> bool:
    try:
        return 0 < measured_at < os.stat(path).st_mtime  # noqa: PTH116 - a name of data
    except (OSError, ValueError):
        return False


def _print(title: str, rows: Iterable[tuple[_File, _Had]]) -> None:
    shown = [(file, had) for file, had in rows if had]
    lines = sum(len(had.lines) for _, had in shown)
    branches = sum(len(had.branches) for _, had in shown)
    counts = [f"{lines:,} line{'s' * (lines != 1)}"]
    if branches:
        counts.append(f"{branches:,} branch{'es' * (branches != 1)}")
    click.echo(hcoverage.printable(f"{title}: {' and '.join(counts)}"))
    for file, had in shown:
        note = "  (its source has changed since)" if file.has_changed else ""
        click.echo(f"  {hcoverage.printable(file.name)}: {had.text(file.statements)}{note}")


def _arrow(arc: tuple[int, int]) -> str:
    source, target = arc
    return f"{source}->{target if target > 0 else 'exit'}"
