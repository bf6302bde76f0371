"""A session's own directory, outside the project: its startup files and, by default, its data.

It keeps the run's files out of the project while the command runs, which may build an image of the
whole project. Data left after the merge is moved into the project (`_data_directory`,
`_data_directory.move`). The directory of a killed session stays where it is: a note in it names the
project, whose next run reports it.
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
# Holds what others may use after the session has ended; marks in it say who does.
LASTING: Final = "lasting"
IN_USE: Final = "in-use"


@contextlib.contextmanager
def opened(project: Path) -> Iterator[Path]:
    """Make a session's own directory for the length of a `with` block.

    Afterwards it is removed, unless it holds data that could not be moved anywhere.

    Args:
        project: The directory that the session is for.

    Raises:
        OSError: The directory cannot be made.
    """
    directory = Path(tempfile.mkdtemp(prefix=_PREFIX))
    # Processes that have dropped their privileges must read it, too.
    directory.chmod(0o755)
    lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        # Written last: without the note nobody looks at the directory.
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
    """List the data directories, outside a project, of the sessions that measure it now."""
    found = [each / _DATA for each in _of(project) if _data_directory.is_locked(each)]
    return [data for data in found if data.is_dir()]


def data_of_killed_sessions(project: Path) -> list[Path]:
    """List the data directories outside a project that hold unmerged data, oldest first.

    Their sessions were killed, or could not move the data into the project.
    """
    return _with_data(_killed(project))


def tidied_up(project: Path) -> list[Path]:
    """Remove what killed sessions of a project left, except data; return where that is."""
    killed = _killed(project)
    for directory in killed:
        _remove(directory)
    return _with_data(killed)


def _killed(project: Path) -> list[Path]:
    return [each for each in _of(project) if not _data_directory.is_locked(each)]


def _with_data(directories: list[Path]) -> list[Path]:
    left: dict[Path, float] = {}
    for data in (each / _DATA for each in directories):
        with contextlib.suppress(OSError):  # another run has tidied up meanwhile
            if _data_directory.left_in(data):
                left[data] = data.lstat().st_mtime
    return sorted(left, key=left.__getitem__)


def _of(project: Path) -> list[Path]:
    """List the directories of a project's sessions, running or killed."""
    wanted = os.path.realpath(project)
    place = Path(tempfile.gettempdir())
    names: list[str] = []
    with contextlib.suppress(PermissionError):  # some let everybody write there, and nobody look
        names = os.listdir(place)  # noqa: PTH208 - large
    found = [place / name for name in names if name.startswith(_PREFIX)]
    return [directory for directory in found if _is_ours(directory) and _note(directory) == wanted]


def _is_ours(directory: Path) -> bool:
    """Return whether only we can have written into a directory; other users make some here, too."""
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
    """Remove a session's own directory, except data that is left and files that others use."""
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
