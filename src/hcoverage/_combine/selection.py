"""Decides which of the gathered data goes into the result, and which is set aside.

It imports much of coverage.py, so it is imported late itself. `_sources` decides which file here a
source is, and whether it counts; `_result.merged` merges the data.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hcoverage._combine.inputs import is_open_to_all
from hcoverage._data_directory.names import process_of
from hcoverage._read.data_file_batch import Batch, ReadFile, read_batch
from hcoverage._read.part import Kind, Part
from hcoverage._result.merged import (
    Merged,
    PathMap,
    choose_kind,
    is_from_elsewhere,
    tracer_conflicts,
    why_odd,
)
from hcoverage._result.origin_data import OriginsError, read_origins
from hcoverage._result.outcome import OtherVersion, RecordedData
from hcoverage._sources.finder import Ran
from hcoverage._untrusted.set_aside import SetAside

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from hcoverage._combine.gathering import Found
    from hcoverage._read.origins import Origins


class Selection(NamedTuple):
    """What is merged, and what is not.

    Attributes:
        merged: The content of the result.
        files: The data files that are in it.
        recorded: The outcome of reading recordings.
        processes: How many processes of each origin are in it.
        set_aside: Files that are not, or not wholly, in it, and why.
        outlived: Cut-short files of processes that are in it with a whole one.
        has_data: Whether there is a result to write.
        other_versions: Measured files that are left out because they have another version here.
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


def select(found: Found, existing: Batch | None, *, is_of_run: bool) -> Selection:
    """Decide which of the data that was read goes into the result, and merge it.

    Args:
        found: The data.
        existing: Data that must stay in the result; None if there is none.
        is_of_run: Whether it is the data of one run. Then its rcfile decides between lines and
            branches: of a process that measured by another one, or by options, lines are enough.
    """
    recorded_part = found.recorded_part or Part()
    kinds = _kinds(found, recorded_part, existing, is_of_run=is_of_run)
    kind = kinds[0]
    map_path = PathMap(found.settings)
    wanted = [found.batch.parts[each] for each in kinds if each in found.batch.parts]
    map_path.learn(wanted)
    other_versions = _find_here(wanted, map_path, found)
    merged = Merged()
    processes = _begin_with(existing, merged)
    measured = _measured(found, kinds, merged, map_path)
    left_out = {source.there for source in other_versions}
    for each in kinds:
        part = measured.parts.get(each, Part())
        unwanted = {path for path in part.paths if not found.choice.wants(map_path(path))}
        counting = part.without(left_out | unwanted)
        merged.add(counting.as_lines() if kind is Kind.LINES else counting, map_path)
    processes.update(_add_known_origins(merged, _results(measured.files), map_path))
    processes.update(file.origin for file in measured.files if file.origin)
    recorded = found.recorded
    if recorded_part.kind in (kind, Kind.NOTHING):
        merged.add(recorded_part, map_path.by_rcfile)
    else:
        recorded = _set_all_aside(recorded, kind)
    processes.update(process.origin for process in recorded.processes)
    return Selection(
        merged=merged,
        files=measured.files,
        recorded=recorded,
        processes=processes,
        set_aside=[*measured.set_aside, *recorded.set_aside],
        outlived=measured.outlived,
        has_data=bool(measured.files or existing or found.recorded_part is not None),
        other_versions=other_versions,
    )


def _kinds(
    found: Found, recorded_part: Part, existing: Batch | None, *, is_of_run: bool
) -> list[Kind]:
    """Return which kinds of data are merged; the first is that of the result."""
    kind = choose_kind(
        found.batch.files,
        [recorded_part.kind for _ in found.recorded.processes],
        existing,
        branch=found.settings.branch,
        lines_are_enough=is_of_run,
    )
    as_lines = is_of_run and kind is Kind.LINES and not found.settings.branch
    return [kind, Kind.NOTHING, *([Kind.ARCS] if as_lines else [])]


