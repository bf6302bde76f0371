"""Attributes what runs for each of several requests at once: the recorder's part for services.

A service's middleware (``hcoverage.middleware``) loads it, from beside ``recorder`` and under its
name. A context variable holds the request for which a thread or task runs. Each context has a
recorder of its own, which marks in its own places. From the first request on no event is disabled
(``DISABLE``), since that would disable it for all requests.

Code that runs outside of requests while there are some, as in a thread that a request has started,
cannot be separated: it is marked for all present requests together, and for the process itself.

Like the recorder it is a guest: it takes no lock, prints nothing, and lets no exception of its own
reach the application. ``docs/recording-format.md`` describes what it writes.
"""

import sys
from _contextvars import ContextVar

# Functions look builtins up in this copy, which stays as it is when the application replaces some.
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

# Separates the names of contexts that are marked together.
AND: "Final" = "\n"
_LONGEST_HEADING: "Final" = 60_000  # characters; the reader takes 64 KB
# Any client may choose names, and each name takes room on the disk.
_MOST_NAMES: "Final" = 10_000
_MOST_PLACES: "Final" = 1000
# E2BIG, of an error that is the interpreter's own (see `recorder.is_ours`): requests have had more
# names than any suite has tests.
_TOO_MANY: "Final" = 7
_NEW: "Final" = object.__new__
# `id` is audited: a hook of the application, and that of `hcov affected`, would be called.
_identity: "Final" = object.__hash__


class Requests:
    """Attributes this process's requests; there is one in a process.

    Attributes:
        base: The place of marks outside of requests.
    """

    def __init__(self, module: "Any", contexts: "RecordedContexts") -> None:
        """Prepare; nothing changes before the first request.

        Args:
            module: The recorder's module, which records this process.
            contexts: Attributes what runs outside of requests.
        """
        module.own_globals(globals())
        self.module = module
        self.monitoring, self.tool, self.recorder = module.current
        self.line_room: Callable[[bytes], int] = module.part(module.SOURCES_PART).line_room
        self.contexts = contexts
        self._of_request: ContextVar[Optional[Place]] = ContextVar("hcoverage", default=None)
        self._active: set[Request] = set()
        self._names: set[str] = set()
        self._is_started = False
        self._places: dict[tuple[str, ...], Place] = {}
        self.base = self._place((contexts.text,))
        self.callbacks_of = self._factory()

    def begin(self, name: str) -> "Optional[Request]":
        """Begin a request.

        Args:
            name: Its context.

        Returns:
            None if it cannot be attributed, since there have been too many names.
        """
        try:
            if name not in self._names and len(self._names) >= _MOST_NAMES:
                raise OSError(_TOO_MANY, "")  # noqa: TRY301
            self._names.add(name)
            request = Request(name, self._place((name,)))
            self._active.add(request)
            self._settle()
            # Also while another thread does so: what runs before that is done would be nobody's.
            if not self._is_started:
                self._start()
        except BaseException as error:  # noqa: BLE001 - none of ours may reach the application
            if not isinstance(error, RecursionError):
                self.recorder.writer.note_loss(error)
            return None
        return request

    def enter(self, request: "Request") -> "Any":
        """Attribute what this thread or task runs to a request; return the token for `leave`."""
        return self._of_request.set(request.place)

    def leave(self, token: "Any") -> None:
        """Restore the previous context of this thread or task."""
        self._of_request.reset(token)

    def end(self, request: "Request") -> None:
        """End a request; code that still runs for it stays attributed to it."""
        self._active.discard(request)
        self._settle()

    def switch(self, _text: str) -> None:
        """Change the context of what runs outside of requests."""
        self._settle()

    def _settle(self) -> None:
        """Find the context of code outside of requests; another thread may do the same now."""
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
        """Register the callbacks with the interpreter."""
        contexts, monitoring, tool = self.contexts, self.monitoring, self.tool
        events = monitoring.events
        lasting = (events.RERAISE, events.EXCEPTION_HANDLED, events.PY_UNWIND)
        contexts.requests = self
        # An old callback that still runs must not disable an event after all were enabled again.
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
        self._is_started = True

    def _code_starts(self) -> "Callable[..., object]":
        of_request = self._of_request.get
        contexts = self.contexts
        known, disable = contexts.known, self.monitoring.DISABLE
        hides_line = contexts.hides_line
        fails = self.recorder.start_fails

        def code_starts(code: "CodeType", _offset: int) -> object:
            try:
                if _identity(code) not in known:
                    if not (of_request() or self.base).begin(code):
                        return disable
                    known[_identity(code)] = code
                # From now on its events are reported for all contexts.
                return None if hides_line(code) else disable
            except RecursionError:
                return None
            except BaseException as error:  # noqa: BLE001 - none of ours may reach the application
                return fails(error, disable)

        return code_starts

    def _line_runs(self, otherwise: "Callable[..., object]") -> "Callable[..., object]":
        """Return the callback that marks a line which has room already."""
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
            except BaseException:  # noqa: BLE001 - `otherwise` meets it again, and reports it
                return otherwise(code, line)
            return None

        return line_runs

    def _dispatcher(self, event: int, *, in_all_code: bool) -> "Callable[..., object]":
        """Return the callback that calls that of the present thread's or task's context."""
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
                if _identity(code) not in place.begun:
                    if in_all_code and _identity(code) not in known:
                        return
                    place.begin(code)
                    known[_identity(code)] = code
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
        place: The place of its marks.
    """

    __slots__ = ("name", "place")

    def __init__(self, name: str, place: "Place") -> None:
        self.name = name
        self.place = place


class Place:
    """The place of the marks of one context, or of several that are marked together.

    Attributes:
        begun: The `id` of code objects that are marked here.
        callbacks: The marking callbacks by event; empty before the first code object, since most
            places of several contexts never have one.
        regions: The places of the lines of files.
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
        """Make room for the marks of a code object; return whether it is recorded."""
        recorder, requests = self._recorder, self._requests
        if not self.callbacks:
            # Another thread may begin here just now. Callbacks remember the code that they have
            # begun, so all threads must use the same ones.
            self._made.append(dict(requests.callbacks_of(recorder)))
            self.callbacks = self._made[0]
        filename = code.co_filename
        source = recorder.sources.get(filename)
        if source is not None and filename not in self.regions:
            room = requests.line_room(source)
            self.regions[filename] = _room(recorder.writer, source, room)
        self.callbacks[requests.monitoring.events.PY_START](code, 0)
        self.begun.add(_identity(code))
        return self.regions.get(filename) is not None


class _HeadedWriter:
    """Writes the marks of one context with the recorder's writer."""

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


def _beside(recorder: "Recorder", writer: "Any") -> "Recorder":
    """Return a recorder that knows the same sources, and marks elsewhere."""
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


# Attributes requests in this process, once the middleware has asked for it.
_requests: "Optional[Requests]" = None


def of_process(module: "Any", contexts: "RecordedContexts") -> "Requests":
    """Return the object that attributes requests in this process.

    Args:
        module: The recorder's module, which records this process.
        contexts: Attributes what runs outside of requests.
    """
    global _requests  # noqa: PLW0603 - one process, one recording
    if _requests is None or _requests.contexts is not contexts:
        _requests = Requests(module, contexts)
    return _requests
