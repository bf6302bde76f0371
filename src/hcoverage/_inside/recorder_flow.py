"""What follows what in the bytecode of Python 3.12 and 3.13, as far as branches need it.

The recorder (``recorder_branches``) asks it which events are not needed; the reader
(``_read.branches``) asks it which arcs follow from those that were recorded. Both use one module,
so that their answers fit. The reader may run on another Python than the one that compiled the code,
so facts about a version are data (`OPCODES`). Anybody may have written a recording and its
bytecode: each offset is checked before it is used, and each search ends.

All places are in code units, of two bytes each. Like the recorder it is a guest: it binds all that
it calls when it is loaded.
"""

# Functions look builtins up in this copy, which stays as it is when the application replaces some.
if "__hcoverage__" not in __builtins__:  # type: ignore[operator, used-before-def]
    __builtins__ = {**__builtins__, "__hcoverage__": True}  # type: ignore[assignment, dict-item]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any, Final

_bytearray: "Final" = bytearray
_enumerate: "Final" = enumerate
_frozenset: "Final" = frozenset
_len: "Final" = len
_range: "Final" = range
_set: "Final" = set
_sorted: "Final" = sorted
_tuple: "Final" = tuple

_NUMBERS_OF_A_HANDLER: "Final" = 4  # start, length, target, depth
_LONGEST_ARGUMENT: "Final" = 32  # bits

UNKNOWN: "Final" = -1
"""In place of a line: the code does not show from which line something is entered."""

# Longer searches stop, and their result counts as unknown.
_LONGEST_CHAIN: "Final" = 200
_MOST_SOURCES: "Final" = 128


class Opcodes:
    """The numbers of those instructions that branches depend on, in one version of Python."""

    def __init__(self, numbers: "dict[str, int]", after_for: int) -> None:
        """Sort the instructions by what they do.

        Args:
            numbers: Their numbers, by name.
            after_for: How many instructions past its target a `for` loop goes on at its end.
        """
        self.extended = numbers["EXTENDED_ARG"]
        self.for_iter = numbers["FOR_ITER"]
        self.if_none = numbers["POP_JUMP_IF_NONE"]
        self.if_not_none = numbers["POP_JUMP_IF_NOT_NONE"]
        self.branches = _frozenset(
            [number for name, number in numbers.items() if name.startswith("POP_JUMP_IF")]
            + [self.for_iter]
        )
        self.backward = _frozenset(
            (numbers["JUMP_BACKWARD"], numbers["JUMP_BACKWARD_NO_INTERRUPT"])
        )
        self.silent_jump = numbers["JUMP_BACKWARD_NO_INTERRUPT"]
        self.always = self.backward | {numbers["JUMP_FORWARD"]}
        self.jumps = self.branches | self.always | {numbers["SEND"]}
        self.returns = _frozenset((numbers["RETURN_VALUE"], numbers["RETURN_CONST"]))
        self.reraise = numbers["RERAISE"]
        self.raises = _frozenset((self.reraise, numbers["RAISE_VARARGS"]))
        self.ends = self.always | self.returns | self.raises
        self.resume = numbers["RESUME"]
        self.nothing = numbers["NOP"]
        self.end_async_for = numbers["END_ASYNC_FOR"]
        self.make_function = numbers["MAKE_FUNCTION"]
        # From the line of a function or class in one line, execution goes on, or ends there.
        self.forks = _frozenset((self.end_async_for, self.make_function))
        # CPython reports no lines for them (`initialize_lines` in instrumentation.c).
        self.without_line = _frozenset(
            (numbers["END_FOR"], numbers["END_SEND"], self.end_async_for, self.resume)
        )
        self.after_for = after_for
        # If only these are in code, it has no branches: a quick test (`has_branches`).
        decide = self.branches | self.backward | {self.reraise, self.end_async_for}
        self.others = bytes(range(256)).translate(None, bytes(decide))
        # Tables for `bytes.translate`, which then make what is looked for a 1 (`_places_of`).
        self.are_jumps = _table(self.jumps)
        self.may_branch = _table(self.branches | self.forks | {self.reraise})
        self.end_bodies = _table(self.ends | self.branches)


def _table(numbers: "frozenset[int]") -> bytes:
    found = bytearray(256)
    for number in numbers:
        found[number] = 1
    return bytes(found)


