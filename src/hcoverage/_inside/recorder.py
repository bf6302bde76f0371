"""Records which lines of Python a process runs, in a file that outlives the process.

Self-contained: it imports nothing of ours but its own parts beside it (``recorder_sources``,
``recorder_writer``, ``recorder_seldom`` for what few processes meet, others for branches and
contexts), and next to nothing of the standard library, so that it can be copied into any
environment and started there by a ``.pth`` file. This one starts it, knows which frames and errors
are its own, and has the interpreter call for what it marks. Each
line that runs is one byte stored in a shared mapping of a file in the data directory. The kernel
owns that byte from then on, so nothing has to happen when the process ends, however it ends: no
exit or signal handler, no flush.

Left to others: who starts it and when (the hook), what the bytes mean (``_read.recording_format``
and ``docs/recording-format.md``), and which files a report wants. The recorder writes down what it
saw and may record more than is wanted; it decides nothing that coverage.py's configuration decides.

It is a guest in somebody else's process. It takes no lock, keeps no descriptor where Python allows
that, prints nothing, and lets no exception of its own reach the application. All that it calls it
has bound below when it was loaded: tests replace functions of ``os`` and builtins, and must not
find us calling the replacement (``dev/guest_names.py`` sees to it). On a Python without
``sys.monitoring`` (before 3.12) it does nothing; the file only has to stay importable there.
"""

# There is no `from __future__ import annotations` here, and annotations are quoted instead: that
# import is a file to find and load in every measured process.
import os
import sys
from sys import _getframe

# Functions look builtins up here: in what they are now, whatever becomes of them.
if "__hcoverage__" not in __builtins__:  # type: ignore[operator, used-before-def]
    __builtins__ = {**__builtins__, "__hcoverage__": True}  # type: ignore[assignment, dict-item]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable
    from types import CodeType, FrameType
    from typing import Any, Final

    from hcoverage._inside.recorder_writer import Marks, Writer

TOOL_NAME: "Final" = "hcoverage"

# 0, 2 and 5 are named for debuggers, profilers and optimisers, whose owners take them without
# asking; 1 is left to coverage.py for as long as there is another.
_TOOL_IDS: "Final" = (4, 3, 1)

_ENV_DIRECTORY: "Final" = "HCOVERAGE_RECORD"
_ENV_BRANCH: "Final" = "HCOVERAGE_RECORD_BRANCH"
_ENV_CONTEXT: "Final" = "HCOVERAGE_RECORD_CONTEXT"
_ENV_SKIP: "Final" = "HCOVERAGE_RECORD_SKIP"

# Before 3.14, a LINE event looks its line up from the beginning of the code object's table, so that
# the lines of a long module cost the square of their number: 100,000 lines take 50 seconds. In code
# with a table of the second number of bytes INSTRUCTION events are used, and the reader looks the
# lines up; with the first, too, where lines have few instructions, as those of a class that defines
# methods have: each name that is used comes with more of them.
_LONG_LINE_TABLES: "Final" = (600, 1 << 12) if sys.version_info < (3, 14) else (1 << 62, 1 << 62)
_BYTES_OF_A_NAME: "Final" = 3

ARCS_PART: "Final" = __name__ + "_arcs"
BRANCHES_PART: "Final" = __name__ + "_branches"
BRANCH_CONTEXTS_PART: "Final" = __name__ + "_branch_contexts"
_FLOW_PART: "Final" = __name__ + "_flow"
LONG_CODE_PART: "Final" = __name__ + "_long_code"
SOURCES_PART: "Final" = __name__ + "_sources"
WRITER_PART: "Final" = __name__ + "_writer"
_SELDOM_PART: "Final" = __name__ + "_seldom"

