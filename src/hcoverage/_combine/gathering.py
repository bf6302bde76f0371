"""Gathers all input of a merge: finds the files, and has them read.

`selection` decides what of it goes into the result.
"""

from __future__ import annotations

import contextlib
import functools
import glob
import os
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from hcoverage._data_directory.names import (
    data_files,
    is_recording,
    process_of,
    recordings,
)
from hcoverage._data_directory.notes import (
    asked_for_others,
    ended_unsaved,
    image_notes,
    source_notes,
)
from hcoverage._errors import CombineError, RcfileError
from hcoverage._read.batches import default_executor, run_batches
from hcoverage._read.data_file_batch import Batch, read_batch
from hcoverage._read.origins import NOT_KNOWN, Origins, origins_here
from hcoverage._result.outcome import RecordedData
from hcoverage._settings.rcfile import as_rcfile
from hcoverage._sources.finder import SourceFinder
from hcoverage._sources.roots import roots
from hcoverage._untrusted.set_aside import SetAside

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from concurrent.futures import Executor

    from coverage.config import CoverageConfig

    from hcoverage._progress import OnProgress
    from hcoverage._read.part import Part
    from hcoverage._result.target import Target
    from hcoverage._settings.rcfile import Rcfile
    from hcoverage._sources.choice import Choice
    from hcoverage._sources.identity import Known

# Seconds to wait for the data of processes that end just after the command, such as
# multiprocessing's resource tracker.
_PATIENCE: Final = 1.0
_INTERVAL: Final = 0.05

# From this many bytes on (a second of reading), worker processes read the files. For less, they are
# not worth the third more of processor time that they take in all.
_WORTH_PROCESSES: Final = 64 << 20
# Bytes of an empty data file, less the fixed cost of reading any: as much as for 20 KB of data.
_EMPTY_DATA_FILE: Final = 20 << 10


class Found(NamedTuple):
    """The input of a merge, as read.

    Attributes:
        batch: The data files and their content.
        recorded: The outcome of reading recordings.
        recorded_part: The part of the recordings that counts; None if there are none.
        origins: Finds the origins of data files.
        rcfile: The rcfile.
        settings: Its settings, after its plugins have changed them.
        choice: Decides by the rcfile what counts.
        finder: Finds the sources of containers on this machine.
        identities: The identities of sources that coverage.py measured in containers, by path.
        asked_for_others: Host and id of each process that coverage.py measured and that noted a
            request for another test than its context.
        unsaved: Host and id of each process that may have run more than coverage.py has saved.
    """

    batch: Batch
    recorded: RecordedData
    recorded_part: Part | None
    origins: Origins
    rcfile: Rcfile
    settings: CoverageConfig
    choice: Choice
    finder: SourceFinder
    identities: Mapping[str, Collection[tuple[int, int]]]
    asked_for_others: Collection[tuple[str, int]] = ()
    unsaved: Collection[tuple[str, int]] = ()


def _rcfile(coveragerc: str | os.PathLike[str] | Rcfile | None) -> Rcfile:
    try:
        return as_rcfile(coveragerc)
    except RcfileError as error:
        raise CombineError(f"{error}; nothing was removed") from error


def _choice(settings: CoverageConfig) -> tuple[CoverageConfig, Choice]:
    """Return the settings, after their plugins have changed them, and the choice by them."""
    # Imported here: it imports much of coverage.py.
    from hcoverage._sources.choice import Choice, configured  # noqa: PLC0415

    try:
        changed = configured(settings) if settings.plugins else settings
        return changed, Choice(changed)
    except RcfileError as error:
        raise CombineError(f"{error}; nothing was removed") from error


def gather(
    sources: list[Path],
    listed: list[Path],
    target: Target,
    coveragerc: str | os.PathLike[str] | Rcfile | None,
    reading: Reading,
) -> Found:
    """Read all data, in worker processes if that is worth it.

    Args:
        sources: The given directories and files.
        listed: The data files and recordings in them.
        target: Where the result goes.
        coveragerc: The rcfile, as a path or already read.
        reading: How files are read.

    Raises:
        CombineError: The rcfile cannot be used.
    """
    recordings = [file for file in listed if is_recording(file)]
    with contextlib.ExitStack() as stack:
        if reading.executor is None:
            work = sum(map(_work, listed))
            executor = stack.enter_context(default_executor(work, _WORTH_PROCESSES))
            reading = reading._replace(executor=executor)
        # While the workers start: this imports much of coverage.py.
        rcfile = _rcfile(coveragerc)
        settings, choice = _choice(rcfile.settings)
        finder = SourceFinder(roots(settings, Path.cwd()), filter(Path.is_dir, sources))
        recorded, recorded_part = _read_recordings(
            recordings, settings, finder, reading, choice=choice
        )
        if recordings:
            recorded, listed = _saved_meanwhile(recorded, listed, listed_in(sources))
        origins = reading.origins.with_hosts(recorded.of_hosts)
        reading = reading._replace(origins=origins)
        batch = _read_data_files(sources, listed, target.path, reading)
    identities: dict[str, set[tuple[int, int]]] = {}
    mixed: list[tuple[str, int]] = []
    unsaved: list[tuple[str, int]] = []
    for directory in filter(Path.is_dir, sources):
        for path, told in source_notes(directory).items():
            identities.setdefault(path, set()).update(told)
        mixed += asked_for_others(directory)
        unsaved += ended_unsaved(directory)
    return Found(
        batch,
        recorded,
        recorded_part,
        origins,
        rcfile,
        settings,
        choice,
        finder,
        identities,
        tuple(mixed),
        tuple(unsaved),
    )


