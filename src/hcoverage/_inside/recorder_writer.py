"""Owns the files that a process writes into the data directory: the recorder's part for recordings.

``recorder`` loads it at its start, from beside itself and under its own name, so that both can be
copied together. ``docs/recording-format.md`` describes the files. What is marked in them, and when,
is left to others.

Like the recorder it is a guest: no lock, no descriptor that stays open where Python allows that,
no output, and no exception of its own reaches the application.
"""

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
    dup,
    fchmod,
    fstat,
    getcwd,
    getpid,
    getppid,
    open as open_file,
    pwrite,
    read,
    register_at_fork,
    uname,
    unlink,
    urandom,
)
from time import time_ns

# Functions look builtins up in this copy, which stays as it is when the application replaces some.
if "__hcoverage__" not in __builtins__:  # type: ignore[operator, used-before-def]
    __builtins__ = {**__builtins__, "__hcoverage__": True}  # type: ignore[assignment, dict-item]

_HAS_TRACKFD = sys.version_info >= (3, 13)
# Not every system has this.
posix_fallocate = getattr(posix, "posix_fallocate", None)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, Final, Union

    Marks = Union["memoryview[bytes]", Any]
    Segment = Union["MappedSegment", Any]

# The format, as told in docs/recording-format.md.
MAGIC: "Final" = b"\x89HCOV\r\n\x1a"
FORMAT_VERSION: "Final" = 5
SUFFIX: "Final" = ".hcrec"
HEADER_FIXED: "Final" = 64
LINES_KIND: "Final" = b"LINE"
_CONTEXT_KIND: "Final" = b"CTXT"
_RECORD_FIXED: "Final" = 20  # bytes, before the description of its source
_CONTEXT_FIXED: "Final" = 52
MARK: "Final" = b"\xa5"
"""The byte of a line that ran. Four of its bits are set: no single bad bit makes a line run."""

NO_HEADING: "Final" = b""

# A short script must cost less than the 53 KB of a coverage.py data file; a large program must not
# make a new file for each module it imports.
_FIRST_SEGMENT: "Final" = 8192
_FORKED_SEGMENT: "Final" = 4096
_LARGEST_SEGMENT: "Final" = 1 << 20
_SEGMENT_GROWTH: "Final" = 8
_BLOCK: "Final" = 4096
_PIECE: "Final" = 1 << 16
_LONGEST_ARGV: "Final" = 1 << 14

# The largest prime that fits one digit of Python's integers, so that the remainder is fast.
_CHECKSUM_PRIME: "Final" = 1073741789

_CONTAINER_ID_LENGTH: "Final" = 64
_HEXADECIMAL: "Final" = b"0123456789abcdef"
_READABLE: "Final" = 0o444
_ENCODING: "Final" = sys.getfilesystemencoding()
_ENCODING_ERRORS: "Final" = sys.getfilesystemencodeerrors()
_NO_MEMORY: "Final" = 12  # ENOMEM
_NOT_HERE: "Final" = 38  # ENOSYS
_STANDARD_ERROR: "Final" = 2

# The recorder's, which this cannot import.
is_ours: "Callable[[BaseException], bool]"
_seldom: "Any" = None
# None in a minimal build: every mark is a write then.
map_file: "Any" = None


def bind(ours: "Callable[[BaseException], bool]", part: "Any") -> None:
    """Take what this cannot import; see `recorder.part`."""
    global is_ours, map_file, _seldom  # noqa: PLW0603 - once, as it is loaded
    is_ours = ours
    map_file = part(__name__.replace("_writer", "_sources")).load_map_file()
    _seldom = part(__name__.replace("_writer", "_seldom"))


def checksum(content: bytes) -> int:
    """Return a checksum that shows damage: a remainder, since that needs no library."""
    return int.from_bytes(content, "little") % _CHECKSUM_PRIME


def aligned(length: int) -> int:
    return (length + 7) & ~7


def record_before(kind: bytes, source: bytes, first: int, count: int, more: bytes = b"") -> bytes:
    """Return a record up to its content; the arguments are those of `Writer.add_record`."""
    length = aligned(_RECORD_FIXED + len(source) + len(more) + count)
    prefix = kind + length.to_bytes(4, "little")
    facts = (first | count << 32).to_bytes(8, "little") + source + more
    return prefix + checksum(prefix + facts).to_bytes(4, "little") + facts


