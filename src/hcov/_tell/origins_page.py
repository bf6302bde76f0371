"""`origins.html`: who ran what, file by file, beside coverage.py's own pages and linked to them.

It is one page that loads nothing from elsewhere. The template engine escapes all data.
"""

from __future__ import annotations

import importlib.resources
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import hcoverage

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from hcov._tell.origin_counts import OriginsOfFile

NAME: Final = "origins.html"

_TEMPLATE: Final = "origins_page.html.jinja"
_INDEX: Final = "index.html"
_PIECE: Final = r"[^/:_.-]*[/:_.-]|[^/:_.-]+"


@dataclass(frozen=True)
class _Column:
    """An origin: for example the kind `image` and a name, or the name `main` without a kind."""

    kind: str
    name: str
    processes: int


@dataclass(frozen=True)
class _Cell:
    """What an origin ran of a file, in statements, and in percent of all of them."""

    ran: int
    only: int
    only_width: float
    also_width: float


@dataclass(frozen=True)
class _Lines:
    """The lines of a file that only one origin ran, with links to coverage.py's page."""

    origin: str
    ranges: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class _Row:
    name: str
    page: str
    statements: int
    covered: int
    cells: Sequence[_Cell]
    lines: Sequence[_Lines] = ()

    @property
    def fraction(self) -> float:
        return round(self.covered / self.statements, 4) if self.statements else 1.0

    @property
    def percent(self) -> str:
        # As in coverage.py, only all statements are 100 %, and only none are 0 %.
        if self.covered in {0, self.statements}:
            return f"{self.fraction:.0%}"
        return f"{min(max(round(self.fraction * 100), 1), 99)}%"


def write_page(
    origins: hcoverage.OriginData, files: Sequence[OriginsOfFile], directory: Path
) -> Path:
    """Write the page.

    Args:
        origins: The origins.
        files: What each ran of each file.
        directory: The directory of coverage.py's HTML report.

    Returns:
        The page.

    Raises:
        MissingExtraError: The template engine is not installed.
        OSError: It cannot be written.
    """
    try:
        import jinja2  # noqa: PLC0415 - of an extra
    except ImportError as error:
        raise hcoverage.MissingExtraError(
            f"{NAME} is not written: it needs jinja2: pip install 'hcoverage[html]'"
        ) from error
    text = importlib.resources.files("hcov._tell").joinpath(_TEMPLATE).read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    names = origins.names
    page = environment.from_string(text).render(
        columns=[_column(name, origins.processes.get(name, 0)) for name in names],
        files=[_row(file, names, directory) for file in files],
        total=_total(files, names),
        pieces=_pieces,
        index=_INDEX if (directory / _INDEX).exists() else "",
    )
    path = directory / NAME
    # A name may contain bytes that are no characters.
    path.write_text(page, encoding="utf-8", errors="backslashreplace")
    return path


def _column(origin: str, processes: int) -> _Column:
    kind, space, name = origin.partition(" ")
    return _Column(kind if space else "", name if space else kind, processes)


def _pieces(name: str) -> list[str]:
    """Split a name at the places where a line may break."""
    return re.findall(_PIECE, name)


def _row(file: OriginsOfFile, names: Sequence[str], directory: Path) -> _Row:
    # coverage.py has no page for files that its settings skip.
    page = _link(file.page) if (directory / file.page).is_file() else ""
    only = {name: file.only(name) for name in names}
    ran = {name: len(file.ran.get(name, ())) for name in names}
    cells = [_cell(ran[name], len(only[name]), file.statements) for name in names]
    alone = {name: found for name, found in only.items() if found}
    lines = [_Lines(name, list(_ranges(file, found, page))) for name, found in alone.items()]
    return _Row(file.name, page, file.statements, file.covered, cells, lines)


def _total(files: Sequence[OriginsOfFile], names: Sequence[str]) -> _Row:
    statements = sum(file.statements for file in files)
    cells = [
        _cell(
            sum(len(file.ran.get(name, ())) for file in files),
            sum(len(file.only(name)) for file in files),
            statements,
        )
        for name in names
    ]
    return _Row("", "", statements, sum(file.covered for file in files), cells)


def _cell(ran: int, only: int, statements: int) -> _Cell:
    percent = 100 / (statements or 1)
    return _Cell(ran, only, round(only * percent, 2), round((ran - only) * percent, 2))


def _ranges(file: OriginsOfFile, lines: frozenset[int], page: str) -> Iterator[tuple[str, str]]:
    from coverage.results import format_lines  # noqa: PLC0415 - as in `_tell.analysis`

    for text in format_lines(file.lines, lines).split(", "):
        first = text.partition("-")[0]
        yield text, f"{page}#t{first}" if page else ""


def _link(page: str) -> str:
    """Return a link to a file in the same directory, quoted so that any name works."""
    return f"./{quote(page, errors='surrogateescape')}"
