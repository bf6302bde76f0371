"""Combine: merge data files into one, by coverage.py's own hand, and lose none of them.

coverage.py maps the paths and merges. Around that, this module looks at each file first, so that
one that cannot be merged is set aside and told instead of ending the merge; works on private
copies, since a container may still be writing; and removes nothing before the result is on disk.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hcoverage._combine_result import CombineResult, RecordedData, SetAside
from hcoverage._data_directory import data_files, is_recording, recordings
from hcoverage._environment import unmeasured_environment
from hcoverage._errors import CombineError, NoDataError
from hcoverage._rcfile import find_rcfile, settings_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# How long to wait for the data of processes that end just after the one that was waited for, such
# as multiprocessing's resource tracker. In seconds.
_PATIENCE: Final = 1.0
_INTERVAL: Final = 0.05


def combine(
    paths: Iterable[str | os.PathLike[str]],
    *,
    coveragerc: str | os.PathLike[str] | None = None,
    data_file: str | os.PathLike[str] = ".coverage",
    append: bool = False,
    keep: bool = False,
) -> CombineResult:
    """Merge data files into one that coverage.py's reports read.

    Args:
        paths: Data files and recordings, and directories that hold some.
        coveragerc: The rcfile with the `[paths]` to map by; without one, what coverage.py finds in
            the current directory.
        data_file: Where the result goes.
        append: Merge what is in `data_file` already, too.
        keep: Leave the merged files where they are. Otherwise they are removed, once the result is
            safely on disk.

    Returns:
        What was merged into what, and what was set aside.

    Raises:
        FileNotFoundError: One of the paths is not there.
        NoDataError: There is no data file in the paths.
        CombineError: None of the data files could be merged; nothing has been changed.
        OSError: The result cannot be written; nothing has been removed.
    """
    target = Path(os.path.abspath(data_file))  # noqa: PTH100 - a link is replaced, not followed
    sources = [Path(path).absolute() for path in paths]
    with _workshop(target) as workshop:
        recorded = _stage_recordings(sources, workshop, coveragerc)
        merged, set_aside = _stage(sources, target, workshop, append=append)
        set_aside += recorded.set_aside
        if any(workshop.parts.iterdir()):
            _merge(workshop, coveragerc)
            _put_in_place(workshop.result, target)
        else:
            raise _nothing_to_merge(set_aside, recorded.losses)
    merged += recorded.merged
    for file in merged:
        if not keep and file != target:
            file.unlink(missing_ok=True)
    return CombineResult(
        data_file=target,
        merged=tuple(merged),
        set_aside=tuple(set_aside),
        recorded=recorded.processes,
        stale=recorded.stale,
        losses=recorded.losses,
    )


@dataclasses.dataclass(frozen=True)
class _Workshop:
    """A private directory beside the target, so that the result can be renamed into place."""

    directory: Path

    @property
    def parts(self) -> Path:
        return self.directory / "parts"

    @property
    def result(self) -> Path:
        return self.directory / ".coverage"


@contextlib.contextmanager
def _workshop(target: Path) -> Iterator[_Workshop]:
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".hcov-combine-") as directory:
        workshop = _Workshop(Path(directory))
        workshop.parts.mkdir()
        yield workshop


def _stage(
    sources: list[Path], target: Path, workshop: _Workshop, *, append: bool
) -> tuple[list[Path], list[SetAside]]:
    """Copy what can be merged into the workshop, and tell of the rest why it cannot."""
    staged = _Staged(workshop)
    patience_ends = time.monotonic() + _PATIENCE
    while True:
        files = [file for file in _files(sources) if file != target]
        if append and target.exists():
            files.append(target)
        set_aside = staged.add(files)
        unfinished = [item for item in set_aside if _is_being_written(item.path)]
        if not unfinished or time.monotonic() > patience_ends:
            return staged.files, set_aside
        time.sleep(_INTERVAL)


def _stage_recordings(
    sources: list[Path], workshop: _Workshop, coveragerc: str | os.PathLike[str] | None
) -> RecordedData:
    """Put what was recorded into the workshop as one data file."""
    files = [file for file in _listed(sources) if is_recording(file)]
    if not files:
        return RecordedData()
    # Imported here, with much of coverage.py: only where something was recorded.
    from hcoverage._combine_recordings import write_recorded_data  # noqa: PLC0415

    chosen = Path(coveragerc) if coveragerc is not None else find_rcfile(Path.cwd())
    return write_recorded_data(files, settings_of(chosen), workshop.parts / ".coverage.recordings")


def _files(sources: Iterable[Path]) -> list[Path]:
    return [file for file in _listed(sources) if not is_recording(file)]


def _listed(sources: Iterable[Path]) -> list[Path]:
    files: list[Path] = []
    for source in sources:
        if not os.path.lexists(source):
            raise FileNotFoundError(
                f"nothing to combine at {source}: there is no such file or directory"
            )
        files.extend([*data_files(source), *recordings(source)] if source.is_dir() else [source])
    return list(dict.fromkeys(files))


def _is_being_written(path: Path) -> bool:
    """Tell whether another look may find the data: a process that ends late is writing it now."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return True  # coverage.py renames a data file when it is whole
    return stat.S_ISREG(status.st_mode) and time.time() - status.st_mtime < _PATIENCE


