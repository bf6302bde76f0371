"""Records which lines of Python a process runs, in a file that outlives the process.

Self-contained: it imports nothing of ours but its own parts beside it (``recorder_arcs`` for
branches, ``recorder_seldom`` for what few processes meet), and next to nothing of the standard
library, so that it can be copied into any environment and started there by a ``.pth`` file. Each
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
import posix
import sys

# `signal` itself imports `enum` and more.
from _signal import (  # type: ignore[import-not-found]
    SIG_BLOCK,
    SIG_SETMASK,
    SIGXFSZ,
    pthread_sigmask,
)
from posix import (
    O_CLOEXEC,
    O_CREAT,
    O_EXCL,
    O_NOFOLLOW,
    O_RDONLY,
    O_RDWR,
    close,
    fchmod,
    fstat,
    getcwd,
    getpid,
    getppid,
    lstat,
    open as open_file,
    pwrite,
    read,
    readlink,
    register_at_fork,
    stat,
    uname,
    urandom,
)
from sys import _getframe
from time import time_ns

# Functions look builtins up here: in what they are now, whatever becomes of them.
if "__hcoverage__" not in __builtins__:  # type: ignore[operator, used-before-def]
    __builtins__ = {**__builtins__, "__hcoverage__": True}  # type: ignore[assignment, dict-item]

try:
    import mmap
    from mmap import mmap as map_file
except ImportError:  # A minimal build: every mark is a write then.
    mmap = map_file = None  # type: ignore[assignment, misc]

# Before Python 3.11 it is that of `os.path`, in Python.
normpath = getattr(posix, "_path_normpath", os.path.normpath)
_HAS_TRACKFD = sys.version_info >= (3, 13)
# What not every system has.
posix_fallocate = getattr(posix, "posix_fallocate", None)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable
    from types import CodeType, FrameType
    from typing import Any, Final, Union

    Marks = Union["memoryview[bytes]", Any]
    Segment = Union["MappedSegment", Any]

# The format, as told in docs/recording-format.md.
MAGIC: "Final" = b"\x89HCOV\r\n\x1a"
FORMAT_VERSION: "Final" = 5
SUFFIX: "Final" = ".hcrec"
HEADER_FIXED: "Final" = 64
LINES_KIND: "Final" = b"LINE"
RECORD_FIXED: "Final" = 52
_SOURCE_FIXED: "Final" = 32  # of these
SOURCE_FOUND: "Final" = 1
SOURCE_READ: "Final" = 2
MARK: "Final" = b"\xa5"
"""The byte of a line that ran. Four bits from zero, so that no single bad bit makes a line run."""

NO_HEADING: "Final" = b""

TOOL_NAME: "Final" = "hcoverage"

# 0, 2 and 5 are named for debuggers, profilers and optimisers, whose owners take them without
# asking; 1 is left to coverage.py for as long as there is another.
_TOOL_IDS: "Final" = (4, 3, 1)

_ENV_DIRECTORY: "Final" = "HCOVERAGE_RECORD"
_ENV_BRANCH: "Final" = "HCOVERAGE_RECORD_BRANCH"
_ENV_CONTEXT: "Final" = "HCOVERAGE_RECORD_CONTEXT"
_ENV_SKIP: "Final" = "HCOVERAGE_RECORD_SKIP"

# A short script must cost less than the 53 KB of a coverage.py data file; a large program must not
# make a new file for each module it imports.
_FIRST_SEGMENT: "Final" = 8192
_FORKED_SEGMENT: "Final" = 4096
_LARGEST_SEGMENT: "Final" = 1 << 20
_SEGMENT_GROWTH: "Final" = 8
_BLOCK: "Final" = 4096
_PIECE: "Final" = 1 << 16
_LONGEST_ARGV: "Final" = 1 << 14

# There is room for so many lines, as far as a source can have them, and for one more for each so
# many bytes; Python's lines have 35 on average. Those past the room get blocks of their own.
_SHORT_LINES: "Final" = 128
_BYTES_OF_A_LINE: "Final" = 24
_OVERFLOW_LINES: "Final" = 256

# The largest prime that fits one digit of Python's integers, so that the remainder is fast.
_CHECKSUM_PRIME: "Final" = 1073741789
# CRC-32 of four bits. Up to so many bytes, `binascii` would take longer to load.
_CRC_TABLE: "Final" = (
    0x00000000, 0x1DB71064, 0x3B6E20C8, 0x26D930AC, 0x76DC4190, 0x6B6B51F4, 0x4DB26158, 0x5005713C,
    0xEDB88320, 0xF00F9344, 0xD6D6A3E8, 0xCB61B38C, 0x9B64C2B0, 0x86D3D2D4, 0xA00AE278, 0xBDBDF21C,
)  # fmt: skip
_crc_room = 1 << 10
_compiled_crc32: "Any" = None
_binascii: "Any" = None
if "binascii" in sys.builtin_module_names:
    from binascii import crc32 as _compiled_crc32
elif sys.version_info >= (3, 12):
    from _imp import create_dynamic, exec_dynamic

    # Where it lies is known from `mmap`, which is a shared library beside it or has none.
    _binascii = type(sys)("binascii")
    _binascii.name = "binascii"
    _directory, _, _binascii.origin = (getattr(mmap, "__file__", None) or "").rpartition("/")
    _binascii.origin = _directory + "/" + _binascii.origin.replace("mmap", "binascii", 1)

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
_SELDOM_PART: "Final" = __name__ + "_seldom"

_CONTAINER_ID_LENGTH: "Final" = 64
_HEXADECIMAL: "Final" = b"0123456789abcdef"
_A_MILLISECOND: "Final" = 10**6  # nanoseconds
# `settled_before` allows for file systems that tell time in steps of two seconds; the kernel's
# clock has steps of up to 10 ms.
_FINER: "Final" = 2 * 10**9 - 20 * 10**6
_MOST_LINKS: "Final" = 40  # as the kernel
_FILE_TYPE: "Final" = 0o170000
_READABLE: "Final" = 0o444
_REGULAR_FILE: "Final" = 0o100000
_LINK: "Final" = 0o120000
_ENCODING: "Final" = sys.getfilesystemencoding()
_ENCODING_ERRORS: "Final" = sys.getfilesystemencodeerrors()
_STANDARD_LIBRARY: "Final" = os.__file__.rpartition("/")[0]
_FRAME: "Final" = type(_getframe())
_PATHS: "Final" = (str, os.PathLike)
_NO_MEMORY: "Final" = 12  # ENOMEM
_NOT_HERE: "Final" = 38  # ENOSYS
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
        part(_SELDOM_PART)
        part(LONG_CODE_PART)
        writer = _Writer(_absolute(directory), context, container, branch=branch)
        recorder = _Recorder(writer, _skipper(skip, keep), settled_before)
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
current: "tuple[Any, int, _Recorder] | None" = None


def _import_part(name: str) -> "Any":
    return __import__(name, fromlist=["of a package: the module itself"])


_load_part: "Callable[[str], Any]" = _import_part
_parts: "dict[str, Any]" = {}
# Our own code runs after a fork; it is no part of the application.
own_files: "set[str]" = {start.__code__.co_filename}
_own_globals: "list[dict[str, Any]]" = [globals()]


def part(name: str) -> "Any":
    """A part of the recorder that most processes can do without."""
    try:
        return _parts[name]
    except KeyError:
        part = _load_part(name)
        own_files.add(part.__file__)
        own_globals(part.__dict__)
        _parts[name] = part
        return part


def own_globals(names: "dict[str, Any]") -> None:
    """Know frames with these global names for ours."""
    _own_globals.append(names)


def is_ours(error: BaseException) -> bool:
    """Tell whether an error came of what we did, and not of what the application did meanwhile.

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
    """Tell by its arguments whether a function of the application is a hook that refuses us."""
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
    """Give what tells the frame that calls it."""
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
    """Give what takes a tool id for us, if there is one."""
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


