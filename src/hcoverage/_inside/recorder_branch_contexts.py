"""Attributes branches to the running test on Python 3.12 and 3.13: the recorder's part for both.

It marks what `recorder_branches` marks, but for each context. A code object's bytecode is written
once per segment. Beside it, each context has a short record with *slots*, one for each mark that
can ever be set there (`recorder_flow.Flow.slots`). The marks show where lines start, so that
contexts need no records of lines.

``recorder_contexts`` loads it, from beside itself and under its own name, so that both can be
copied together. Like the recorder it is a guest: no lock, no output, and no exception of its own
reaches the application; it binds all that it calls when it is loaded.
"""

import sys

# Functions look builtins up in this copy, which stays as it is when the application replaces some.
if "__hcoverage__" not in __builtins__:  # type: ignore[operator, used-before-def]
    __builtins__ = {**__builtins__, "__hcoverage__": True}  # type: ignore[assignment, dict-item]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType
    from typing import Any, Final

    from hcoverage._inside.recorder_contexts import RecordedContexts

# The format, as told in docs/recording-format.md.
SEEN_KIND: "Final" = b"SEEN"
_SEEN_FIXED: "Final" = 24
_BY_STARTS: "Final" = 2
_STARTED: "Final" = 0
_LEFT: "Final" = 1

# Each segment repeats the bytecode of what ran in its contexts, so larger ones take less room.
_LARGEST_SEGMENT: "Final" = 1 << 22
# See `recorder_contexts`.
_KEEPS_DESCRIPTORS: "Final" = sys.version_info < (3, 13)
# `id` is audited: a hook of the application, and that of `hcov affected`, would be called.
_identity: "Final" = object.__hash__
_len: "Final" = len
_type: "Final" = type
_divmod: "Final" = divmod
_enumerate: "Final" = enumerate
_key_error: "Final" = KeyError
_traceback_of: "Final[Callable[[BaseException], Any]]" = BaseException.__dict__[
    "__traceback__"
].__get__


def monitor(
    part: "Any", monitoring: "Any", tool: int, recorder: "Any", contexts: "RecordedContexts"
) -> "BranchContexts":
    """Register callbacks in place of those of `recorder_branches`.

    Args:
        part: That module, which records branches already.
        monitoring: ``sys.monitoring``.
        tool: The tool id that the recorder has taken.
        recorder: The recorder.
        contexts: Knows the present context.

    Returns:
        An object whose `begin_anew` must be called when the context changes.
    """
    recorder.writer.largest_segment = _LARGEST_SEGMENT
    made = BranchContexts(part, monitoring, tool, recorder, contexts)
    _register(made, monitoring, tool, recorder, contexts)
    return made


class BranchContexts:
    """What is known of code, and what was seen of it in the present context."""

    def __init__(
        self,
        part: "Any",
        monitoring: "Any",
        tool: int,
        recorder: "Any",
        contexts: "RecordedContexts",
    ) -> None:
        self.branches = part.current
        self.recorder = recorder
        self.contexts = contexts
        # On Python 3.12: see `recorder_contexts._KEEPS_DESCRIPTORS`.
        self.kept: list[object] = []
        self._monitoring = monitoring
        self._tool = tool
        self._class = _code_class(part.Code)
        self._by_instruction: int = part.BY_INSTRUCTION
        self._codes: dict[int, Any] = {}
        self._same: dict[tuple[object, ...], Any] = {}

    def begin_anew(self) -> "list[object]":
        """Mark all that is seen again, since it now belongs to another context.

        Returns:
            The places of marks that must be kept: none, since `kept` has them.
        """
        self.branches.begin_anew()
        return []

    def is_wanted(self, filename: str) -> bool:
        """Return whether a file is recorded."""
        return filename in self.recorder.sources or self.contexts.region(filename) is not None

    def begin(self, code: "CodeType") -> "Any":
        """Make room for the marks of a code object, when it first runs in a context.

        Returns:
            The object that has the marks; None if the code is not recorded.
        """
        known = self._codes.get(_identity(code))
        if known is None and not self.is_wanted(code.co_filename):
            return None
        try:
            if known is None:
                known = self._known(code)
            number = self.contexts.number
            if known.context != number:
                known.begin()
                known.context = number
        except RecursionError:
            raise
        except BaseException as error:  # noqa: BLE001
            self.recorder.writer.note_loss(error)
            return None
        return known

    def watch(self, code: "CodeType") -> None:
        """Enable the events that are needed in a code object."""
        branches = self.branches
        if branches.flow.has_branches(branches.opcodes, code.co_code):
            try:
                known = self._known(code)
            except RecursionError:
                raise
            except BaseException as error:  # noqa: BLE001
                self.recorder.writer.note_loss(error)
                return
            branches.codes[_identity(code)] = known
            branches.set_events(code, known)
        else:
            branches.watch_plain(code)

    def _known(self, code: "CodeType") -> "Any":
        """Return what is known of a code object, which is kept, so that no other gets its `id`."""
        branches = self.branches
        content = code.co_code
        if _identity(code) in branches.plain:
            events = self._monitoring.get_local_events(self._tool, code)
            by_instruction = events & self._monitoring.events.INSTRUCTION != 0
        elif _identity(code) in branches.codes:
            by_instruction = branches.codes[_identity(code)].by_instruction
        else:
            by_instruction = branches.is_long(code)
        branches.pinned.append(code)
        flags = _BY_STARTS | (self._by_instruction if by_instruction else 0)
        tables = (code.co_linetable, code.co_exceptiontable)
        same = (code.co_filename, code.co_firstlineno, content, *tables, flags)
        known = self._same.get(same)
        if known is None:
            known = self._same.setdefault(same, self._class(self, code, content, same))
        self._codes[_identity(code)] = known
        return known


