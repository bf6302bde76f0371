"""Records which line follows which: the recorder's part for branches, on Python 3.14 and later.

``recorder`` loads it for branches, from beside itself and under its own name, so that both
can be copied together. The recorder owns the recordings, their files and the description of
sources; ``docs/recording-format.md`` describes what is written here. Like the recorder it is a
guest: it takes no lock, prints nothing, and lets no exception of its own reach the application.
"""

from posix import getpid

# `dis` is made from this.
try:
    from _opcode_metadata import opmap  # type: ignore[import-not-found]
except ImportError:  # before Python 3.13
    opmap = {}

# Functions look builtins up in this copy, which stays as it is when the application replaces some.
if "__hcoverage__" not in __builtins__:  # type: ignore[operator, used-before-def]
    __builtins__ = {**__builtins__, "__hcoverage__": True}  # type: ignore[assignment, dict-item]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType
    from typing import Any, Final

    from hcoverage._inside.recorder import Recorder
    from hcoverage._inside.recorder_writer import Segment, Writer

# The format, as told in docs/recording-format.md.
ARCS_KIND: "Final" = b"ARCS"
ONE_ARC: "Final" = 1
TRAIL: "Final" = 2

_FIRST_ARCS: "Final" = 512
_LARGEST_ARCS: "Final" = 1 << 14
_LONGEST_TRAIL: "Final" = 250
_PRIME: "Final" = 65521
# `id` is audited: a hook of the application, and that of `hcov affected`, would be called.
_identity: "Final" = object.__hash__


def monitor(monitoring: "Any", tool: int, recorder: "Recorder") -> None:
    """Register the callbacks for lines and arcs.

    Args:
        monitoring: ``sys.monitoring``.
        tool: The tool id that the recorder has taken.
        recorder: Marks the lines.
    """
    _ArcMonitor(monitoring, tool, recorder).start()


def callbacks_beside(monitoring: "Any", tool: int, recorder: "Recorder") -> "Any":
    """Return callbacks for one of several contexts at once; a dispatcher will call them.

    Returns:
        Pairs of an event and its callback.
    """
    return _ArcMonitor(monitoring, tool, recorder).callbacks()


class _ArcMonitor:
    """The callbacks for lines and arcs.

    The events, and the use of each, are those of coverage.py's `sysmon` core.
    """

    def __init__(self, monitoring: "Any", tool: int, recorder: "Recorder") -> None:
        self._monitoring = monitoring
        self._tool = tool
        self._recorder = recorder
        self._logs: dict[str, _ArcLog] = {}
        self._bytecode = _Bytecode()
        self._codes: dict[int, _CodeArcs] = {}

    def start(self) -> None:
        """Register for the events."""
        monitoring = self._monitoring
        for event, callback in self.callbacks():
            monitoring.register_callback(self._tool, event, callback)
        monitoring.set_events(self._tool, monitoring.events.PY_START)

    def callbacks(self) -> "list[tuple[int, Callable[..., object]]]":
        """Return the callbacks for the interpreter, by event."""
        events = self._monitoring.events
        return [
            (event, self._guarded(callback))
            for event, callback in (
                (events.PY_START, self._code_starts),
                (events.LINE, self._line_runs),
                (events.PY_RETURN, self._code_returns),
                (events.BRANCH_LEFT, self._branch_goes),
                (events.BRANCH_RIGHT, self._branch_goes),
            )
        ]

    def _guarded(self, callback: "Callable[..., object]") -> "Callable[..., object]":
        """Wrap a callback, so that no error of its own reaches the application."""
        fails = self._recorder.start_fails
        disable = self._monitoring.DISABLE

        def call(*event: object) -> object:
            try:
                return callback(*event)
            except RecursionError:
                return None
            except BaseException as error:  # noqa: BLE001
                return fails(error, disable)

        return call

    def _code_starts(self, code: "CodeType", _offset: int) -> object:
        monitoring = self._monitoring
        recorder = self._recorder
        filename = code.co_filename
        if code.co_name == "__annotate__":
            return monitoring.DISABLE
        try:
            region = recorder.regions[filename]
        except KeyError:
            region = recorder.add_source(filename)
        if region is not None and _identity(code) not in self._codes:
            self._codes[_identity(code)] = _CodeArcs(code, self._log(filename))
            events = monitoring.events
            branches = events.BRANCH_LEFT | events.BRANCH_RIGHT
            try:
                monitoring.set_local_events(
                    self._tool, code, events.LINE | events.PY_RETURN | branches
                )
            except ValueError:
                pass
        return monitoring.DISABLE

    def _log(self, filename: str) -> "_ArcLog":
        """Return the log for the arcs of a file."""
        try:
            return self._logs[filename]
        except KeyError:
            recorder = self._recorder
            log = _ArcLog(recorder.writer, recorder.sources[filename])
            return self._logs.setdefault(filename, log)

    def _line_runs(self, code: "CodeType", line: int) -> object:
        recorder = self._recorder
        try:
            recorder.regions[code.co_filename][line] = recorder.mark  # type: ignore[index]
        except IndexError:
            recorder.mark_outside(code.co_filename, line)
        arcs = self._codes[_identity(code)]
        last = arcs.last_line
        if last is not None and last != line:
            arcs.log.add((ONE_ARC, last, line))
        arcs.last_line = line
        return self._monitoring.DISABLE

    def _code_returns(self, code: "CodeType", offset: int, _value: object) -> object:
        arcs = self._codes[_identity(code)]
        line = arcs.line_of(offset)
        if line is not None:
            arcs.log.add((ONE_ARC, line, -code.co_firstlineno))
        # What runs next in this code object runs in another frame.
        arcs.last_line = None
        return self._monitoring.DISABLE

    def _branch_goes(self, code: "CodeType", offset: int, destination: int) -> object:
        arcs = self._codes[_identity(code)]
        line = arcs.line_of(offset)
        if line is not None:
            leaves, lines = self._bytecode.trail(arcs, destination)
            arcs.log.add((TRAIL, line, arcs.line_of(destination) or 0, leaves, *lines))
        return self._monitoring.DISABLE


