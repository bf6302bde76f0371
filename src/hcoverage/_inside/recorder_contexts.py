"""Attributes what a process runs to the running test: the recorder's part for contexts.

It is loaded if a run has contexts, from beside ``recorder`` and under its name, so that both can be
copied together. When the context changes, each source gets a new place for its marks, and the
events of the code that ran in the last context are enabled again. A process learns of the running
test in one of two ways: pytest's own process and its forks call `RecordedContexts.switch`; others
follow a file (``context_reader``), and look at it whenever a recorded function starts. So these
attribute nothing to the next test before they call a function, or run a line for the first time.

Like the recorder it is a guest: it takes no lock, prints nothing, and lets no exception of its own
reach the application. ``docs/recording-format.md`` describes what it writes.
"""

import sys

# What `dis` is made from.
try:
    from _opcode_metadata import opmap  # type: ignore[import-not-found, unused-ignore]
except ImportError:  # before Python 3.13
    opmap = {}

# Functions look builtins up in this copy, which stays as it is when the application replaces some.
if "__hcoverage__" not in __builtins__:  # type: ignore[operator, used-before-def]
    __builtins__ = {**__builtins__, "__hcoverage__": True}  # type: ignore[assignment, dict-item]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType
    from typing import Any, Final, Optional

    from hcoverage._inside.context_reader import ContextReader
    from hcoverage._inside.recorder import Recorder
    from hcoverage._inside.recorder_writer import Marks

# As in the recorder, but only if LINE events would take seconds: with instructions, if the context
# changes in the middle of a line, the line is attributed to the new context, too.
_LONG_LINE_TABLES: "Final" = (1 << (15 if sys.version_info < (3, 14) else 62),) * 2
# Before Python 3.13 a mapping keeps a descriptor, and closes it at its end. The application may
# have closed that descriptor before, and use its number for a file of its own.
_KEEPS_DESCRIPTORS: "Final" = sys.version_info < (3, 13)
# Since 3.13 Python turns RESUME into RESUME_CHECK if start events are disabled, and then takes the
# line that begins after it for one that has already begun: no line event of functions in one line.
_HIDES_LINES: "Final" = sys.version_info >= (3, 13)
_RESUME: "Final" = opmap["RESUME"] if _HIDES_LINES else -1
# The number of contexts whose places are kept, if contexts may come again.
_MOST_LATELY: "Final" = 64
_ABSENT: "Final[Any]" = object()
# `id` is audited: a hook of the application, and that of `hcov affected`, would be called.
_identity: "Final" = object.__hash__


