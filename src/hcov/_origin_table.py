"""Who ran what: the origins of a result, each with how much it ran and how much only it did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import hcoverage
from hcov._messages import message_of, tell
from hcov._origins_page import write_page
from hcov._statements import reported_files
from hcov._summary import short

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_SHOWN: Final = 10
HEADINGS: Final = ("origin", "processes", "files", "lines", "only it ran")
_LONGEST_NAME: Final = 48


@dataclass(frozen=True)
class OriginsOfFile:
    """What each origin ran of a file.

    Attributes:
        name: What coverage.py's reports call the file.
        page: Its page in coverage.py's HTML report.
        lines: Its statements.
        ran: The statements that each origin ran, for those that ran some.
    """

    name: str
    page: str
    lines: frozenset[int]
    ran: Mapping[str, frozenset[int]]

    @property
    def statements(self) -> int:
        """How many statements it has."""
        return len(self.lines)

    @property
    def covered(self) -> int:
        """How many statements ran."""
        return len(frozenset().union(*self.ran.values()))

    def only(self, origin: str) -> frozenset[int]:
        """Give the statements that one origin ran and no other."""
        others = (lines for name, lines in self.ran.items() if name != origin)
        return self.ran.get(origin, frozenset()).difference(*others)


def origins_of_files(
    origins: hcoverage.OriginData, data_file: Path, rcfile: hcoverage.Rcfile
) -> list[OriginsOfFile]:
    """Count what each origin ran of each file that coverage.py's reports are about.

    Args:
        origins: The origins of the data file.
        data_file: The data file.
        rcfile: The rcfile.
    """
    by_origin = {name: origins.ran(name).by_file() for name in origins.names}
    counted = []
    with reported_files(data_file, rcfile) as files:
        for file in files:
            lines = {name: found.get(file.measured, ()) for name, found in by_origin.items()}
            ran = {name: file.statements_in(found) for name, found in lines.items() if found}
            ran = {name: found for name, found in ran.items() if found}
            counted.append(OriginsOfFile(file.name, file.page, file.statements, ran))
    return counted


def report_origins(
    data_file: Path, rcfile: hcoverage.Rcfile, *, page_directory: Path | None, quiet: bool
) -> None:
    """Tell who ran what, where there is more than one origin, and write the page of it.

    Args:
        data_file: The merged data file.
        rcfile: The rcfile.
        page_directory: Where coverage.py's HTML report is; None for no page.
        quiet: Tell nothing but problems.
    """
    try:
        origins = hcoverage.read_origins(data_file)
    except hcoverage.OriginsError:
        return
    is_told = not quiet and len(origins.names) > 1
    if not is_told and page_directory is None:
        return
    files = origins_of_files(origins, data_file, rcfile)
    if is_told:
        tell("\n".join(["who ran what:", *(f"  {row}" for row in table(origins, files))]))
    if page_directory is not None and page_directory.is_dir():
        _write_page(origins, files, page_directory, quiet=quiet)


def _write_page(
    origins: hcoverage.OriginData,
    files: Sequence[OriginsOfFile],
    directory: Path,
    *,
    quiet: bool,
) -> None:
    try:
        path = write_page(origins, files, directory)
    except (hcoverage.MissingExtraError, OSError) as error:
        tell(f"warning: {message_of(error)}")
    else:
        if not quiet:
            tell(f"wrote {short(path.absolute())}: who ran what, file by file")


def table(origins: hcoverage.OriginData, files: Sequence[OriginsOfFile]) -> list[str]:
    """Lay out a table of origins: what each ran, and what of it nobody else did."""
    cells = rows(origins, files)
    shown = [HEADINGS, *cells[:_SHOWN]]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    lines = [_aligned(row, widths) for row in shown]
    if len(cells) > _SHOWN:
        lines.append(f"and {len(cells) - _SHOWN} more")
    return lines


def rows(origins: hcoverage.OriginData, files: Sequence[OriginsOfFile]) -> list[tuple[str, ...]]:
    """Give the cells of a table of origins, a row for each, below `HEADINGS`."""
    return [_row(name, origins, files) for name in origins.names]


def _row(
    name: str, origins: hcoverage.OriginData, files: Sequence[OriginsOfFile]
) -> tuple[str, ...]:
    ran = [file for file in files if name in file.ran]
    lines = sum(len(file.ran[name]) for file in ran)
    alone = sum(len(file.only(name)) for file in ran)
    numbers = (origins.processes.get(name, 0), len(ran), lines, alone)
    shown = name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
    return (shown, *(f"{number:,}" for number in numbers))


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    first, *numbers = row
    columns = (number.rjust(width) for number, width in zip(numbers, widths[1:], strict=True))
    return "  ".join([first.ljust(widths[0]), *columns])