def _skipper(entries: "Iterable[str]", keep: "Collection[str]" = ()) -> "Callable[[str], bool]":
    """Tell which file names are not worth recording.

    Args:
        entries: As `start` takes them.
        keep: As `start` takes it.

    Returns:
        A function that says of a ``co_filename`` whether nothing in this file is recorded.
    """
    names = set(entries)
    installed = "site-packages" in names
    standard = _STANDARD_LIBRARY + "/" if "stdlib" in names else "\0"
    directories = [_absolute(name) + "/" for name in names - {"stdlib", "site-packages"}]
    # What is compiled from no file has a name in angle brackets.
    beginnings = ("<", "memory:", *directories)

    def skips(filename: str) -> bool:
        if not filename or filename.startswith(beginnings) or filename in own_files:
            return True
        # site-packages is inside the standard library's directory, but is not a part of it.
        if "/site-packages/" in filename or "/dist-packages/" in filename:
            return installed and not _ends_in(filename, keep)
        return filename.startswith(standard)

    return skips


def _ends_in(filename: str, names: "Collection[str]") -> bool:
    """Tell whether a file has one of some names; `__init__.py` is named with its package."""
    above, _, name = filename.rpartition("/")
    if name.startswith("__"):
        name = above.rpartition("/")[2] + "/" + name
    return name in names


