"""Records which lines of Python a process runs, in a file that outlives the process.

Each line that runs is one byte, stored in a shared mapping of a file in the data directory. The
kernel owns that byte from then on, so nothing has to happen when the process ends, however it ends:
no exit or signal handler, no flush.

This module starts the recorder, registers its callbacks, and knows which frames and errors are its
own. The recorder's parts lie beside it: ``recorder_sources``, ``recorder_writer``,
``recorder_seldom`` for rare conditions, others for branches and contexts. They import nothing else
of ours, and next to nothing of the standard library. So they can be copied into any environment,
and a ``.pth`` file can start them there.

Left to others: who starts it and when (the hook), what the bytes mean (``_read.recording_format``
and ``docs/recording-format.md``), and which files a report wants. The recorder may record more than
is wanted; it decides nothing that coverage.py's configuration decides.

It is a guest in somebody else's process. It takes no lock, keeps no descriptor where Python allows
that, prints nothing, and lets no exception of its own reach the application. It binds all that it
calls when it is loaded: tests replace functions of ``os`` and builtins, and must not see us call
the replacements (``dev/guest_names.py`` checks this). Before Python 3.12, which has no
``sys.monitoring``, it does nothing; the file only has to stay importable there.
"""

# There is no `from __future__ import annotations` here, and annotations are quoted instead: that
# import is a file to find and load in every measured process.
import os
import sys
from _weakref import ref
from sys import _getframe, is_finalizing

# Functions look builtins up in this copy, which stays as it is when the application replaces some.
if "__hcoverage__" not in __builtins__:  # type: ignore[operator, used-before-def]
    __builtins__ = {**__builtins__, "__hcoverage__": True}  # type: ignore[assignment, dict-item]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable
    from types import CodeType, FrameType
    from typing import Any, Final

    from hcoverage._inside.recorder_writer import Marks, Writer

TOOL_NAME: "Final" = "hcoverage"

# 0, 2 and 5 are named for debuggers, profilers and optimisers, which take them without asking; 1 is
# coverage.py's, and taken last.
_TOOL_IDS: "Final" = (4, 3, 1)

_ENV_DIRECTORY: "Final" = "HCOVERAGE_RECORD"
_ENV_BRANCH: "Final" = "HCOVERAGE_RECORD_BRANCH"
_ENV_CONTEXT: "Final" = "HCOVERAGE_RECORD_CONTEXT"
_ENV_SKIP: "Final" = "HCOVERAGE_RECORD_SKIP"

# Before 3.14, a LINE event searches the code object's line table from its beginning. So time grows
# with the square of the number of lines: 100,000 lines take 50 seconds. If the table has at least
# the second number of bytes, INSTRUCTION events are used, and the reader finds the lines. From the
# first number on, this depends on whether lines have few instructions, as those of a class that
# defines methods. A sign of that are few names: code that uses a name has more instructions.
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

# What is told of as a loss, beside the errors of the system (docs/recording-format.md): the
# application has freed our tool id.
_TOOL_FREED: "Final" = 1 << 16

