"""Has what a process runs attributed to the test that is running: the recorder's part for contexts.

Loaded where a run has contexts, from beside ``recorder`` and under its name, so that it can be
copied with it. When the context changes, each source gets a new place for its marks, and the
interpreter tells of all lines again. Which test is running is known in one of two ways: pytest's
own process and its forks are told (`Contexts.switch`); others follow a file (``context_reader``),
at which they look whenever a function starts that is recorded. So code is not attributed to the
next test before it calls a function of its own, or runs a line for the first time.

Like the recorder it is a guest: no lock, no output, and no exception of its own reaches the
application. What is written is told in ``docs/recording-format.md``.
"""

import sys

# Functions look builtins up here: in what they are now, whatever becomes of them.
if "__hcoverage__" not in __builtins__:  # type: ignore[operator, used-before-def]
    __builtins__ = {**__builtins__, "__hcoverage__": True}  # type: ignore[assignment, dict-item]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType
    from typing import Any, Final, Optional

    from hcoverage._inside.context_reader import ContextReader
    from hcoverage._inside.recorder import Marks, Segment, _Recorder

CONTEXT_KIND: "Final" = b"CTXT"

_RECORD_FIXED: "Final" = 52
_MOST_TOLD: "Final" = 8
# As in the recorder, but only where LINE events would take seconds: instructions that follow a
# change of context in the same line attribute that to the new one, too.
_LONG_LINE_TABLES: "Final" = (1 << (15 if sys.version_info < (3, 14) else 62),) * 2
# Before Python 3.13 a mapping keeps a descriptor, and closes it when it goes. The application may
# have closed that one, and its number then be that of one of the application's own files.
_KEEPS_DESCRIPTORS: "Final" = sys.version_info < (3, 13)
_ABSENT: "Final[Any]" = object()


class Contexts:
    """What a process runs, by what it was run for."""

    def __init__(self, module: "Any", reader: "Optional[ContextReader]" = None) -> None:
        """Have the interpreter call here instead of the recorder.

        Args:
            module: The recorder's module, where a process is being recorded.
            reader: What is followed; without one, `switch` is called.
        """
        monitoring, tool, recorder = module.current
        module.own_globals(globals())
        self._monitoring = monitoring
        self._recorder: _Recorder = recorder
        self._checksum: Callable[[bytes], int] = module.checksum
        self._line_room: Callable[[bytes], int] = module.line_room
        self._aligned: Callable[[int], int] = module._aligned
        self._part: Callable[[str], Any] = module._part
        self._long_code_part: str = module._LONG_CODE_PART
        self._reader = reader
        self._numbers: Any = [0] if reader is None else reader.numbers
        self._seen = 0
        self._record = b""
        self._told: dict[Segment, bytes] = {}
        self._kept: list[object] = []
        self._arcs: Any = None
        self._take_segment: Callable[[int], Segment] = recorder.writer._take_segment
        recorder.writer._take_segment = self._segment_in_context
        if recorder.writer._branch and sys.version_info < (3, 14):
            part = module._part(module._BRANCHES_PART)
            self._arcs = part.monitor(module.__dict__, monitoring, tool, recorder, self)
        elif recorder.writer._branch:
            self._arcs = _arc_monitor(self, module._part(module._ARCS_PART), monitoring, tool)
            self._arcs.start()
        else:
            _monitor_lines(self, module, tool)

    def look(self) -> None:
        """See which test is running, if that has changed."""
        if self._numbers[0] == self._seen or self._reader is None:
            return
        found = self._reader.read()
        if found is not None:
            self._seen, text = found
            self.switch(text)

    def switch(self, text: str) -> None:
        """Attribute all that runs from now on.

        Args:
            text: The context; empty for none.
        """
        self._record = self._context_record(text.encode("utf-8", "replace"))
        recorder = self._recorder
        regions = recorder.regions
        for filename, region in list(regions.items()):
            if region is not None:
                if _KEEPS_DESCRIPTORS:
                    self._kept.append(region)
                regions.pop(filename, None)
        if _KEEPS_DESCRIPTORS:
            self._kept.extend(list(recorder._overflow.values()))
            self._kept.extend(list(recorder.instructions.values()))
        recorder._overflow.clear()
        recorder.instructions.clear()
        if self._arcs is not None:
            before = self._arcs.begin_anew()
            if _KEEPS_DESCRIPTORS:
                self._kept.extend(before)
        self._monitoring.restart_events()

    def region(self, filename: str) -> "Marks | None":
        """Where the lines of a file are marked in the present context."""
        recorder = self._recorder
        region: Marks | None = recorder.regions.get(filename, _ABSENT)
        if region is not _ABSENT:
            return region
        source = recorder.sources.get(filename)
        if source is None:
            return recorder.add_source(filename)
        try:
            region = recorder.writer.add_lines(source, 0, self._line_room(source))
        except RecursionError:
            raise
        except BaseException as error:  # noqa: BLE001
            recorder.writer.note_loss(error)
            region = None
        return recorder.regions.setdefault(filename, region)

    def instructions(self, code: "CodeType") -> "Marks | None":
        """Where the instructions of a long code object are marked in the present context."""
        try:
            marks: Marks = self._part(self._long_code_part).room(self._recorder, code)
        except RecursionError:
            raise
        except BaseException as error:  # noqa: BLE001
            self._recorder.writer.note_loss(error)
            return None
        return marks

    def _context_record(self, text: bytes) -> bytes:
        length = self._aligned(_RECORD_FIXED + len(text))
        prefix = CONTEXT_KIND + length.to_bytes(4, "little")
        facts = bytes(32) + len(text).to_bytes(8, "little") + text
        check = self._checksum(prefix + facts).to_bytes(4, "little")
        return (prefix + check + facts).ljust(length, b"\0")

    def _segment_in_context(self, length: int) -> "Segment":
        """Take a segment for a record, and have it say which context the record is in."""
        record = self._record
        segment = self._take_segment(length + len(record))
        if self._told.get(segment, b"") != record:
            segment.append(record, len(record))
            if len(self._told) >= _MOST_TOLD:
                free = list(self._recorder.writer._free)
                self._told = {each: told for each, told in self._told.items() if each in free}
            self._told[segment] = record
        return segment


