"""Has what runs for each of several requests at once attributed to that: the recorder's part.

Loaded where a service's middleware (``hcoverage.middleware``) asks for it, from beside ``recorder``
and under its name. A context variable says for which request a thread or task runs: of each
context there is a recorder of its own, which marks in places of its own. From the first request on
no event ends (``DISABLE``), since that would end it for all of them.

What runs outside of requests while there are some, as in a thread that one has started, cannot be
told apart: it is marked for all of them together, and for what the process does otherwise.

Like the recorder it is a guest: no lock, no output, and no exception of its own reaches the
application. What is written is told in ``docs/recording-format.md``.
"""

import sys
from _contextvars import ContextVar

# Functions look builtins up here: in what they are now, whatever becomes of them.
if "__hcoverage__" not in __builtins__:  # type: ignore[operator, used-before-def]
    __builtins__ = {**__builtins__, "__hcoverage__": True}  # type: ignore[assignment, dict-item]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType
    from typing import Any, Final, Optional

    from hcoverage._inside.recorder import Recorder
    from hcoverage._inside.recorder_contexts import RecordedContexts
    from hcoverage._inside.recorder_writer import Marks, Segment, Writer

# Between the names of contexts that are not told apart.
AND: "Final" = "\n"
_LONGEST_HEADING: "Final" = 60_000  # characters; the reader takes 64 KB
# Whoever sends requests chooses the names: each takes room on the disk.
_MOST_NAMES: "Final" = 10_000
_MOST_PLACES: "Final" = 1000
_TOO_MANY: "Final" = 7  # E2BIG
_NEW: "Final" = object.__new__