def _code_class(base: "Any") -> "Any":  # noqa: C901 - one class
    """Return the class for a code object in contexts, derived from `recorder_branches.Code`."""

    class ContextCode(base):  # type: ignore[misc]
        """A code object, or several equal ones.

        Attributes:
            context: The number of the context that it has marks for.
            marks: The marks for that context.
            lines: By line, the slot of its start, if it can start in one place only.
            starts: By offset, the slots of lines that start, or instructions about to run.
            ends: By offset, the slots of jumps, returns and instructions that end a line.
            ways: By the offsets of a branch and its destination: the slot; whether another event
                shows the other way; the other way; whether this branch alone leads there.
            kept: Ways that were seen in the context, of branches whose event is kept.
        """

        def __init__(
            self,
            owner: "BranchContexts",
            code: "CodeType",
            content: bytes,
            same: "tuple[Any, ...]",
        ) -> None:
            super().__init__(owner.branches, code, content, same, same[-1])
            self._owner = owner
            self.context = -1
            self.marks: Any = None
            self.starts: dict[int, int] = {}
            self.ends: dict[int, int] = {}
            self._runs_on: dict[int, int] = {}
            self.ways: dict[tuple[int, int], tuple[int, bool, tuple[int, int], bool]] = {}
            self.kept: set[tuple[int, int]] = set()
            by_kind = (self.starts, self.ends, self._runs_on)
            slots = self._flow.slots(self.untold)
            for slot, index in _enumerate(slots):
                kind, place = _divmod(index, self.count)
                by_kind[kind][2 * place] = slot
            self.lines = {} if self.by_instruction else self._in_one_place()
            self.untold_offsets = {2 * place for place in self.untold}
            self._room = _len(slots)
            # The segment that has the bytecode, and how records beside that begin.
            self._segment: Any = None
            self._record = b""
            self._elsewhere: Any = None

        def _in_one_place(self) -> "dict[int, int]":
            found: dict[int, int] = {}
            twice = set()
            for offset, slot in self.starts.items():
                line = self._flow.lines[offset >> 1]
                if found.setdefault(line, slot) != slot:
                    twice.add(line)
            for line in twice:
                del found[line]
            return found

        def begin(self) -> None:
            """Make room for the marks of another context.

            Raises:
                OSError: There is no room on the disk, or the directory cannot be written to.
                OverflowError: The code object says that it begins in a line below zero.
            """
            writer = self._branches.recorder.writer
            contexts = self._owner.contexts
            rooms = contexts.rooms
            marks = rooms.get(self)
            while marks is None:
                if self._segment is not None:
                    marks = writer.add_beside(self._segment, self._record, self._room)
                if marks is None:
                    self._define(writer)
            contexts.keep(rooms, self, marks)
            self.marks = marks
            self._elsewhere = None
            for seen in (self.kept, self._raised, self.handled, self.passed, self.unwound):
                seen.clear()

        def _define(self, writer: "Any") -> None:
            """Write the bytecode into a segment that has room for marks beside it."""
            owner, branches = self._owner, self._branches
            source = branches.recorder.sources[self._filename]
            segment, end = writer.add_record(
                branches.kind,
                source,
                self._first,
                0,
                self._facts,
                after=self._room + 2 * _SEEN_FIXED,
            )
            if _KEEPS_DESCRIPTORS and segment is not self._segment:
                owner.kept.append(segment)
            begins = end - writer.length_of(source, self._facts)
            length = _SEEN_FIXED + self._room + 7 & ~7
            prefix = SEEN_KIND + length.to_bytes(4, "little")
            facts = b"".join(
                [number.to_bytes(4, "little") for number in (begins, self.name(), self._room)]
            )
            check = branches.checksum(prefix + facts).to_bytes(4, "little")
            self._record = prefix + check + facts
            self._segment = segment

        def mark_anywhere(self, kind: int, offset: int) -> None:
            """Mark something that may have no slot."""
            slot = (self.starts, self.ends)[kind].get(offset)
            mark = self._branches.recorder.mark
            if slot is not None:
                self.marks[slot] = mark
                return
            if self._elsewhere is None:
                recorder = self._branches.recorder
                count = 3 * self.count
                segment, position = recorder.writer.add_record(
                    self._branches.kind,
                    recorder.sources[self._filename],
                    self._first,
                    count,
                    self._facts,
                )
                self._elsewhere = segment.marks(position, count)
                if _KEEPS_DESCRIPTORS:
                    self._owner.kept.append(self._elsewhere)
            self._elsewhere[kind * self.count + (offset >> 1)] = mark

        def make_room(self) -> "Any":
            """Return the marks: there has been room since the context began."""
            return self.marks

        def learn(self, offset: int, destination: int) -> None:
            """Find out about a way that a branch goes for the first time."""
            flow, place, way = self._flow, offset >> 1, destination >> 1
            following = flow.following(place)
            runs_on = way == following
            other = flow.targets.get(place, following) if runs_on else following
            if not runs_on and way != flow.targets.get(place):
                self._branches.note_strange()
            slot = (self._runs_on if runs_on else self.ends)[offset]
            told = other == way or flow.is_told(place, other)
            sole = self.leads_alone(way, runs_on=runs_on)
            self.ways[offset, destination] = (slot, told, (offset, 2 * other), sole)

    return ContextCode


