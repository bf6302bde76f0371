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
from hcoverage._inputs import Inputs, opened
from hcoverage._printable import printable
from hcoverage._project_roots import drop, measured, outside, roots
from hcoverage._rcfile import find_rcfile, settings_of
from hcoverage._untrusted_database import open_untrusted
from hcoverage._untrusted_file import UntrustedDataError, open_regular

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from hcoverage._progress import OnProgress

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
    on_progress: OnProgress | None = None,
) -> CombineResult:
    """Merge data files into one that coverage.py's reports read.

    Args:
        paths: Data files and recordings, directories that hold some, archives (`.zip`, `.tar`,
            `.tar.gz`, `.tar.xz`, `.tar.bz2`, with Python 3.14 `.tar.zst`), and URLs for fsspec
            such as `s3://bucket/run-42/`, which need the extra `hcoverage[remote]`.
        coveragerc: The rcfile with the `[paths]` to map by; without one, what coverage.py finds in
            the current directory.
        data_file: Where the result goes.
        append: Merge what is in `data_file` already, too.
        keep: Leave the merged files where they are. Otherwise they are removed, once the result is
            safely on disk. What is in archives and at URLs stays in any case.
        on_progress: Called with how many files have been read, and how many there are.

    Returns:
        What was merged into what, and what was set aside.

    Raises:
        FileNotFoundError: One of the paths is not there.
        ImportError: A URL is given, and what reads it is not installed.
        NoDataError: There is no data file in the paths.
        CombineError: None of the data files could be merged; nothing has been changed.
        OSError: The result cannot be written; nothing has been removed.
    """
    target = Path(os.path.abspath(data_file))  # noqa: PTH100 - a link is replaced, not followed
    with opened(paths) as inputs, _workshop(target) as workshop:
        recorded = _stage_recordings(inputs.paths, workshop, coveragerc)
        progress = on_progress or _no_progress
        merged, set_aside = _stage(inputs.paths, target, workshop, progress, append=append)
        set_aside += recorded.set_aside
        shown = [dataclasses.replace(item, path=inputs.shown(item.path)) for item in set_aside]
        shown += inputs.set_aside
        if not any(workshop.parts.iterdir()):
            raise _nothing_to_merge(shown, recorded.losses)
        _merge(workshop, coveragerc)
        left_out = _drop_outside(workshop.result, inputs, coveragerc)
        _put_in_place(workshop.result, target)
    merged += recorded.merged
    for file in merged:
        if not keep and file != target and inputs.may_be_removed(file):
            file.unlink(missing_ok=True)
    return CombineResult(
        data_file=target,
        merged=tuple(inputs.shown(file) for file in merged),
        set_aside=tuple(shown),
        recorded=recorded.processes,
        stale=recorded.stale,
        losses=recorded.losses,
        outside=left_out,
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
    sources: list[Path],
    target: Path,
    workshop: _Workshop,
    on_progress: OnProgress,
    *,
    append: bool,
) -> tuple[list[Path], list[SetAside]]:
    """Copy what can be merged into the workshop, and tell of the rest why it cannot."""
    staged = _Staged(workshop)
    patience_ends = time.monotonic() + _PATIENCE
    while True:
        files = [file for file in _files(sources) if file != target]
        if append and target.exists():
            files.append(target)
        set_aside = staged.add(files, on_progress)
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

    def add(self, files: list[Path], on_progress: OnProgress) -> list[SetAside]:
        """Copy the files that are not here yet; give those that cannot be used, and why."""
        set_aside = []
        for done, file in enumerate(files):
            if file in self.files:
                continue
            on_progress(done, len(files))
            copy = self._workshop.parts / f".coverage.{len(self.files)}"
            try:
                _copy(file, copy)
                kind = _kind_of_data(copy)
                _refuse_mixing(kind, self._first_of)
            except (UntrustedDataError, OSError) as error:
                copy.unlink(missing_ok=True)
                set_aside.append(SetAside(file, _reason(error)))
            else:
                self._first_of.setdefault(kind, file)
                self.files.append(file)
        on_progress(len(files), len(files))
        return set_aside


class _Kind(enum.Enum):
    """What a data file has measured."""

    LINES = "line data"
    ARCS = "branch data"
    NOTHING = "no data"


_OPPOSITE: Final = {_Kind.LINES: _Kind.ARCS, _Kind.ARCS: _Kind.LINES}


def _refuse_mixing(kind: _Kind, first_of: dict[_Kind, Path]) -> None:
    other = _OPPOSITE.get(kind)
    if other in first_of:
        raise UntrustedDataError(
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
    """Copy a data file that anybody may have put there."""
    with open_regular(file) as source, copy.open("xb") as destination:
        shutil.copyfileobj(source, destination)


def _kind_of_data(copy: Path) -> _Kind:
    """Read a data file through coverage.py, as `coverage combine` will."""
    # Imported here: a merge is not what most who import hcoverage want, and sqlite3 is not free.
    from coverage import CoverageData  # noqa: PLC0415
    from coverage.exceptions import CoverageException  # noqa: PLC0415

    open_untrusted(copy).close()
    data = CoverageData(basename=str(copy))
    try:
        data.read()
        if not data.measured_files():
            return _Kind.NOTHING
        return _Kind.ARCS if data.has_arcs() else _Kind.LINES
    except (CoverageException, sqlite3.Error, ValueError) as error:
        reason = str(error).replace(str(copy), "it")
        raise UntrustedDataError(f"coverage.py cannot read it ({reason})") from error
    finally:
        data.close()


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


def _drop_outside(
    result: Path, inputs: Inputs, coveragerc: str | os.PathLike[str] | None
) -> tuple[str, ...]:
    """Take what is not the project's out of what is merged from places that others write to."""
    if inputs.is_trusted:
        return ()
    here = Path.cwd()
    config = settings_of(Path(coveragerc) if coveragerc is not None else find_rcfile(here))
    found = outside(measured(result), roots(config, here), here, foreign=inputs.foreign_directories)
    drop(result, found)
    return tuple(sorted(found))


def _no_progress(_done: int, _total: int, /) -> None:
    pass


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
    told = [*(f"{item.path}: {item.reason}" for item in set_aside), *losses]
    reasons = [printable(reason) for reason in told]
    return CombineError("\n  ".join(["nothing of what was found could be used:", *reasons]))