OPCODES: "Final" = {
    (3, 12): Opcodes(
        {
            "EXTENDED_ARG": 144,
            "POP_JUMP_IF_FALSE": 114,
            "POP_JUMP_IF_TRUE": 115,
            "POP_JUMP_IF_NONE": 129,
            "POP_JUMP_IF_NOT_NONE": 128,
            "FOR_ITER": 93,
            "JUMP_FORWARD": 110,
            "JUMP_BACKWARD": 140,
            "JUMP_BACKWARD_NO_INTERRUPT": 134,
            "SEND": 123,
            "RETURN_VALUE": 83,
            "RETURN_CONST": 121,
            "RAISE_VARARGS": 130,
            "RERAISE": 119,
            "END_FOR": 4,
            "END_SEND": 5,
            "END_ASYNC_FOR": 54,
            "RESUME": 151,
            "MAKE_FUNCTION": 132,
            "NOP": 9,
        },
        after_for=1,
    ),
    (3, 13): Opcodes(
        {
            "EXTENDED_ARG": 71,
            "POP_JUMP_IF_FALSE": 97,
            "POP_JUMP_IF_TRUE": 100,
            "POP_JUMP_IF_NONE": 98,
            "POP_JUMP_IF_NOT_NONE": 99,
            "FOR_ITER": 72,
            "JUMP_FORWARD": 79,
            "JUMP_BACKWARD": 77,
            "JUMP_BACKWARD_NO_INTERRUPT": 78,
            "SEND": 104,
            "RETURN_VALUE": 36,
            "RETURN_CONST": 103,
            "RAISE_VARARGS": 101,
            "RERAISE": 102,
            "END_FOR": 11,
            "END_SEND": 12,
            "END_ASYNC_FOR": 10,
            "RESUME": 149,
            "MAKE_FUNCTION": 26,
            "NOP": 30,
        },
        after_for=2,
    ),
}
"""By version, for those whose branches are recorded in this way."""


def handlers_of(table: bytes) -> "list[tuple[int, int, int]]":
    """Decode ``co_exceptiontable``, which says where exceptions are handled.

    Returns:
        Of each range of instructions its start, its end and its handler.
    """
    found: list[tuple[int, int, int]] = []
    numbers: list[int] = []
    number = 0
    for byte in table:
        number = number << 6 | byte & 0x3F
        if not byte & 0x40:
            numbers.append(number)
            number = 0
            if _len(numbers) == _NUMBERS_OF_A_HANDLER:
                found.append((numbers[0], numbers[0] + numbers[1], numbers[2]))
                numbers = []
    return found