class RecordedContexts:
    """Attributes what a process runs to contexts.

    Attributes:
        heading: Returns the record that precedes the marks of a context.
        reader: The file to follow, if there is one.
        numbers: Its first item changes whenever that file does.
        seen: The value of that item at the last look.
        number: How many contexts there have been.
        known: Code objects that are recorded, by their `id`; they are kept, so that no other object
            gets it.
        text: The present context.
        ends: The answer of callbacks that disables an event for this context.
        requests: Attributes several contexts at once (``recorder_requests``); None before the first
            request.
        rooms: The places of marks in the present context, if contexts may come again.
        named: By name, a code object and the place of its line marks in the present context, or
            None. Of several with one name it is the first in the context: `Fired` has the others.
        ran: Those of them with such a place.
        hiding: By `id` of code objects, whether their start events must stay enabled: without them
            a line of theirs would send no events again.
    """

    def __init__(
        self,
        module: "Any",
        reader: "Optional[ContextReader]" = None,
        *,
        comes_again: bool = False,
    ) -> None:
        """Register these callbacks instead of the recorder's.

        Args:
            module: The recorder's module, which records this process.
            reader: The file to follow; without one, `switch` is called.
            comes_again: Whether contexts often come again soon.
        """
        monitoring, tool, recorder = module.current
        module.own_globals(globals())
        self._monitoring = monitoring
        self._tool: int = tool
        self._recorder: Recorder = recorder
        self.heading: Callable[[str], bytes] = recorder.writer.heading_of
        writing = module.part(module.WRITER_PART)
        self._record_before: Callable[..., bytes] = writing.record_before
        self._lines_kind: bytes = writing.LINES_KIND
        # By file, the record of its lines up to their marks, and how many there are.
        self._records: dict[str, tuple[bytes, int]] = {}
        self._line_room: Callable[[bytes], int] = module.part(module.SOURCES_PART).line_room
        self._long_code: Any = module.part(module.LONG_CODE_PART)
        self.reader = reader
        self.numbers: Any = [0] if reader is None else reader.numbers
        self.seen = 0
        self.number = 0
        self.known: dict[int, CodeType] = {}
        self.text = ""
        self.ends: list[object] = [monitoring.DISABLE]
        self.requests: Any = None
        self.rooms: dict[object, Any] = {}
        self._lately: Optional[dict[str, dict[object, Any]]] = {} if comes_again else None
        self.hiding: dict[int, bool] = {}
        self.named: dict[str, list[Any]] = {}
        self.ran: dict[str, list[Any]] = {}
        self._fired: list[Fired] = []
        self._placed: list[str] = list(recorder.regions)
        self._kept: dict[int, object] = {}
        self._arcs: Any = None
        if recorder.writer.branch and sys.version_info < (3, 14):
            part = module.part(module.BRANCH_CONTEXTS_PART)
            branches = module.part(module.BRANCHES_PART)
            self._arcs = part.monitor(branches, monitoring, tool, recorder, self)
        elif recorder.writer.branch:
            self._arcs = _arc_monitor(self, module.part(module.ARCS_PART), monitoring, tool)
            self._arcs.start()
        else:
            _monitor_lines(self, module, tool)

    def look(self) -> None:
        """Switch to the running test, if it has changed."""
        if self.numbers[0] == self.seen or self.reader is None:
            return
        found = self.reader.read()
        if found is not None:
            self.seen, text = found
            self.switch(text)

    def switch(self, text: str) -> None:
        """Attribute all that runs from now on to a context.

        Args:
            text: The context; empty for none.
        """
        self.text = text
        if self.requests is not None:
            self.requests.switch(text)
            return
        recorder = self._recorder
        # Room that another thread makes meanwhile belongs to one context or the other.
        self.rooms = {}
        recorder.writer.heading = self.heading(text)
        self.rooms = self._rooms_of(text)
        self.number += 1
        placed, self._placed = self._placed, []
        before = recorder.begin_anew(placed)
        if self._arcs is not None:
            before += self._arcs.begin_anew()
        if _KEEPS_DESCRIPTORS:
            self._kept.update([(_identity(each), each) for each in before])
        if self.number == 1 or not self._fired:
            # Which events were disabled before this is not known.
            self._monitoring.restart_events()
        self._rearm()

    def _rooms_of(self, text: str) -> "dict[object, Any]":
        lately = self._lately
        if lately is None:
            return {}
        rooms = lately[text] = lately.pop(text, {})
        if len(lately) > _MOST_LATELY:
            lately.pop(next(iter(lately)), None)
        return rooms

    def is_new(self, code: "CodeType") -> bool:
        """Add code that was running already; return whether it was unknown."""
        if _identity(code) in self.known:
            return False
        self.known[_identity(code)] = code
        return True

    def after_start(self, code: "CodeType") -> object:
        """Return a callback's answer to the start of recorded code."""
        # With a file to follow, each start of a function is a chance to see that it has changed.
        if self.reader is not None or self.hides_line(code):
            return None
        return self._monitoring.DISABLE

    def hides_line(self, code: "CodeType") -> bool:
        """Return whether code has a line that sends events again only with its start events."""
        if not _HIDES_LINES:
            return False
        hides = self.hiding.get(_identity(code))
        if hides is None:
            hides = self.hiding[_identity(code)] = _line_begins_at_once(code)
        return hides

    def fired(self, place_of: "Callable[[CodeType], Any]") -> "Fired":
        """Return the places of code objects' marks in the present context.

        Args:
            place_of: Makes room for the marks of a code object; returns None if it is not recorded.
        """
        fired = Fired(self, place_of)
        self._fired.append(fired)
        return fired

    def _rearm(self) -> None:
        """Enable again the events that were disabled in the last context.

        `restart_events` would enable them in all code, most of which is not recorded.
        """
        tool, known, ran = self._tool, self.known, self.ran
        events_of, set_events = self._monitoring.get_local_events, self._monitoring.set_local_events
        line = self._monitoring.events.LINE
        while ran:
            entry = ran.popitem()[1]
            # Together: once the place is gone, another thread may put other code in the entry.
            code, entry[1] = entry[0], None
            try:
                set_events(tool, code, 0)
                set_events(tool, code, line)
            except ValueError:
                pass  # The application freed the tool id, which it never took.
        for places in self._fired:
            while places:
                code = known[places.popitem()[0]]
                try:
                    events = events_of(tool, code)
                    set_events(tool, code, 0)
                    set_events(tool, code, events)
                except ValueError:
                    pass  # as above

    def region(self, filename: str) -> "Optional[Marks]":
        """Return the place of a file's line marks in the present context."""
        recorder = self._recorder
        region: Optional[Marks] = recorder.regions.get(filename, _ABSENT)
        if region is not _ABSENT:
            return region
        rooms = self.rooms
        region = rooms.get(filename)
        source = recorder.sources.get(filename)
        if source is None:
            region = recorder.add_source(filename)
        else:
            try:
                if region is None:
                    region = self._add_again(filename, source)
            except RecursionError:
                raise
            except BaseException as error:  # noqa: BLE001
                recorder.writer.note_loss(error)
                region = None
            region = recorder.regions.setdefault(filename, region)
        if region is not None:
            self._placed.append(filename)
            self.keep(rooms, filename, region)
        return region

    def _add_again(self, filename: str, source: bytes) -> "Marks":
        """Make room for the lines of a file in the present context, as in those before."""
        known = self._records.get(filename)
        if known is None:
            count = self._line_room(source)
            known = self._record_before(self._lines_kind, source, 0, count), count
            self._records[filename] = known
        record, count = known
        segment, position = self._recorder.writer.add(record, count)
        return segment.marks(position, count)

    def region_of_code(self, code: "CodeType") -> "Optional[Marks]":
        """Return the place of a code object's line marks in the present context."""
        return self.region(code.co_filename)

    def instructions(self, code: "CodeType") -> "Optional[Marks]":
        """Return the place of a long code object's instruction marks in the present context."""
        rooms, table = self.rooms, code.co_linetable
        try:
            marks: Optional[Marks] = rooms.get(table)
            if marks is None:
                marks = self._long_code.room(self._recorder, code)
        except RecursionError:
            raise
        except BaseException as error:  # noqa: BLE001
            self._recorder.writer.note_loss(error)
            return None
        self.keep(rooms, table, marks)
        return marks

    def keep(self, rooms: "dict[object, Any]", key: object, room: "Any") -> None:
        """Keep the place of something's marks, in case the context comes again.

        Args:
            rooms: The `rooms` in which it was missing.
            key: What is marked.
            room: The place of its marks.
        """
        if rooms is self.rooms and self._lately is not None:
            rooms[key] = room


