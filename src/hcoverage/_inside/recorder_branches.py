"""Records which way branches go, on Python 3.12 and 3.13: the recorder's part for branches there.

There `sys.monitoring` has one BRANCH event for both ways of a branch, and `DISABLE` ends it for
both. So the event is kept only if nothing else that fires once would show the other way: a jump, a
return, another branch, or the start of a line that is entered from nowhere else. Exceptions that
leave a line have events of their own. All is marked by its place in the bytecode, which is written
beside the marks. The reader finds out what that means for lines (``_read.branches``).
``recorder_flow`` finds out what the bytecode shows.

``recorder`` loads it for branches, from beside itself and under its own name, so that both can be
copied together. Like the recorder it is a guest: no lock, no output, and no exception of its own
reaches the application; it binds all that it calls when it is loaded.
"""

import sys
from posix import getpid as _getpid

# Functions look builtins up in this copy, which stays as it is when the application replaces some.
if "__hcoverage__" not in __builtins__:  # type: ignore[operator, used-before-def]
    __builtins__ = {**__builtins__, "__hcoverage__": True}  # type: ignore[assignment, dict-item]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FrameType
    from typing import Any, Final, Optional

    from hcoverage._inside.recorder import Recorder
    from hcoverage._inside.recorder_writer import Marks

_traceback_of: "Final[Callable[[BaseException], Any]]" = BaseException.__dict__[
    "__traceback__"
].__get__
_from_bytes: "Final" = int.from_bytes
_bytes: "Final" = bytes
# `id` is audited: a hook of the application, and that of `hcov affected`, would be called.
_identity: "Final" = object.__hash__
_len: "Final" = len
_list: "Final" = list
_set: "Final" = set
_bool: "Final" = bool
_sum: "Final" = sum
_is_subclass: "Final" = issubclass
_OSError: "Final" = OSError
_type: "Final" = type
_end_of_iteration: "Final" = StopAsyncIteration

# The format, as told in docs/recording-format.md.
BRANCHES_KIND: "Final" = b"BRCH"
ARCS_KIND: "Final" = b"ARCS"
ONE_ARC: "Final" = 1
RAISED: "Final" = 3
BY_INSTRUCTION: "Final" = 1
_OUTSIDE: "Final" = -1

# What is told of as a loss, as errors of the interpreter's own: see `recorder.is_ours`.
# There is no second tool id, and a debugger's may make CPython forget what we wanted.
_NO_TOOL: "Final" = (1 << 16) + 1
# A branch went where the bytecode does not say.
_STRANGE_BRANCH: "Final" = (1 << 16) + 2

# Each code unit has three bytes: a line started or an instruction ran there; it jumped, or its line
# was left otherwise; a branch there did not jump.
_LEFT: "Final" = 1
_RAN_ON: "Final" = 2
_MARKS: "Final" = 3

# CO_OPTIMIZED, see the `inspect` module: a function, which may run more than once.
_FUNCTION: "Final" = 1
# Events at a larger offset are looked up in a slower way, see `expect`.
_FASTEST: "Final" = 1 << 15
# CO_GENERATOR, CO_COROUTINE and CO_ASYNC_GENERATOR, see the `inspect` module.
_GENERATORS: "Final" = 0x20 | 0x80 | 0x200
_VERSION: "Final" = sys.version_info[:2]
_FIRST_ENTRIES: "Final" = 512
_LARGEST_ENTRIES: "Final" = 1 << 14
_ENTRY_PRIME: "Final" = 65521


def monitor(
    names: "dict[str, Any]", monitoring: "Any", tool: int, recorder: "Recorder"
) -> "_Branches":
    """Register the callbacks for lines and for what branches depend on.

    Args:
        names: The names in the recorder's module.
        monitoring: ``sys.monitoring``.
        tool: The tool id that the recorder has taken.
        recorder: Marks the lines.

    Returns:
        What is known of code.
    """
    global current  # noqa: PLW0603 - one process, one recording
    current = _Branches(names, monitoring, tool, recorder)
    events = monitoring.events
    for event, callback in _callbacks(current, monitoring, recorder):
        monitoring.register_callback(tool, event, callback)
    exceptions = events.RERAISE | events.EXCEPTION_HANDLED | events.PY_UNWIND
    monitoring.set_events(tool, events.PY_START | exceptions)
    return current


