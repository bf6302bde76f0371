"""A session's own directory, outside the project: its startup files and, by default, its data.

So nothing of a run is in the project while its command runs, which may build an image of all that
is there. What is left after the merge is moved into the project (`_data_directory`,
`_data_directory.move`). What a killed session leaves stays where it is: a note in it names its
project, whose next run tells.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hcoverage._atomic_write import write_atomically
from hcoverage._data_directory import directory as _data_directory
from hcoverage._untrusted.file import UntrustedDataError, read_regular

if TYPE_CHECKING:
    from collections.abc import Iterator

_PREFIX: Final = "hcov-"
_DATA: Final = "data"
_NOTE: Final = "project"
_LONGEST_NOTE: Final = 65_536  # bytes
# What others may use longer than the session is there; the marks in it say that they do.
LASTING: Final = "lasting"
IN_USE: Final = "in-use"


@contextlib.contextmanager
def opened(project: Path) -> Iterator[Path]:
    """Have a session's own directory for the length of a `with` block.

    Afterwards it is gone, unless there is data in it that could be moved nowhere.

    Args:
        project: The directory that the session is for.

    Raises:
        OSError: It cannot be made.
    """
    directory = Path(tempfile.mkdtemp(prefix=_PREFIX))
    # Processes that drop their privileges read what is in it too.
    directory.chmod(0o755)
    lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        # Last: without it nobody looks at the directory.
        write_atomically(directory / _NOTE, os.path.realpath(project))
        yield directory
    finally:
        _remove(directory)
        os.close(lock)


def make_data_directory(private: Path) -> Path:
    """Make a data directory in a session's own directory."""
    directory = private / _DATA
    _data_directory.make(directory)
    return directory


def data_of_running_sessions(project: Path) -> list[Path]:
    """List the data directories outside a project of sessions that are measuring it now."""
    found = [each / _DATA for each in _of(project) if _data_directory.is_locked(each)]
    return [data for data in found if data.is_dir()]


def data_of_killed_sessions(project: Path) -> list[Path]:
    """List the data directories outside a project that hold what was never merged, oldest first.

    Their sessions were killed, or could not move it into the project.
    """
    ended = [each / _DATA for each in _of(project) if not _data_directory.is_locked(each)]
    left: dict[Path, float] = {}
    for data in ended:
        with contextlib.suppress(OSError):  # another run has tidied up meanwhile
            if _data_directory.left_in(data):
                left[data] = data.lstat().st_mtime
    return sorted(left, key=left.__getitem__)


def tidy_up(project: Path) -> None:
    """Remove what killed sessions of a project left, but for data."""
    for directory in _of(project):
        if not _data_directory.is_locked(directory):
            _remove(directory)


def _of(project: Path) -> list[Path]:
    """List the directories that sessions of a project have, or had when they were killed."""
    wanted = os.path.realpath(project)
    found = Path(tempfile.gettempdir()).glob(f"{_PREFIX}*")
    return [directory for directory in found if _is_ours(directory) and _note(directory) == wanted]


def _is_ours(directory: Path) -> bool:
    """Tell whether only we can have written what is in a directory: others make some here too."""
    try:
        status = directory.lstat()
    except OSError:
        return False
    is_open = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not is_open


def _note(directory: Path) -> str:
    try:
        return os.fsdecode(read_regular(directory / _NOTE, _LONGEST_NOTE)[0])
    except (OSError, UntrustedDataError):
        return ""


def _remove(directory: Path) -> None:
    """Remove a session's own directory, but for data that is still in it, and what others use."""
    with contextlib.suppress(OSError):
        _data_directory.discard(directory / _DATA)
    stays = {_DATA, _NOTE} if (directory / _DATA).is_dir() else set()
    if any((directory / LASTING).glob(f"{IN_USE}*")):
        stays.add(LASTING)
    if not stays:
        shutil.rmtree(directory, ignore_errors=True)
        return
    with contextlib.suppress(OSError):  # another run tidies up, too
        for entry in list(directory.iterdir()):
            if entry.name in stays:
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)
