"""Counts what each origin of a result ran, in statements of coverage.py's analysis."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import hcoverage

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from hcov._tell.analysis import Analysis, ReportedFile


class OriginsOfFile(NamedTuple):
    """What each origin ran of a file.

    Attributes:
        name: The file's name in coverage.py's reports.
        page: Its page in coverage.py's HTML report.
        lines: Its statements.
        ran: The statements that each origin ran, without origins that ran none.
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
        """Return the statements that one origin ran and no other."""
        others = (lines for name, lines in self.ran.items() if name != origin)
        return self.ran.get(origin, frozenset()).difference(*others)


class CountedOrigins:
    """The origins of a merged data file, and what each ran of each file in the reports.

    Args:
        origins: The origins of the data file.
        analysis: The analysis of it; best before anything else uses it.
    """

    def __init__(self, origins: hcoverage.OriginData, analysis: Analysis) -> None:
        self.origins = origins
        self._analysis = analysis
        self._by_origin = {name: origins.ran(name).by_file() for name in origins.names}
        self._counted: dict[str, OriginsOfFile] = {}
        analysis.look_with(self._count)

    def files(self) -> list[OriginsOfFile]:
        """Return what each origin ran of each file, in the order of coverage.py's reports."""
        reported = [file.measured for file in self._analysis.files()]
        return [self._counted[path] for path in reported]

    def _count(self, file: ReportedFile) -> None:
        lines = {name: found.get(file.measured, ()) for name, found in self._by_origin.items()}
        ran = {name: file.statements_in(found) for name, found in lines.items() if found}
        ran = {name: found for name, found in ran.items() if found}
        self._counted[file.measured] = OriginsOfFile(file.name, file.page, file.statements, ran)


def counted_origins(data_file: Path, analysis: Analysis) -> CountedOrigins | None:
    """Count the origins of a data file as it is analysed; return None if it has none.

    Args:
        data_file: The merged data file.
        analysis: The analysis of it, before anything else uses it.
    """
    try:
        return CountedOrigins(hcoverage.read_origins(data_file), analysis)
    except hcoverage.OriginsError:
        return None