def callbacks_beside(
    names: "dict[str, Any]", monitoring: "Any", tool: int, recorder: "Recorder"
) -> "Any":
    """Return callbacks for one of several contexts at once; a dispatcher will call them.

    Args:
        names: The names in the recorder's module.
        monitoring: ``sys.monitoring``.
        tool: The tool id that the recorder has taken.
        recorder: Marks the lines of that context.

    Returns:
        Pairs of an event and its callback.
    """
    branches = _Branches(names, monitoring, tool, recorder)
    if current is not None:
        branches.flows = current.flows
    return _callbacks(branches, monitoring, recorder, is_called_for=True)


# Contexts, which begin later than recording, need it.
current: "Optional[_Branches]" = None


def _callbacks(  # noqa: C901, PLR0915 - Split up, the callbacks would cost calls.
    branches: "_Branches",
    monitoring: "Any",
    recorder: "Recorder",
    *,
    is_called_for: bool = False,
) -> "Any":
    """Return the callbacks: closures over local variables, see `recorder.line_callbacks`."""
    events = monitoring.events
    disable = monitoring.DISABLE
    identity, traceback_of = _identity, _traceback_of
    find_frame = _outside(branches.find_frame) if is_called_for else branches.find_frame
    fails, line_fails = recorder.start_fails, recorder.line_fails
    regions, mark = recorder.regions, recorder.mark
    region_of = branches.region_of
    codes, plain, usual = branches.codes, branches.plain, branches.usual
    codes_get, plain_get = codes.get, plain.get
    going_on, settled, left = branches.going_on, branches.settled, branches.left
    expect = branches.expect
    instructions_of = branches.instructions
    watch = branches.watch
    absent = object()

    def code_starts(code: "CodeType", _offset: int) -> object:
        try:
            if code.co_name == "__annotate__":
                return disable
            filename = code.co_filename
            if region_of(filename) is None:
                return disable
            watch(code)
        except RecursionError:
            return None
        except BaseException as error:  # noqa: BLE001 - none of ours may reach the application
            return fails(error, disable)
        return disable

    # If the application is at the edge of its stack, the event comes again.
    def line_runs(code: "CodeType", line: int) -> object:
        filename = code.co_filename
        try:
            region: Any = regions.get(filename, absent)
            if region is absent:
                region = region_of(filename)
            if region is None:
                return disable
            known = codes_get(identity(code))
            if known is not None:
                frame = find_frame().f_back
                known.mark(frame.f_lasti >> 1)
            region[line] = mark
        except RecursionError:
            return None
        except BaseException as error:  # noqa: BLE001
            return line_fails(filename, line, error, disable)
        return disable

    def instruction_runs(code: "CodeType", offset: int) -> object:
        try:
            known = codes_get(identity(code))
            if known is not None:
                known.runs(offset >> 1)
            else:
                marks = instructions_of(code)
                if marks is not None:
                    marks[offset] = mark
        except RecursionError:
            return None
        except BaseException as error:  # noqa: BLE001
            return fails(error, disable)
        return disable

    def branch_goes(code: "CodeType", offset: int, destination: int) -> object:
        try:
            if usual[destination] is code:
                return None
        except IndexError:
            pass
        try:
            known = codes_get(identity(code))
            if known is not None and known.goes(offset >> 1, destination >> 1):
                return None
        except RecursionError:
            return None
        except BaseException as error:  # noqa: BLE001
            return fails(error, disable)
        return disable

    def code_is_left(code: "CodeType", offset: int, _other: object) -> object:
        try:
            known = codes_get(identity(code))
            if known is not None:
                known.leaves(offset >> 1)
                return disable
            plain_code = plain_get(identity(code))
            if plain_code is not None:
                frame = find_frame().f_back
                plain_code.leaves(offset >> 1, frame.f_lineno)
        except RecursionError:
            return None
        except BaseException as error:  # noqa: BLE001
            return fails(error, disable)
        return disable

    # The head of an exception's traceback says where it was raised, if that was in this frame.
    # Otherwise an instruction raises it again. That has an event of its own, before this one; its
    # place shows where the exception goes on.
    def exception_goes_on(code: "CodeType", offset: int, _error: BaseException) -> None:
        try:
            if going_on[offset] is code:
                return
        except IndexError:
            pass
        known: Any = codes_get(identity(code)) or plain_get(identity(code))
        if known is not None and offset not in known.passed:
            try:
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
        known = codes_get(identity(code))
        if known is not None:
            try:
                trace = traceback_of(error)
                if trace is None or (last := trace.tb_lasti, offset) in known.handled:
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
        known: Any = codes_get(identity(code)) or plain_get(identity(code))
        if known is not None:
            try:
                trace = traceback_of(error)
                if trace is None or (last := trace.tb_lasti) in known.unwound:
                    return
                if known.unwinds(last, find_frame().f_back):
                    expect(left, offset, code)
            except RecursionError:
                pass
            except BaseException as other:  # noqa: BLE001
                fails(other, disable)

    return (
        (events.PY_START, code_starts),
        (events.LINE, line_runs),
        (events.INSTRUCTION, instruction_runs),
        (events.BRANCH, branch_goes),
        (events.JUMP, code_is_left),
        (events.PY_RETURN, code_is_left),
        (events.RERAISE, exception_goes_on),
        (events.EXCEPTION_HANDLED, exception_is_handled),
        (events.PY_UNWIND, exception_leaves),
    )