class Requests:
    """What this process runs for requests; there is one in a process.

    Attributes:
        base: Where what runs outside of requests is marked.
    """

    def __init__(self, module: "Any", contexts: "RecordedContexts") -> None:
        """Prepare; nothing changes before the first request.

        Args:
            module: The recorder's module, where this process is being recorded.
            contexts: What attributes what it does otherwise.
        """
        module.own_globals(globals())
        self.module = module
        self.monitoring, self.tool, self.recorder = module.current
        self.line_room: Callable[[bytes], int] = module.part(module.SOURCES_PART).line_room
        self.contexts = contexts
        self._of_request: ContextVar[Optional[Place]] = ContextVar("hcoverage", default=None)
        self._active: set[Request] = set()
        self._names: set[str] = set()
        self._places: dict[tuple[str, ...], Place] = {}
        self.base = self._place((contexts.text,))
        self.callbacks_of = self._factory()

    def begin(self, name: str) -> "Optional[Request]":
        """Have a request that is to be attributed.

        Args:
            name: The context.

        Returns:
            None where it cannot be attributed, as there have been too many names.
        """
        try:
            if name not in self._names and len(self._names) >= _MOST_NAMES:
                raise _TooManyError  # noqa: TRY301
            self._names.add(name)
            request = Request(name, self._place((name,)))
            self._active.add(request)
            self._settle()
            if self.contexts.requests is None:
                self._start()
        except BaseException as error:  # noqa: BLE001 - none of ours may reach the application
            if not isinstance(error, RecursionError):
                self.recorder.writer.note_loss(error)
            return None
        return request

    def enter(self, request: "Request") -> "Any":
        """Have what this thread or task runs attributed to a request; give what `leave` takes."""
        return self._of_request.set(request.place)

    def leave(self, token: "Any") -> None:
        """Have this thread or task go on as before."""
        self._of_request.reset(token)

    def end(self, request: "Request") -> None:
        """Have no more of a request; what still runs for it stays its."""
        self._active.discard(request)
        self._settle()

    def switch(self, _text: str) -> None:
        """Attribute to another context what runs outside of requests."""
        self._settle()

    def _settle(self) -> None:
        """Find out what outside of requests runs for: another thread may do the same just now."""
        while True:
            names = self._not_told_apart()
            self.base = self._place(names)
            if names == self._not_told_apart():
                return

    def _not_told_apart(self) -> "tuple[str, ...]":
        return tuple(sorted({self.contexts.text, *[each.name for each in list(self._active)]}))

    def _place(self, names: "tuple[str, ...]") -> "Place":
        place = self._places.get(names)
        if place is None:
            if len(self._places) >= _MOST_PLACES:
                self._places = {}
            heading = self.contexts.heading(AND.join(names)[:_LONGEST_HEADING])
            place = self._places[names] = Place(self, heading)
        return place

    def _factory(self) -> "Callable[[Recorder], Any]":
        module, monitoring, tool = self.module, self.monitoring, self.tool
        if not self.recorder.writer.branch:
            return lambda recorder: module.line_callbacks(monitoring, tool, recorder)
        if sys.version_info >= (3, 14):
            part = module.part(module.ARCS_PART)
            return lambda recorder: part.callbacks_beside(monitoring, tool, recorder)
        part = module.part(module.BRANCHES_PART)
        names = module.__dict__
        return lambda recorder: part.callbacks_beside(names, monitoring, tool, recorder)

    def _start(self) -> None:
        """Have the interpreter call here."""
        contexts, monitoring, tool = self.contexts, self.monitoring, self.tool
        events = monitoring.events
        lasting = (events.RERAISE, events.EXCEPTION_HANDLED, events.PY_UNWIND)
        contexts.requests = self
        # A callback of before that has begun must not end an event after they are all told again.
        contexts.ends[0] = None
        for event, _ in self.callbacks_of(self.recorder):
            if event == events.PY_START:
                callback = self._code_starts()
            else:
                callback = self._dispatcher(event, in_all_code=event in lasting)
            if event == events.LINE and not self.recorder.writer.branch:
                callback = self._line_runs(callback)
            monitoring.register_callback(tool, event, callback)
        monitoring.restart_events()

    def _code_starts(self) -> "Callable[..., object]":
        of_request = self._of_request.get
        contexts = self.contexts
        known, disable = contexts.known, self.monitoring.DISABLE
        hides_line = contexts.hides_line
        fails = self.recorder.start_fails

        def code_starts(code: "CodeType", _offset: int) -> object:
            try:
                if id(code) not in known:
                    if not (of_request() or self.base).begin(code):
                        return disable
                    known[id(code)] = code
                # What is told of it from now on is told for all.
                return None if hides_line(code) else disable
            except RecursionError:
                return None
            except BaseException as error:  # noqa: BLE001 - none of ours may reach the application
                return fails(error, disable)

        return code_starts

    def _line_runs(self, otherwise: "Callable[..., object]") -> "Callable[..., object]":
        """Give what marks a line where there is room for it already."""
        of_request = self._of_request.get
        contexts, mark = self.contexts, self.recorder.mark
        numbers = contexts.numbers

        def line_runs(code: "CodeType", line: int) -> object:
            try:
                place = of_request()
                if place is None:
                    if numbers[0] != contexts.seen:
                        contexts.look()
                    place = self.base
                place.regions[code.co_filename][line] = mark  # type: ignore[index]
            except RecursionError:
                return None
            except BaseException:  # noqa: BLE001 - it is met again, and told
                return otherwise(code, line)
            return None

        return line_runs

    def _dispatcher(self, event: int, *, in_all_code: bool) -> "Callable[..., object]":
        """Give what calls the callback of the context that the calling thread or task has."""
        of_request = self._of_request.get
        contexts = self.contexts
        numbers, known = contexts.numbers, contexts.known
        fails = self.recorder.start_fails

        def call(code: "CodeType", *more: object) -> None:
            try:
                place = of_request()
                if place is None:
                    if numbers[0] != contexts.seen:
                        contexts.look()
                    place = self.base
                if id(code) not in place.begun:
                    if in_all_code and id(code) not in known:
                        return
                    place.begin(code)
                    known[id(code)] = code
                place.callbacks[event](code, *more)
            except RecursionError:
                pass
            except BaseException as error:  # noqa: BLE001 - as above
                fails(error, None)

        return call