def _monitor_branches(monitoring: "Any", tool: int, recorder: "_Recorder") -> None:
    """Have the interpreter call the part for branches: BRANCH_LEFT and BRANCH_RIGHT are of 3.14."""
    if sys.version_info < (3, 14):
        part(BRANCHES_PART).monitor(globals(), monitoring, tool, recorder)
    else:
        part(ARCS_PART).monitor(monitoring, tool, recorder)


def _monitor_lines(monitoring: "Any", tool: int, recorder: "_Recorder") -> None:
    """Have the interpreter call the recorder."""
    for event, callback in line_callbacks(monitoring, tool, recorder):
        monitoring.register_callback(tool, event, callback)
    monitoring.set_events(tool, monitoring.events.PY_START)


def line_callbacks(  # noqa: C901 - Split up, the callbacks would cost calls.
    monitoring: "Any", tool: int, recorder: "_Recorder"
) -> "tuple[tuple[int, Callable[..., object]], ...]":
    """Give what the interpreter is to call, by events.

    The callbacks are closures over local variables because they are what a measured process pays
    for. Each location calls once: `DISABLE` takes the event out of the bytecode again. Where the
    application is at the edge of its stack they ask again, and call nothing to say so, since that
    would fail as well.
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
    set_local_events = monitoring.set_local_events
    mark = MARK

    def code_starts(code: "CodeType", _offset: int) -> object:
        # coverage.py leaves these out: they hold annotations, which only tools evaluate.
        if code.co_name == "__annotate__":
            return disable
        filename = code.co_filename
        try:
            region: object = region_of(filename, unseen)
            if region is unseen:
                if filename[:1] != "<":
                    set_local_events(tool, code, 0)  # not for what Cython compiled: SystemError
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
    monitoring: "Any", tool: int, recorder: "_Recorder", long_tables: "tuple[int, int]"
) -> "Callable[[CodeType], None]":
    """Give what has the lines of a code object told, or its instructions where it is long.

    Args:
        monitoring: `sys.monitoring`.
        tool: Our tool id.
        recorder: Where there is room for what is told.
        long_tables: As `_LONG_LINE_TABLES`.

    Returns:
        A function that takes the code object, which is of a source that is recorded.
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


class _Recorder:
    """Knows, for each file name that code objects carry, where its lines are marked.

    There is no lock. Two threads that meet a file at the same time each make a region for it, and
    the reader takes both.
    """

    def __init__(
        self, writer: "_Writer", skips: "Callable[[str], bool]", settled_before: int
    ) -> None:
        self.regions: dict[str, Marks | None] = {}
        # Where instructions are marked, by the line table of their code object: its hash is kept
        # with it, while that of a code object would be computed each time.
        self.instructions: dict[bytes, Marks] = {}
        self.sources: dict[str, bytes] = {}
        self.writer = writer
        self.mark = MARK
        self._overflow: dict[tuple[str, int], Marks | None] = {}
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
            What to mark lines in, or None when this file is not recorded.
        """
        if self._skips(filename):
            self.regions[filename] = None
            return None
        region: Marks | None = None
        try:
            frame = self._find_frame()
            while _is_own(frame):
                frame = frame.f_back
            path, module = _find_source(filename, frame.f_globals, self._real_directories)
            source = describe_source(path, module, self._settled_before)
            region = self.writer.add_lines(source, 0, line_room(source))
            self.sources[filename] = source
        except UnicodeError:
            pass  # No name of a file; coverage.py does not measure it.
        except RecursionError:
            raise
        except BaseException as error:  # noqa: BLE001
            self.writer.note_loss(error)
        return self.regions.setdefault(filename, region)

    def begin_anew(self, filenames: "Iterable[str]") -> "list[object]":
        """Have files marked in other places from now on.

        Args:
            filenames: Those that have places, among others.

        Returns:
            Where they were marked before.
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
        """Give what the interpreter is to be told where an event could not be recorded.

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
        """Mark a line that `regions` has no room for; give what the interpreter is to be told.

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
        # Else it is of a file that is not recorded.
        return disable

    def mark_outside(self, filename: str, line: int) -> None:
        """Mark a line past the room its file was given.

        The room is an estimate, and code may claim any line number it likes.
        """
        block = line // _OVERFLOW_LINES
        try:
            region = self._overflow[filename, block]
        except KeyError:
            first = block * _OVERFLOW_LINES
            try:
                region = self.writer.add_lines(self.sources[filename], first, _OVERFLOW_LINES)
            except RecursionError:
                raise
            except BaseException as error:  # noqa: BLE001
                self.writer.note_loss(error)
                region = None
            self._overflow[filename, block] = region
        if region is not None:
            region[line - block * _OVERFLOW_LINES] = MARK