def _outside(find_frame: "Callable[[], Any]") -> "Callable[[], Any]":
    """Return a frame finder for callbacks that a dispatcher calls: it skips the dispatcher."""

    def find() -> "Any":
        return find_frame().f_back.f_back

    return find


class _Branches:
    """What is known of all code with branches."""

    def __init__(
        self,
        names: "dict[str, Any]",
        monitoring: "Any",
        tool: int,
        recorder: "Recorder",
    ) -> None:
        self.flow: Any = names["part"](names["_FLOW_PART"])
        self.kind = BRANCHES_KIND
        self.opcodes = self.flow.OPCODES[_VERSION]
        self.recorder = recorder
        # By the `id` of code objects, which are kept, so that no other object gets it.
        self.codes: dict[int, Code] = {}
        self.plain: dict[int, _PlainCode] = {}
        self.pinned: list[CodeType] = []
        # By the offset of a destination: code in which a branch with a kept event has gone there.
        self.usual: list[Optional[CodeType]] = []
        # By the offset of an event, the code in which it shows nothing new: exceptions that are
        # raised again, that are handled, and that leave the code (then any offset may be told).
        self.going_on: list[Optional[CodeType]] = []
        self.settled: list[Optional[CodeType]] = []
        self.left: list[Optional[CodeType]] = []
        self._expected: list[tuple[list[Optional[CodeType]], int]] = []
        self.checksum: Callable[[bytes], int] = names["part"](names["WRITER_PART"]).checksum
        self.find_frame: Callable[[], Any] = names["_frame_finder"]()
        self._same: dict[tuple[object, ...], Code] = {}
        # What is known of bytecode, for all contexts.
        self.flows: dict[tuple[object, ...], Any] = {}
        self._logs: dict[str, _Log] = {}
        self._monitoring = monitoring
        self._tool = tool
        self._take_tool: Callable[[], Optional[int]] = names["_tool_taker"](monitoring)
        self._are_there_others: Callable[[], bool] = names["_looker_for_others"](monitoring)
        self._long_tables: tuple[int, int] = names["_LONG_LINE_TABLES"]
        self._bytes_of_a_name: int = names["_BYTES_OF_A_NAME"]
        self._watch_lines: Callable[[CodeType], None] = names["line_watcher"](
            monitoring, tool, recorder, names["_LONG_LINE_TABLES"]
        )

    def region_of(self, filename: str) -> "Optional[Marks]":
        """Return the place of a file's line marks."""
        try:
            return self.recorder.regions[filename]
        except KeyError:
            return self.recorder.add_source(filename)

    def instructions(self, code: "CodeType") -> "Optional[Marks]":
        """Return the place of the instruction marks of long code without branches."""
        return self.recorder.instructions.get(code.co_linetable)

    def begin_anew(self) -> None:
        """Write all that is seen again, since it now belongs to another context."""
        for log in _list(self._logs.values()):
            log.begin_anew()
        for places, offset in self._expected:
            places[offset] = None
        self._expected.clear()

    def expect(self, places: "list[Optional[CodeType]]", offset: int, code: "CodeType") -> None:
        """From now on, answer an event at an offset of some code at once."""
        if 0 <= offset < _FASTEST:
            if offset >= _len(places):
                places.extend([None] * (2 * offset + 1 - _len(places)))
            places[offset] = code
            self._expected.append((places, offset))

    def watch(self, code: "CodeType") -> None:
        """Enable the events that are needed in a code object."""
        content = code.co_code
        if not self.flow.has_branches(self.opcodes, content):
            self.watch_plain(code)
            return
        if _identity(code) in self.codes:
            return
        try:
            tables = (code.co_linetable, code.co_exceptiontable)
            same = (code.co_filename, code.co_firstlineno, content, *tables)
            known = self._same.get(same)
            if known is None:
                known = self._same.setdefault(same, Code(self, code, content, same))
            known.make_room()
        except RecursionError:
            raise
        except BaseException as error:  # noqa: BLE001
            self.recorder.writer.note_loss(error)
            self._watch_lines(code)
            return
        self.pinned.append(code)
        self.codes[_identity(code)] = known
        self.set_events(code, known)

    def is_long(self, code: "CodeType") -> bool:
        """Return whether LINE events are slow in code, see `_LONG_LINE_TABLES` in the recorder.

        With INSTRUCTION events instead, more BRANCH events must be kept.
        """
        may_be_long, is_long = self._long_tables
        length = _len(code.co_linetable)
        if length < is_long and (
            code.co_flags & _FUNCTION
            or length < may_be_long + self._bytes_of_a_name * _len(code.co_names)
        ):
            return False
        return not self._are_there_others()

    def watch_plain(self, code: "CodeType") -> None:
        """Enable the events for the lines and the end of code without branches.

        The line of a function or class in one line has two ways: on, and its own end.
        """
        monitoring, tool = self._monitoring, self._tool
        if _identity(code) not in self.plain:
            self.pinned.append(code)
            self.plain[_identity(code)] = _PlainCode(self, code)
        try:
            events = monitoring.events.LINE
            if _len(code.co_linetable) >= self._long_tables[0]:
                self._watch_lines(code)
                events = monitoring.get_local_events(tool, code)
            monitoring.set_local_events(tool, code, events | monitoring.events.PY_RETURN)
        except ValueError:
            pass  # The application freed the tool id, which it never took.

    def is_return(self, operations: bytes, last: int) -> bool:
        """Return whether coverage.py takes the end of code by an exception for a return.

        It does not if a generator ends where it waits, at a `yield`.
        """
        if last == _len(operations) - 1:
            return True
        place = last + 1 if _VERSION == (3, 12) else last
        return 0 <= place < _len(operations) and operations[place] != self.opcodes.resume

    def log(self, filename: str) -> "_Log":
        """Return the log for the exceptions in a file."""
        try:
            return self._logs[filename]
        except KeyError:
            recorder = self.recorder
            log = _Log(recorder.writer, recorder.sources[filename])
            return self._logs.setdefault(filename, log)

    def note_strange(self) -> None:
        """Note that a branch went where its bytecode does not lead."""
        self.recorder.writer.note_loss(_OSError(_STRANGE_BRANCH, ""))

    def set_events(self, code: "CodeType", known: "Code") -> None:
        monitoring, tool = self._monitoring, self._tool
        events = monitoring.events
        wanted = events.BRANCH | events.JUMP | events.PY_RETURN
        if not known.by_instruction:
            wanted |= events.LINE
        try:
            if known.by_instruction or known.untold:
                self._set_with_instructions(code, wanted | events.INSTRUCTION)
            else:
                monitoring.set_local_events(tool, code, wanted)
        except ValueError:
            pass  # The application freed the tool id, which it never took.

    def _set_with_instructions(self, code: "CodeType", wanted: int) -> None:
        """Enable events with a second tool from the start, as `recorder_long_code.watch` does."""
        monitoring, tool = self._monitoring, self._tool
        second = self._take_tool()
        if second is None:
            self.recorder.writer.note_loss(_OSError(_NO_TOOL, ""))
            monitoring.set_local_events(tool, code, wanted)
            return
        try:
            events = monitoring.events
            rare = events.STOP_ITERATION if code.co_flags & _GENERATORS else events.PY_YIELD
            monitoring.set_local_events(second, code, rare)
            monitoring.set_local_events(tool, code, wanted | rare)
            monitoring.set_local_events(second, code, 0)
        finally:
            monitoring.free_tool_id(second)


