"""What the recorder does where things are not as they mostly are.

No shared mappings, no disk space, no file of a source, an error in the middle. No process but these
has to load it: that takes as long as all else that starting to record does. Loaded by
``_recorder``, from beside it and under its name, so that it can be copied with it. Like the
recorder it is a guest: no lock, no output, and no exception of its own reaches the application.
"""

import _signal  # type: ignore[import-not-found]  # `signal` itself imports `enum` and more.
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any, Final

    from hcoverage._recorder import Marks

_STANDARD_ERROR: "Final" = 2
_IMPORT_FILES: "Final" = ("<frozen importlib._bootstrap>", "<frozen importlib._bootstrap_external>")


def raise_unless_from(files: "set[str]", error: BaseException) -> None:
    """Raise an error again that did not come from what we did.

    A signal handler of the application can run while our code does, and raise: a `TimeoutError`
    from SIGALRM is an `OSError` too.

    Args:
        files: Those of our code.
        error: The error.
    """
    files = {*files, *_IMPORT_FILES}
    files |= {function.__code__.co_filename for function in (os.fsencode, os.path.join)}
    traceback = error.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename not in files:
            raise error
        traceback = traceback.tb_next


def reserve_otherwise(
    descriptor: int,
    size: int,
    error: "AttributeError | OSError",
    write_zeros: "Callable[[int, int], None]",
) -> None:
    """Take disk space where `posix_fallocate` could not, with SIGXFSZ blocked.

    Args:
        descriptor: Of the file.
        size: How much of it.
        error: What `posix_fallocate` raised.
        write_zeros: Writes so many bytes into a file.

    Raises:
        OSError: There is no space, or it is more than RLIMIT_FSIZE allows.
    """
    import errno

    # macOS has no `posix_fallocate`, and musl no emulation for file systems that cannot reserve.
    if isinstance(error, OSError) and error.errno not in (
        errno.EINVAL,
        errno.ENOSYS,
        errno.EOPNOTSUPP,
    ):
        _take_size_signal(error)
        raise error
    try:
        write_zeros(descriptor, size)
    except OSError as refusal:
        _take_size_signal(refusal)
        raise


def _take_size_signal(error: OSError) -> None:
    """Take SIGXFSZ away again, which is waiting where RLIMIT_FSIZE did not allow a size."""
    import errno

    if error.errno == errno.EFBIG and hasattr(_signal, "sigtimedwait"):
        _signal.sigtimedwait((_signal.SIGXFSZ,), 0)


def discard(path: str, code: int, *, tell: bool) -> None:
    """Take an unusable segment away, or leave its name where no other file tells the loss."""
    try:
        if tell:
            os.rename(path, "%s.lost-%d" % (path, code))
        else:
            os.unlink(path)
    except OSError:
        pass


def map_above_standard_streams(mmap: "ModuleType", descriptor: int, size: int) -> "Any":
    """Map a file where Python 3.12 keeps a duplicate of its descriptor.

    In a process started without standard streams the duplicate would become one of them, and what
    the application prints would be written over the recording.
    """
    spare: list[int] = []
    try:
        while not spare or spare[-1] < _STANDARD_ERROR:
            spare.append(os.dup(descriptor))
        return mmap.mmap(descriptor, size)
    finally:
        for number in spare:
            os.close(number)


class PositionedSegment:
    """A segment where the file system has no shared mappings: each store is a write.

    The file is opened for each write, which is slow but right: a descriptor kept open may be closed
    by the application, and its number then be that of one of the application's own files.
    """

    __slots__ = ("_lost", "_path", "_position", "owner", "room")

    def __init__(self, path: str, size: int) -> None:
        self._path = path
        self._position = 0
        self._lost = 0
        self.owner = os.getpid()
        self.room = size

    def append(self, content: bytes, length: int) -> int:
        """Add a record and return where it is."""
        position = self._position
        self.put(position, content)
        self._position += length
        self.room -= length
        return position

    def put(self, position: int, content: bytes) -> None:
        """Write something, its first four bytes last."""
        _write_at(self._path, position + 4, content[4:])
        _write_at(self._path, position, content[:4])

    def marks(self, position: int, count: int) -> "Marks":
        """The bytes of the lines of a record."""
        return PositionedMarks(self, self._path, position, count)

    def note_loss(self, code: int) -> None:
        """Count one thing that was not recorded, in the header."""
        self._lost += 1
        _write_at(self._path, 56, code.to_bytes(4, "little") + self._lost.to_bytes(4, "little"))


class PositionedMarks:
    """What a `memoryview` of marks is in a mapped segment."""

    __slots__ = ("_count", "_path", "_position", "_segment")

    def __init__(self, segment: "PositionedSegment", path: str, position: int, count: int) -> None:
        self._segment = segment
        self._path = path
        self._position = position
        self._count = count

    def __setitem__(self, index: int, value: bytes) -> None:
        """Store one mark.

        Raises:
            IndexError: There is no room for this line here.
        """
        if index >= self._count:
            raise IndexError
        try:
            _write_at(self._path, self._position + index, value)
        except OSError as error:
            try:
                self._segment.note_loss(error.errno or 0)
            except OSError:
                pass


def _write_at(path: str, position: int, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.pwrite(descriptor, content, position)
    finally:
        os.close(descriptor)