_FRAME: "Final" = type(_getframe())
# Py_TPFLAGS_HEAPTYPE: a class that is none of the interpreter's own.
_HEAP_TYPE: "Final" = 1 << 9
# Events of `sys.addaudithook` that come of what is called here. `object.__getattr__` is that of
# `tb_frame`.
_AUDITED: "Final" = frozenset(
    (
        "exec", "import", "marshal.loads", "mmap.__new__", "object.__getattr__", "open", "os.chmod",
        "os.remove", "os.rename", "os.truncate", "sys._getframe",
        "sys.monitoring.register_callback",
    )
)  # fmt: skip


def start(
    data_directory: "str | None" = None,
    *,
    branch: "bool | None" = None,
    context: "str | None" = None,
    container: "str | None" = None,
    skip: "Iterable[str] | None" = None,
    keep: "Collection[str]" = (),
    settled_before: int = 0,
    load: "Callable[[str], Any] | None" = None,
) -> bool:
    """Start recording this process, unless something already measures it.

    Every argument left out is taken from the environment. Nothing is raised and nothing printed,
    whatever goes wrong: what could not be recorded is told in the data directory.

    Args:
        data_directory: Where the recording is made; it must exist. Else ``HCOVERAGE_RECORD``.
        branch: Whether to record what branches depend on. Else ``HCOVERAGE_RECORD_BRANCH=1``.
        context: coverage.py's static context. Else ``HCOVERAGE_RECORD_CONTEXT``.
        container: The id of the container this is in, or an empty string. Else it is found out.
        skip: Directories whose code is not recorded; ``stdlib`` and ``site-packages`` stand for
            those of this interpreter. Else ``HCOVERAGE_RECORD_SKIP``, separated by ``os.pathsep``.
        keep: Names of files that are recorded though they are installed: the project's own may be.
        settled_before: When the run began whose end will read what is recorded, on this machine, in
            nanoseconds since the epoch, less two seconds. A source that nobody has touched since is
            known again by its size and time; of all others the CRC-32 is told, too, which takes
            longer.
        load: Gives a part of the recorder by the name of its module. Without it they are imported.

    Returns:
        Whether this process is being recorded because of this call.
    """
    global _load_part, current  # noqa: PLW0603 - one process, one recording
    monitoring = getattr(sys, "monitoring", None)
    directory = data_directory or os.environ.get(_ENV_DIRECTORY)
    if monitoring is None or not directory or _is_measured(monitoring):
        return False
    monitoring = _private(monitoring)
    if branch is None:
        branch = os.environ.get(_ENV_BRANCH) == "1"
    tool = _tool_taker(monitoring)()
    if tool is None:
        return False
    if context is None:
        context = os.environ.get(_ENV_CONTEXT, "")
    if skip is None:
        skip = filter(None, os.environ.get(_ENV_SKIP, "").split(os.pathsep))
    try:
        _load_part = load or _import_part
        # Now: later what they bind may be the application's.
        part(LONG_CODE_PART)
        sources = part(SOURCES_PART)
        directory = sources.absolute(directory)
        writer = part(WRITER_PART).Writer(directory, context, container, branch=branch)
        skips = sources.skipper(skip, keep, own_files)
        recorder = Recorder(writer, sources, skips, settled_before)
        if branch:
            _monitor_branches(monitoring, tool, recorder)
        else:
            _monitor_lines(monitoring, tool, recorder)
    except (OSError, ImportError, ValueError, MemoryError):
        monitoring.free_tool_id(tool)
        return False
    current = (monitoring, tool, recorder)
    return True


def _private(module: "Any") -> "Any":
    """A module as it is now."""
    copy = type(sys)(module.__name__)
    copy.__dict__.update(module.__dict__)
    return copy


# What records this process, for `recorder_contexts`.
current: "tuple[Any, int, Recorder] | None" = None


def _import_part(name: str) -> "Any":
    return __import__(name, fromlist=["of a package: the module itself"])


_load_part: "Callable[[str], Any]" = _import_part
_parts: "dict[str, Any]" = {}
# Our own code runs after a fork; it is no part of the application.
own_files: "set[str]" = {start.__code__.co_filename}
_own_globals: "list[dict[str, Any]]" = [globals()]