class Fired(dict):  # type: ignore[type-arg]
    """The places of the code objects that ran in the present context, by `id`.

    Callbacks ask it right before they store a mark and return `DISABLE`, without a call in between
    in which another thread could change the context: so it has all code with disabled events.
    """

    __slots__ = ("_contexts", "_known", "_place_of")

    def __init__(self, contexts: "RecordedContexts", place_of: "Callable[[CodeType], Any]") -> None:
        self._contexts = contexts
        self._known = contexts.known
        self._place_of = place_of

    def __missing__(self, key: int) -> "Any":
        """Make room for the marks of a code object.

        Raises:
            KeyError: The code object is not known yet.
        """
        contexts = self._contexts
        code = self._known[key]
        while True:
            number = contexts.number
            place = self._place_of(code)
            if place is None:
                return None
            if number == contexts.number:
                self[key] = place
                return place


# Attributes what this process runs, if it has contexts.
current: "Optional[RecordedContexts]" = None


def by_hand(module: "Any") -> "RecordedContexts":
    """Return the contexts of a process that knows which test is running, and calls `switch`.

    Args:
        module: The recorder's module, which records this process.
    """
    global current  # noqa: PLW0603 - one process, one recording
    current = RecordedContexts(module)
    return current


def follow(module: "Any", reader: "Optional[ContextReader]", text: str) -> None:
    """Attribute what this process runs, from now on.

    Args:
        module: The recorder's module, which records this process.
        reader: The file to follow; None if there is none.
        text: The context of the whole process, if no file is followed.
    """
    global current  # noqa: PLW0603 - one process, one recording
    current = contexts = RecordedContexts(module, reader)
    if reader is None:
        contexts.switch(text)
    contexts.look()


def _line_begins_at_once(code: "CodeType") -> bool:
    """Return whether code has more in the line in which it starts."""
    start = 2 * code.co_code[::2].find(_RESUME)
    return any([begin <= start < end - 2 for begin, end, _ in code.co_lines()])  # noqa: C419


