"""Combine: merge data files and recordings into one data file, and lose none of them.

What cannot be merged is set aside and told instead of ending the merge, and nothing is removed
before the result is on disk. This module decides which files, in which order, and what is told;
reading, merging and putting in place are done by `_read.data_file_batch`, `recorded_data`,
`_result.merged` and `_result.target`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import stat
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hcoverage._combine.attribution import attribution
from hcoverage._combine.inputs import Inputs, is_open_to_all, opened
from hcoverage._data_directory.directory import (
    data_files,
    image_notes,
    is_recording,
    process_of,
    recordings,
    source_notes,
)
from hcoverage._errors import CombineError, NoDataError, RcfileError
from hcoverage._read.data_file_batch import Batch, ReadFile, read_batch
from hcoverage._read.origins import NOT_KNOWN, Origins, origins_here
from hcoverage._read.part import Kind, Part
from hcoverage._read.worker_pool import default_executor, run_batches
from hcoverage._result.outcome import CombineResult, OtherVersion, RecordedData
from hcoverage._result.target import held
from hcoverage._settings.rcfile import as_rcfile
from hcoverage._sources.finder import Ran, SourceFinder
from hcoverage._sources.paths_suggestion import suggest_paths
from hcoverage._sources.roots import of_unknown_plugins, outside, reportable, roots
from hcoverage._untrusted.file import stamp
from hcoverage._untrusted.set_aside import SetAside

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping
    from concurrent.futures import Executor

    from coverage.config import CoverageConfig

    from hcoverage._progress import OnProgress
    from hcoverage._result.merged import Merged, PathMap
    from hcoverage._result.target import Target
    from hcoverage._settings.rcfile import Rcfile
    from hcoverage._sources.choice import Choice
    from hcoverage._sources.identity import Known

# How long to wait for the data of processes that end just after the one that was waited for, such
# as multiprocessing's resource tracker. In seconds.
_PATIENCE: Final = 1.0
_INTERVAL: Final = 0.05

# From how many bytes on starting processes to read them takes less time than they save.
_WORTH_PROCESSES: Final = 24 << 20
# What an empty data file has, without what reading any takes, which is as long as 20 KB of data.
_EMPTY_DATA_FILE: Final = 20 << 10


def combine(
    paths: Iterable[str | os.PathLike[str]],
    *,
    coveragerc: str | os.PathLike[str] | Rcfile | None = None,
    data_file: str | os.PathLike[str] = ".coverage",
    append: bool = False,
    keep: bool = False,
    command: int | None = None,
    known: Mapping[str, Known] | None = None,
    executor: Executor | None = None,
    on_progress: OnProgress | None = None,
) -> CombineResult:
    """Merge data files into one that coverage.py's reports read.

    What counts in it is chosen by the rcfile, as coverage.py would have chosen in the current
    directory; what nothing ran of its `source` is in it, too. Where any of the files is here that
    are in it, those that are not are left out, since no report could be made with them.

    Two that merge into the same data file at the same time give what both have together. One that
    is killed leaves all data where it was or in the result; merge again to have it all.

    Args:
        paths: Data files and recordings, directories that hold some, archives (`.zip`, `.tar`,
            `.tar.gz`, `.tar.xz`, `.tar.bz2`, with Python 3.14 `.tar.zst`), and URLs for fsspec
            such as `s3://bucket/run-42/`, which need the extra `hcoverage[remote]`.
        coveragerc: The rcfile, or what was read of it; without one, what coverage.py finds in the
            current directory, else its defaults.
        data_file: Where the result goes.
        append: Merge what is in `data_file` already, too.
        keep: Leave the merged files where they are. Otherwise they are removed, once the result is
            safely on disk. What is in archives and at URLs stays in any case.
        command: The process id of the command that all of it comes from, to tell its own data from
            that of its subprocesses.
        known: What sources were when the run began: their sizes, times and CRC-32s, by absolute
            paths. One that was written again since with the same text is still the same.
        executor: Who reads the files, in batches; its workers need hcoverage and the same file
            system. Without one, processes on all CPUs, where there is enough to read.
        on_progress: Called with how many files have been read, and how many there are.

    Returns:
        What was merged into what, and what was set aside.

    Raises:
        NoInputError: One of the paths is not there.
        MissingExtraError: A URL is given, and what reads it is not installed.
        NoDataError: There is no data file in the paths.
        CombineError: None of the data files could be merged, or what is appended to cannot be read;
            nothing has been changed.
        OSError: The result cannot be written; nothing has been removed.
    """
    # A link is replaced, not followed.
    absolute = Path(os.path.abspath(data_file))  # noqa: PTH100
    with opened(paths) as inputs, held(absolute) as target:
        listed = _listed(inputs.paths)
        progress = _Progress(on_progress or _no_progress, len(listed))
        reader = _Reader(_origins(inputs.paths, listed, command), executor, progress, known or {})
        found = _read(inputs.paths, listed, target, coveragerc, reader)
        existing = _existing(target) if append or target.must_keep else None
        selection = _select(found, existing)
        shown = [*inputs.set_aside, *_shown(selection.set_aside, inputs)]
        if not selection.has_data:
            raise _nothing_to_merge(shown, found.recorded.losses)
        completed = _complete(selection, found, existing, inputs, is_run_here=command is not None)
        selection.merged.write(target.result)
        _write_origins(selection, target)
        target.put_in_place()
        changed = [] if keep else _remove(selection, inputs, target)
        merged = selection.merged_files(target.path if existing else None)
        return CombineResult(
            data_file=target.path,
            merged=tuple(inputs.shown(file) for file in merged),
            set_aside=(*shown, *_shown(changed, inputs)),
            recorded=selection.recorded.processes,
            stale=selection.recorded.stale,
            losses=selection.recorded.losses,
            duplicates=tuple(inputs.shown(file) for file in _duplicates(selection.files)),
            outside=completed.outside,
            unknown_plugins=completed.of_no_plugin,
            mapped=found.finder.trees,
            unmapped=found.finder.unmapped,
            not_here=completed.not_here,
            other_versions=(*selection.recorded.other_versions, *selection.other_versions),
            attribution=attribution(
                selection.recorded.processes, selection.files, found.settings, command
            ),
            saved=tuple(file.origin for file in selection.files if file.origin),
            paths_suggestion=suggest_paths(found.finder.unmapped, found.rcfile),
        )


@dataclasses.dataclass(frozen=True)
class _Found:
    """What was read.

    Attributes:
        batch: The data files, and what they hold.
        recorded: What came of the recordings.
        recorded_batch: What they hold.
        origins: Tells the origins of data files.
        rcfile: The rcfile.
        choice: What counts by that.
        finder: Finds the sources of containers here.
        identities: What the sources were that coverage.py measured in containers, by their paths.
    """

    batch: Batch
    recorded: RecordedData
    recorded_batch: Batch
    origins: Origins
    rcfile: Rcfile
    choice: Choice
    finder: SourceFinder
    identities: Mapping[str, Collection[tuple[int, int]]]

    @property
    def settings(self) -> CoverageConfig:
        """What the rcfile says."""
        return self.rcfile.settings


@dataclasses.dataclass(frozen=True)
class _Selection:
    """What is merged, and what is not.

    Attributes:
        merged: What goes into the result.
        files: The data files that are in it.
        recorded: What came of the recordings.
        processes: How many processes of each origin are in it.
        set_aside: What is not in it, or not all of it, and why.
        outlived: Files cut short of processes that are in it.
        has_data: Whether there is a result to write.
        other_versions: Measured files that are left out, since they are others by now.
    """

    merged: Merged
    files: list[ReadFile]
    recorded: RecordedData
    processes: Mapping[str, int]
    set_aside: list[SetAside]
    outlived: set[Path]
    has_data: bool
    other_versions: list[OtherVersion]

    def merged_files(self, appended_to: Path | None) -> Iterable[Path]:
        """The files whose data is in the result."""
        appended = [] if appended_to is None else [appended_to]
        return [*(Path(file.path) for file in self.files), *appended, *self.recorded.merged]


@dataclasses.dataclass(frozen=True)
class _Completed:
    """What has become of a result beside what ran.

    Attributes:
        not_here: The files that ran on this machine and are not here any more, and so not in it.
        outside: Files that are not in it since they are outside the project.
        of_no_plugin: Those that are not in it since their plugin is not here; and that plugin.
    """

    not_here: tuple[str, ...]
    outside: tuple[str, ...] = ()
    of_no_plugin: Mapping[str, str] = dataclasses.field(default_factory=dict)


def _rcfile(coveragerc: str | os.PathLike[str] | Rcfile | None) -> Rcfile:
    try:
        return as_rcfile(coveragerc)
    except RcfileError as error:
        raise CombineError(f"{error}; nothing was removed") from error


def _choice(settings: CoverageConfig) -> Choice:
    # Imported here, with much of coverage.py.
    from hcoverage._sources.choice import Choice, configured  # noqa: PLC0415

    try:
        return Choice(configured(settings) if settings.plugins else settings)
    except RcfileError as error:
        raise CombineError(f"{error}; nothing was removed") from error


def _read(
    sources: list[Path],
    listed: list[Path],
    target: Target,
    coveragerc: str | os.PathLike[str] | Rcfile | None,
    reader: _Reader,
) -> _Found:
    """Read all data there is, in processes of our own where that is worth it."""
    recordings = [file for file in listed if is_recording(file)]
    with contextlib.ExitStack() as stack:
        if reader.executor is None:
            work = sum(map(_work, listed))
            executor = stack.enter_context(default_executor(work, _WORTH_PROCESSES))
            reader = dataclasses.replace(reader, executor=executor)
        # While the processes start: it imports much of coverage.py.
        rcfile = _rcfile(coveragerc)
        settings = rcfile.settings
        choice = _choice(settings)
        finder = SourceFinder(roots(settings, Path.cwd()), filter(Path.is_dir, sources))
        recordings_file = target.workshop / ".coverage.recordings"
        recorded = _read_recordings(
            recordings, recordings_file, settings, finder, reader, choice=choice
        )
        origins = reader.origins.with_hosts(recorded.of_hosts)
        reader = dataclasses.replace(reader, origins=origins)
        batch = _read_data_files(sources, listed, target.path, reader)
    recorded_batch = Batch()
    if recordings_file.exists():
        recorded_batch = read_batch([str(recordings_file)], are_ours=True)
    for refusal in recorded_batch.refused:
        raise CombineError(
            f"what was recorded cannot be merged: {refusal.reason}; nothing was removed"
        )
    identities: dict[str, set[tuple[int, int]]] = {}
    for directory in filter(Path.is_dir, sources):
        for path, told in source_notes(directory).items():
            identities.setdefault(path, set()).update(told)
    return _Found(batch, recorded, recorded_batch, origins, rcfile, choice, finder, identities)


@dataclasses.dataclass(frozen=True)
class _Reader:
    """How files are read.

    Attributes:
        origins: Tells whose they are.
        executor: Who reads them; None for doing it here.
        progress: Told how many more have been read.
        known: What sources were when the run began, see `combine`.
    """

    origins: Origins
    executor: Executor | None
    progress: Callable[[int], None]
    known: Mapping[str, Known]


class _Progress:
    """Counts the files that have been read."""

    def __init__(self, on_progress: OnProgress, total: int) -> None:
        self._on_progress = on_progress
        self._total = total
        self._done = 0

    def __call__(self, number: int) -> None:
        self._done += number
        # Some are read again, and some have come since.
        self._total = max(self._total, self._done)
        self._on_progress(self._done, self._total)


def _read_recordings(
    files: list[Path],
    data_file: Path,
    settings: CoverageConfig,
    finder: SourceFinder,
    reader: _Reader,
    *,
    choice: Choice,
) -> RecordedData:
    """Put what was recorded into one data file."""
    if not files:
        return RecordedData()
    # Imported here, with much of coverage.py: only where something was recorded.
    from hcoverage._combine.recorded_data import write_recorded_data  # noqa: PLC0415

    return write_recorded_data(
        files,
        settings,
        data_file,
        finder=finder,
        known=reader.known,
        executor=reader.executor,
        progress=reader.progress,
        origins=reader.origins,
        choice=choice,
    )


def _read_data_files(
    sources: list[Path],
    listed: list[Path],
    target: Path,
    reader: _Reader,
) -> Batch:
    """Read the data files, and wait a moment for those that are being written."""
    batch = Batch()
    read = functools.partial(read_batch, origins=reader.origins)
    patience_ends = time.monotonic() + _PATIENCE
    while True:
        known = {str(target), *(file.path for file in batch.files)}
        files = sorted({str(file) for file in listed if not is_recording(file)} - known)
        batch.refused = []
        for found in run_batches(read, files, reader.executor, _note_lost(batch.refused)):
            batch.add(found)
            reader.progress(len(found.files) + len(found.refused))
        unfinished = any(_is_being_written(refusal.path) for refusal in batch.refused)
        if not unfinished or time.monotonic() > patience_ends:
            return batch
        time.sleep(_INTERVAL)
        listed = _listed(sources)


def _note_lost(refused: list[SetAside]) -> Callable[[str], None]:
    return lambda path: refused.append(
        SetAside(Path(path), "reading it ends the process that does")
    )


def _existing(target: Target) -> Batch | None:
    """Read what is in place already, and has to stay in the result."""
    if not os.path.lexists(target.path):
        return None
    batch = read_batch([str(target.path)], NOT_KNOWN)
    for refusal in batch.refused:
        raise CombineError(
            f"cannot append to {refusal.path}: {refusal.reason}; nothing was changed"
        )
    return batch


def _select(found: _Found, existing: Batch | None) -> _Selection:
    """Decide what of all that was read goes into the result."""
    # Imported here, with much of coverage.py.
    from hcoverage._result.merged import Merged, PathMap, choose_kind  # noqa: PLC0415

    kind = choose_kind(
        found.batch.files,
        [file.kind for file in found.recorded_batch.files] * len(found.recorded.processes),
        existing,
        branch=found.settings.branch,
    )
    parts = found.batch.parts
    map_path = PathMap(found.settings)
    wanted = [parts[each] for each in (kind, Kind.NOTHING) if each in parts]
    map_path.learn(wanted)
    other_versions = _find_here(wanted, map_path, found)
    files, set_aside = _fitting(found.batch, kind)
    outlived = _outlived(found.batch, files)
    set_aside = [item for item in set_aside if item.path not in outlived]
    merged = Merged()
    processes: Counter[str] = Counter()
    if existing is not None:
        for part in existing.parts.values():
            merged.add(part, _as_it_is)
        processes.update(_add_known_origins(merged, existing.files, _as_it_is))
    files, parts, conflicting = _without_conflicts(
        found.batch, files, merged, map_path, found.origins
    )
    set_aside += conflicting
    left_out = {source.there for source in other_versions}
    for each in (kind, Kind.NOTHING):
        part = parts.get(each, Part())
        unwanted = {path for path in part.paths if not found.choice.wants(map_path(path))}
        merged.add(part.without(left_out | unwanted), map_path)
    processes.update(_add_known_origins(merged, _results(files), map_path))
    processes.update(file.origin for file in files if file.origin)
    recorded = found.recorded
    if all(file.kind in (kind, Kind.NOTHING) for file in found.recorded_batch.files):
        for part in found.recorded_batch.parts.values():
            merged.add(part, map_path.by_rcfile)
    else:
        recorded = _set_all_aside(recorded, kind)
    return _Selection(
        merged=merged,
        files=files,
        recorded=recorded,
        processes=processes + Counter(process.origin for process in recorded.processes),
        set_aside=[*set_aside, *recorded.set_aside],
        outlived=outlived,
        has_data=bool(files or existing or found.recorded_batch.files),
        other_versions=other_versions,
    )


def _complete(
    selection: _Selection,
    found: _Found,
    existing: Batch | None,
    inputs: Inputs,
    *,
    is_run_here: bool,
) -> _Completed:
    """Add the files that nothing ran, and take out those that must not or cannot be reported."""
    from hcoverage._sources.choice import is_here  # noqa: PLC0415

    merged = selection.merged
    kept = {path for each in (existing.parts.values() if existing else ()) for path in each.paths}
    absolute = {path: os.path.abspath(path) for path in merged.part.paths}  # noqa: PTH100
    gone = {path for path, place in absolute.items() if not is_here(place)}
    if len(gone) == len(absolute) and not is_run_here:  # merged where no source is
        gone = set()
    gone -= {*kept, *merged.part.tracers}
    merged.part = merged.part.without(gone)
    foreign, of_no_plugin = _untrusted(merged.part, inputs, found.settings)
    merged.part = merged.part.without({*foreign, *of_no_plugin})
    ran = {absolute[path] for path in merged.part.paths}
    never_ran = found.choice.never_ran(ran)
    # They are told to be left out, since they did run.
    never_ran -= {*selection.recorded.stale, *(other.path for other in selection.other_versions)}
    merged.part = _named(merged.part, never_ran, found.choice)
    merged.origins = _named(merged.origins, set(), found.choice)
    return _Completed(tuple(sorted(gone - found.finder.not_found)), foreign, of_no_plugin)


def _untrusted(
    part: Part, inputs: Inputs, settings: CoverageConfig
) -> tuple[tuple[str, ...], Mapping[str, str]]:
    """Find what is not the project's in what is merged from places that others write to.

    Returns:
        The files that are outside the project; and those of plugins that are not here, with these.
    """
    if inputs.is_trusted:
        return (), {}
    here = Path.cwd()
    found = outside(
        part.paths, reportable(settings, here), here, foreign=inputs.foreign_directories
    )
    inside = {path: plugin for path, plugin in part.tracers.items() if path not in found}
    return tuple(sorted(found)), of_unknown_plugins(inside, settings)


def _named(part: Part, never_ran: set[str], choice: Choice) -> Part:
    from hcoverage._result.merged import moved  # noqa: PLC0415

    part.paths.update(dict.fromkeys(sorted(never_ran), ("", 0)))
    return moved(part, choice.name_of)


def _find_here(parts: list[Part], map_path: PathMap, found: _Found) -> list[OtherVersion]:
    """Find the measured files of containers here, and tell those that are others by now."""
    from hcoverage._result.merged import is_from_elsewhere  # noqa: PLC0415

    finder = found.finder
    others = []
    for part in parts:
        unknown = {
            path
            for path, (file, _) in part.paths.items()
            if map_path.leaves(path) and is_from_elsewhere(file)
        }
        told = {path: found.identities.get(path, ()) for path in sorted(unknown)}
        known = [
            Ran(path, *identity)
            for path, identities in told.items()
            if len(identities) == 1
            for identity in identities
        ]
        places = finder.find_recorded(known)
        fitting = {ran: here for ran, here in places.items() if finder.is_same(ran, here)}
        other = {ran: here for ran, here in places.items() if ran not in fitting}
        unknown -= {ran.path for ran in known}
        lines = part.lines_of(unknown) if unknown else {}
        by_lines = finder.find_measured(Ran(path, lines=lines[path]) for path in sorted(unknown))
        fitting.update(by_lines[0])
        other.update(by_lines[1])
        map_path.put({source.path: here for source, here in fitting.items()})
        others += [OtherVersion(here, source.path) for source, here in other.items()]
    return others


def _fitting(batch: Batch, kind: Kind) -> tuple[list[ReadFile], list[SetAside]]:
    """Tell the files that have one kind of data, or none, from the others."""
    from hcoverage._result.merged import why_odd  # noqa: PLC0415

    ordered = sorted(batch.files, key=lambda file: file.path)
    fitting = [file for file in ordered if file.kind in (kind, Kind.NOTHING)]
    odd = [file for file in ordered if file.kind not in (kind, Kind.NOTHING)]
    names = [os.path.basename(file.path) for file in fitting if file.kind is kind]  # noqa: PTH119
    refused = sorted(batch.refused, key=lambda each: each.path)
    return fitting, [*refused, *(SetAside(Path(file.path), why_odd(file, names)) for file in odd)]


def _outlived(batch: Batch, files: list[ReadFile]) -> set[Path]:
    """Tell the files cut short whose process has another file, which was saved before.

    `_inside.autosave` removes its own file when coverage.py has saved, so where both are there the
    process was ended in between; and all that it did not lose is in the file that is whole.
    """
    cut_short = [refusal.path for refusal in batch.refused if refusal.is_cut_short]
    if not cut_short:
        return set()
    whole = {_process(Path(file.path)) for file in files}
    return {path for path in cut_short if process_of(path.name) and _process(path) in whole}


def _process(path: Path) -> tuple[Path, tuple[str, int] | None]:
    # With the directory: machines of one name may have brought one each.
    return path.parent, process_of(path.name)


def _without_conflicts(
    batch: Batch,
    files: list[ReadFile],
    merged: Merged,
    map_path: Callable[[str], str],
    origins: Origins,
) -> tuple[list[ReadFile], dict[Kind, Part], list[SetAside]]:
    """Leave out files whose plugins are others than those of the files before."""
    from hcoverage._result.merged import tracer_conflicts  # noqa: PLC0415

    tracers = merged.part.tracers
    if not tracers and not any(file.has_tracers for file in files):
        return files, batch.parts, []
    existing = {path: tracers.get(path, "") for path in merged.part.paths}
    conflicts = tracer_conflicts(files, existing, map_path)
    if not conflicts:
        return files, batch.parts, []
    wrong = {file.path for file, _ in conflicts}
    again = read_batch([file.path for file in files if file.path not in wrong], origins)
    conflicting = [SetAside(Path(file.path), why) for file, why in conflicts]
    return again.files, again.parts, [*conflicting, *again.refused]


def _set_all_aside(recorded: RecordedData, kind: Kind) -> RecordedData:
    reason = f"it has other data than most data files, which have {kind.value}"
    set_aside = [SetAside(path, reason) for path in recorded.merged]
    return RecordedData(set_aside=(*recorded.set_aside, *set_aside), losses=recorded.losses)


def _shown(set_aside: Iterable[SetAside], inputs: Inputs) -> list[SetAside]:
    return [dataclasses.replace(item, path=inputs.shown(item.path)) for item in set_aside]


def _origins(sources: list[Path], listed: list[Path], command: int | None) -> Origins:
    images: dict[str, str] = {}
    for source in sources:
        if source.is_dir():
            images.update(image_notes(source))
    return origins_here(listed, command, images)


def _write_origins(selection: _Selection, target: Target) -> None:
    """Write what each origin ran, when all else is written."""
    from hcoverage._result.origin_data import write_origins, write_sole_origin  # noqa: PLC0415

    processes, merged = selection.processes, selection.merged
    if merged.sole_origin:
        write_sole_origin(merged.sole_origin, processes, target.result)
        return
    write_origins(merged.by_origin(), processes, target.result)


def _add_known_origins(
    merged: Merged, files: Iterable[ReadFile], map_path: Callable[[str], str]
) -> Counter[str]:
    """Add what is known of the origins of data files that are results of other merges.

    Returns:
        How many processes each of the origins had.
    """
    from hcoverage._result.origin_data import OriginsError, read_origins  # noqa: PLC0415

    processes: Counter[str] = Counter()
    for file in files:
        with contextlib.suppress(OriginsError):
            known = read_origins(file.path)
            merged.add_origins(known.part, map_path)
            processes.update(known.processes)
    return processes


def _results(files: Iterable[ReadFile]) -> list[ReadFile]:
    """List the data files that merges have written, with the origins of what is in them.

    Where anybody can write, as into a data directory, they could say of any line who ran it.
    """
    told = [file for file in files if file.has_origins and not file.origin]
    return [file for file in told if not is_open_to_all(Path(file.path).parent)]


def _as_it_is(path: str) -> str:
    return path


def _no_progress(_done: int, _total: int, /) -> None:
    pass


def _remove(selection: _Selection, inputs: Inputs, target: Target) -> list[SetAside]:
    """Remove what is in the result, but for what has been written to since it was read."""
    changed = [file for file in selection.files if not _is_as_read(file)]
    kept = {file.path for file in changed}
    merged = [Path(file.path) for file in selection.files if file.path not in kept]
    removed = [*merged, *selection.recorded.merged, *selection.outlived]
    target.remove(file for file in removed if inputs.may_be_removed(file))
    reason = "it was written to while it was merged: combine again with --append"
    return [SetAside(Path(path), reason) for path in sorted(kept)]


def _is_as_read(file: ReadFile) -> bool:
    try:
        return stamp(os.lstat(file.path)) == file.stamp
    except FileNotFoundError:
        return True  # nothing is lost with it: what it held is merged


def _duplicates(files: Iterable[ReadFile]) -> Iterable[Path]:
    seen: set[bytes] = set()
    for file in files:
        if file.digest in seen:
            yield Path(file.path)
        seen.add(file.digest)


def _listed(sources: list[Path]) -> list[Path]:
    files: list[Path] = []
    for source in sources:
        files.extend([*data_files(source), *recordings(source)] if source.is_dir() else [source])
    return files if len(sources) == 1 else list(dict.fromkeys(files))


def _work(file: Path) -> int:
    """How much there is to read in a file: about so many bytes of measured lines and arcs."""
    try:
        size = file.lstat().st_size
    except OSError:
        return 0
    return size // 4 if is_recording(file) else max(0, size - _EMPTY_DATA_FILE)


def _is_being_written(path: Path) -> bool:
    """Tell whether another look may find the data: a process that ends late is writing it now."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return True  # coverage.py renames a data file when it is whole
    return stat.S_ISREG(status.st_mode) and time.time() - status.st_mtime < _PATIENCE


def _nothing_to_merge(set_aside: list[SetAside], losses: tuple[str, ...]) -> CombineError:
    if not set_aside and not losses:
        return NoDataError(
            "no data to combine: no Python process was measured, or none has ended yet. "
            "Run it with `hcov run`, or with the variables that `hcov inject` prints"
        )
    reasons = [*(f"{item.path}: {item.reason}" for item in set_aside), *losses]
    return CombineError("\n  ".join(["nothing of what was found could be used:", *reasons]))