def part(name: str) -> "Any":
    """A part of the recorder, which is loaded where it is needed.

    One with a function `bind` is given what it cannot import: `is_ours`, and this function.
    """
    try:
        return _parts[name]
    except KeyError:
        loaded = _load_part(name)
        own_files.add(loaded.__file__)
        own_globals(loaded.__dict__)
        if hasattr(loaded, "bind"):
            loaded.bind(is_ours, part)
        _parts[name] = loaded
        return loaded


def own_globals(names: "dict[str, Any]") -> None:
    """Recognise frames with these globals as ours."""
    _own_globals.append(names)


def is_ours(error: BaseException) -> bool:
    """Return whether our code caused an error, and not the application's meanwhile.

    A signal handler of the application can run while our code does, and raise: a `TimeoutError`
    from SIGALRM is an `OSError` too. What its audit hook raises, to refuse us something, is ours.
    """
    trace = error.__traceback__
    try:
        while trace is not None and trace.tb_next is not None:
            frame = trace.tb_next.tb_frame
            if not _is_own(frame):
                return _is_audit_hook(frame)
            trace = trace.tb_next
    except BaseException as refusal:  # looking at a frame is audited
        if type(refusal) is type(error):
            return True  # a hook that refuses all
        if not isinstance(refusal, Exception):
            raise
    # What another thread raises here (`PyThreadState_SetAsyncExc`) is a class of its own.
    return isinstance(error, Exception) and not type(error).__flags__ & _HEAP_TYPE


def _is_own(frame: "FrameType") -> bool:
    names = frame.f_globals
    return any([names is own for own in _own_globals])  # noqa: C419 - a generator is a frame more


def _is_audit_hook(frame: "FrameType") -> bool:
    """Return whether an application's function is a hook that refuses us, by its arguments."""
    for value in frame.f_locals.values():
        event = value[0] if type(value) is tuple and value else value
        if type(event) is str and event in _AUDITED:
            return True
    return False


def _find_frames() -> "Any":
    """Give frames that run; `sys._getframe` is audited, and what a generator's goes back to is not.

    Sent its own frame once, it gives for each further step the one that takes the step.
    """
    own: Any = yield None
    while True:
        yield own.f_back


def _frame_finder() -> "Callable[[], Any]":
    """Return a function that returns the frame of its caller."""
    finder = _find_frames()
    frame = finder.gi_frame
    step = finder.send
    step(None)
    step(frame)

    def find() -> "Any":
        try:
            # In a variable, our own frame would keep itself, and all that is above it, alive.
            return step(None).f_back
        except (ValueError, StopIteration):
            # Another thread is at it, or a signal handler of the application has ended it.
            return _getframe(1)

    return find


def _is_measured(monitoring: "Any") -> bool:
    """Whether coverage.py, or another copy of this file, measures this process already."""
    tools = [monitoring.get_tool(number) for number in range(6)]
    if TOOL_NAME in tools or "coverage.py" in tools:
        return True
    # coverage.py's C and Python tracers are seen only by their trace function.
    trace = sys.gettrace()
    module = getattr(trace, "__module__", None) or type(trace).__module__
    return str(module).partition(".")[0] == "coverage"


def _tool_taker(monitoring: "Any") -> "Callable[[], int | None]":
    """Return a function that takes a free tool id for us, or returns None."""
    use_tool_id = monitoring.use_tool_id

    def take() -> "int | None":
        for number in _TOOL_IDS:
            try:
                use_tool_id(number, TOOL_NAME)
            except ValueError:
                continue
            return number
        return None

    return take


def _monitor_branches(monitoring: "Any", tool: int, recorder: "Recorder") -> None:
    """Register the part for branches; BRANCH_LEFT and BRANCH_RIGHT exist since 3.14."""
    if sys.version_info < (3, 14):
        part(BRANCHES_PART).monitor(globals(), monitoring, tool, recorder)
    else:
        part(ARCS_PART).monitor(monitoring, tool, recorder)