class Code:
    """A code object with branches, or several equal ones."""

    def __init__(
        self,
        branches: "_Branches",
        code: "CodeType",
        content: bytes,
        same: "tuple[object, ...]",
        flags: "Optional[int]" = None,
    ) -> None:
        self.count = _len(content) >> 1
        if flags is None:
            flags = BY_INSTRUCTION * branches.is_long(code)
        self.by_instruction = _bool(flags & BY_INSTRUCTION)
        self._branches = branches
        self._filename = code.co_filename
        self._first = code.co_firstlineno
        table, exceptions = code.co_linetable, code.co_exceptiontable
        lengths = [flags]
        lengths += [_len(content), _len(table), _len(exceptions)]
        self._facts = b"".join([number.to_bytes(4, "little") for number in lengths])
        self._facts += content + table + exceptions
        known: Any = branches.flows.get(same)
        if known is None:
            flow = branches.flow
            known = branches.flows[same] = flow.Flow(
                branches.opcodes,
                content,
                flow.lines_by_unit(code.co_lines(), self.count),
                flow.handlers_of(exceptions),
                by_instruction=self.by_instruction,
            )
        self._flow = known
        self.untold = _set(self._flow.untold_ends())
        self._code = code
        self._marks: Optional[Marks] = None
        self._seen: set[tuple[int, int]] = _set()
        self._kept: set[tuple[int, int]] = _set()
        self._raised: set[tuple[int, int]] = _set()
        # By offsets, the exceptions that need not be looked at again.
        self.handled: set[tuple[int, int]] = _set()
        self.passed: set[int] = _set()
        self.unwound: set[int] = _set()
        self._is_generator = _bool(code.co_flags & _GENERATORS)

    def name(self) -> int:
        """Return what the code object is named by in other records."""
        return self._branches.checksum(self._facts)

    def make_room(self) -> "Marks":
        """Make room for the marks, if there is none yet.

        Raises:
            OSError: There is no room on the disk, or the directory cannot be written to.
            OverflowError: The code object says that it begins in a line below zero.
        """
        if self._marks is not None:
            return self._marks
        recorder = self._branches.recorder
        source, count = recorder.sources[self._filename], _MARKS * self.count
        segment, position = recorder.writer.add_record(
            BRANCHES_KIND, source, self._first, count, self._facts
        )
        marks = self._marks = segment.marks(position, count)
        return marks

    def mark(self, index: int) -> None:
        """Set a mark."""
        try:
            marks = self._marks
            if marks is None:
                marks = self.make_room()
            marks[index] = self._branches.recorder.mark
        except RecursionError:
            raise
        except BaseException as error:  # noqa: BLE001
            self._branches.recorder.writer.note_loss(error)

    def runs(self, place: int) -> None:
        """Mark an instruction that is about to run."""
        if self.by_instruction:
            self.mark(place)
        if place in self.untold:
            self.mark(_LEFT * self.count + place)

    def leaves(self, place: int) -> None:
        """Mark a jump or a return."""
        self.mark(_LEFT * self.count + place)

    def goes(self, place: int, way: int) -> bool:
        """Mark the way that a branch goes.

        Returns:
            Whether its event must be kept.
        """
        if (place, way) in self._kept:
            return True
        if (place, way) not in self._seen:
            following = self._flow.following(place)
            if way != following and way != self._flow.targets.get(place):
                self._branches.note_strange()
            self.mark((_RAN_ON if way == following else _LEFT) * self.count + place)
            self._seen.add((place, way))
        return self._is_kept(place, way)

    def _is_kept(self, place: int, way: int) -> bool:
        flow = self._flow
        following = flow.following(place)
        other = flow.targets.get(place, following) if way == following else following
        if (place, other) in self._seen or other == way or flow.is_told(place, other):
            return False
        if self.leads_alone(way, runs_on=way == following):
            self._branches.expect(self._branches.usual, 2 * way, self._code)
        self._kept.add((place, way))
        return True

    def leads_alone(self, way: int, *, runs_on: bool) -> bool:
        """Return whether a single branch leads to a place, by jumping or by running on."""
        flow = self._flow
        ways = _sum(
            [flow.operations[each] in flow.opcodes.branches for each in flow.entries.get(way, ())]
        )
        return ways + runs_on == 1

    def goes_on(self, offset: int, frame: "FrameType") -> bool:
        """Note where a re-raised exception goes on.

        Returns:
            Whether nothing new can be seen there.
        """
        place = offset >> 1
        handler = self._flow.handler_of(place)
        # `f_lasti` may be where it was raised first: coverage.py decides by that.
        if handler != _OUTSIDE or self._is_return(frame.f_lasti):
            self._note(place, handler)
        return (place, handler) in self._raised

    def handles(self, last: int, offset: int, error: BaseException, frame: "FrameType") -> bool:
        """Note an exception that is handled here, if it was raised in this frame.

        Args:
            last: The offset where it was raised, if it was in this frame.
            offset: The offset of its handler.
            error: The exception.
            frame: The frame.

        Returns:
            Whether nothing new can be seen of exceptions that are handled here.
        """
        handler, raised = offset >> 1, last >> 1
        flow = self._flow
        is_end = flow.operations[handler] == flow.opcodes.end_async_for
        if flow.handler_of(raised) != handler:
            self.handled.add((last, offset))
        elif frame.f_lasti == last and not is_end:
            self._note(raised, handler)
            self.handled.add((last, offset))
            return self._is_settled(handler)
        elif frame.f_lasti == last and _is_subclass(_type(error), _end_of_iteration):
            self._note(raised, handler)
        # Else another event follows, at the end of the loop; or somebody has given the exception
        # another traceback.
        return False

    def unwinds(self, last: int, frame: "FrameType") -> bool:
        """Note an exception that leaves this frame, if it was raised in it.

        Args:
            last: The offset where it was raised, if it was in this frame.
            frame: The frame.

        Returns:
            Whether nothing new can be seen of exceptions that leave the code.
        """
        raised = last >> 1
        if self._flow.handler_of(raised) != _OUTSIDE:
            self.unwound.add(last)
        elif frame.f_lasti == last:
            if self._is_return(last):
                self._note(raised, _OUTSIDE)
            self.unwound.add(last)
            return not self._is_generator and self._is_settled(_OUTSIDE)
        return False

    def _is_return(self, last: int) -> bool:
        return self._branches.is_return(self._flow.operations, last >> 1)

    def _is_settled(self, handler: int) -> bool:
        """Return whether exceptions have come to a handler from each line that can raise them."""
        lines = self._flow.lines
        seen = {lines[raised] for raised, where in self._raised if where == handler}
        seen.discard(None)
        return _bool(self._flow.raising_lines(handler) <= seen)

    def _note(self, raised: int, where: int) -> None:
        if (raised, where) in self._raised:
            return
        try:
            if self._marks is None:
                self.make_room()
            self._branches.log(self._filename).write(
                RAISED, (self._first, self.name(), raised, where)
            )
            self._raised.add((raised, where))
        except RecursionError:
            raise
        except BaseException as error:  # noqa: BLE001
            self._branches.recorder.writer.note_loss(error)