class _CodeArcs:
    """The facts about one code object that arcs need."""

    __slots__ = ("_lines", "code", "last_line", "log")

    def __init__(self, code: "CodeType", log: "_ArcLog") -> None:
        self.code = code  # Kept, so that no other object gets its `id`.
        self.log = log
        self.last_line: int | None = None
        self._lines: dict[int, int] | None = None

    def line_of(self, offset: int) -> "int | None":
        """Return the line of the instruction at an offset."""
        if self._lines is None:
            self._lines = {
                at: line
                for start, end, line in self.code.co_lines()
                if line is not None
                for at in range(start, end, 2)
            }
        return self._lines.get(offset)


class _Bytecode:
    """Follows instructions, as far as arcs need it."""

    def __init__(self) -> None:
        self._cache = opmap["CACHE"]
        self._extended = opmap["EXTENDED_ARG"]
        self._jumps = frozenset(
            code
            for name, code in opmap.items()
            if "JUMP" in name or name in ("FOR_ITER", "SEND", "END_ASYNC_FOR")
        )
        self._backward = frozenset((opmap["JUMP_BACKWARD"], opmap["JUMP_BACKWARD_NO_INTERRUPT"]))
        self._always = self._backward | {opmap["JUMP_FORWARD"]}
        self._returns = frozenset((opmap["RETURN_VALUE"], opmap["RETURN_GENERATOR"]))
        # Nothing falls through a branch or a RERAISE: the code after them is another path.
        self._ends = (self._jumps - self._always) | {opmap["RERAISE"]}

    def trail(self, arcs: "_CodeArcs", offset: int) -> "tuple[int, list[int]]":
        """Follow the instructions from a branch's destination to the next branch or the end.

        coverage.py stops at the first line of another statement. Only the source shows where
        statements begin, so all lines are kept, and the reader stops there.

        Returns:
            The target of the arc that leaves the code object, or 0 if none is reached; and the
            lines on the way.
        """
        content = arcs.code.co_code
        lines: list[int] = []
        seen = set()
        argument = 0
        while 0 <= offset < len(content) and offset not in seen and len(lines) < _LONGEST_TRAIL:
            seen.add(offset)
            operation = content[offset]
            if operation == self._cache:
                offset += 2
                continue
            if operation == self._extended:
                argument = (argument | content[offset + 1]) << 8
                offset += 2
                continue
            line = arcs.line_of(offset)
            if line and (not lines or lines[-1] != line):
                lines.append(line)
            if operation in self._returns:
                return -arcs.code.co_firstlineno, lines
            if operation in self._ends:
                break
            offset = self._after(content, offset, argument)
            argument = 0
        return 0, lines

    def _after(self, content: bytes, offset: int, argument: int) -> int:
        """Return where execution goes after an instruction that is no branch."""
        operation = content[offset]
        following = offset + 2
        if operation in self._jumps:
            # Distances count from after the inline caches.
            while following < len(content) and content[following] == self._cache:
                following += 2
            distance = 2 * (argument | content[offset + 1])
            following += -distance if operation in self._backward else distance
        return following


class _ArcLog:
    """The arcs of one source file, each written once, in blocks that one thread owns at a time."""

    __slots__ = ("_free", "_next_size", "_seen", "_source", "_writer")

    def __init__(self, writer: "Writer", source: bytes) -> None:
        self._writer = writer
        self._source = source
        self._free: list[_ArcBlock] = []
        self._seen: set[tuple[int, ...]] = set()
        self._next_size = _FIRST_ARCS

    def begin_anew(self) -> None:
        """Write all entries again, into other blocks."""
        self._seen = set()
        self._free = []
        self._next_size = _FIRST_ARCS

    def add(self, entry: "tuple[int, ...]") -> None:
        """Write an entry, unless it is written already."""
        if entry in self._seen:
            return
        try:
            self._write(entry)
        except RecursionError:
            raise
        except BaseException as error:  # noqa: BLE001
            self._writer.note_loss(error)
        self._seen.add(entry)

    def _write(self, entry: "tuple[int, ...]") -> None:
        body = b"".join(number.to_bytes(4, "little", signed=True) for number in entry[1:])
        check = int.from_bytes(body, "little") % _PRIME
        content = bytes((entry[0], len(entry) - 1)) + check.to_bytes(2, "little") + body
        try:
            block = self._free.pop()
        except IndexError:
            block = None
        # After a fork a block is the parent's, which goes on writing in it.
        if block is None or block.room < len(content) or block.owner != getpid():
            size = max(self._next_size, len(content))
            self._next_size = min(size * 2, _LARGEST_ARCS)
            segment, position = self._writer.add_record(ARCS_KIND, self._source, 0, size)
            block = _ArcBlock(segment, position, size)
        try:
            block.append(content)
        finally:
            self._free.append(block)


class _ArcBlock:
    """Room for entries in an arcs record."""

    __slots__ = ("_position", "_segment", "owner", "room")

    def __init__(self, segment: "Segment", position: int, room: int) -> None:
        self._segment = segment
        self._position = position
        self.room = room
        self.owner = getpid()

    def append(self, content: bytes) -> None:
        """Add an entry."""
        self._segment.put(self._position, content)
        self._position += len(content)
        self.room -= len(content)