def _monitor_lines(  # noqa: C901 - Split up, the callbacks would cost calls.
    contexts: "RecordedContexts", module: "Any", tool: int
) -> None:
    """Register callbacks for lines, like `recorder._monitor_lines`."""
    monitoring, _, recorder = module.current
    events = monitoring.events
    disable = monitoring.DISABLE
    numbers = contexts.numbers
    look, after_start = contexts.look, contexts.after_start
    region_of = contexts.region
    line_fails = recorder.line_fails
    fails = recorder.start_fails
    mark = recorder.mark
    known, is_new = contexts.known, contexts.is_new
    lines = contexts.fired(contexts.region_of_code)
    named, ran, regions = contexts.named, contexts.ran, recorder.regions
    instructions = contexts.fired(contexts.instructions)
    ends = contexts.ends
    watch_lines = module.line_watcher(monitoring, tool, recorder, _LONG_LINE_TABLES)

    def code_starts(code: "CodeType", _offset: int) -> object:
        try:
            if numbers[0] != contexts.seen:
                look()
            if _identity(code) in known:
                return after_start(code)
            if code.co_name == "__annotate__":
                return disable
            if region_of(code.co_filename) is None:
                return disable
            watch_lines(code)
            known[_identity(code)] = code
            return after_start(code)
        except RecursionError:
            return None
        except BaseException as error:  # noqa: BLE001 - none of ours may reach the application
            return fails(error, disable)

    # The last call before the mark, and before `DISABLE`, is that of `id`.
    def instruction_runs(code: "CodeType", offset: int) -> object:
        try:
            if numbers[0] != contexts.seen:
                look()
            instructions[_identity(code)][offset] = mark
        except RecursionError:
            return None
        except BaseException as error:  # noqa: BLE001
            try:
                if type(error) is KeyError and is_new(code):
                    return instruction_runs(code, offset)
                return fails(error, disable)
            except RecursionError:
                return None
        return ends[0]

    def line_runs(code: "CodeType", line: int) -> object:
        try:
            if numbers[0] != contexts.seen:
                look()
            # Asking for an identity is a call, which takes half as long as all of this.
            name = code.co_qualname
            owner, marks = entry = named[name]
            if marks is None:
                marks = regions[code.co_filename]
                entry[0] = code
                ran[name] = entry
                entry[1] = marks
            elif owner is not code:
                marks = lines[_identity(code)]
            marks[line] = mark
        except RecursionError:
            return None
        except BaseException as error:  # noqa: BLE001
            try:
                if type(error) is KeyError:
                    return first_line_runs(code, line)
                return line_fails(code.co_filename, line, error, disable)
            except RecursionError:
                return None
        return ends[0]

    def first_line_runs(code: "CodeType", line: int) -> object:
        try:
            is_new(code)
            name, marks, number = code.co_qualname, None, -1
            entry = named.setdefault(name, [code, None])
            while number != contexts.number:
                number = contexts.number
                marks = region_of(code.co_filename)
            if entry[1] is None:
                entry[0] = code
                ran[name] = entry
                entry[1] = marks
            elif entry[0] is not code:
                marks = lines[_identity(code)]
            marks[line] = mark  # type: ignore[index]
        except RecursionError:
            return None
        except BaseException as error:  # noqa: BLE001
            return line_fails(code.co_filename, line, error, disable)
        return ends[0]

    monitoring.register_callback(tool, events.PY_START, code_starts)
    monitoring.register_callback(tool, events.LINE, line_runs)
    monitoring.register_callback(tool, events.INSTRUCTION, instruction_runs)


def _arc_monitor(  # noqa: C901 - one class
    contexts: "RecordedContexts", arcs: "Any", monitoring: "Any", tool: int
) -> "Any":
    """Register callbacks for arcs, like `recorder_arcs`."""
    ends = contexts.ends

    class ArcMonitor(arcs._ArcMonitor):  # type: ignore[misc]
        def begin_anew(self) -> "list[object]":
            """Write all entries again, since they now belong to another context."""
            for log in list(self._logs.values()):
                log.begin_anew()
            for known in list(self._codes.values()):
                known.last_line = None
            return []

        def _code_starts(self, code: "CodeType", offset: int) -> object:
            contexts.look()
            again = contexts.after_start(code)
            if _identity(code) in self._codes:
                return again
            region = contexts.region(code.co_filename)
            found = super()._code_starts(code, offset)
            return found if region is None or found is None else again

        def _line_runs(self, code: "CodeType", line: int) -> object:
            contexts.look()
            if not self._knows(code):
                return monitoring.DISABLE
            return super()._line_runs(code, line) and ends[0]

        def _code_returns(self, code: "CodeType", offset: int, value: object) -> object:
            if not self._knows(code):
                return monitoring.DISABLE
            return super()._code_returns(code, offset, value) and ends[0]

        def _branch_goes(self, code: "CodeType", offset: int, destination: int) -> object:
            if not self._knows(code):
                return monitoring.DISABLE
            return super()._branch_goes(code, offset, destination) and ends[0]

        def _knows(self, code: "CodeType") -> bool:
            """Return whether code is recorded, even if it was running before its context."""
            if contexts.region(code.co_filename) is None:
                return False
            if _identity(code) not in self._codes:
                self._codes[_identity(code)] = arcs._CodeArcs(code, self._log(code.co_filename))
            return True

    return ArcMonitor(monitoring, tool, contexts._recorder)
