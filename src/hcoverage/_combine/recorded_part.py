"""Turns recordings into the part to merge: what coverage.py itself would have measured.

Left to others: reading recordings (``_read.recording_batch``), choosing files
(``_sources.choice``), checking whether a source has changed (``_sources.identity``), and finding it
on this machine (``recorded_data``).
"""

from __future__ import annotations

import functools
from itertools import compress, count
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from hcoverage._read.branches import (
    arcs_after_definitions,
    arcs_of_code,
    lines_that_ran,
    opcodes_of,
)
from hcoverage._read.part import Part, bits_of, number_of
from hcoverage._sources.choice import Choice
from hcoverage._sources.identity import Sources

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from coverage.config import CoverageConfig

    from hcoverage._read.recording_batch import RanSource
    from hcoverage._read.recording_format import ProcessIdentity, SourceLines
    from hcoverage._sources.identity import Known

# The start of an arc that only says that a line ran. It is no branch, as entering code is none.
_START: Final = -1
_DIGIT_TO_TRUE: Final = bytes(byte == ord("1") for byte in range(256))

# The first line and the name of a code object.
_Code: TypeAlias = tuple[int, int]
# The sources of the facts about a code object, and the exceptions in it.
_Exceptional: TypeAlias = "tuple[tuple[int, ...], frozenset[tuple[int, int]]]"
# Arcs; the executed lines, a bit for each; and those of these lines that the arcs contain.
_ArcsAndLines: TypeAlias = "tuple[frozenset[int], int, int]"


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
    opcodes = opcodes_of(python)
    if source.branching and opcodes:
        lines.update(lines_that_ran(source.branching, opcodes))
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


class _Told:
    """What is known of a file in one context.

    Attributes:
        lines: A number whose bit *n* is set if line *n* ran.
        sources: Everything else.
    """

    def __init__(self) -> None:
        self.lines = 0
        self.sources: list[SourceLines] = []


def _add_arcs(part: Part, group: Group, wanted: _Wanted) -> None:
    by_path: dict[str, dict[str, _Told]] = {}
    for ran in wanted.of(group):
        contexts = by_path.setdefault(ran.path, {})
        for context, bits in ran.lines.items():
            contexts.setdefault(context, _Told()).lines |= bits
        for context, source in ran.more.items():
            contexts.setdefault(context, _Told()).sources.append(source)
    labels = _Labels(part, group)
    for path, contexts in by_path.items():
        arcs_of = _Arcs(path, group, wanted.sources)
        for context, told in contexts.items():
            arcs = arcs_of(told)
            label = labels[context]
            if arcs:
                part.paths.setdefault(path, ("", len(part.paths)))
                part.arcs.setdefault((path, label), set()).update(arcs)


class _Arcs:
    """The arcs of one file in coverage.py's form: which lines ran, and what followed what.

    Facts that several contexts share are converted once. Contexts share source objects, which are
    recognised by `id` here: to compare them would take as long as to read them.
    """

    def __init__(self, path: str, group: Group, sources: Sources) -> None:
        self._path = path
        self._sources = sources
        self._opcodes = opcodes_of(group.process.python)
        self._of_lines = functools.cache(self._arcs_of_lines)
        self._numbers = functools.cache(_numbers)
        self._of_source: dict[int, _ArcsAndLines] = {}
        self._of_code: dict[_Exceptional, _ArcsAndLines] = {}

    def __call__(self, told: _Told) -> set[int]:
        """Return the arcs of a file in one context, in the form of a part."""
        parts = [self._arcs_of_source(each) for each in told.sources if not each.branching]
        parts += self._arcs_of_codes(told)
        found: set[int] = set()
        ran, ends = told.lines, 0
        for arcs, lines, of_arcs in parts:
            found |= arcs
            ran |= lines
            ends |= of_arcs
        if self._opcodes is None:
            return found | self._of_lines(ran)
        found |= self._of_lines(ran & ~ends)
        found.update(self._after_definitions(told, ran))
        return found

    def _after_definitions(self, told: _Told, bits: int) -> Iterator[int]:
        definitions = self._sources.definitions(self._path)
        lines = {line for each in definitions for line in (each.line, each.following)}
        ran = {line for line in lines if bits >> line & 1}
        if ran and self._opcodes:
            codes = (code for source in told.sources for code in source.branching)
            yield from map(
                number_of, arcs_after_definitions(definitions, ran, codes, self._opcodes)
            )

    def _arcs_of_codes(self, told: _Told) -> Iterator[_ArcsAndLines]:
        """Yield the arcs and lines of each code object."""
        opcodes = self._opcodes
        if opcodes is None:
            return
        sources: dict[_Code, list[SourceLines]] = {}
        exceptions: dict[_Code, set[tuple[int, int]]] = {}
        for source in told.sources:
            for code in source.branching:
                sources.setdefault((code.first, code.name), []).append(source)
            for each in source.raised:
                way = (each.place, each.handler)
                exceptions.setdefault((each.first, each.name), set()).add(way)
        for name, tell in sources.items():
            key = (tuple(map(id, tell)), frozenset(exceptions.get(name, ())))
            known = self._of_code.get(key)
            if known is None:
                codes = [code for source in tell for code in source.branching]
                arcs = arcs_of_code(codes, key[1], opcodes)
                ends = _ends_of(arcs)
                lines = bits_of(set(lines_that_ran(codes, opcodes)))
                known = self._of_code[key] = self._numbers(arcs), lines | ends, ends
            yield known

    def _arcs_of_lines(self, bits: int) -> frozenset[int]:
        # The C tracer has an arc from a line to itself only where it took one.
        digits = bin(bits)[:1:-1].encode().translate(_DIGIT_TO_TRUE)
        opcodes = self._opcodes
        return frozenset(
            number_of((line if opcodes is None else _START, line))
            for line in compress(count(), digits)
        )

    def _arcs_of_source(self, source: SourceLines) -> _ArcsAndLines:
        known = self._of_source.get(id(source))
        if known is None:
            arcs = set(source.arcs)
            if source.trails:
                statements = self._sources.statements(self._path)
                resolved = (trail.arc(statements) for trail in source.trails)
                arcs.update(arc for arc in resolved if arc is not None)
            all_arcs, lines = frozenset(arcs), bits_of(source.lines)
            known = self._of_source[id(source)] = self._numbers(all_arcs), lines, _ends_of(all_arcs)
        return known


def _ends_of(arcs: Iterable[tuple[int, int]]) -> int:
    """Return a number whose bit *n* is set if line *n* is an end of an arc."""
    return bits_of({line for arc in arcs for line in arc if line > 0})


def _numbers(arcs: frozenset[tuple[int, int]]) -> frozenset[int]:
    return frozenset(map(number_of, arcs))