class Reading(NamedTuple):
    """How files are read.

    Attributes:
        origins: Finds the origins of files.
        executor: Reads them; None to read them in this process.
        progress: Called with the number of files that were just read.
        known: The state of sources when the run began, see `combine`.
    """

    origins: Origins
    executor: Executor | None
    progress: Callable[[int], None]
    known: Mapping[str, Known]


class Progress:
    """Counts the files that have been read."""

    def __init__(self, on_progress: OnProgress, total: int) -> None:
        self._on_progress = on_progress
        self._total = total
        self._done = 0

    def __call__(self, number: int) -> None:
        self._done += number
        # Some files are read again, and some are new since the count.
        self._total = max(self._total, self._done)
        self._on_progress(self._done, self._total)


def _read_recordings(
    files: list[Path],
    settings: CoverageConfig,
    finder: SourceFinder,
    reading: Reading,
    *,
    choice: Choice,
) -> tuple[RecordedData, Part | None]:
    """Read the recordings."""
    if not files:
        return RecordedData(), None
    # Imported here, only if there are recordings: it imports much of coverage.py.
    from hcoverage._combine.recorded_data import read_recorded_data  # noqa: PLC0415

    return read_recorded_data(
        files,
        settings,
        finder=finder,
        known=reading.known,
        executor=reading.executor,
        progress=reading.progress,
        origins=reading.origins,
        choice=choice,
    )


def _saved_meanwhile(
    recorded: RecordedData, before: list[Path], now: list[Path]
) -> tuple[RecordedData, list[Path]]:
    """Leave out the recordings that data files have replaced since they were listed.

    A process that ends late may just have saved its data; it then removes its recording
    (`_inside.coverage_marks`).

    Returns:
        The outcome; and the files that are there now.
    """
    saved = {process_of(file.name) for file in {*now} - {*before} if not is_recording(file)}
    kept = tuple(
        item
        for item in recorded.set_aside
        if process_of(item.path.name) not in saved or os.path.lexists(item.path)
    )
    return recorded._replace(set_aside=kept), now


def _read_data_files(
    sources: list[Path],
    listed: list[Path],
    target: Path,
    reading: Reading,
) -> Batch:
    """Read the data files; wait a moment for those that are still being written."""
    batch = Batch()
    read = functools.partial(read_batch, origins=reading.origins)
    patience_ends = time.monotonic() + _PATIENCE
    while True:
        known = {str(target), *(file.path for file in batch.files)}
        files = sorted({str(file) for file in listed if not is_recording(file)} - known)
        batch.refused = []
        for found in run_batches(read, files, reading.executor, _note_lost(batch.refused)):
            batch.add(found)
            reading.progress(len(found.files) + len(found.refused))
        unfinished = any(_is_being_written(refusal.path) for refusal in batch.refused)
        if not unfinished or time.monotonic() > patience_ends:
            return batch
        time.sleep(_INTERVAL)
        listed = listed_in(sources)


def _note_lost(refused: list[SetAside]) -> Callable[[str], None]:
    return lambda path: refused.append(
        SetAside(Path(path), "reading it crashes the process that reads it")
    )


def existing_data(target: Target) -> Batch | None:
    """Read the data file that is in place already and must stay in the result."""
    if not os.path.lexists(target.path):
        return None
    batch = read_batch([str(target.path)], NOT_KNOWN)
    for refusal in batch.refused:
        raise CombineError(
            f"cannot append to {refusal.path}: {refusal.reason}; nothing was changed"
        )
    return batch


def written_since(target: Target, began: int | None) -> Batch | None:
    """Read what the command itself has written where the result goes, as `coverage run` does.

    Args:
        target: The place of the result.
        began: When the command began, in nanoseconds since the epoch; None if there was none.
    """
    if began is None:
        return None
    beside = target.path.parent.glob(f"{glob.escape(target.path.name)}.*")
    files = [file for file in (target.path, *beside) if file.is_file()]
    own = [str(file) for file in files if file.stat().st_mtime_ns >= began]
    return read_batch(own, NOT_KNOWN) if own else None


def origins_in(sources: list[Path], listed: list[Path], command: int | None) -> Origins:
    """Return the origins of files, from the notes that images have left in the directories."""
    images: dict[str, str] = {}
    for source in sources:
        if source.is_dir():
            images.update(image_notes(source))
    return origins_here(listed, command, images)


def listed_in(sources: list[Path]) -> list[Path]:
    """List the data files and recordings in the directories, and the files given directly."""
    files: list[Path] = []
    for source in sources:
        files.extend([*data_files(source), *recordings(source)] if source.is_dir() else [source])
    return files if len(sources) == 1 else list(dict.fromkeys(files))


def _work(file: Path) -> int:
    """Estimate the work of reading a file, in bytes of measured lines and arcs."""
    try:
        size = file.lstat().st_size
    except OSError:
        return 0
    return size // 4 if is_recording(file) else max(0, size - _EMPTY_DATA_FILE)


def _is_being_written(path: Path) -> bool:
    """Return whether a process that ends late is writing the file now, so that a retry may help."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return True  # coverage.py renames a data file once it is whole
    return stat.S_ISREG(status.st_mode) and time.time() - status.st_mtime < _PATIENCE