def describe_source(path: str, module: str, settled_before: int) -> bytes:
    """Say what is known of a source file when its first code starts.

    Args:
        path: Its absolute path.
        module: The name of the module, or an empty string.
        settled_before: As `start` takes it.

    Returns:
        What all records of the source have in common.
    """
    name = path.encode(_ENCODING, _ENCODING_ERRORS)
    facts = 0
    try:
        status = lstat(path)
        if status.st_mode & _FILE_TYPE == _LINK:
            path = _real_path(path)
            name = path.encode(_ENCODING, _ENCODING_ERRORS)
            status = stat(path)
        # Opening anything else can block or take what the application waits for: `python <(cmd)`.
        if status.st_mode & _FILE_TYPE == _REGULAR_FILE:
            facts = _facts(path, status, settled_before)
    except OSError as error:
        # Templates and zipped modules have names that are no files; coverage.py lists them too.
        if not is_ours(error):
            raise
    module_name = module.encode("utf-8", "backslashreplace")
    # One number, since that is quicker than six: what is behind is in the more significant bytes.
    facts |= len(name) << 192 | len(module_name) << 224
    return facts.to_bytes(_SOURCE_FIXED, "little") + name + module_name


def _facts(path: str, status: "os.stat_result", settled_before: int) -> int:
    modified = status.st_mtime_ns
    times = (modified & 0xFFFFFFFFFFFFFFFF) << 96
    # What unpacks archives sets the time of modification, but not the other one.
    changed = status.st_ctime_ns
    if changed % _A_MILLISECOND:
        settled_before += _FINER  # the file system tells time by the kernel's clock
    # The session knows the text that a `.py` file of the project had, and of no other.
    if modified < settled_before > changed and path.endswith(".py"):
        return SOURCE_FOUND | status.st_size << 32 | times
    descriptor = open_file(path, O_RDONLY | O_CLOEXEC)
    try:
        content = read(descriptor, status.st_size + 1)
    finally:
        close(descriptor)
    return SOURCE_FOUND | SOURCE_READ | len(content) << 32 | times | crc32(content) << 160


def line_room(source: bytes) -> int:
    """How many lines to make room for in a source, as `describe_source` gives it."""
    size = int.from_bytes(source[4:12], "little")
    if size:
        return size // _BYTES_OF_A_LINE + min(size, _SHORT_LINES) + 2
    return _OVERFLOW_LINES


def crc32(content: bytes) -> int:
    """CRC-32, as `binascii` has it, which may be a shared library and take longer to load."""
    global _compiled_crc32, _crc_room  # noqa: PLW0603 - one process, one library
    if _compiled_crc32 is None and _crc_room >= 0:
        _crc_room -= len(content)
        if _crc_room < 0:
            _compiled_crc32 = _load_crc32()
    if _compiled_crc32 is not None:
        return int(_compiled_crc32(content))
    table = _CRC_TABLE
    value = 0xFFFFFFFF
    for byte in content:
        value ^= byte
        value = value >> 4 ^ table[value & 15]
        value = value >> 4 ^ table[value & 15]
    return value ^ 0xFFFFFFFF


def _load_crc32() -> "Callable[[bytes], int] | None":
    """Load `binascii.crc32` where that is a shared library, without the import system.

    The application may be in the middle of an import, with its locks held, or be an importer.
    """
    try:
        module = create_dynamic(_binascii)
        exec_dynamic(module)
    except BaseException as error:
        if not is_ours(error):
            raise
        return None
    return module.crc32  # type: ignore[no-any-return]


def checksum(content: bytes) -> int:
    """What tells damage of what is written: a remainder, since that takes no library."""
    return int.from_bytes(content, "little") % _CHECKSUM_PRIME


