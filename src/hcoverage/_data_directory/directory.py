"""The data directory: the one place that processes and containers write into.

World-writable, because a container's user is nobody in particular; so what lies in it is untrusted,
and nothing that we execute or believe is kept there.
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
from hcoverage._data_directory.move import move
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
# What `_inside.autosave` was writing when its process was killed.
_UNFINISHED_PREFIX: Final = ".autosave."
_PREVIOUS: Final = "previous"
_RUN_PREFIX: Final = "run-"


def make(directory: Path) -> None:
    """Make the data directory, so that any user may write into it.

    Args:
        directory: The data directory; it may be there already.

    Raises:
        OSError: Something else has its place, or it cannot be made or opened up to others.
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
    """Return whether a run has a directory, such as the data directory, or may have it.

    Args:
        directory: The directory; whoever has it has locked it (`locked`).
    """
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True  # also where there are no locks: what may be somebody's is left alone
    finally:
        os.close(descriptor)
    return False


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Keep a second run out of the data directory for the length of a `with` block.

    Raises:
        DataDirectoryBusyError: Another run has it.
    """
    # The directory itself is locked: a lock file in it could be removed by any container.
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
    """Move what an earlier run left out of the way: it is not this run's result.

    Returns:
        Where they are now, or None where there were none.

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
    """Move what was not merged from a data directory that will be removed to one that stays.

    What cannot be moved, as what a container's root wrote for nobody else to read, stays.

    Args:
        files: What is to be moved.
        place: The other data directory; it is made only if it is needed.

    Returns:
        Where each was, and where it is now.
    """
    moved: dict[Path, Path] = {}
    # Another run's, which would merge what lies in it.
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
    """Return whether a data directory holds what runs left, and nothing that somebody put there."""
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
    """List where `set_previous_aside` put things that are still there, the oldest first."""
    parent = directory / _PREVIOUS
    if not parent.is_dir() or parent.is_symlink():
        return []
    return sorted(parent.iterdir(), key=lambda run: run.lstat().st_mtime)


def discard(directory: Path) -> None:
    """Remove the data directory if nothing is left in it but what we and the hook wrote."""
    with contextlib.suppress(FileNotFoundError):  # what is measured may have removed it
        (directory / RCFILE_NAME).unlink(missing_ok=True)
        clear(directory)
    with contextlib.suppress(OSError):
        # Refused while anything is left, also what a container wrote a moment ago.
        directory.rmdir()


def clear(directory: Path) -> None:
    """Remove what we and the hook wrote beside data, but for the rcfile."""
    for note in notes(directory):
        note.unlink(missing_ok=True)
    for pattern in (f"{_UNFINISHED_PREFIX}*", f"*{CONTEXT_SUFFIX}"):
        for part in directory.glob(pattern):
            part.unlink(missing_ok=True)
    for emptied in (*set_aside_before(directory), directory / _PREVIOUS):
        with contextlib.suppress(OSError):
            emptied.rmdir()


def _make_aside(directory: Path) -> Path:
    parent = directory / _PREVIOUS
    if parent.is_symlink():  # a container's, to have things put elsewhere
        parent.unlink()
    parent.mkdir(exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=parent, prefix=_RUN_PREFIX))
    # As open as where it comes from: what is in it may not be believed more than before.
    make(aside)
    return aside