class _Staged:
    """What has been copied into the workshop so far."""

    def __init__(self, workshop: _Workshop) -> None:
        self.files: list[Path] = []
        self._workshop = workshop
        self._first_of: dict[_Kind, Path] = {}

    def add(self, files: Iterable[Path]) -> list[SetAside]:
        """Copy the files that are not here yet; give those that cannot be used, and why."""
        set_aside = []
        for file in files:
            if file in self.files:
                continue
            copy = self._workshop.parts / f".coverage.{len(self.files)}"
            try:
                _copy(file, copy)
                kind = _kind_of_data(copy)
                _refuse_mixing(kind, self._first_of)
            except (_UnusableError, OSError) as error:
                copy.unlink(missing_ok=True)
                set_aside.append(SetAside(file, _reason(error)))
            else:
                self._first_of.setdefault(kind, file)
                self.files.append(file)
        return set_aside


class _Kind(enum.Enum):
    """What a data file has measured."""

    LINES = "line data"
    ARCS = "branch data"
    NOTHING = "no data"


_OPPOSITE: Final = {_Kind.LINES: _Kind.ARCS, _Kind.ARCS: _Kind.LINES}


class _UnusableError(Exception):
    """A file cannot be merged; the message says why."""


def _refuse_mixing(kind: _Kind, first_of: dict[_Kind, Path]) -> None:
    other = _OPPOSITE.get(kind)
    if other in first_of:
        raise _UnusableError(
            f"it has {kind.value}, but {first_of[other].name} has {other.value}: "
            "give every process the same `branch` setting"
        )


def _reason(error: Exception) -> str:
    if isinstance(error, PermissionError):
        return "it cannot be read: take it over with `sudo chown`, then combine again"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error)


def _copy(file: Path, copy: Path) -> None:
    """Copy a data file that anybody may have put there: no link followed, no fifo waited for."""
    descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as source:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise _UnusableError("it is not a regular file")
        if status.st_size == 0:
            raise _UnusableError("it is empty: the process was ended before it could save")
        with copy.open("xb") as destination:
            shutil.copyfileobj(source, destination)


def _kind_of_data(copy: Path) -> _Kind:
    """Read a data file through coverage.py, as `coverage combine` will."""
    # Imported here: a merge is not what most who import hcoverage want, and sqlite3 is not free.
    from coverage import CoverageData  # noqa: PLC0415
    from coverage.exceptions import CoverageException  # noqa: PLC0415

    data = CoverageData(basename=str(copy))
    try:
        _refuse_foreign_schema(copy)
        data.read()
        if not data.measured_files():
            return _Kind.NOTHING
        return _Kind.ARCS if data.has_arcs() else _Kind.LINES
    except (CoverageException, sqlite3.Error, UnicodeDecodeError) as error:
        reason = str(error).replace(str(copy), "it")
        raise _UnusableError(f"coverage.py cannot read it ({reason})") from error
    finally:
        data.close()


def _refuse_foreign_schema(copy: Path) -> None:
    """Refuse a database that would run something of its own while it is read."""
    query = "SELECT count(*) FROM sqlite_master WHERE type NOT IN ('table', 'index')"
    with contextlib.closing(sqlite3.connect(f"file:{copy}?mode=ro", uri=True)) as database:
        if database.execute(query).fetchone() != (0,):
            raise _UnusableError("its database has triggers or views: coverage.py did not write it")


def _merge(workshop: _Workshop, coveragerc: str | os.PathLike[str] | None) -> None:
    rcfile = [] if coveragerc is None else [f"--rcfile={os.fspath(coveragerc)}"]
    command = [sys.executable, "-m", "coverage", "combine", "--quiet", *rcfile]
    done = subprocess.run(
        [*command, f"--data-file={workshop.result}", str(workshop.parts)],
        env=unmeasured_environment(os.environ),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode or not workshop.result.exists():
        output = (done.stdout + done.stderr).strip()
        raise CombineError(f"coverage.py could not combine; nothing was removed. It said: {output}")


def _put_in_place(result: Path, target: Path) -> None:
    _sync(result)
    result.replace(target)
    _sync(target.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _nothing_to_merge(set_aside: list[SetAside], losses: tuple[str, ...]) -> CombineError:
    if not set_aside and not losses:
        return NoDataError(
            "no data to combine: no Python process was measured, or none has ended yet. "
            "Run it with `hcov run`, or with the variables that `hcov inject` prints"
        )
    reasons = [*(f"{item.path}: {item.reason}" for item in set_aside), *losses]
    return CombineError("\n  ".join(["nothing of what was found could be used:", *reasons]))