class _Measured(NamedTuple):
    """Which of coverage.py's data is merged, and which is not.

    Attributes:
        files: The data files that are merged.
        parts: Their content, by kind.
        set_aside: The files that are left out, and why.
        outlived: Cut-short files of processes that also have a whole one.
    """

    files: list[ReadFile]
    parts: Mapping[Kind, Part]
    set_aside: list[SetAside]
    outlived: set[Path]


def _begin_with(existing: Batch | None, merged: Merged) -> Counter[str]:
    """Merge the data that must stay; return how many processes each of its origins had."""
    if existing is None:
        return Counter()
    for part in existing.parts.values():
        merged.add(part, _as_it_is)
    return _add_known_origins(merged, existing.files, _as_it_is)


def _measured(
    found: Found, kinds: Sequence[Kind], merged: Merged, map_path: Callable[[str], str]
) -> _Measured:
    """Select the data files that fit each other and what is merged already."""
    fitting, set_aside = _fitting(found.batch, kinds)
    outlived = _outlived(found.batch, fitting, found.recorded)
    set_aside = [item for item in set_aside if item.path not in outlived]
    files, parts, conflicting = _without_conflicts(
        found.batch, fitting, merged, map_path, found.origins
    )
    return _Measured(files, parts, [*set_aside, *conflicting], outlived)


def _find_here(parts: list[Part], map_path: PathMap, found: Found) -> list[OtherVersion]:
    """Find the measured files of containers here; return those that have another version here."""
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


def _fitting(batch: Batch, kinds: Sequence[Kind]) -> tuple[list[ReadFile], list[SetAside]]:
    """Separate the files that have one of some kinds of data from the others."""
    ordered = sorted(batch.files, key=lambda file: file.path)
    fitting = [file for file in ordered if file.kind in kinds]
    odd = [file for file in ordered if file.kind not in kinds]
    names = [os.path.basename(file.path) for file in fitting if file.kind is kinds[0]]  # noqa: PTH119
    refused = sorted(batch.refused, key=lambda each: each.path)
    return fitting, [*refused, *(SetAside(Path(file.path), why_odd(file, names)) for file in odd)]


def _outlived(batch: Batch, files: list[ReadFile], recorded: RecordedData) -> set[Path]:
    """Find cut-short files whose process has another file, which was saved before.

    `_inside.autosave` removes its own file once coverage.py has saved, and so is a recording. If
    both exist, the process ended in between, or could not save; the whole one has all of its data
    that was not lost, or tells why there is none.
    """
    cut_short = [refusal.path for refusal in batch.refused if refusal.is_cut_short]
    if not cut_short:
        return set()
    whole = {_process(Path(file.path)) for file in files} | {*map(_process, recorded.merged)}
    return {path for path in cut_short if process_of(path.name) and _process(path) in whole}


def _process(path: Path) -> tuple[Path, tuple[str, int] | None]:
    # With the directory: there may be one from each of several machines with the same name.
    return path.parent, process_of(path.name)


def _without_conflicts(
    batch: Batch,
    files: list[ReadFile],
    merged: Merged,
    map_path: Callable[[str], str],
    origins: Origins,
) -> tuple[list[ReadFile], dict[Kind, Part], list[SetAside]]:
    """Leave out files that name other plugins than the files before them."""
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


def _add_known_origins(
    merged: Merged, files: Iterable[ReadFile], map_path: Callable[[str], str]
) -> Counter[str]:
    """Add the origins that data files hold which are results of other merges.

    Returns:
        How many processes each of the origins had.
    """
    processes: Counter[str] = Counter()
    for file in files:
        with contextlib.suppress(OriginsError):
            known = read_origins(file.path)
            merged.add_origins(known.part, map_path)
            processes.update(known.processes)
    return processes


def _results(files: Iterable[ReadFile]) -> list[ReadFile]:
    """List the data files that merges have written, with the origins that they hold.

    Files in a directory that anybody can write to are excluded: they could claim any origin.
    """
    told = [file for file in files if file.has_origins and not file.origin]
    return [file for file in told if not is_open_to_all(Path(file.path).parent)]


def _as_it_is(path: str) -> str:
    return path
