"""The data directory: the one place that processes and containers write into.

It is world-writable, because a container may run as any user. So its files are untrusted, and
nothing that we execute or rely on is kept there.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hcoverage._atomic_write import write_atomically
from hcoverage._data_directory.move import UNFINISHED_PREFIX as _MOVING_PREFIX, move
from hcoverage._data_directory.names import (
    CONTEXT_SUFFIX,
    data_files,
    is_data_file_name,
    is_recording,
    recordings,
)
from hcoverage._data_directory.notes import notes
from hcoverage._errors import DataDirectoryBusyError
from hcoverage._untrusted.file import UntrustedDataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

RCFILE_NAME: Final = ".coveragerc"

_MODE: Final = 0o777
# A file that `_inside.autosave` was writing when its process was killed.
_UNFINISHED_PREFIX: Final = ".autosave."
_PREVIOUS: Final = "previous"
_RUN_PREFIX: Final = "run-"


def make(directory: Path) -> None:
    """Make the data directory, writable for every user.

    Args:
        directory: The data directory; it may exist already.

    Raises:
        OSError: Something else has its name, or it cannot be made or opened to other users.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if stat.S_IMODE(directory.stat().st_mode) != _MODE:
            directory.chmod(_MODE)
    except OSError as error:
        raise type(error)(
            error.errno,
            f"cannot use {directory} as data directory ({error.strerror}): "
            "remove what is in its place, make it writable for you, or name another",
        ) from error


def put_rcfile(directory: Path, text: str) -> None:
    """Put the rcfile where containers find it, as `.coveragerc` in the data directory.

    Raises:
        OSError: It cannot be written.
    """
    write_atomically(directory / RCFILE_NAME, text)


def is_locked(directory: Path) -> bool:
    """Return whether a run uses a directory, such as the data directory, or may use it.

    Args:
        directory: The directory; a run that uses it has locked it (`locked`).
    """
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True  # also without locks: a directory that may be in use is left alone
    finally:
        os.close(descriptor)
    return False


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Keep a second run out of the data directory for the length of a `with` block.

    Raises:
        DataDirectoryBusyError: Another run uses it.
    """
    # Lock the directory itself: any container could remove a lock file in it.
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise DataDirectoryBusyError(
                f"another run is measuring into {directory}: wait for it, or name another directory"
            ) from error
        yield
    finally:
        os.close(descriptor)


def set_previous_aside(directory: Path) -> Path | None:
    """Move an earlier run's data files out of the way, since they are not this run's result.

    Returns:
        The directory where they are now, or None if there were none.

    Raises:
        OSError: They cannot be moved.
    """
    files = left_in(directory)
    for note in notes(directory):
        note.unlink(missing_ok=True)
    if not files:
        return None
    aside = _make_aside(directory)
    for file in files:
        file.rename(aside / file.name)
    return aside


def keep(files: Iterable[Path], place: Path) -> dict[Path, Path]:
    """Move unmerged files from a data directory that will be removed to one that stays.

    Files that cannot be moved stay, such as those that only a container's root may read.

    Args:
        files: The files to move.
        place: The other data directory; it is made only if needed.

    Returns:
        The new path of each moved file, by its old path.
    """
    moved: dict[Path, Path] = {}
    # Another run uses it, and would merge these files.
    is_others = is_locked(place)
    aside = None
    for file in files:
        with contextlib.suppress(OSError, UntrustedDataError):
            make(place)
            if is_others:
                aside = aside or _make_aside(place)
            is_taken = os.path.lexists(place / file.name)
            target = (aside or (_make_aside(place) if is_taken else place)) / file.name
            move(file, target)
            moved[file] = target
    return moved


def is_only_left_over(directory: Path) -> bool:
    """Return whether a data directory holds only what runs left, nothing that a user put there."""
    try:
        names = os.listdir(directory)  # noqa: PTH208
    except OSError:
        return False
    return bool(names) and all(
        name == _PREVIOUS or is_data_file_name(name) or is_recording(Path(name)) for name in names
    )


def left_in(directory: Path) -> list[Path]:
    """List the data files and recordings in a directory."""
    return [*data_files(directory), *recordings(directory)]


def set_aside_before(directory: Path) -> list[Path]:
    """List the directories with files that `set_previous_aside` moved, the oldest first."""
    parent = directory / _PREVIOUS
    if not parent.is_dir() or parent.is_symlink():
        return []
    return sorted(parent.iterdir(), key=lambda run: run.lstat().st_mtime)


def discard(directory: Path) -> None:
    """Remove the data directory, unless it holds more than what we and the hook wrote."""
    with contextlib.suppress(FileNotFoundError):  # a measured program may have removed it
        (directory / RCFILE_NAME).unlink(missing_ok=True)
        clear(directory)
    with contextlib.suppress(OSError):
        # Fails while anything is left, even a file that a container wrote just now.
        directory.rmdir()


def clear(directory: Path) -> None:
    """Remove what we and the hook wrote, except data and the rcfile."""
    for note in notes(directory):
        note.unlink(missing_ok=True)
    unfinished = (f"{_UNFINISHED_PREFIX}*", f"{_MOVING_PREFIX}*")
    for pattern in (*unfinished, f"*{CONTEXT_SUFFIX}"):
        for part in directory.glob(pattern):
            part.unlink(missing_ok=True)
    for emptied in (*set_aside_before(directory), directory / _PREVIOUS):
        with contextlib.suppress(OSError):
            emptied.rmdir()


def _make_aside(directory: Path) -> Path:
    parent = directory / _PREVIOUS
    if parent.is_symlink():  # a container made it, to redirect our files
        parent.unlink()
    parent.mkdir(exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=parent, prefix=_RUN_PREFIX))
    # As open as the old directory: its files must not be trusted more than before.
    make(aside)
    return aside