_FRAME: "Final" = type(_getframe())
# Py_TPFLAGS_HEAPTYPE: a class that is none of the interpreter's own.
_HEAP_TYPE: "Final" = 1 << 9
# Audit events of what is called here (`sys.addaudithook`). `object.__getattr__` is that of
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
    image: str = "",
    skip: "Iterable[str] | None" = None,
    keep: "Collection[str]" = (),
    settled_before: int = 0,
    load: "Callable[[str], Any] | None" = None,
) -> bool:
    """Start recording this process, unless something already measures it.

    Whatever goes wrong, nothing is raised or printed; the data directory tells what could not be
    recorded.

    Args:
        data_directory: An existing directory for the recording; by default ``HCOVERAGE_RECORD``.
        branch: Whether to record branches; by default if ``HCOVERAGE_RECORD_BRANCH`` is ``1``.
        context: coverage.py's static context; by default ``HCOVERAGE_RECORD_CONTEXT``.
        container: The id of the container this is in, or an empty string; by default it is found
            out.
        image: The container's image, if the environment does not have its name.
        skip: Directories whose code is not recorded; ``stdlib`` and ``site-packages`` stand for
            this interpreter's. By default ``HCOVERAGE_RECORD_SKIP``, split at ``os.pathsep``.
        keep: Names of files that are recorded even if installed: the project itself may be.
        settled_before: Two seconds before the start of the run, in nanoseconds since the epoch, if
            the recording is read on this machine. Then a ``.py`` file that nobody has touched since
            is recognised by its size and time. Of other sources the CRC-32 is recorded, too, which
            takes longer.
        load: Returns a part of the recorder by its module's name; by default parts are imported.

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
    name = _ToolName(TOOL_NAME)
    tool = _tool_taker(monitoring)(name)
    if tool is None:
        return False
    if context is None:
        context = os.environ.get(_ENV_CONTEXT, "")
    if skip is None:
        skip = filter(None, os.environ.get(_ENV_SKIP, "").split(os.pathsep))
    try:
        _load_part = load or _import_part
        # Loaded now: later they might bind the application's replacements.
        part(LONG_CODE_PART)
        sources = part(SOURCES_PART)
        directory = sources.absolute(directory)
        writer = part(WRITER_PART).Writer(directory, context, container, image, branch=branch)
        skips = sources.skipper(skip, keep, own_files)
        recorder = Recorder(writer, sources, skips, settled_before)
        recorder.tool_name = ref(name, recorder.tool_freed)
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
    """Return a copy of a module, which stays as the module is now."""
    copy = type(sys)(module.__name__)
    copy.__dict__.update(module.__dict__)
    return copy


# What records this process, for `recorder_contexts`.
current: "tuple[Any, int, Recorder] | None" = None


def _import_part(name: str) -> "Any":
    return __import__(name, fromlist=["of a package: the module itself"])


_load_part: "Callable[[str], Any]" = _import_part
_parts: "dict[str, Any]" = {}
# Our own code, some of which runs after a fork, is not recorded.
own_files: "set[str]" = {start.__code__.co_filename}
_own_globals: "list[dict[str, Any]]" = [globals()]


def part(name: str) -> "Any":
    """Return a part of the recorder; load it when it is first needed.

    If it has a function `bind`, that gets what the part cannot import: `is_ours` and this function.
    """
    try:
        return _parts[name]
    except KeyError:
        loaded = _load_part(name)
        own_files.add(loaded.__file__)
        own_globals(loaded.__dict__)
        if "bind" in loaded.__dict__:
            loaded.bind(is_ours, part)
        _parts[name] = loaded
        return loaded


def own_globals(names: "dict[str, Any]") -> None:
    """Recognise frames with these globals as ours."""
    _own_globals.append(names)


def is_ours(error: BaseException) -> bool:
    """Return whether our code caused an error, and not the application's meanwhile.

    A signal handler of the application can run while our code does, and raise: a `TimeoutError`
    from SIGALRM is an `OSError` too. If its audit hook refuses us something, that error is ours.
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
    # An error that another thread raises here (`PyThreadState_SetAsyncExc`) has a class of its own.
    return isinstance(error, Exception) and not type(error).__flags__ & _HEAP_TYPE


def _is_own(frame: "FrameType") -> bool:
    names = frame.f_globals
    return any([names is own for own in _own_globals])  # noqa: C419 - a generator is a frame more


def _is_audit_hook(frame: "FrameType") -> bool:
    """Return whether a frame is of an audit hook that refuses us; its arguments show that."""
    for value in frame.f_locals.values():
        event = value[0] if type(value) is tuple and value else value
        if type(event) is str and event in _AUDITED:
            return True
    return False