def _monitor_lines(monitoring: "Any", tool: int, recorder: "Recorder") -> None:
    """Register the recorder's callbacks with the interpreter."""
    for event, callback in line_callbacks(monitoring, tool, recorder):
        monitoring.register_callback(tool, event, callback)
    monitoring.set_events(tool, monitoring.events.PY_START)


def line_callbacks(  # noqa: C901 - Split up, the callbacks would cost calls.
    monitoring: "Any", tool: int, recorder: "Recorder"
) -> "tuple[tuple[int, Callable[..., object]], ...]":
    """Return the callbacks for the interpreter, by event.

    The callbacks are closures over local variables, since they are the cost of measuring. Each
    location calls once: `DISABLE` removes the event from the bytecode. If the application is at
    the limit of its stack, they ask to be called again, without calling anything themselves, since
    that would fail as well.
    """
    events = monitoring.events
    instructions = recorder.instructions
    disable = monitoring.DISABLE
    regions = recorder.regions
    region_of = regions.get
    unseen = object()
    add_source = recorder.add_source
    line_fails = recorder.line_fails
    start_fails = recorder.start_fails
    watch_lines = line_watcher(monitoring, tool, recorder, _LONG_LINE_TABLES)
    mark = recorder.mark

    def code_starts(code: "CodeType", _offset: int) -> object:
        # coverage.py leaves these out: they hold annotations, which only tools evaluate.
        if code.co_name == "__annotate__":
            return disable
        filename = code.co_filename
        try:
            region: object = region_of(filename, unseen)
            if region is unseen:
                region = add_source(filename)
            if region is not None:
                watch_lines(code)
        except RecursionError:
            return None
        except BaseException as error:  # noqa: BLE001 - none of ours may reach the application
            return start_fails(error, disable)
        return disable

    def instruction_runs(code: "CodeType", offset: int) -> object:
        try:
            instructions[code.co_linetable][offset] = mark
        except RecursionError:
            return None
        except BaseException as error:  # noqa: BLE001
            return start_fails(error, disable)
        return disable

    def line_runs(code: "CodeType", line: int) -> object:
        try:
            regions[code.co_filename][line] = mark  # type: ignore[index]
        except RecursionError:
            return None
        except BaseException as error:  # noqa: BLE001
            return line_fails(code.co_filename, line, error, disable)
        return disable

    return (
        (events.PY_START, code_starts),
        (events.LINE, line_runs),
        (events.INSTRUCTION, instruction_runs),
    )


def line_watcher(
    monitoring: "Any", tool: int, recorder: "Recorder", long_tables: "tuple[int, int]"
) -> "Callable[[CodeType], None]":
    """Return a function that enables line events in code, or instruction events if it is long.

    Args:
        monitoring: `sys.monitoring`.
        tool: Our tool id.
        recorder: Has the room for the marks.
        long_tables: As `_LONG_LINE_TABLES`.

    Returns:
        A function that takes the code object, which must be of a recorded source.
    """
    set_local_events = monitoring.set_local_events
    line = monitoring.events.LINE
    may_be_long, is_long = long_tables
    take_tool = _tool_taker(monitoring)

    def watch_lines(code: "CodeType") -> None:
        length = len(code.co_linetable)
        if length >= may_be_long and (
            length >= is_long or length >= may_be_long + _BYTES_OF_A_NAME * len(code.co_names)
        ):
            try:
                if part(LONG_CODE_PART).watch(monitoring, tool, take_tool(), code, recorder):
                    return
            except BaseException as error:
                if isinstance(error, RecursionError) or not is_ours(error):
                    raise
        try:
            set_local_events(tool, code, line)
        except ValueError:
            pass  # The application freed the tool id, which it never took.

    return watch_lines