def _register(  # noqa: C901, PLR0915 - Split up, the callbacks would cost calls.
    owner: "BranchContexts",
    monitoring: "Any",
    tool: int,
    recorder: "Any",
    contexts: "RecordedContexts",
) -> None:
    """Register the callbacks: closures over local variables, see `recorder._monitor_lines`.

    Between asking `rooms` and returning `DISABLE` they call nothing, see `recorder_contexts.Fired`.
    """
    events = monitoring.events
    disable = monitoring.DISABLE
    branches = owner.branches
    numbers, look, known_codes = contexts.numbers, contexts.look, contexts.known
    after_start = contexts.after_start
    ends = contexts.ends
    rooms = contexts.fired(owner.begin)
    identity, traceback_of, key_error = _identity, _traceback_of, _key_error
    find_frame, mark, fails = branches.find_frame, recorder.mark, recorder.start_fails
    codes, plain, usual = branches.codes, branches.plain, branches.usual
    going_on, settled, left = branches.going_on, branches.settled, branches.left
    expect = branches.expect
    is_wanted, watch = owner.is_wanted, owner.watch
    watched: set[int] = set()
    is_watched, note_watched = watched.__contains__, watched.add

    def code_starts(code: "CodeType", _offset: int) -> object:
        try:
            if numbers[0] != contexts.seen:
                look()
            key = identity(code)
            if is_watched(key):
                return after_start(code)
            if code.co_name == "__annotate__":
                return disable
            if not is_wanted(code.co_filename):
                return disable
            known_codes[key] = code
            watch(code)
            note_watched(key)
            return after_start(code)
        except RecursionError:
            return None
        except BaseException as error:  # noqa: BLE001 - none of ours may reach the application
            return fails(error, disable)

    def line_runs(code: "CodeType", line: int) -> object:
        last = -1
        try:
            if numbers[0] != contexts.seen:
                look()
            known = rooms[identity(code)]
            if known is None:
                return disable
            if line in known.lines:
                known.marks[known.lines[line]] = mark
                return ends[0]
            last = find_frame().f_back.f_lasti
            known = rooms[identity(code)]
            if known is not None:
                known.marks[known.starts[last]] = mark
        except RecursionError:
            return None
        except BaseException as error:  # noqa: BLE001
            if last < 0:
                last = find_frame().f_back.f_lasti
            return is_unusual(code, _STARTED, last, error)
        return ends[0]

    def instruction_runs(code: "CodeType", offset: int) -> object:
        try:
            if numbers[0] != contexts.seen:
                look()
            known = rooms[identity(code)]
            if known is not None:
                if known.by_instruction:
                    known.marks[known.starts[offset]] = mark
                if offset in known.untold_offsets:
                    known.marks[known.ends[offset]] = mark
        except RecursionError:
            return None
        except BaseException as error:  # noqa: BLE001
            return is_unusual(code, _STARTED, offset, error)
        return ends[0]

    def branch_goes(code: "CodeType", offset: int, destination: int) -> object:
        try:
            if usual[destination] is code:
                return None
        except IndexError:
            pass
        try:
            if numbers[0] != contexts.seen:
                look()
            known = rooms[identity(code)]
            if known is None:
                return disable
            way = (offset, destination)
            slot, told, other, sole = known.ways[way]
            known.marks[slot] = mark
            kept = known.kept
            if told or other in kept:
                return ends[0]
            if way not in kept:
                kept.add(way)
                if sole:
                    expect(usual, destination, code)
        except RecursionError:
            return None
        except BaseException as error:  # noqa: BLE001
            return is_new_way(code, offset, destination, error)
        return None

    def code_is_left(code: "CodeType", offset: int, _other: object) -> object:
        try:
            if numbers[0] != contexts.seen:
                look()
            known = rooms[identity(code)]
            if known is not None:
                known.marks[known.ends[offset]] = mark
        except RecursionError:
            return None
        except BaseException as error:  # noqa: BLE001
            return is_unusual(code, _LEFT, offset, error)
        return ends[0]

    def is_unusual(code: "CodeType", kind: int, offset: int, error: BaseException) -> object:
        """Mark what has no slot, or belongs to code that ran before there were contexts."""
        try:
            if _type(error) is not key_error:
                return fails(error, disable)
            known = known_of(code)
            if known is None:
                return disable
            known.mark_anywhere(kind, offset)
            if kind == _STARTED and offset in known.untold_offsets:
                known.mark_anywhere(_LEFT, offset)
            known_of(code)
        except RecursionError:
            return None
        except BaseException as other:  # noqa: BLE001
            return fails(other, disable)
        return ends[0]

    def is_new_way(code: "CodeType", offset: int, destination: int, error: BaseException) -> object:
        try:
            if _type(error) is not key_error:
                return fails(error, disable)
            known = known_of(code)
            if known is None:
                return disable
            known.learn(offset, destination)
            return branch_goes(code, offset, destination)
        except RecursionError:
            return None
        except BaseException as other:  # noqa: BLE001
            return fails(other, disable)

    def known_of(code: "CodeType") -> "Any":
        known_codes[identity(code)] = code
        return rooms[identity(code)]

    # As in `recorder_branches`.
    def exception_goes_on(code: "CodeType", offset: int, _error: BaseException) -> None:
        try:
            if going_on[offset] is code:
                return
        except IndexError:
            pass
        if identity(code) in codes or identity(code) in plain:
            try:
                known = known_of(code)
                if known is None or offset in known.passed:
                    return
                if known.goes_on(offset, find_frame().f_back):
                    known.passed.add(offset)
                    expect(going_on, offset, code)
            except RecursionError:
                pass
            except BaseException as other:  # noqa: BLE001
                fails(other, disable)

    def exception_is_handled(code: "CodeType", offset: int, error: BaseException) -> None:
        try:
            if settled[offset] is code:
                return
        except IndexError:
            pass
        if identity(code) in codes:
            try:
                known = known_of(code)
                trace = traceback_of(error)
                if known is None or trace is None:
                    return
                if (last := trace.tb_lasti, offset) in known.handled:
                    return
                if known.handles(last, offset, error, find_frame().f_back):
                    expect(settled, offset, code)
            except RecursionError:
                pass
            except BaseException as other:  # noqa: BLE001
                fails(other, disable)

    def exception_leaves(code: "CodeType", offset: int, error: BaseException) -> None:
        try:
            if left[offset] is code:
                return
        except IndexError:
            pass
        if identity(code) in codes or identity(code) in plain:
            try:
                known = known_of(code)
                trace = traceback_of(error)
                if known is None or trace is None or (last := trace.tb_lasti) in known.unwound:
                    return
                if known.unwinds(last, find_frame().f_back):
                    expect(left, offset, code)
            except RecursionError:
                pass
            except BaseException as other:  # noqa: BLE001
                fails(other, disable)

    for event, callback in (
        (events.PY_START, code_starts),
        (events.LINE, line_runs),
        (events.INSTRUCTION, instruction_runs),
        (events.BRANCH, branch_goes),
        (events.JUMP, code_is_left),
        (events.PY_RETURN, code_is_left),
        (events.RERAISE, exception_goes_on),
        (events.EXCEPTION_HANDLED, exception_is_handled),
        (events.PY_UNWIND, exception_leaves),
    ):
        monitoring.register_callback(tool, event, callback)