def _find_source(
    filename: str, module_globals: "dict[str, Any]", real_directories: "dict[str, str]"
) -> "tuple[str, str]":
    """Name a file and its module as coverage.py would, at the time its first code starts.

    Args:
        filename: The ``co_filename``, as it was when the code was compiled.
        module_globals: The globals the code runs with.
        real_directories: Absolute directories resolved so far; extended here.

    Returns:
        The path, and the name of the module or an empty string.

    Raises:
        OSError: The name is relative and the working directory is gone.
        ValueError: The name cannot be the name of a file.
    """
    get = dict.get  # The globals may be of a class of the application's, with a `get` of its own.
    path = filename
    loaded_from = get(module_globals, "__file__")
    if loaded_from != filename and loaded_from and isinstance(loaded_from, _PATHS):
        loaded_from = loaded_from if type(loaded_from) is str else _text_of(loaded_from)
        if loaded_from.endswith((".pyc", ".pyo")):
            loaded_from = loaded_from[:-1]
        # A .pyc can be moved after it is compiled, but not renamed: another name means `exec`.
        if loaded_from and loaded_from.rpartition("/")[2] == path.rpartition("/")[2]:
            path = loaded_from
    module = get(module_globals, "__name__")
    if module == "__main__":
        # `python -m` says which module it runs in the spec.
        module = _name_of(get(module_globals, "__spec__")) or module
    path = _in_real_directory(path, real_directories)
    return path, module if isinstance(module, str) else ""


def _text_of(path: "Any") -> str:
    try:
        return str(path)
    except Exception:  # noqa: BLE001 - it may be of a class of the application's
        return ""


def _name_of(spec: "Any") -> "Any":
    try:
        return spec.name
    except Exception:  # noqa: BLE001 - likewise
        return None


def _in_real_directory(path: str, real_directories: "dict[str, str]") -> str:
    """The absolute path, resolved but for its last part, which may still be a link.

    Resolving each file on its own would take many times as long.
    """
    directory, _, name = path.rpartition("/")
    real = real_directories.get(directory)
    if real is not None and name not in ("", ".", ".."):
        return real + name
    if directory[:1] != "/" or "/." in path or "//" in path or not name:
        if path[:1] != "/":
            path = _find_relative(path)
        directory, _, name = _absolute(path).rpartition("/")
        real = real_directories.get(directory)
    if real is None:
        real = real_directories[directory] = _real_directory(directory, real_directories)
    return real + name


def _real_directory(path: str, real_directories: "dict[str, str]") -> str:
    """Resolve an absolute directory; in a package, all but its last part is known."""
    parent, _, name = path.rpartition("/")
    above = real_directories.get(parent)
    if above is not None:
        try:
            if lstat(path).st_mode & _FILE_TYPE != _LINK:
                return above + name + "/"
        except OSError as error:
            if not is_ours(error):
                raise
    real = _real_path(path)
    return real if real == "/" else real + "/"


# As `os.path` has them, whose functions call others by names that the application can replace.


def _absolute(path: str) -> str:
    if path[:1] != "/":
        path = getcwd() + "/" + path
    return normpath(path)


def _real_path(path: str) -> str:
    """Resolve all links in an absolute path, as far as it is there."""
    left = path.split("/")[::-1]
    real = ""
    links = 0
    while left:
        name = left.pop()
        if name == "..":
            real = real.rpartition("/")[0]
        elif name not in ("", "."):
            place = real + "/" + name
            target = _target_of(place) if links < _MOST_LINKS else ""
            if target:
                links += 1
                left += target.split("/")[::-1]
                if target[0] == "/":
                    real = ""
            else:
                real = place
    return real or "/"


def _target_of(path: str) -> str:
    """What a link leads to; nothing where there is none."""
    try:
        return readlink(path) if lstat(path).st_mode & _FILE_TYPE == _LINK else ""
    except OSError as error:
        if not is_ours(error):
            raise
        return ""


def _find_relative(path: str) -> str:
    for directory in (".", *sys.path):
        candidate = str(directory) + "/" + path
        if _exists(candidate):
            return candidate
    return path


def _exists(path: str) -> bool:
    try:
        stat(path)
    except (OSError, ValueError) as error:
        if not is_ours(error):
            raise
        return False
    return True