class Recorder:
    """Knows, for each file name that code objects carry, where its lines are marked.

    There is no lock. Two threads that meet a file at the same time each make a region for it, and
    the reader takes both.
    """

    def __init__(
        self, writer: "Writer", sources: "Any", skips: "Callable[[str], bool]", settled_before: int
    ) -> None:
        self.regions: dict[str, Marks | None] = {}
        # Where instructions are marked, by the line table of their code object: its hash is kept
        # with it, while that of a code object would be computed each time.
        self.instructions: dict[bytes, Marks] = {}
        self.sources: dict[str, bytes] = {}
        self.writer = writer
        self.mark: bytes = writer.mark
        self._overflow: dict[tuple[str, int], Marks | None] = {}
        self._overflow_lines: int = sources.OVERFLOW_LINES
        self._files = sources
        self._real_directories: dict[str, str] = {}
        self._skips = skips
        self._settled_before = settled_before
        self._find_frame = _frame_finder()

    def add_source(self, filename: str) -> "Marks | None":
        """Make room for the lines of a file that is seen for the first time.

        It is called, by functions of ours, from the callback for code that starts: the frame that
        starts is asked for the module's names.

        Args:
            filename: The ``co_filename`` of the code.

        Returns:
            What to mark lines in, or None when this is not recorded.
        """
        if self._skips(filename):
            self.regions[filename] = None
            return None
        region: Marks | None = None
        try:
            frame = self._find_frame()
            while _is_own(frame):
                frame = frame.f_back
            # Cython tells of code that no frame runs. Asking a frame for its code is audited.
            if ", file %r, line " % filename not in repr(frame):
                return None
            files = self._files
            path, module = files.find_source(filename, frame.f_globals, self._real_directories)
            source = files.describe_source(path, module, self._settled_before)
            region = self.writer.add_lines(source, 0, files.line_room(source))
            self.sources[filename] = source
        except UnicodeError:
            pass  # No name of a file; coverage.py does not measure it.
        except RecursionError:
            raise
        except BaseException as error:  # noqa: BLE001
            self.writer.note_loss(error)
        return self.regions.setdefault(filename, region)

    def begin_anew(self, filenames: "Iterable[str]") -> "list[object]":
        """Mark files in new places from now on.

        Args:
            filenames: The files; some may have no places yet.

        Returns:
            The places where they were marked before.
        """
        regions = self.regions
        before: list[object] = []
        for filename in filenames:
            region = regions.get(filename)
            if region is not None:
                before.append(region)
                regions.pop(filename, None)
        before.extend(list(self._overflow.values()))
        before.extend(list(self.instructions.values()))
        self._overflow.clear()
        self.instructions.clear()
        return before

    def start_fails(self, error: BaseException, disable: object) -> object:
        """Return a callback's answer to the interpreter if an event could not be recorded.

        Raises:
            BaseException: The error itself, where it is the application's.
        """
        if isinstance(error, RecursionError):
            # The application is at the edge of its stack: ask again at the next call.
            return None
        if not (type(error) is SystemError and is_ours(error)):
            self.writer.note_loss(error)
        # Else it is code that only pretends to be Python's, as Cython's with `profile` does.
        return disable

    def line_fails(self, filename: str, line: int, error: BaseException, disable: object) -> object:
        """Mark a line that `regions` has no room for; return the answer to the interpreter.

        Raises:
            BaseException: The error itself, where it is the application's.
        """
        if isinstance(error, IndexError):
            try:
                self.mark_outside(filename, line)
            except BaseException as other:  # noqa: BLE001
                return self.start_fails(other, disable)
        elif self.regions.get(filename) is not None:
            return self.start_fails(error, disable)
        # Otherwise its file is not recorded.
        return disable

    def mark_outside(self, filename: str, line: int) -> None:
        """Mark a line past the room its file was given.

        The room is an estimate, and code may claim any line number it likes.
        """
        lines = self._overflow_lines
        block, index = line // lines, line % lines
        try:
            region = self._overflow[filename, block]
        except KeyError:
            try:
                region = self.writer.add_lines(self.sources[filename], block * lines, lines)
            except RecursionError:
                raise
            except BaseException as error:  # noqa: BLE001
                self.writer.note_loss(error)
                region = None
            self._overflow[filename, block] = region
        if region is not None:
            region[index] = self.mark
