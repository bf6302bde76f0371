"""Who ran what: the origins of a result, each with how much it ran and how much only it did."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import hcoverage
from hcov._tell.messages import message_of, tell
from hcov._tell.summary import short

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from hcov._tell.analysis import Analysis, ReportedFile

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


class CountedOrigins:
    """The origins of a merged data file, and what each ran of each file that reports are about.

    Args:
        origins: The origins of the data file.
        analysis: The analysis of it; best before anything else is made of that.
    """

    def __init__(self, origins: hcoverage.OriginData, analysis: Analysis) -> None:
        self.origins = origins
        self._analysis = analysis
        self._by_origin = {name: origins.ran(name).by_file() for name in origins.names}
        self._counted: dict[str, OriginsOfFile] = {}
        analysis.look_with(self._count)

    def files(self) -> list[OriginsOfFile]:
        """Give what each origin ran of each file, as coverage.py's reports are sorted."""
        reported = [file.measured for file in self._analysis.files()]
        return [self._counted[path] for path in reported]

    def _count(self, file: ReportedFile) -> None:
        lines = {name: found.get(file.measured, ()) for name, found in self._by_origin.items()}
        ran = {name: file.statements_in(found) for name, found in lines.items() if found}
        ran = {name: found for name, found in ran.items() if found}
        self._counted[file.measured] = OriginsOfFile(file.name, file.page, file.statements, ran)


def counted_origins(data_file: Path, analysis: Analysis) -> CountedOrigins | None:
    """Have the origins of a data file counted as it is analysed; None where it does not tell them.

    Args:
        data_file: The merged data file.
        analysis: The analysis of it, before anything is made of that.
    """
    try:
        return CountedOrigins(hcoverage.read_origins(data_file), analysis)
    except hcoverage.OriginsError:
        return None


def report_origins(
    counted: CountedOrigins | None, *, page_directory: Path | None, quiet: bool
) -> None:
    """Tell who ran what, where there is more than one origin, and write the page of it.

    Args:
        counted: The origins, counted; None where the data does not tell them.
        page_directory: Where coverage.py's HTML report is; None for no page.
        quiet: Tell nothing but problems.
    """
    if page_directory is not None:
        from hcov._tell.origins_page import NAME  # noqa: PLC0415 - most runs write none

        # That of an earlier run says nothing of this one, and may not be written anew.
        with contextlib.suppress(OSError):
            (page_directory / NAME).unlink(missing_ok=True)
    if counted is None:
        return
    is_told = not quiet and len(counted.origins.names) > 1
    if not is_told and page_directory is None:
        return
    files = counted.files()
    if is_told:
        rows_shown = table(counted.origins, files)
        tell("\n".join(["who ran what:", *(f"  {row}" for row in rows_shown)]))
    if page_directory is not None and page_directory.is_dir():
        _write_page(counted.origins, files, page_directory, quiet=quiet)


def _write_page(
    origins: hcoverage.OriginData,
    files: Sequence[OriginsOfFile],
    directory: Path,
    *,
    quiet: bool,
) -> None:
    from hcov._tell.origins_page import write_page  # noqa: PLC0415 - most runs write none

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
