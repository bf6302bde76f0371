"""The table of origins: how much each ran, and how much only it ran."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    import hcoverage
    from hcov._tell.origin_counts import OriginsOfFile

_SHOWN: Final = 10
HEADINGS: Final = ("origin", "processes", "files", "lines", "only it ran")
_LONGEST_NAME: Final = 48


def table(origins: hcoverage.OriginData, files: Sequence[OriginsOfFile]) -> list[str]:
    """Return the lines of a table of origins: what each ran, and what only it ran."""
    cells = rows(origins, files)
    shown = [HEADINGS, *cells[:_SHOWN]]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    lines = [_aligned(row, widths) for row in shown]
    if len(cells) > _SHOWN:
        lines.append(f"and {len(cells) - _SHOWN} more")
    return lines


def rows(origins: hcoverage.OriginData, files: Sequence[OriginsOfFile]) -> list[tuple[str, ...]]:
    """Return the cells of a table of origins, a row for each, below `HEADINGS`."""
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