class Writer:
    """Owns the files of this process in the data directory.

    A recording is one or more segments, each a file of fixed size that is mapped whole. Segments do
    not grow, so a fork, a change of user or a lost directory never finds one half changed. Segments
    with room left are in `_free`. A thread owns a segment while it has taken it from that list, so
    no lock is needed. If the list is empty, the thread makes a new segment.

    Attributes:
        heading: A record about those that are added after it, or none; each segment has it before
            the first of these.
        largest_segment: The most bytes of a segment, unless one record needs more.
        mark: What is stored where something ran.
    """

    mark = MARK

    def __init__(
        self,
        directory: str,
        context: str,
        container: "str | None",
        image: str,
        *,
        branch: bool,
        core: str = "",
    ) -> None:
        self._directory = directory
        self._context = context
        self._container = container_id() if container is None else container
        self.branch = branch
        self._core = core
        self._free: list[Segment] = []
        self._told: Segment | None = None
        self._metadata = b""
        self.heading = NO_HEADING
        self.largest_segment = _LARGEST_SEGMENT
        self._next_size = _FIRST_SEGMENT
        # Read now: later the application may have changed them, or the environment.
        self._facts = _lasting_facts(image)
        self._identify(forked_from="")
        self._free.append(self._new_segment(0))
        register_at_fork(after_in_child=self._after_fork)

    def add_lines(self, source: bytes, first: int, count: int) -> "Marks":
        """Make room to mark lines of a source file.

        Args:
            source: The file, as `recorder_sources.describe_source` describes it.
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
        """Write a record for a source file, with room for its content.

        Args:
            kind: The bytes that it begins with.
            source: The file, as `recorder_sources.describe_source` describes it.
            first: Its first line.
            count: How many bytes of content there is room for.
            more: What comes before the content.
            heading: The heading to use instead of the present one.
            after: How many bytes must be left after it.

        Returns:
            Its segment, and the position in that of the `count` bytes of content.
        """
        record = record_before(kind, source, first, count, more)
        return self.add(record, count, heading=heading, after=after)

    def add(
        self, record: bytes, count: int, *, heading: "bytes | None" = None, after: int = 0
    ) -> "tuple[Segment, int]":
        """Write a record that `record_before` has made, as `add_record` does."""
        if getpid() != self._pid:
            self._after_fork()  # A fork by compiled code that does not call Python's hooks.
        start = len(record)
        length = aligned(start + count)
        if heading is None:
            heading = self.heading
        segment = self._take_segment(length + len(heading) + after)
        try:
            if segment.heading is not heading:
                segment.append(heading, len(heading))
                segment.heading = heading
            return segment, segment.append(record, length) + start
        finally:
            self._free.append(segment)

    @staticmethod
    def heading_of(name: str) -> bytes:
        """Return the record that precedes the marks of a context."""
        text = name.encode("utf-8", "replace")
        length = aligned(_CONTEXT_FIXED + len(text))
        prefix = _CONTEXT_KIND + length.to_bytes(4, "little")
        facts = bytes(32) + len(text).to_bytes(8, "little") + text
        check = checksum(prefix + facts).to_bytes(4, "little")
        return (prefix + check + facts).ljust(length, b"\0")

    def length_of(self, source: bytes, more: bytes) -> int:
        """Return how many bytes of a record are before its content."""
        return _RECORD_FIXED + len(source) + len(more)

    def add_beside(self, segment: "Segment", record: bytes, count: int) -> "Marks | None":
        """Write a record that belongs to another one, into the same segment.

        Args:
            segment: That segment.
            record: The record, without its content.
            count: How many bytes of content there is room for.

        Returns:
            The marks; None if the segment has no room, or another thread or process has it.
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
        """Note for the reader that something was not recorded.

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

    def discard(self) -> None:
        """Remove what this process has written: the data is kept elsewhere."""
        for number in range(1, self._part + 1):
            try:
                unlink(self._path_of(number))
            except OSError:
                pass

    def _path_of(self, number: int) -> str:
        return "%s/%s.%d%s" % (self._directory, self._stem, number, SUFFIX)

    def _take_segment(self, length: int) -> "Segment":
        try:
            segment = self._free.pop()
        except IndexError:
            return self._new_segment(length)
        # If a signal handler forks while a segment is taken, the child gets the parent's.
        if segment.owner != self._pid or segment.room < length:
            return self._new_segment(length)
        return segment

    def _new_segment(self, length: int) -> "Segment":
        """Create a segment with room for `length` bytes, and for more if the disk has space."""
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
        flags = O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC
        while True:
            self._part += 1
            path = self._path_of(self._part)
            try:
                descriptor = open_file(path, flags, 0o644)
            except FileExistsError:
                continue  # Another thread counted at the same time.
            break
        try:
            return self._fill(descriptor, path, size)
        except OSError as error:
            tell = tell and self._told is None
            _seldom.discard(path, error.errno or 0, tell=tell)
            raise
        finally:
            close(descriptor)

    def _fill(self, descriptor: int, path: str, size: int) -> "Segment":
        try:
            # The report must be able to read it, whatever the application's umask or user.
            # Only if need be, since `fchmod` is audited.
            if fstat(descriptor).st_mode & _READABLE != _READABLE:
                fchmod(descriptor, 0o644)
        except OSError:
            pass
        _reserve(descriptor, size)
        memory = map_segment(descriptor, size)
        if memory is None:
            segment: Segment = _seldom.positioned_segment(path, size)
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


def _lasting_facts(image: str) -> bytes:
    """Return the facts that do not change, even after a fork."""
    facts = (
        ("python", sys.version.split(" ", 1)[0]),
        ("implementation", sys.implementation.cache_tag or ""),
        ("executable", sys.executable or ""),
        ("prefix", sys.prefix),
        ("base_prefix", sys.base_prefix),
        ("stdlib", os.__file__.rpartition("/")[0]),
        ("image", os.environ.get("HCOVERAGE_IMAGE", image)),
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


def container_id() -> str:
    """Return the id of this process's container, which Docker and Podman show in its mounts."""
    # Not by the engines' files: podman's is in /run, where a read-only container has a tmpfs.
    try:
        descriptor = open_file("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC)
        try:
            mounts = read(descriptor, 1 << 16)
        finally:
            close(descriptor)
    except OSError:
        return ""
    # Only mounts into /etc: on the engine's machine, mounts of its containers show, too.
    for mount in mounts.splitlines():
        if b" /etc/" in mount:
            # Podman's storage is also below a directory of that name.
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
        self._marks = view.cast("c")  # to store a byte is faster than to store a number
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
        """Write content, its first four bytes last: a reader that sees these sees the rest."""
        self._view[position + 4 : position + len(content)] = content[4:]
        self._view[position : position + 4] = content[:4]

    def marks(self, position: int, count: int) -> "Marks":
        """Return the marks of a record."""
        return self._marks[position : position + count]

    def note_loss(self, code: int) -> None:
        """Count one thing that was not recorded, in the header."""
        count = int.from_bytes(self._view[60:64], "little") + 1
        self._view[56:64] = code.to_bytes(4, "little") + count.to_bytes(4, "little")


def _reserve(descriptor: int, size: int) -> None:
    """Reserve disk space: a store into a mapping without it kills the application (SIGBUS).

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
                # Otherwise the first store into each page takes 5 us on ext4.
                _write_zeros(descriptor, size)
        except OSError as error:
            _seldom.reserve_otherwise(descriptor, size, error, _write_zeros)
    finally:
        pthread_sigmask(SIG_SETMASK, blocked)


def _write_zeros(descriptor: int, size: int) -> None:
    """Write this many zero bytes at the beginning of a file.

    Raises:
        OSError: There is no space, or it is more than RLIMIT_FSIZE allows.
    """
    written = 0
    while written < size:
        written += pwrite(descriptor, bytes(min(_PIECE, size - written)), written)


def map_segment(descriptor: int, size: int) -> "memoryview | None":
    """Map a file shared, or return None if that is not possible."""
    if map_file is None:
        return None
    try:
        if _HAS_TRACKFD:
            return memoryview(map_file(descriptor, size, trackfd=False))  # type: ignore[call-arg, unused-ignore]
        return memoryview(_map_above_standard_streams(descriptor, size))
    except (OSError, ValueError):
        # ENODEV and EINVAL on some network and VM file systems; ENOMEM under RLIMIT_AS.
        return None


def _map_above_standard_streams(descriptor: int, size: int) -> "Any":
    """Map a file on Python 3.12, which keeps a duplicate of the descriptor.

    In a process started without standard streams the duplicate would become one of them, and the
    application's output would overwrite the recording.
    """
    spare: list[int] = []
    try:
        while not spare or spare[-1] < _STANDARD_ERROR:
            spare.append(dup(descriptor))
        return map_file(descriptor, size)
    finally:
        for number in spare:
            close(number)
