"""Finds the arcs of code with branches, recorded on Python 3.12 and 3.13.

For such code a recording has marks, by places in the bytecode: where lines started, and which
jumps, branches, returns and exceptions happened. coverage.py's C tracer makes an arc whenever one
line starts after another in a frame. The reading Python may be another one than the recorded
Python. ``_inside.recorder_flow`` decides which events are recorded, and which are left out because
others imply them; this module only draws the conclusions.

Anybody may have written a recording. So each walk ends, and marks that make no sense give no arc.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Final

from hcoverage._inside.recorder_flow import (
    OPCODES,
    Flow,
    Opcodes,
    handlers_of,
    has_branches,
)
from hcoverage._read.line_tables import lines_of_instructions

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Set as AbstractSet

    from hcoverage._read.definitions import Definition
    from hcoverage._read.recording_format import BranchingCode

Arc = tuple[int, int]

_OUTSIDE: Final = -1
# Bound on instructions without a line in a row: a compiler makes about ten.
_LONGEST_WALK: Final = 256  # instructions
_REMEMBERED: Final = 1 << 12


def opcodes_of(python: str) -> Opcodes | None:
    """Return the opcodes of a Python version, such as ``3.13.0``, if it records branches so."""
    numbers = python.split(".")[:2]
    if len(numbers) == 2 and all(number.isdecimal() for number in numbers):  # noqa: PLR2004
        return OPCODES.get((int(numbers[0]), int(numbers[1])))
    return None


def lines_that_ran(codes: Iterable[BranchingCode], opcodes: Opcodes) -> Iterator[int]:
    """Yield the executed lines of code objects that have no record of lines.

    Args:
        codes: The marks of code objects.
        opcodes: The opcodes of the Python that ran.
    """
    for each in codes:
        if each.tells_lines:
            code = _by_places(each, opcodes)
            lines = _lines_of(code)
            for place in code.started:
                line = lines[place]
                if line is not None and code.content[2 * place] not in opcodes.without_line:
                    yield line


def arcs_of_code(
    codes: Iterable[BranchingCode], exceptions: Iterable[tuple[int, int]], opcodes: Opcodes
) -> frozenset[Arc]:
    """Return the arcs that a code object took, by the marks in its bytecode.

    Args:
        codes: Its marks from several processes.
        exceptions: The places of exceptions in it, and the places of their handlers.
        opcodes: The opcodes of the Python that ran.
    """
    handlers: dict[int, set[int]] = {}
    for place, handler in exceptions:
        handlers.setdefault(place, set()).add(handler)
    places = (_by_places(each, opcodes) for each in codes)
    return frozenset(
        arc for code in _together(places) for arc in _Arcs(code, handlers, opcodes).find()
    )


def _by_places(code: BranchingCode, opcodes: Opcodes) -> BranchingCode:
    """Return a code object with its slots turned into places in the bytecode."""
    if not code.slots:
        return code
    count = len(code.content) // 2
    indexes = _slots_of(
        code.content,
        code.line_table,
        code.first,
        code.exception_table,
        opcodes,
        code.by_instruction,
    )
    kinds: tuple[set[int], set[int], set[int]] = (set(), set(), set())
    for slot in code.slots:
        if slot < len(indexes):
            kind, place = divmod(indexes[slot], count)
            kinds[kind].add(place)
    started, left, ran_on = kinds
    return code._replace(
        started=code.started | started,
        left=code.left | left,
        ran_on=code.ran_on | ran_on,
        slots=frozenset(),
    )


@functools.lru_cache(maxsize=_REMEMBERED)
def _slots_of(  # noqa: PLR0917 - what code has
    content: bytes,
    line_table: bytes,
    first: int,
    exception_table: bytes,
    opcodes: Opcodes,
    by_instruction: bool,  # noqa: FBT001
) -> tuple[int, ...]:
    lines = _lines_by_place(line_table, first, len(content) // 2)
    flow, untold = _flow_of(content, lines, exception_table, opcodes, by_instruction)
    return tuple(flow.slots(untold))


def arcs_after_definitions(
    definitions: Iterable[Definition],
    ran: AbstractSet[int],
    codes: Iterable[BranchingCode],
    opcodes: Opcodes,
) -> Iterator[Arc]:
    """Return the arcs from functions and classes in one line to what follows them.

    In code without branches only definitions lead there. In other code the bytecode shows it.

    Args:
        definitions: The definitions in the source.
        ran: The lines that ran.
        codes: The code objects with branches of the same source.
        opcodes: The opcodes of the Python that ran.
    """
    candidates = [each for each in definitions if each.line in ran and each.following in ran]
    if not candidates:
        return
    outer: dict[int, list[frozenset[int | None]]] = {}
    for code in codes:
        made, all_lines = _made_in(code.content, code.line_table, code.first, opcodes)
        for line in made:
            outer.setdefault(line, []).append(all_lines)
    for each in candidates:
        own = {None, *range(each.first, each.last + 1)}
        if all(lines <= own for lines in outer.get(each.line, ())):
            yield each.line, each.following


@functools.lru_cache(maxsize=_REMEMBERED)
def _made_in(
    content: bytes, line_table: bytes, first: int, opcodes: Opcodes
) -> tuple[frozenset[int], frozenset[int | None]]:
    """Return the lines of a code object with branches that make functions, and all its lines."""
    if not has_branches(opcodes, content):
        return frozenset(), frozenset()
    lines = _lines_by_place(line_table, first, len(content) // 2)
    made = {
        line
        for line, operation in zip(lines, content[::2], strict=True)
        if operation == opcodes.make_function and line is not None
    }
    return frozenset(made), frozenset(lines)


def _together(codes: Iterable[BranchingCode]) -> Iterator[BranchingCode]:
    """Join the marks of several processes for the same code object."""
    found: dict[tuple[int, int, bytes], BranchingCode] = {}
    for code in codes:
        key = (code.first, code.name, code.content)
        other = found.get(key)
        found[key] = code if other is None else code.with_marks_of(other)
    yield from found.values()


def _lines_of(code: BranchingCode) -> tuple[int | None, ...]:
    return _lines_by_place(code.line_table, code.first, len(code.content) // 2)


@functools.lru_cache(maxsize=_REMEMBERED)
def _lines_by_place(table: bytes, first: int, count: int) -> tuple[int | None, ...]:
    try:
        return lines_of_instructions(table, first, count)
    except ValueError:
        return (None,) * count


@functools.lru_cache(maxsize=_REMEMBERED)
def _flow_of(
    content: bytes,
    lines: tuple[int | None, ...],
    exception_table: bytes,
    opcodes: Opcodes,
    by_instruction: bool,  # noqa: FBT001
) -> tuple[Flow, frozenset[int]]:
    handlers = handlers_of(exception_table)
    flow = Flow(opcodes, content, lines, handlers, by_instruction=by_instruction)
    return flow, frozenset(flow.untold_ends())


class _Arcs:
    """The arcs of one code object."""

    def __init__(
        self, code: BranchingCode, exceptions: dict[int, set[int]], opcodes: Opcodes
    ) -> None:
        self._code = code
        self._exceptions = exceptions
        self._opcodes = opcodes
        self._lines = _lines_of(code)
        self._flow, self._untold = _flow_of(
            code.content, self._lines, code.exception_table, opcodes, code.by_instruction
        )
        self._walked: set[tuple[int, int, bool]] = set()
        self._found: set[Arc] = set()

    def find(self) -> set[Arc]:
        """Return the arcs."""
        # In other code a line has one possible successor at most, beside the code's end.
        self._find_by_starts(in_all=has_branches(self._opcodes, self._code.content))
        self._find_by_branches()
        self._find_by_ends()
        for place, handlers in self._exceptions.items():
            if 0 <= place < self._flow.count and not self._is_before_start(place):
                for handler in handlers:
                    self._leave(place, handler, raised=True)
        return self._found

    def _find_by_starts(self, *, in_all: bool) -> None:
        """Add arcs to lines that started and can be entered from one line only.

        Args:
            in_all: Whether to add them all, and not just those after a line that started in
                another context, in a generator or thread that waited there.
        """
        started = {self._lines[place] for place in self._code.started}
        for place in self._code.started:
            line = self._lines[place]
            sources = self._flow.sources(place)
            if line is not None and len(sources) == 1:
                (source,) = sources
                if source >= 0 and source != line and (in_all or source not in started):
                    self._found.add((source, line))

    def _find_by_branches(self) -> None:
        """Add the arcs of branches, jumps and returns."""
        flow, opcodes = self._flow, self._opcodes
        for place in self._code.ran_on:
            if flow.operations[place] in opcodes.branches:
                self._leave(place, flow.following(place))
        for place in self._code.left:
            if flow.operations[place] in opcodes.returns:
                self._leave(place, _OUTSIDE)
            elif place in flow.targets:
                self._leave(place, flow.targets[place])

    def _find_by_ends(self) -> None:
        """Add the arcs of instructions that ran and went on into another line."""
        # At the start of a line 3.13 reports the line, and not the instruction as well.
        for place in self._untold & (self._code.left | self._code.started):
            jump = self._flow.targets.get(place)
            self._leave(place, self._flow.following(place) if jump is None else jump)

    def _is_before_start(self, place: int) -> bool:
        """Return whether a place comes before the start of the code's first line."""
        return self._flow.operations[place] == self._opcodes.resume and not (
            self._code.content[2 * place + 1] & 3
        )

    def _leave(self, place: int, target: int, *, raised: bool = False) -> None:
        """Follow execution from a place that has a line, or that only one line leads to."""
        line = self._lines[place]
        if line is None:
            sources = self._flow.sources(place)
            if len(sources) != 1:
                return  # The walks from these lines came through here.
            (line,) = sources
        if line >= 0:
            self._walk(line, target, raised=raised)

    def _walk(self, line: int, target: int, *, raised: bool) -> None:
        """Find the lines that start after a line, through instructions without a line."""
        flow, opcodes = self._flow, self._opcodes
        left = [target]
        steps = 0
        while left and steps < _LONGEST_WALK:
            steps += 1
            place = left.pop()
            if place == _OUTSIDE:
                self._found.add((line, -self._code.first))
                continue
            if not 0 <= place < flow.count or (line, place, raised) in self._walked:
                continue
            self._walked.add((line, place, raised))
            operation = flow.operations[place]
            here = self._lines[place]
            passes = here is None or operation in opcodes.without_line
            if here == line and operation != opcodes.end_async_for:
                continue
            if not passes:
                if here is not None and place in self._code.started:
                    self._found.add((line, here))
                continue
            left.extend(self._after(place, operation, raised=raised))

    def _after(self, place: int, operation: int, *, raised: bool) -> Iterator[int]:
        """Yield where execution goes on after an instruction without a line."""
        flow, opcodes = self._flow, self._opcodes
        if operation in opcodes.returns:
            if place in self._code.left:
                yield _OUTSIDE
        elif operation in opcodes.raises:
            yield from self._exceptions.get(place, ())
        else:
            # The end of `except*`: what its body has raised is raised again, and never None.
            if place in flow.targets and not (raised and operation == opcodes.if_none):
                yield flow.targets[place]
            if operation not in opcodes.always and not (
                raised and operation == opcodes.if_not_none
            ):
                yield flow.following(place)
