"""Finds what a run in the current directory would find: rcfile, data directory, disk space.

It only looks; `check_project` draws the conclusions.
"""

from __future__ import annotations

import dataclasses
import fcntl
import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hcoverage._data_directory import directory as _data_directory
from hcoverage._data_directory.names import data_files
from hcoverage._data_directory.notes import problems
from hcoverage._errors import RcfileError
from hcoverage._result.target import lock_of
from hcoverage._session import private_directory
from hcoverage._session.core import CoreChoice, CoreError, choose_core
from hcoverage._settings.environment import DEFAULT_DATA_DIR, VARIABLES
from hcoverage._settings.rcfile import Rcfile, read_rcfile

if TYPE_CHECKING:
    from collections.abc import Mapping

TEMPORARY: Final = "temporary"


@dataclasses.dataclass(frozen=True)
class RcfileFacts:
    """The rcfile, or why it cannot be used.

    Attributes:
        path: Its path; None if there is no rcfile, and the defaults are used.
        rcfile: The rcfile, or the defaults; None if it cannot be read.
        error: Why it cannot be read.
        choice: The core of a run with it.
        core_error: Why no core can be chosen.
        missing_sources: Entries of `source` that are no directory here.
    """

    path: Path | None
    rcfile: Rcfile | None = None
    error: Exception | None = None
    choice: CoreChoice | None = None
    core_error: Exception | None = None
    missing_sources: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class DataDirectoryFacts:
    """The data directory as it is between runs.

    Attributes:
        path: Its path, whether it exists or not.
        is_outside: Whether a run uses a directory of its own instead, outside the project.
        exists: Whether anything is there.
        is_directory: Whether that is a directory.
        mode: Its permissions.
        is_ours: Whether we may change them.
        is_locked: Whether a run is measuring into it.
        rcfile_mode: The permissions of the rcfile in it; None if there is none.
        left: How many files of an earlier run are in it.
        set_aside: Directories with more data of earlier runs.
        problems: Notes of processes that could not be measured in an earlier run.
    """

    path: Path
    is_outside: bool = False
    exists: bool = False
    is_directory: bool = False
    mode: int = 0
    is_ours: bool = True
    is_locked: bool = False
    rcfile_mode: int | None = None
    left: int = 0
    set_aside: tuple[Path, ...] = ()
    problems: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Room:
    """A place that runs write to.

    Attributes:
        path: The directory.
        purpose: Its purpose.
        free: How many bytes we may still use.
        is_writable: Whether we can write there.
    """

    path: Path
    purpose: str
    free: int
    is_writable: bool


@dataclasses.dataclass(frozen=True)
class Project:
    """The facts that a run in a directory would find.

    Attributes:
        directory: The directory.
        rcfile: The rcfile.
        data_directory: The data directory.
        rooms: The places that a run writes to.
        stray: Data files beside the merged one.
        interrupted_merge: The lock file of a merge that was killed; None where there is none.
        variables: Variables that are set already and decide what is measured.
        is_in_run: Whether this process is part of a run.
    """

    directory: Path
    rcfile: RcfileFacts
    data_directory: DataDirectoryFacts
    rooms: tuple[Room, ...] = ()
    stray: int = 0
    interrupted_merge: Path | None = None
    variables: tuple[str, ...] = ()
    is_in_run: bool = False


def look_at_project(
    coveragerc: str | os.PathLike[str] | None,
    data_dir: str | os.PathLike[str] | None,
    core: str | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Project:
    """Look at what a run in the current directory would find.

    Args:
        coveragerc: The rcfile; by default the one that coverage.py finds here.
        data_dir: The data directory; by default the one that a run would choose.
        core: The requested core.
        environment: The environment.
    """
    here = Path.cwd()
    rcfile = _look_at_rcfile(here, coveragerc, core)
    directory = here / (data_dir or DEFAULT_DATA_DIR)
    facts = _look_at_data_directory(directory)
    if data_dir is None:
        facts = _as_a_run_chooses(facts, here)
    data_file = here / (rcfile.rcfile.settings.data_file if rcfile.rcfile else ".coverage")
    session = environment.get("HCOVERAGE_SESSION")
    lock = lock_of(data_file)
    return Project(
        directory=here,
        rcfile=rcfile,
        data_directory=facts,
        rooms=(
            *([] if facts.is_outside else [_room(directory, "data")]),
            _room(data_file.parent, "result"),
            _room(Path(tempfile.gettempdir()), TEMPORARY),
        ),
        stray=len(data_files(here)),
        interrupted_merge=lock if lock.exists() and not _is_locked(lock) else None,
        variables=tuple(name for name in VARIABLES if environment.get(name)),
        is_in_run=bool(session) and Path(session or "").is_dir(),
    )


def _look_at_rcfile(
    here: Path, coveragerc: str | os.PathLike[str] | None, core: str | None
) -> RcfileFacts:
    path = None
    try:
        path = Path(coveragerc) if coveragerc is not None else None
        rcfile = read_rcfile(path)
        path = rcfile.path
    except ImportError:
        return RcfileFacts(path)  # without coverage.py, which the interpreter's check reports
    except (OSError, RcfileError) as error:
        return RcfileFacts(path, error=error)
    sources = (*(rcfile.settings.source or ()), *(rcfile.settings.source_dirs or ()))
    missing = tuple(name for name in sources if not (here / name).is_dir())
    try:
        choice = choose_core(rcfile, core)
    except CoreError as error:
        return RcfileFacts(path, rcfile, core_error=error, missing_sources=missing)
    return RcfileFacts(path, rcfile, choice=choice, missing_sources=missing)


def _look_at_data_directory(path: Path) -> DataDirectoryFacts:
    try:
        status = path.lstat() if not path.exists() else path.stat()
    except OSError:
        return DataDirectoryFacts(path)
    mode = stat.S_IMODE(status.st_mode)
    is_ours = os.geteuid() in (0, status.st_uid)
    facts = DataDirectoryFacts(path, exists=True, mode=mode, is_ours=is_ours)
    if not stat.S_ISDIR(status.st_mode):
        return facts
    facts = dataclasses.replace(facts, is_directory=True)
    if not os.access(path, os.R_OK | os.X_OK):
        return facts
    rcfile = path / _data_directory.RCFILE_NAME
    return dataclasses.replace(
        facts,
        is_locked=_is_locked(path),
        rcfile_mode=stat.S_IMODE(rcfile.stat().st_mode) if rcfile.is_file() else None,
        left=len(_data_directory.left_in(path)),
        set_aside=tuple(_data_directory.set_aside_before(path)),
        problems=tuple(problems(path)),
    )


def _as_a_run_chooses(facts: DataDirectoryFacts, here: Path) -> DataDirectoryFacts:
    """Return the data directory that a run chooses if none is given, see `_session`."""
    killed = private_directory.data_of_killed_sessions(here)
    is_left_over = facts.is_directory and _data_directory.is_only_left_over(facts.path)
    return dataclasses.replace(
        facts,
        is_outside=not facts.exists or is_left_over,
        set_aside=(*facts.set_aside, *killed),
    )


def _is_locked(path: Path) -> bool:
    """Return whether another process has locked a file; our shared lock disturbs nobody."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def _room(path: Path, purpose: str) -> Room:
    while not path.is_dir():
        path = path.parent
    return Room(path, purpose, shutil.disk_usage(path).free, os.access(path, os.W_OK))