class _Writer:
    """Owns the files of this process in the data directory.

    A recording is one or more segments, each a file of fixed size that is mapped whole: nothing
    grows, so a fork, a change of user or a lost directory never finds one half changed. A segment
    with room left is in `_free`; taking it from that list is what makes a thread its owner, so no
    lock is needed, and a thread that finds the list empty makes a segment of its own.

    Attributes:
        heading: A record that tells something of those which are added after it, or nothing; each
            segment has it before the first of these.
        largest_segment: How many bytes a segment has at most, but for a larger record.
    """

    def __init__(
        self, directory: str, context: str, container: "str | None", *, branch: bool, core: str = ""
    ) -> None:
        self._directory = directory
        self._context = context
        self._container = _container_id() if container is None else container
        self.branch = branch
        self._core = core
        self._free: list[Segment] = []
        self._told: Segment | None = None
        self._metadata = b""
        self.heading = NO_HEADING
        self.largest_segment = _LARGEST_SEGMENT
        self._next_size = _FIRST_SEGMENT
        # Now: what the application does to them, or to the environment, is of no account.
        self._facts = _lasting_facts()
        self._identify(forked_from="")
        self._free.append(self._new_segment(0))
        register_at_fork(after_in_child=self._after_fork)

    def add_lines(self, source: bytes, first: int, count: int) -> "Marks":
        """Make room to mark lines of a source file.

        Args:
            source: The file, as `describe_source` gives it.
            first: The line that index 0 of the result stands for.
            count: How many lines there is room for.

        Raises:
            OSError: There is no room on the disk, or the directory cannot be written to.
        """
        segment, position = self.add_record(LINES_KIND, source, first, count)
        return segment.marks(position, count)

    def add_record(
        self,
        kind: bytes,
        source: bytes,
        first: int,
        count: int,
        more: bytes = b"",
        *,
        heading: "bytes | None" = None,
        after: int = 0,
    ) -> "tuple[Segment, int]":
        """Write a record for a source file, but for its content.

        Args:
            kind: What it begins with.
            source: The file, as `describe_source` gives it.
            first: A line.
            count: How many bytes of content there is room for.
            more: What comes before the content.
            heading: What is to be before it in place of the present heading.
            after: How many bytes there have to be after it.

        Returns:
            The segment it is in, and where in that its `count` bytes of content are.
        """
        if getpid() != self._pid:
            self._after_fork()  # A fork by compiled code that does not call Python's hooks.
        start = self.length_of(source, more)
        length = aligned(start + count)
        prefix = kind + length.to_bytes(4, "little")
        facts = (first | count << 32).to_bytes(8, "little") + source + more
        check = checksum(prefix + facts).to_bytes(4, "little")
        if heading is None:
            heading = self.heading
        segment = self._take_segment(length + len(heading) + after)
        try:
            if segment.heading is not heading:
                segment.append(heading, len(heading))
                segment.heading = heading
            return segment, segment.append(prefix + check + facts, length) + start
        finally:
            self._free.append(segment)

    def length_of(self, source: bytes, more: bytes) -> int:
        """How many bytes of a record are before its content."""
        return RECORD_FIXED - _SOURCE_FIXED + len(source) + len(more)

    def add_beside(self, segment: "Segment", record: bytes, count: int) -> "Marks | None":
        """Write a record that belongs to another one, into the same segment.

        Args:
            segment: That segment.
            record: The record, but for its content.
            count: How many bytes of content there is room for.

        Returns:
            The content; None where the segment has no room, or is not this process's or thread's.
        """
        if getpid() != self._pid:
            self._after_fork()
        heading = self.heading
        start = len(record)
        length = aligned(start + count)
        free = self._free
        try:
            taken = free.pop()
        except IndexError:
            return None
        try:
            if taken is not segment or taken.owner != self._pid:
                return None
            if taken.heading is not heading:
                if taken.room < length + len(heading):
                    return None
                taken.append(heading, len(heading))
                taken.heading = heading
            elif taken.room < length:
                return None
            return taken.marks(taken.append(record, length) + start, count)
        finally:
            free.append(taken)

    def note_loss(self, error: BaseException) -> None:
        """Leave word for the reader that something was not recorded.

        Raises:
            BaseException: The error itself, where it is the application's.
        """
        if not is_ours(error):
            raise error
        code = getattr(error, "errno", None) or (_NO_MEMORY if type(error) is MemoryError else 0)
        if self._told is not None:
            try:
                self._told.note_loss(code)
            except BaseException as other:
                if not is_ours(other):
                    raise

    def _take_segment(self, length: int) -> "Segment":
        try:
            segment = self._free.pop()
        except IndexError:
            return self._new_segment(length)
        # A signal handler that forks while a segment is taken leaves the parent's to the child.
        if segment.owner != self._pid or segment.room < length:
            return self._new_segment(length)
        return segment

    def _new_segment(self, length: int) -> "Segment":
        """Create a segment with room for `length` bytes, and for more where the disk has them."""
        header_room = aligned(HEADER_FIXED + len(self._metadata))
        least = -(-(header_room + length) // _BLOCK) * _BLOCK
        size = max(self._next_size, least)
        self._next_size = min(self._next_size * _SEGMENT_GROWTH, self.largest_segment)
        try:
            segment = self._create(size, tell=size == least)
        except OSError as error:
            if size == least or not is_ours(error):
                raise
            segment = self._create(least, tell=True)
        self._told = segment
        return segment

    def _create(self, size: int, *, tell: bool) -> "Segment":
        stem = self._directory + "/" + self._stem
        flags = O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC
        while True:
            self._part += 1
            path = "%s.%d%s" % (stem, self._part, SUFFIX)
            try:
                descriptor = open_file(path, flags, 0o644)
            except FileExistsError:
                continue  # Another thread counted at the same time.
            break
        try:
            return self._fill(descriptor, path, size)
        except OSError as error:
            tell = tell and self._told is None
            part(_SELDOM_PART).discard(path, error.errno or 0, tell=tell)
            raise
        finally:
            close(descriptor)

    def _fill(self, descriptor: int, path: str, size: int) -> "Segment":
        try:
            # The application's umask, or the user it becomes, must not hide this from the report.
            # Only where it would: setting it is audited.
            if fstat(descriptor).st_mode & _READABLE != _READABLE:
                fchmod(descriptor, 0o644)
        except OSError:
            pass
        _reserve(descriptor, size)
        memory = _map(descriptor, size)
        if memory is None:
            segment: Segment = part(_SELDOM_PART).positioned_segment(path, size, is_ours)
        else:
            segment = MappedSegment(memory)
        head = b"".join(
            (
                MAGIC,
                FORMAT_VERSION.to_bytes(2, "little"),
                b"\0\0",
                len(self._metadata).to_bytes(4, "little"),
                size.to_bytes(8, "little"),
                self._pid.to_bytes(4, "little"),
                self._parent.to_bytes(4, "little"),
                self._started.to_bytes(8, "little"),
                self._token,
                self._part.to_bytes(4, "little"),
            )
        )
        check = checksum(head + self._metadata).to_bytes(4, "little")
        segment.append(
            head + check + bytes(8) + self._metadata,
            aligned(HEADER_FIXED + len(self._metadata)),
        )
        return segment

    def _after_fork(self) -> None:
        """Give a forked child an identity and a segment of its own.

        Where the parent already made room for a file, the child goes on marking in the parent's
        segments, which both have mapped.
        """
        try:
            self._free = []
            self._identify(forked_from=self._token.hex())
            self._next_size = _FORKED_SEGMENT
            self._free.append(self._new_segment(0))
        except BaseException as error:  # noqa: BLE001 - Python would print it
            self.note_loss(error)

    def _identify(self, forked_from: str) -> None:
        self._pid = getpid()
        if not forked_from:
            self._root_pid = self._pid
        self._parent = getppid()
        self._token = urandom(8)
        self._part = 0
        self._next_size = _FIRST_SEGMENT
        self._started = time_ns()
        host = uname().nodename
        self._stem = "%s.%d.%s" % (host.replace("/", "_"), self._pid, self._token.hex())
        facts = (
            ("host", host),
            ("cwd", _working_directory()),
            ("container", self._container),
            ("context", self._context),
            ("branch", "1" if self.branch else ""),
            ("core", self._core),
            ("forked_from", forked_from),
            ("root_pid", str(self._root_pid) if forked_from else ""),
        )
        self._metadata = _encoded(facts) + self._facts


def _lasting_facts() -> bytes:
    """Tell what stays as it is, also after a fork."""
    facts = (
        ("python", sys.version.split(" ", 1)[0]),
        ("implementation", sys.implementation.cache_tag or ""),
        ("executable", sys.executable or ""),
        ("prefix", sys.prefix),
        ("base_prefix", sys.base_prefix),
        ("stdlib", _STANDARD_LIBRARY),
        ("image", os.environ.get("HCOVERAGE_IMAGE", "")),
    )
    argv = getattr(sys, "orig_argv", ())  # since Python 3.10
    arguments = _encoded([("argv", each) for each in argv], keep_empty=True)
    if len(arguments) > _LONGEST_ARGV:
        # Whole arguments only; a command line can have two megabytes.
        arguments = arguments[: arguments.rfind(b"\0", 0, _LONGEST_ARGV) + 1]
    return _encoded(facts) + arguments


def _encoded(facts: "Iterable[tuple[str, str]]", *, keep_empty: bool = False) -> bytes:
    return b"".join(
        [
            key.encode() + b"=" + value.encode(_ENCODING, _ENCODING_ERRORS) + b"\0"
            for key, value in facts
            if value or keep_empty
        ]
    )


def _working_directory() -> str:
    try:
        return getcwd()
    except OSError as error:
        if not is_ours(error):
            raise
        return ""  # It was removed.


def _container_id() -> str:
    """The id of the container this process is in, as Docker and Podman show it in its mounts."""
    # Not by the engines' marks: podman's is in /run, where a read-only container has a tmpfs.
    try:
        descriptor = open_file("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC)
        try:
            mounts = read(descriptor, 1 << 16)
        finally:
            close(descriptor)
    except OSError:
        return ""
    # What is mounted into /etc: where an engine runs, there are mounts of its containers too.
    for mount in mounts.splitlines():
        if b" /etc/" in mount:
            # Podman's storage is below a directory of that name as well.
            for rest in mount.split(b"containers/")[1:]:
                identity = rest[:_CONTAINER_ID_LENGTH]
                if len(identity) == _CONTAINER_ID_LENGTH and not identity.strip(_HEXADECIMAL):
                    return identity.decode()
    return ""


class MappedSegment:
    """A segment in a shared mapping."""

    __slots__ = ("_marks", "_position", "_view", "heading", "owner", "room")

    def __init__(self, view: "memoryview[int]") -> None:
        self._view = view
        self._marks = view.cast("c")  # a store of one byte takes less than that of a number
        self._position = 0
        self.heading = NO_HEADING
        self.owner = getpid()
        self.room = len(view)

    def append(self, content: bytes, length: int) -> int:
        """Add a record and return where it is."""
        position = self._position
        self.put(position, content)
        self._position = position + length
        self.room -= length
        return position

    def put(self, position: int, content: bytes) -> None:
        """Write something, its first four bytes last: a reader that sees them sees the rest."""
        self._view[position + 4 : position + len(content)] = content[4:]
        self._view[position : position + 4] = content[:4]

    def marks(self, position: int, count: int) -> "Marks":
        """The bytes of the lines of a record."""
        return self._marks[position : position + count]

    def note_loss(self, code: int) -> None:
        """Count one thing that was not recorded, in the header."""
        count = int.from_bytes(self._view[60:64], "little") + 1
        self._view[56:64] = code.to_bytes(4, "little") + count.to_bytes(4, "little")


def aligned(length: int) -> int:
    return (length + 7) & ~7


def _reserve(descriptor: int, size: int) -> None:
    """Take the disk space now: a store into a mapping without it kills the application (SIGBUS).

    Raises:
        OSError: There is no space, or it is more than RLIMIT_FSIZE allows.
    """
    # Past RLIMIT_FSIZE the kernel sends SIGXFSZ. Python ignores it, but an application may have
    # restored its default action, which is to die. It is sent to this thread, so blocking it here
    # and taking it away again hides it from the application.
    blocked = pthread_sigmask(SIG_BLOCK, (SIGXFSZ,))
    try:
        try:
            if posix_fallocate is None:
                raise OSError(_NOT_HERE, "")  # noqa: TRY301
            posix_fallocate(descriptor, 0, size)
            if size >= _PIECE:
                # Else the first store into each page takes 5 us on ext4.
                _write_zeros(descriptor, size)
        except OSError as error:
            part(_SELDOM_PART).reserve_otherwise(descriptor, size, error, _write_zeros)
    finally:
        pthread_sigmask(SIG_SETMASK, blocked)


def _write_zeros(descriptor: int, size: int) -> None:
    """Write so many bytes, from the beginning of a file.

    Raises:
        OSError: There is no space, or it is more than RLIMIT_FSIZE allows.
    """
    written = 0
    while written < size:
        written += pwrite(descriptor, bytes(min(_PIECE, size - written)), written)


def _map(descriptor: int, size: int) -> "memoryview | None":
    """Map a file shared, or return None where that cannot be had."""
    if map_file is None:
        return None
    try:
        if _HAS_TRACKFD:
            return memoryview(map_file(descriptor, size, trackfd=False))  # type: ignore[call-arg, unused-ignore]
        return memoryview(part(_SELDOM_PART).map_above_standard_streams(map_file, descriptor, size))
    except (OSError, ValueError):
        # ENODEV and EINVAL on some network and VM file systems; ENOMEM under RLIMIT_AS.
        return None