class Flow:
    """What follows what in one code object."""

    def __init__(
        self,
        opcodes: Opcodes,
        content: bytes,
        lines: "Sequence[int | None]",
        handlers: "list[tuple[int, int, int]]",
        *,
        by_instruction: bool,
    ) -> None:
        """Find the jumps.

        Args:
            opcodes: Those of its version.
            content: Its ``co_code``.
            lines: The line of each code unit.
            handlers: Where exceptions are handled, as `handlers_of` returns it.
            by_instruction: Whether it has INSTRUCTION events instead of LINE events.
        """
        self.opcodes = opcodes
        self.operations = operations = content[::2]
        self.count = count = _len(operations)
        self.lines = lines
        self._by_instruction = by_instruction
        self._protected = handlers
        self._handlers = {handler for _, _, handler in handlers}
        self.targets: dict[int, int] = {}
        # What lives on is tuples of numbers: the garbage collector leaves them alone.
        self.entries: dict[int, tuple[int, ...]] = {}
        self._sources: dict[int, tuple[int, ...]] = {}
        self._raising: dict[int, set[int | None]] = {}
        for place in _places_of(operations, opcodes.are_jumps):
            target = self._target(content, place, operations[place])
            if 0 <= target < count:
                self.targets[place] = target
                self.entries[target] = (*self.entries.get(target, ()), place)

    def _target(self, content: bytes, place: int, operation: int) -> int:
        argument = content[2 * place + 1]
        before, shift = place - 1, 8
        while (
            before >= 0
            and shift < _LONGEST_ARGUMENT
            and self.operations[before] == self.opcodes.extended
        ):
            argument |= content[2 * before + 1] << shift
            before, shift = before - 1, shift + 8
        following = self.following(place)
        if operation in self.opcodes.backward:
            return following - argument
        if operation == self.opcodes.for_iter:
            return following + argument + self.opcodes.after_for
        return following + argument

    def following(self, place: int) -> int:
        """Return the place of the next instruction, past the inline caches of this one."""
        operations, count = self.operations, self.count
        place += 1
        while place < count and not operations[place]:
            place += 1
        return place

    def _falls_from(self, place: int) -> int:
        """Return the place of the instruction before, if execution goes on from it; else -1."""
        place = self._before(place)
        return -1 if place < 0 or self.operations[place] in self.opcodes.ends else place

    def _before(self, place: int) -> int:
        """Return the place of the instruction before; -1 if there is none."""
        operations = self.operations
        place -= 1
        while place >= 0 and not operations[place]:
            place -= 1
        return place

    def sources(self, place: int) -> "tuple[int, ...]":
        """Return the lines from which an instruction is entered so that its own line starts."""
        try:
            return self._sources[place]
        except KeyError:
            found: set[int] = _set()
            self._collect_sources(place, found)
            lines = self._sources[place] = _tuple(found)
            return lines

    def _collect_sources(self, place: int, found: "set[int]") -> None:
        own = None if self._by_instruction else self.lines[place]
        seen = {place}
        left = [place]
        looked_at = 0
        while left:
            at = left.pop()
            entries = self.entries.get(at, ())
            looked_at += 1 + _len(entries)
            if at in self._handlers or at == 0 or looked_at > _MOST_SOURCES:
                found.add(UNKNOWN)
                return
            before = self._falls_from(at)
            for source in (*entries, before):
                if source < 0:
                    continue
                line = self.lines[source]
                if self.operations[source] == self.opcodes.resume:
                    found.add(UNKNOWN)
                elif line is None:
                    if source not in seen:
                        seen.add(source)
                        left.append(source)
                elif at != place or line != own:
                    # Entered from its own line, it starts no line, unless an instruction without a
                    # line is between.
                    found.add(line)

    def is_told(self, place: int, way: int) -> bool:
        """Return whether an event that fires once shows that a branch went a way.

        Args:
            place: The place of the branch.
            way: The place that it would go to.
        """
        line = self.lines[place]
        if line is None:
            return True  # It does not matter: the reader follows both ways.
        chain = 0
        while 0 <= way < self.count:
            here = self.lines[way]
            operation = self.operations[way]
            if here == line:
                return True  # Other events show where that line is left.
            if here is not None and operation not in self.opcodes.without_line:
                return self.sources(way) == (line,)
            if operation in self.opcodes.ends or operation in self.opcodes.branches:
                return here is None and self.sources(way) == (line,)
            chain += 1
            if chain > _LONGEST_CHAIN:
                return False
            way = self.following(way)
        return False

    def slots(self, untold: "Iterable[int]") -> "list[int]":
        """Return the marks that can ever be set, by their numbers in a record of branches.

        Lines start only at the places that it finds (`initialize_lines` in CPython's
        instrumentation.c), though not at all of them.

        Args:
            untold: What `untold_ends` returns.
        """
        lines, operations, opcodes, count = self.lines, self.operations, self.opcodes, self.count
        ends = opcodes.jumps | opcodes.returns
        first = operations.find(opcodes.resume)
        left = {place for place in untold if 0 <= place < count}
        started, ran_on = [], []
        before: int | None = None
        for place, operation in _enumerate(operations):
            if not operation:
                continue
            line = lines[place]
            begins = line != before or place in self.entries or place in self._handlers
            if self._by_instruction or (line is not None and begins):
                started.append(place)
            # All before the first `RESUME`, too.
            is_passed_over = operation in opcodes.without_line or place < first
            before = None if is_passed_over else line
            if operation in ends:
                left.add(place)
            if operation in opcodes.branches:
                ran_on.append(2 * count + place)
        return [*started, *[count + place for place in _sorted(left)], *ran_on]

    def untold_ends(self) -> "list[int]":
        """Return the instructions that end a line with branches, while no event shows that.

        They run on into a place to which something else leads, too.
        """
        lines, operations, opcodes = self.lines, self.operations, self.opcodes
        branching = self._branching_lines()
        in_bodies = self._ends_of_bodies()
        found = []
        for target in self.entries:
            before = self._falls_from(target)
            if before < 0 or operations[before] in opcodes.branches:
                continue
            # Of a constant in a condition of several lines, the compiler leaves a NOP.
            ends = lines[before] in branching or before in in_bodies
            ends = ends or operations[before] == opcodes.nothing
            if ends and self._is_untold(before, target):
                found.append(before)
        for place, target in self.targets.items():
            ends = operations[place] == opcodes.silent_jump and lines[place] in branching
            if ends and self._is_untold(place, target):
                found.append(place)
        return found

    def handler_of(self, place: int) -> int:
        """Return where an exception from an instruction is handled; -1 if not in this code."""
        for start, end, handler in self._protected:
            if start <= place < end:
                return handler
        return -1

    def raising_lines(self, handler: int) -> "set[int | None]":
        """Return the lines of instructions whose exceptions go to a handler.

        Args:
            handler: Its place; a negative number for exceptions that leave the code.
        """
        known = self._raising.get(handler)
        if known is not None:
            return known
        lines, operations, opcodes = self.lines, self.operations, self.opcodes
        if handler < 0:
            places = _set(_range(operations.find(opcodes.resume) + 1, self.count))
            for start, end, _ in self._protected:
                places.difference_update(_range(start, end))
        else:
            places = _set()
            for start, end, each in self._protected:
                if each == handler:
                    places.update(_range(start, end))
        silent = (0, opcodes.reraise)
        found = {lines[place] for place in places if operations[place] not in silent}
        self._raising[handler] = found
        return found

    def _branching_lines(self) -> "set[int | None]":
        """Return the lines from which coverage.py may know more than one way on.

        They are those of branches; of functions and classes in one line, which end there, too; and
        the last one of a `finally`, which goes on differently after each way into it.
        """
        lines, opcodes, operations = self.lines, self.opcodes, self.operations
        found: set[int | None] = _set()
        for place in _places_of(operations, opcodes.may_branch):
            if operations[place] != opcodes.reraise:
                found.add(lines[place])
            else:
                found.update([lines[each] for each in self.entries.get(place, ())])
                before = self._falls_from(place)
                if before >= 0:
                    found.add(lines[before])
        found.discard(None)
        return found

    def _is_untold(self, place: int, target: int) -> bool:
        line = self.lines[place]
        return line != self.lines[target] and self.sources(target) != (line,)

    def _ends_of_bodies(self) -> "set[int]":
        """Return the ends of bodies that begin in their branch's line; they may end in another."""
        lines, operations, opcodes = self.lines, self.operations, self.opcodes
        entered = _bytearray(self.count)
        for target in self.entries:
            entered[target] = 1
        stops = operations.translate(opcodes.end_bodies)
        found = _set()
        for place, target in self.targets.items():
            if operations[place] not in opcodes.branches:
                continue
            for way in (target, self.following(place)):
                if way < self.count and lines[way] == lines[place]:
                    entry = entered.find(1, way + 1)
                    if entry >= 0 and stops.find(1, way, entry) < 0:
                        found.add(self._before(entry))
        return found


def _places_of(operations: bytes, table: bytes) -> "list[int]":
    """Return the places of operations for which a table has a 1; quicker than a look at each."""
    are_found = operations.translate(table)
    places = []
    at = are_found.find(1)
    while at >= 0:
        places.append(at)
        at = are_found.find(1, at + 1)
    return places


def has_branches(opcodes: Opcodes, content: bytes) -> bool:
    """Return whether a code object has instructions that a report's branches depend on.

    Args:
        opcodes: Those of its version.
        content: Its ``co_code``.
    """
    return bool(content[::2].translate(None, opcodes.others))


def lines_by_unit(entries: "Iterable[tuple[int, int, int | None]]", count: int) -> "Any":
    """Return the line of each code unit, from what ``co_lines`` returns."""
    lines: list[int | None] = [None] * count
    for start, end, line in entries:
        if line is not None:
            lines[start >> 1 : end >> 1] = [line] * ((end - start) >> 1)
    return _tuple(lines)