def by_hand(module: "Any") -> "Contexts":
    """Give what `Contexts.switch` is called on, for the process that knows which test is running.

    Args:
        module: The recorder's module, where this process is being recorded.
    """
    return Contexts(module)


def follow(module: "Any", reader: "Optional[ContextReader]", text: str) -> None:
    """Attribute what this process runs, from now on.

    Args:
        module: The recorder's module, where this process is being recorded.
        reader: What is followed; None where there is nothing to follow.
        text: The context for as long as the process runs, where nothing is followed.
    """
    contexts = Contexts(module, reader)
    if reader is None:
        contexts.switch(text)
    contexts.look()


def _monitor_lines(  # noqa: C901 - Split up, the callbacks would cost calls.
    contexts: "Contexts", module: "Any", tool: int
) -> None:
    """Have the interpreter call here for lines, as `recorder._monitor_lines` does."""
    monitoring, _, recorder = module.current
    events = monitoring.events
    disable = monitoring.DISABLE
    # Where a file is followed, each start of a function is a chance to see that it has changed.
    again = disable if contexts._reader is None else None
    numbers = contexts._numbers
    look = contexts.look
    region_of = contexts.region
    regions = recorder.regions
    line_fails = recorder.line_fails
    fails = recorder.start_fails
    mark = recorder.mark
    # With the code objects, so that an `id` is nobody else's.
    known: dict[int, CodeType] = {}
    instructions = recorder.instructions
    watch_lines = module.line_watcher(monitoring, tool, recorder, _LONG_LINE_TABLES)

    def code_starts(code: "CodeType", _offset: int) -> object:
        try:
            if numbers[0] != contexts._seen:
                look()
            if id(code) in known:
                return again
            if code.co_name == "__annotate__":
                return disable
            region = region_of(code.co_filename)
            if region is None:
                return disable
            watch_lines(code)
            known[id(code)] = code
        except BaseException as error:  # noqa: BLE001 - none of ours may reach the application
            return fails(error, disable)
        return again

    def instruction_runs(code: "CodeType", offset: int) -> object:
        try:
            if numbers[0] != contexts._seen:
                look()
            marks = instructions.get(code.co_linetable)
            if marks is None:
                marks = contexts.instructions(code)
            if marks is not None:
                marks[offset] = mark
        except BaseException as error:  # noqa: BLE001
            return fails(error, disable)
        return disable

    def line_runs(code: "CodeType", line: int) -> object:
        filename = code.co_filename
        try:
            if numbers[0] != contexts._seen:
                look()
            region = regions.get(filename, _ABSENT)
            if region is _ABSENT:
                region = region_of(filename)
            if region is not None:
                region[line] = mark
        except BaseException as error:  # noqa: BLE001
            return line_fails(filename, line, error, disable)
        return disable

    monitoring.register_callback(tool, events.PY_START, code_starts)
    monitoring.register_callback(tool, events.LINE, line_runs)
    monitoring.register_callback(tool, events.INSTRUCTION, instruction_runs)


def _arc_monitor(  # noqa: C901 - one class
    contexts: "Contexts", arcs: "Any", monitoring: "Any", tool: int
) -> "Any":
    """Have the interpreter call here for arcs, as `recorder_arcs` does."""

    class ArcMonitor(arcs._ArcMonitor):  # type: ignore[misc]
        def begin_anew(self) -> "list[object]":
            """Write all that is seen again, as seen in another context."""
            for log in list(self._logs.values()):
                log.begin_anew()
            for known in list(self._codes.values()):
                known.last_line = None
            return []

        def _code_starts(self, code: "CodeType", offset: int) -> object:
            contexts.look()
            again = monitoring.DISABLE if contexts._reader is None else None
            if id(code) in self._codes:
                return again
            region = contexts.region(code.co_filename)
            found = super()._code_starts(code, offset)
            return found if region is None or found is None else again

        def _line_runs(self, code: "CodeType", line: int) -> object:
            contexts.look()
            if not self._knows(code):
                return monitoring.DISABLE
            return super()._line_runs(code, line)

        def _code_returns(self, code: "CodeType", offset: int, value: object) -> object:
            if not self._knows(code):
                return monitoring.DISABLE
            return super()._code_returns(code, offset, value)

        def _branch_goes(self, code: "CodeType", offset: int, destination: int) -> object:
            if not self._knows(code):
                return monitoring.DISABLE
            return super()._branch_goes(code, offset, destination)

        def _knows(self, code: "CodeType") -> bool:
            """Whether code is recorded, also such as was running before its context."""
            if contexts.region(code.co_filename) is None:
                return False
            if id(code) not in self._codes:
                self._codes[id(code)] = arcs._CodeArcs(code, self._log(code.co_filename))
            return True

    return ArcMonitor(monitoring, tool, contexts._recorder)