def _find_frames() -> "Any":
    """Yield the frame of the caller at each step; first its own frame must be sent to it.

    It reads `f_back` of that, since `sys._getframe` is audited.
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
            # Not in a variable: in one, our frame would keep itself and its callers alive.
            return step(None).f_back
        except (ValueError, StopIteration):
            # Another thread runs the generator, or the application's signal handler has ended it.
            return _getframe(1)

    return find


def _is_measured(monitoring: "Any") -> bool:
    """Return whether coverage.py, or another copy of this file, measures this process already."""
    tools = [monitoring.get_tool(number) for number in range(6)]
    if TOOL_NAME in tools or "coverage.py" in tools:
        return True
    # coverage.py's C and Python tracers show only by their trace function.
    trace = sys.gettrace()
    module = getattr(trace, "__module__", None) or type(trace).__module__
    return str(module).partition(".")[0] == "coverage"


class _ToolName(str):
    """The name of our tool. The interpreter alone keeps it, so it goes when the tool id is freed.

    Other names of ours are plain: we free these tool ids ourselves.
    """

    __slots__ = ("__weakref__",)


def _tool_taker(monitoring: "Any") -> "Callable[..., int | None]":
    """Return a function that takes a free tool id for us, or returns None."""
    use_tool_id = monitoring.use_tool_id

    def take(name: str = TOOL_NAME) -> "int | None":
        for number in _TOOL_IDS:
            try:
                use_tool_id(number, name)
            except ValueError:
                continue
            return number
        return None

    return take


def _looker_for_others(monitoring: "Any") -> "Callable[[], bool]":
    """Return a function that tells whether somebody else uses `sys.monitoring`, as debuggers do.

    Before Python 3.14, where the last LINE event of a tool ends at the start of a line, the first
    run of that instruction has no INSTRUCTION event (`de_instrument_line` in instrumentation.c).
    """
    get_tool = monitoring.get_tool

    def are_there_others() -> bool:
        for number in range(6):
            name = get_tool(number)
            if name is not None and name != TOOL_NAME:
                return True
        return False

    return are_there_others


def _monitor_branches(monitoring: "Any", tool: int, recorder: "Recorder") -> None:
    """Register the callbacks for branches; BRANCH_LEFT and BRANCH_RIGHT exist since 3.14."""
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

    They are closures over local variables, which is fastest; they are the cost of measuring. Each
    location calls once: `DISABLE` removes the event from the bytecode. If the application is at
    the limit of its stack, they ask to be called again, and call nothing, since that would fail,
    too.
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
    are_there_others = _looker_for_others(monitoring)

    def watch_lines(code: "CodeType") -> None:
        length = len(code.co_linetable)
        if (
            length >= may_be_long
            and (length >= is_long or length >= may_be_long + _BYTES_OF_A_NAME * len(code.co_names))
            and not are_there_others()
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
        # The marks of instructions, by the line table of their code object: bytes keep their hash,
        # while that of a code object is computed each time.
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
        self.tool_name: Any = None

    def tool_freed(self, _name: object) -> None:
        """Note that no more of this process is recorded: the name of our tool is gone."""
        if current is None or is_finalizing():
            return
        try:
            self.writer.note_loss(OSError(_TOOL_FREED, ""))
        except BaseException:  # noqa: BLE001, S110 - Python would print it
            pass

    def add_source(self, filename: str) -> "Marks | None":
        """Make room for the lines of a file that is seen for the first time.

        The callback for code that starts calls it, through other functions of ours. So the next
        frame that is not ours is the one that starts; it has the module's globals.

        Args:
            filename: The ``co_filename`` of the code.

        Returns:
            The place of its line marks; None if it is not recorded.
        """
        if self._skips(filename):
            self.regions[filename] = None
            return None
        region: Marks | None = None
        try:
            frame = self._find_frame()
            while _is_own(frame):
                frame = frame.f_back
            # Cython reports code that no frame runs. The `repr` shows that; `f_code` is audited.
            if ", file %r, line " % filename not in repr(frame):
                return None
            files = self._files
            path, module = files.find_source(filename, frame.f_globals, self._real_directories)
            source = files.describe_source(path, module, self._settled_before)
            region = self.writer.add_lines(source, 0, files.line_room(source))
            self.sources[filename] = source
        except UnicodeError:
            pass  # It is no file name; coverage.py does not measure it.
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
        # Else the code only pretends to be Python's, as Cython's does with `profile`.
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
