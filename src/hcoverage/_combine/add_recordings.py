"""Turns recordings into coverage.py data: what coverage.py itself would have measured.

Left to others: reading recordings (``_read.recording_files``), choosing files
(``_sources.choice``), telling whether a source is still what ran (``_sources.identity``), and where
it is here (``combine``).
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from hcoverage._read.branches import arcs_in_bytecode, lines_that_ran, opcodes_of
from hcoverage._sources.choice import Choice
from hcoverage._sources.identity import Sources

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from coverage import CoverageData
    from coverage.config import CoverageConfig

    from hcoverage._read.recording_files import Recording
    from hcoverage._read.recording_format import SourceLines
    from hcoverage._sources.identity import Known


# Of an arc that only tells that a line ran: of no branch, as entering code is none.
_START: Final = -1


@dataclass(frozen=True)
class Selected:
    """What went into coverage.py data.

    Attributes:
        measured: The paths that were added.
        stale: The paths left out because the source is not what it was when it ran.
        without_branches: Recordings left out because the rcfile wants branches and they have none.
    """

    measured: frozenset[str]
    stale: frozenset[str]
    without_branches: tuple[Recording, ...] = ()


def add_to_data(
    recordings: Iterable[Recording],
    data: CoverageData,
    config: CoverageConfig,
    *,
    known: Mapping[str, Known] | None = None,
    choice: Choice | None = None,
    is_here: Callable[[Recording], bool] = lambda _: True,
) -> Selected:
    """Add recordings to coverage.py data, as coverage.py would have measured them.

    Args:
        recordings: What to add.
        data: Where to; the paths in it are absolute.
        config: The rcfile, as coverage.py reads it. Its ``source``, ``source_pkgs``, ``include``
            and ``omit`` decide what is added.
        known: What sources were when the run began, by their paths.
        choice: What counts by `config`, where that is known already.
        is_here: Tells of a recording whether its interpreter is on this machine.

    Returns:
        What was added and what was left out.

    Raises:
        RcfileError: The configuration names a source that is no directory.
    """
    branch = config.branch
    wanted = _Wanted(choice or Choice(config), Sources(known or {}), is_here)
    recordings = list(recordings)
    left_out = [each for each in recordings if branch and not each.process.branch]
    if len(left_out) < len(recordings):
        with _kept_open(data, branch=branch):
            for recording in recordings:
                if not branch:
                    for part in recording.by_context():
                        data.set_context(part.process.context or None)
                        data.add_lines(wanted.lines(part))
                elif recording.process.branch:
                    for part in recording.by_context():
                        data.set_context(part.process.context or None)
                        data.add_arcs(wanted.arcs(part))
    measured = frozenset(wanted.measured - wanted.stale)
    return Selected(measured, frozenset(wanted.stale), tuple(left_out))


@contextlib.contextmanager
def _kept_open(data: CoverageData, *, branch: bool) -> Iterator[None]:
    """Have coverage.py open its file once, and not for each of thousands of contexts."""
    if branch:
        data.add_arcs({})
    else:
        data.add_lines({})
    with data._connect():  # noqa: SLF001 - reentrant, and what each of its methods does
        yield


class _Wanted:
    """What of each recording goes into coverage.py data."""

    def __init__(
        self, choice: Choice, sources: Sources, is_here: Callable[[Recording], bool]
    ) -> None:
        self.measured: set[str] = set()
        self.stale: set[str] = set()
        self._choice = choice
        self._sources = sources
        self._is_here = is_here

    def lines(self, recording: Recording) -> dict[str, set[int]]:
        """The lines that ran, by file."""
        found: dict[str, set[int]] = {}
        opcodes = opcodes_of(recording.process.python)
        for source in self._wanted(recording):
            lines = found.setdefault(source.path, set())
            lines.update(source.lines)
            if source.branching and opcodes:
                lines.update(lines_that_ran(source.branching, opcodes))
        return found

    def arcs(self, recording: Recording) -> dict[str, set[tuple[int, int]]]:
        """The arcs of coverage.py's `sysmon` core: each line to itself, and what followed what."""
        found: dict[str, set[tuple[int, int]]] = {}
        opcodes = opcodes_of(recording.process.python)
        told: dict[str, list[SourceLines]] = {}
        for source in self._wanted(recording):
            if source.branching or source.raised:
                told.setdefault(source.path, []).append(source)
            arcs = found.setdefault(source.path, set())
            # The C tracer has an arc from a line to itself only where it took one.
            arcs.update((line if opcodes is None else _START, line) for line in source.lines)
            arcs.update(source.arcs)
            if source.trails:
                statements = self._sources.statements(source.path)
                resolved = (trail.arc(statements) for trail in source.trails)
                arcs.update(arc for arc in resolved if arc is not None)
        if opcodes is not None:
            for path, arcs in found.items():
                definitions = self._sources.definitions(path)
                arcs.update(arcs_in_bytecode(told.get(path, ()), arcs, definitions, opcodes))
        return found

    def _wanted(self, recording: Recording) -> Iterator[SourceLines]:
        choice = self._choice.of_process(recording.process, is_here=self._is_here(recording))
        for source in choice.wanted([*recording.sources]):
            if self._sources.is_current(source):
                self.measured.add(source.path)
                yield source
            else:
                self.stale.add(source.path)
