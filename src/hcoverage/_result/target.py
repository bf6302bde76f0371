"""Puts a merged data file in place and removes its input, so that nothing is lost in between.

A process that combines into a data file holds the lock file beside it. Before it removes any input,
it notes in the lock file which file the result is. So if it is killed, or another process waits
meanwhile, the next process knows that the data file in place holds the only copy of some data, and
keeps it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from hcoverage._data_directory.move import move
from hcoverage._data_directory.names import name_among_others
from hcoverage._untrusted.file import stamp

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_LOCK_NAME: Final = ".hcov-lock{}"
_WORKSHOP_PREFIX: Final = ".hcov-combine{}."
_RANDOM_LETTERS: Final = 8  # at the end of a name that `tempfile` makes
_LONGEST_NOTE: Final = 4096
# Errors of file systems without locks. There all works except two combines at the same time.
_NO_LOCKS: Final = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)


class Target(NamedTuple):
    """A data file that is to be written, locked against all others who combine.

    Attributes:
        path: The data file.
        workshop: An empty private directory on the same file system.
        must_keep: Whether the data file in place holds the only copy of some data: another
            combine, killed or at work as this one began, has removed its input.
        lock: The descriptor of the locked file, which keeps notes.
    """

    path: Path
    workshop: Path
    must_keep: bool
    lock: int

    @property
    def result(self) -> Path:
        """Where to write the merged data file."""
        return self.workshop / ".coverage"

    def put_in_place(self) -> None:
        """Replace the data file by the result, durably.

        Raises:
            OSError: It could not be replaced; the old data file is still there.
        """
        _sync(self.result)
        # Keep the note on the present file: until replaced, it may have the only copy of data.
        noted = os.fstat(self.lock).st_size
        _add_note(self.lock, _identity(self.result))
        _sync(self.path.parent)
        try:
            self.result.replace(self.path)
        except OSError:
            os.ftruncate(self.lock, noted)
            raise
        _sync(self.path.parent)

    def remove(self, files: Iterable[Path], hand_on: Path | None = None) -> None:
        """Remove merged input, or move it to another data directory; only after `put_in_place`."""
        for file in files:
            if file == self.path:
                continue
            with contextlib.suppress(FileNotFoundError):
                if hand_on is None:
                    file.unlink()
                else:
                    move(file, hand_on / name_among_others(file.name))


def lock_of(path: Path) -> Path:
    """Return the path of the lock file, which exists while a process combines into a data file."""
    return path.parent / _LOCK_NAME.format(path.name)


def require_place(path: Path) -> None:
    """Check, before the long work, that the result can be written; leave no trace.

    Args:
        path: The future data file, absolute.

    Raises:
        OSError: It cannot be written.
    """
    missing = [directory for directory in path.parents if not os.path.lexists(directory)]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
        if path.is_dir() and not path.is_symlink():
            path.open("r+b").close()  # fails if replacing it would
    except OSError as error:
        raise type(error)(
            error.errno,
            f"cannot write the result, {path} ({error.strerror}): make its directory writable for "
            "you, or name another with `data_file` in the rcfile",
        ) from error
    finally:
        for directory in missing:
            with contextlib.suppress(OSError):
                directory.rmdir()


@contextlib.contextmanager
def held(path: Path) -> Iterator[Target]:
    """Lock a data file for the length of a `with` block, after waiting for earlier holders.

    Args:
        path: The data file, absolute; neither it nor its directory needs to exist.

    Raises:
        OSError: Its directory cannot be made or written to.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock_file = lock_of(path)
    prefix = _WORKSHOP_PREFIX.format(path.name)
    before = _identity(path)
    lock, has_waited = _lock(lock_file)
    try:
        now = _identity(path)
        # Two combines at once must give the same as one after the other: this one does not replace
        # what the other has written since this one began.
        is_others = has_waited and now != before
        is_only_one = is_others or now in _notes(lock)
        _remove_stale(path.parent, prefix)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=prefix) as directory:
            yield Target(path, Path(directory), bool(now) and is_only_one, lock)
        # Only now: a process that is killed before this leaves the note.
        lock_file.unlink(missing_ok=True)
    except BaseException:
        if not _notes(lock):
            lock_file.unlink(missing_ok=True)
        raise
    finally:
        os.close(lock)


def _lock(file: Path) -> tuple[int, bool]:
    """Lock a file; return its descriptor, and whether another process held the lock."""
    has_waited = False
    while True:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(file, flags, 0o600)
        try:
            has_waited = _wait(descriptor) or has_waited
            # The previous holder removes the file at its end; then this is another file.
            if _same_file(descriptor, file):
                return descriptor, has_waited
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _wait(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        return True
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    return False


def _same_file(descriptor: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), file.lstat())
    except FileNotFoundError:
        return False


def _identity(path: Path) -> str:
    """Return the identity of the file at a path; an empty string if there is none."""
    try:
        return " ".join(map(str, stamp(path.lstat())))
    except FileNotFoundError:
        return ""


def _notes(lock: int) -> list[str]:
    return os.pread(lock, _LONGEST_NOTE, 0).decode("ascii", "replace").splitlines()


def _add_note(lock: int, note: str) -> None:
    os.pwrite(lock, f"{note}\n".encode("ascii"), os.fstat(lock).st_size)
    os.fsync(lock)


def _remove_stale(directory: Path, prefix: str) -> None:
    """Remove what killed processes left; nobody else is at work, since we hold the lock."""
    for entry in directory.iterdir():
        if entry.name.startswith(prefix) and len(entry.name) == len(prefix) + _RANDOM_LETTERS:
            shutil.rmtree(entry, ignore_errors=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
