"""Turns recordings into the part to merge: what coverage.py itself would have measured.

Left to others: reading recordings (``_read.recording_batch``), the arcs of branches
(``recorded_arcs``), choosing files (``_sources.choice``), checking whether a source has changed
(``_sources.identity``), and finding it on this machine (``recorded_data``).
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, NamedTuple

from hcoverage._read.part import Part, bits_of
from hcoverage._sources.choice import Choice
from hcoverage._sources.identity import Sources

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from coverage.config import CoverageConfig

    from hcoverage._read.recording_batch import RanSource
    from hcoverage._read.recording_format import ProcessIdentity, SourceLines
    from hcoverage._sources.identity import Known


class Group(NamedTuple):
    """The recordings of processes for which coverage.py would choose the same files.

    Attributes:
        process: One of the processes.
        sources: What they ran.
        is_here: Whether their interpreter is on this machine.
        before: The prefix of their contexts.
    """

    process: ProcessIdentity
    sources: tuple[RanSource, ...]
    is_here: bool = True
    before: str = ""

    def label_of(self, context: str) -> str:
        """Return the label of a context, as coverage.py's collector forms it."""
        return self.before + "|".join(filter(None, (self.process.context, context)))


class Selected(NamedTuple):
    """The part of recordings that is merged.

    Attributes:
        part: The part; None if the rcfile wants branches and no process has recorded any.
        stale: The paths left out because the source has changed since it ran.
        without_branches: Groups left out because the rcfile wants branches and they have none.
    """

    part: Part | None
    stale: frozenset[str]
    without_branches: tuple[Group, ...] = ()


def select(
    groups: Iterable[Group],
    config: CoverageConfig,
    *,
    known: Mapping[str, Known] | None = None,
    choice: Choice | None = None,
) -> Selected:
    """Select from recordings what coverage.py would have measured.

    Args:
        groups: The recordings.
        config: The rcfile, as coverage.py reads it. Its ``source``, ``source_pkgs``, ``include``
            and ``omit`` decide.
        known: The state of sources when the run began, by path.
        choice: Decides by `config` what counts, if the caller has made one already.

    Raises:
        RcfileError: The configuration names a source that is no directory.
    """
    groups = list(groups)
    left_out = [each for each in groups if config.branch and not each.process.branch]
    if len(left_out) == len(groups):
        return Selected(None, frozenset(), tuple(left_out))
    wanted = _Wanted(choice or Choice(config), Sources(known or {}))
    part = Part()
    for group in groups:
        if not config.branch:
            _add_lines(part, group, wanted)
        elif group.process.branch:
            _add_arcs(part, group, wanted)
    return Selected(part, frozenset(wanted.stale), tuple(left_out))


class _Wanted:
    """Chooses the sources of each group that are merged.

    Attributes:
        sources: The sources on this machine.
        stale: The sources that are left out because they have changed.
    """

    def __init__(self, choice: Choice, sources: Sources) -> None:
        self.sources = sources
        self.stale: set[str] = set()
        self._choice = choice

    def of(self, group: Group) -> Iterator[RanSource]:
        """Yield the unchanged sources of a group that coverage.py would have measured."""
        choice = self._choice.of_process(group.process, is_here=group.is_here)
        for ran in choice.wanted(group.sources):
            if self.sources.is_current(ran.source):
                yield ran
            else:
                self.stale.add(ran.path)


def _add_lines(part: Part, group: Group, wanted: _Wanted) -> None:
    lines_of = functools.cache(functools.partial(_lines_of, python=group.process.python))
    labels = _Labels(part, group)
    for ran in wanted.of(group):
        path, lines = ran.path, part.lines
        part.paths.setdefault(path, ("", len(part.paths)))
        for context, bits in ran.lines.items():
            key = (path, labels[context])
            lines[key] = lines.get(key, 0) | bits
        for context, source in ran.more.items():
            key = (path, labels[context])
            lines[key] = lines.get(key, 0) | lines_of(source)


def _lines_of(source: SourceLines, python: str) -> int:
    lines = set(source.lines)
    if source.branching:
        # Imported here: it reads bytecode, and most runs record no branches.
        from hcoverage._read.branches import lines_that_ran, opcodes_of  # noqa: PLC0415

        opcodes = opcodes_of(python)
        lines.update(lines_that_ran(source.branching, opcodes) if opcodes else ())
    return bits_of(lines)


class _Labels(dict[str, str]):
    """The labels of a group's contexts; each is added to the part when it is first requested."""

    def __init__(self, part: Part, group: Group) -> None:
        super().__init__()
        self._part = part
        self._group = group

    def __missing__(self, context: str) -> str:
        label = self._group.label_of(context)
        self[context] = self._part.contexts.setdefault(label, label)
        return self[context]


def _add_arcs(part: Part, group: Group, wanted: _Wanted) -> None:
    from hcoverage._combine.recorded_arcs import Arcs, Told  # noqa: PLC0415 - as above

    by_path: dict[str, dict[str, Told]] = {}
    for ran in wanted.of(group):
        contexts = by_path.setdefault(ran.path, {})
        for context, bits in ran.lines.items():
            contexts.setdefault(context, Told()).lines |= bits
        for context, source in ran.more.items():
            contexts.setdefault(context, Told()).sources.append(source)
    labels = _Labels(part, group)
    for path, contexts in by_path.items():
        arcs_of = Arcs(path, group.process.python, wanted.sources)
        for context, told in contexts.items():
            arcs = arcs_of(told)
            label = labels[context]
            if arcs:
                part.paths.setdefault(path, ("", len(part.paths)))
                part.arcs.setdefault((path, label), set()).update(arcs)
