"""The recorder's part for rare conditions: no shared mappings, no disk space.

``recorder`` loads it at its start, from beside itself and under its own name, so that both can be
copied together. Like the recorder it is a guest: it takes no lock, prints nothing, and lets no
exception of its own reach the application.
"""

from _signal import SIGXFSZ  # type: ignore[import-not-found]  # `signal` imports `enum` and more.
from posix import (
    O_CLOEXEC,
    O_NOFOLLOW,
    O_WRONLY,
    close,
    getpid,
    open as open_file,
    pwrite,
    rename,
    unlink,
)

try:
    from _signal import sigtimedwait
except ImportError:  # macOS
    sigtimedwait = None

# Functions look builtins up in this copy, which stays as it is when the application replaces some.
if "__hcoverage__" not in __builtins__:  # type: ignore[operator, used-before-def]
    __builtins__ = {**__builtins__, "__hcoverage__": True}  # type: ignore[assignment, dict-item]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final

    from hcoverage._inside.recorder_writer import Marks

# EINVAL, ENOSYS, EOPNOTSUPP on Linux, and on macOS, where the last is ENOTSUP's; and EPERM and
# EACCES, as sandboxes answer a system call that they do not know.
_NOT_SUPPORTED: "Final" = (22, 38, 95, 45, 78, 102, 1, 13)
_TOO_LARGE: "Final" = 27  # EFBIG

# Names of the recorder, which this cannot import.
is_ours: "Callable[[BaseException], bool]"


def bind(ours: "Callable[[BaseException], bool]", _part: "Any") -> None:
    """Take the recorder's names; see `recorder.part`."""
    global is_ours  # noqa: PLW0603 - once, as it is loaded
    is_ours = ours


def reserve_otherwise(
    descriptor: int,
    size: int,
    error: OSError,
    write_zeros: "Callable[[int, int], None]",
) -> None:
    """Reserve disk space if `posix_fallocate` could not; SIGXFSZ is blocked.

    Args:
        descriptor: The file's descriptor.
        size: How many bytes to reserve.
        error: The error of `posix_fallocate`, or that it is missing.
        write_zeros: Writes that many zero bytes into the file.

    Raises:
        OSError: There is no space, or it is more than RLIMIT_FSIZE allows.
    """
    # macOS has no `posix_fallocate`, and musl no emulation for file systems that cannot reserve.
    if error.errno not in _NOT_SUPPORTED:
        _take_size_signal(error)
        raise error
    try:
        write_zeros(descriptor, size)
    except OSError as refusal:
        _take_size_signal(refusal)
        raise


def _take_size_signal(error: OSError) -> None:
    """Remove a pending SIGXFSZ, which the kernel sends if RLIMIT_FSIZE forbids a size."""
    if error.errno == _TOO_LARGE and sigtimedwait is not None:
        sigtimedwait((SIGXFSZ,), 0)


def discard(path: str, code: int, *, tell: bool) -> None:
    """Remove an unusable segment, or leave it empty if no other file tells of the loss."""
    try:
        if tell:
            rename(path, "%s.lost-%d" % (path, code))
        else:
            unlink(path)
    except OSError:
        pass


_classes: "list[Any]" = []


def positioned_segment(path: str, size: int) -> "Any":
    """Return a segment for file systems without shared mappings: each store is a write.

    Args:
        path: The file.
        size: Its size.
    """
    # Classes take longer to create than all the rest takes to load.
    if not _classes:
        _classes.append(_make_class())
    return _classes[0](path, size)


def _make_class() -> "Any":  # noqa: C901 - two classes
    class PositionedSegment:
        """A segment for file systems without shared mappings: each store is a write.

        The file is opened for each write, which is slow but safe: the application may close a
        descriptor that stays open, and then use its number for a file of its own.
        """

        __slots__ = ("_lost", "_path", "_position", "heading", "owner", "room")

        def __init__(self, path: str, size: int) -> None:
            self._path = path
            self._position = 0
            self._lost = 0
            self.heading = b""
            self.owner = getpid()
            self.room = size

        def append(self, content: bytes, length: int) -> int:
            """Add a record and return where it is."""
            position = self._position
            self.put(position, content)
            self._position += length
            self.room -= length
            return position

        def put(self, position: int, content: bytes) -> None:
            """Write content, its first four bytes last."""
            _write_at(self._path, position + 4, content[4:])
            _write_at(self._path, position, content[:4])

        def marks(self, position: int, count: int) -> "Marks":
            """Return the marks of a record."""
            return PositionedMarks(self, self._path, position, count)

        def note_loss(self, code: int) -> None:
            """Count one thing that was not recorded, in the header."""
            self._lost += 1
            _write_at(self._path, 56, code.to_bytes(4, "little") + self._lost.to_bytes(4, "little"))

    class PositionedMarks:
        """Replaces the `memoryview` of marks in a mapped segment."""

        __slots__ = ("_count", "_path", "_position", "_segment")

        def __init__(
            self, segment: "PositionedSegment", path: str, position: int, count: int
        ) -> None:
            self._segment = segment
            self._path = path
            self._position = position
            self._count = count

        def __setitem__(self, index: int, value: bytes) -> None:
            """Store one mark.

            Raises:
                IndexError: This line has no room here.
            """
            if index >= self._count:
                raise IndexError
            try:
                _write_at(self._path, self._position + index, value)
            except OSError as error:
                if not is_ours(error):
                    raise
                try:
                    self._segment.note_loss(error.errno or 0)
                except OSError as other:
                    if not is_ours(other):
                        raise

    return PositionedSegment


def _write_at(path: str, position: int, content: bytes) -> None:
    descriptor = open_file(path, O_WRONLY | O_NOFOLLOW | O_CLOEXEC)
    try:
        pwrite(descriptor, content, position)
    finally:
        close(descriptor)
