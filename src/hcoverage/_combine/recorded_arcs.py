"""Turns what was recorded of branches into the arcs that coverage.py itself would have measured.

Only runs with branches load it, and what it needs to read bytecode (``_read.branches``).
"""

from __future__ import annotations

import functools
from itertools import compress, count
from typing import TYPE_CHECKING, Final, TypeAlias

from hcoverage._read.branches import (
    arcs_after_definitions,
    arcs_of_code,
    lines_that_ran,
    opcodes_of,
)
from hcoverage._read.part import bits_of, number_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from hcoverage._read.recording_format import SourceLines
    from hcoverage._sources.identity import Sources

# The start of an arc that only says that a line ran. It is no branch, as entering code is none.
_START: Final = -1
_DIGIT_TO_TRUE: Final = bytes(byte == ord("1") for byte in range(256))

# The first line and the name of a code object.
_Code: TypeAlias = tuple[int, int]
# The sources of the facts about a code object, and the exceptions in it.
_Exceptional: TypeAlias = "tuple[tuple[int, ...], frozenset[tuple[int, int]]]"
# Arcs; the executed lines, a bit for each; and those of these lines that the arcs contain.
_ArcsAndLines: TypeAlias = "tuple[frozenset[int], int, int]"


class Told:
    """What is known of a file in one context.

    Attributes:
        lines: A number whose bit *n* is set if line *n* ran.
        sources: Everything else.
    """

    def __init__(self) -> None:
        self.lines = 0
        self.sources: list[SourceLines] = []


class Arcs:
    """The arcs of one file in coverage.py's form: which lines ran, and what followed what.

    Facts that several contexts share are converted once. Contexts share source objects, which are
    recognised by `id` here: to compare them would take as long as to read them.

    Args:
        path: The file.
        python: The version of the Python that ran it.
        sources: The sources on this machine.
    """

    def __init__(self, path: str, python: str, sources: Sources) -> None:
        self._path = path
        self._sources = sources
        self._opcodes = opcodes_of(python)
        self._of_lines = functools.cache(self._arcs_of_lines)
        self._numbers = functools.cache(_numbers)
        self._of_source: dict[int, _ArcsAndLines] = {}
        self._of_code: dict[_Exceptional, _ArcsAndLines] = {}

    def __call__(self, told: Told) -> set[int]:
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

    def _after_definitions(self, told: Told, bits: int) -> Iterator[int]:
        definitions = self._sources.definitions(self._path)
        lines = {line for each in definitions for line in (each.line, each.following)}
        ran = {line for line in lines if bits >> line & 1}
        if ran and self._opcodes:
            codes = (code for source in told.sources for code in source.branching)
            yield from map(
                number_of, arcs_after_definitions(definitions, ran, codes, self._opcodes)
            )

    def _arcs_of_codes(self, told: Told) -> Iterator[_ArcsAndLines]:
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