class Request:
    """A request that is being answered.

    Attributes:
        name: Its context.
        place: Where what runs for it is marked.
    """

    __slots__ = ("name", "place")

    def __init__(self, name: str, place: "Place") -> None:
        self.name = name
        self.place = place


class Place:
    """Where what runs in one context is marked, or in several that are not told apart.

    Attributes:
        begun: The `id` of code objects that are marked here.
        callbacks: By events, what marks; nothing before the first code object, as most places of
            several contexts never have one.
        regions: Where the lines of files are marked.
    """

    __slots__ = ("_made", "_recorder", "_requests", "begun", "callbacks", "regions")

    def __init__(self, requests: "Requests", heading: bytes) -> None:
        self._requests = requests
        self._recorder = _beside(requests.recorder, _HeadedWriter(requests.recorder, heading))
        self.regions = self._recorder.regions
        self.callbacks: dict[int, Callable[..., object]] = {}
        self._made: list[dict[int, Callable[..., object]]] = []
        self.begun: set[int] = set()

    def begin(self, code: "CodeType") -> bool:
        """Make room for the marks of a code object; tell whether it is recorded."""
        recorder, requests = self._recorder, self._requests
        if not self.callbacks:
            # Another thread may begin here just now. Callbacks know the code that they have begun:
            # all threads must have the same ones.
            self._made.append(dict(requests.callbacks_of(recorder)))
            self.callbacks = self._made[0]
        filename = code.co_filename
        source = recorder.sources.get(filename)
        if source is not None and filename not in self.regions:
            room = requests.line_room(source)
            self.regions[filename] = _room(recorder.writer, source, room)
        self.callbacks[requests.monitoring.events.PY_START](code, 0)
        self.begun.add(id(code))
        return self.regions.get(filename) is not None


class _HeadedWriter:
    """Writes by the recorder's writer what is of one context."""

    def __init__(self, recorder: "Recorder", heading: bytes) -> None:
        self._writer: Writer = recorder.writer
        self._heading = heading
        self.branch: bool = recorder.writer.branch
        self.note_loss = recorder.writer.note_loss

    def add_lines(self, source: bytes, first: int, count: int) -> "Marks":
        """As `Writer` does it."""
        segment, position = self.add_record(b"LINE", source, first, count)
        return segment.marks(position, count)

    def add_record(
        self, kind: bytes, source: bytes, first: int, count: int, more: bytes = b""
    ) -> "tuple[Segment, int]":
        """As `Writer` does it."""
        return self._writer.add_record(kind, source, first, count, more, heading=self._heading)


class _TooManyError(Exception):
    """Requests have had more names than there are tests in any suite."""

    errno = _TOO_MANY


def _beside(recorder: "Recorder", writer: "Any") -> "Recorder":
    """Give a recorder that knows the same sources, and marks elsewhere."""
    other: Recorder = _NEW(type(recorder))
    other.__dict__.update(recorder.__dict__)
    other.regions = {}
    other.instructions = {}
    other._overflow = {}
    other.writer = writer
    return other


def _room(writer: "Any", source: bytes, count: int) -> "Optional[Marks]":
    try:
        marks: Marks = writer.add_lines(source, 0, count)
    except RecursionError:
        raise
    except BaseException as error:  # noqa: BLE001
        writer.note_loss(error)
        return None
    return marks


# What attributes requests in this process, once something has asked for it.
_requests: "Optional[Requests]" = None


def of_process(module: "Any", contexts: "RecordedContexts") -> "Requests":
    """Give what attributes requests in this process.

    Args:
        module: The recorder's module, where this process is being recorded.
        contexts: What attributes what it does otherwise.
    """
    global _requests  # noqa: PLW0603 - one process, one recording
    if _requests is None or _requests.contexts is not contexts:
        _requests = Requests(module, contexts)
    return _requests