class _PlainCode:
    """A code object without branches: only how it ends matters."""

    __slots__ = ("_branches", "_code", "_ends", "passed", "unwound")

    def __init__(self, branches: "_Branches", code: "CodeType") -> None:
        self._branches = branches
        self._code = code
        self._ends: set[int] = _set()
        self.passed: set[int] = _set()
        self.unwound: set[int] = _set()

    def leaves(self, place: int, line: "Optional[int]") -> None:
        """Write down that it has ended in a line."""
        if place in self._ends:
            return
        if line is None:
            for start, _, each in self._code.co_lines():
                if start > 2 * place:
                    break
                line = each or line
            if line is None:
                return
        first = self._code.co_firstlineno
        try:
            log = self._branches.log(self._code.co_filename)
            log.write(ONE_ARC, (line, -first))
            self._ends.add(place)
        except RecursionError:
            raise
        except BaseException as error:  # noqa: BLE001
            self._branches.recorder.writer.note_loss(error)

    def goes_on(self, _offset: int, frame: "FrameType") -> bool:
        """Note a re-raised exception that leaves it."""
        return self.unwinds(frame.f_lasti, frame)

    def unwinds(self, last: int, frame: "FrameType") -> bool:
        """Note an exception that leaves this frame, if it was raised in it.

        Args:
            last: The offset where it was raised, if it was in this frame.
            frame: The frame.

        Returns:
            Whether nothing new can be seen of exceptions that leave the code.
        """
        if frame.f_lasti != last:
            return False
        place, line = last >> 1, frame.f_lineno
        operations = self._code.co_code[::2]
        resume = self._branches.opcodes.resume
        if operations[place] != resume and self._branches.is_return(operations, place):
            self.leaves(place, line)
        self.unwound.add(last)
        begins = 2 * operations.find(resume)
        lines = {each for start, _, each in self._code.co_lines() if start > begins}
        return lines == {line} and place in self._ends


class _Log:
    """The exceptions of one source file, in blocks that one thread owns at a time."""

    __slots__ = ("_free", "_next_size", "_source", "_writer")

    def __init__(self, writer: "Any", source: bytes) -> None:
        self._writer = writer
        self._source = source
        self._free: list[_Block] = []
        self._next_size = _FIRST_ENTRIES

    def begin_anew(self) -> None:
        """Use other blocks from now on."""
        self._free = []
        self._next_size = _FIRST_ENTRIES

    def write(self, kind: int, numbers: "tuple[int, ...]") -> None:
        """Write an entry.

        Raises:
            OSError: There is no room on the disk, or the directory cannot be written to.
        """
        body = b"".join([number.to_bytes(4, "little", signed=True) for number in numbers])
        check = _from_bytes(body, "little") % _ENTRY_PRIME
        content = _bytes((kind, _len(numbers))) + check.to_bytes(2, "little") + body
        try:
            block = self._free.pop()
        except IndexError:
            block = None
        # After a fork a block is the parent's, which goes on writing in it.
        if block is None or block.room < _len(content) or block.owner != _getpid():
            size = self._next_size
            if size < _LARGEST_ENTRIES:
                self._next_size = size * 2
            segment, position = self._writer.add_record(ARCS_KIND, self._source, 0, size)
            block = _Block(segment, position, size)
        try:
            block.append(content)
        finally:
            self._free.append(block)


class _Block:
    """Room for entries in an arcs record."""

    __slots__ = ("_position", "_segment", "owner", "room")

    def __init__(self, segment: "Any", position: int, room: int) -> None:
        self._segment = segment
        self._position = position
        self.room = room
        self.owner = _getpid()

    def append(self, content: bytes) -> None:
        """Add an entry."""
        self._segment.put(self._position, content)
        self._position += _len(content)
        self.room -= _len(content)
