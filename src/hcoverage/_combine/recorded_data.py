"""Reads recordings, finds their sources on this machine, and reports the outcome for each."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from coverage.files import TreeMatcher

from hcoverage._combine.recorded_part import Group, select
from hcoverage._read.batches import run_batches
from hcoverage._read.origins import images_of, label, place_of
from hcoverage._read.recording_batch import (
    GroupKey,
    Machine,
    RanSource,
    ReadSegment,
    Recorded,
    read_batch,
    this_machine,
)
from hcoverage._read.recording_files import read_files
from hcoverage._result.merged import PathMap
from hcoverage._result.outcome import OtherVersion, RecordedData, RecordedProcess
from hcoverage._sources.choice import installed_places
from hcoverage._sources.finder import Ran
from hcoverage._sources.identity import Sources, size_and_checksum, with_checksum
from hcoverage._untrusted.set_aside import SetAside

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from concurrent.futures import Executor

    from coverage.config import CoverageConfig

    from hcoverage._read.origins import Origins
    from hcoverage._read.part import Part
    from hcoverage._read.recording_files import LostProcess
    from hcoverage._read.recording_format import ProcessIdentity, SourceLines
    from hcoverage._sources.choice import Choice
    from hcoverage._sources.finder import SourceFinder
    from hcoverage._sources.identity import Known


def read_recorded_data(
    files: Iterable[Path],
    config: CoverageConfig,
    *,
    finder: SourceFinder | None = None,
    known: Mapping[str, Known] | None = None,
    executor: Executor | None = None,
    progress: Callable[[int], object] = int,
    origins: Origins | None = None,
    choice: Choice | None = None,
) -> tuple[RecordedData, Part | None]:
    """Read recordings, and keep what coverage.py would have measured.

    Args:
        files: The recorder's files.
        config: The rcfile's settings.
        finder: Finds sources of containers that `[paths]` does not map; None to skip that.
        known: The state of sources when the run began, by path.
        executor: Reads the files; None to read them in this process.
        progress: Called with the number of files that were just read.
        origins: Finds the origins of processes, which become prefixes of their contexts; None to
            leave contexts as they are.
        choice: Decides by the settings what counts, if the caller has made one already.

    Returns:
        The outcome; and the part to merge, None if nothing was recorded.
    """
    files = list(files)
    notes = read_files(file for file in files if not _is_segment(file)).lost
    here = this_machine()  # called once: it reads the mounts
    read = functools.partial(read_batch, here=here, origins=origins)
    found = _read([file for file in files if _is_segment(file)], read, executor, progress)
    if not (found.segments or notes or found.unreadable or found.empty):
        return RecordedData(), None
    of_hosts = images_of(segment.process for segment in found.segments)
    # Only after all recordings are read: any process may know its host's image.
    origins = origins and origins.with_hosts(of_hosts)
    sources = {key: tuple(found.sources(key)) for key in found.processes}
    moved = _moved(found, sources, config, finder, here)
    if finder is not None:
        present = Sources(known or {})
        for key in (
            key for key, process in found.processes.items() if _machine_of(process) == here
        ):
            moved[key] |= _under_another_root(sources[key], finder, present)
    groups = {
        key: Group(
            process,
            _as_here(sources[key], moved[key]),
            is_here=_machine_of(process) == here,
            before=label(origins.of_process(process), "") if origins else "",
        )
        for key, process in found.processes.items()
    }
    selected = select(groups.values(), config, known=known, choice=choice)
    left_out = {id(group) for group in selected.without_branches}
    used = {key for key, group in groups.items() if id(group) not in left_out}
    whole = [segment for segment in found.segments if segment.key in used and not segment.damage]
    recorded = RecordedData(
        merged=(
            *(Path(file) for file in [*(segment.file for segment in whole), *found.empty]),
            *(lost.file for lost in notes),
        ),
        set_aside=tuple(_set_aside(found, used)),
        processes=tuple(
            _processes((segment for segment in found.segments if segment.key in used), origins)
        ),
        stale=tuple(sorted(selected.stale)),
        losses=tuple(_losses(found.segments, notes, origins)),
        other_versions=tuple(_other_versions(selected.stale, moved.values())),
        of_hosts=of_hosts,
    )
    return recorded, selected.part


def _is_segment(file: Path) -> bool:
    return ".hcrec.lost-" not in file.name


def _read(
    files: list[Path],
    read: Callable[[Sequence[str]], Recorded],
    executor: Executor | None,
    progress: Callable[[int], object],
) -> Recorded:
    found = Recorded()

    def lost(file: str) -> None:
        reason = "reading it crashes the process that reads it"
        found.unreadable.append(SetAside(Path(file), reason))

    for batch in run_batches(read, [str(file) for file in files], executor, lost):
        progress(len(batch.segments) + len(batch.unreadable) + len(batch.empty))
        found.add(batch)
    return found


def _moved(
    found: Recorded,
    sources: Mapping[GroupKey, Iterable[RanSource]],
    config: CoverageConfig,
    finder: SourceFinder | None,
    here: Machine,
) -> dict[GroupKey, dict[Ran, str]]:
    """Map the sources of each group that have another path here than where they ran.

    This comes before coverage.py decides whether a source counts: `source`, `include` and `omit`
    refer to files of this machine. The rcfile's `[paths]` has precedence.
    """
    by_rcfile = functools.cache(_by_rcfile(config))
    moved: dict[GroupKey, dict[Ran, str]] = {}
    unknown: dict[GroupKey, set[Ran]] = {}
    for key, process in found.processes.items():
        ran = {_ran(each.source) for each in sources[key]}
        moved[key] = {each: place for each in ran if (place := by_rcfile(each.path))}
        if finder is not None and _machine_of(process) != here:
            is_installed = TreeMatcher(installed_places(process), "installed")
            left = ran - moved[key].keys()
            unknown[key] = {each for each in left if not _is_same(each, each.path)}
            finder.installed.update(each.path for each in left if is_installed.match(each.path))
    if finder is not None and any(unknown.values()):
        distinct = {each for left in unknown.values() for each in left}
        ordered = sorted(distinct, key=lambda each: (each.path, each.checksum or 0))
        places = finder.find_recorded(ordered)
        for key, left in unknown.items():
            moved[key].update({each: places[each] for each in left if each in places})
    return moved


def _under_another_root(
    sources: Iterable[RanSource], finder: SourceFinder, present: Sources
) -> dict[Ran, str]:
    """Map the sources that a process of this machine ran after `chroot` into the project."""
    moved = {}
    for source in (each.source for each in sources):
        if source.size is not None and not os.path.lexists(source.path):
            places = [
                place
                for place in finder.ending_with(source.path)
                if present.is_current(source._replace(path=place))
            ]
            if len(places) == 1:
                moved[_ran(source)] = places[0]
    return moved


def _by_rcfile(config: CoverageConfig) -> Callable[[str], str]:
    """Return a function that maps a path by `[paths]`, to an empty string if it stays the same."""
    map_path = PathMap(config)

    def place(path: str) -> str:
        here = os.path.abspath(map_path(path))  # noqa: PTH100 - relative_files
        return here if here != path and os.path.isfile(here) else ""  # noqa: PTH113 - may hold a NUL

    return place


def _machine_of(process: ProcessIdentity) -> Machine:
    return process.host, process.container


def _is_same(ran: Ran, place: str) -> bool:
    """Return whether a file here is the source that ran elsewhere."""
    present = size_and_checksum(place)
    return present is not None and (ran.checksum is None or present == (ran.size, ran.checksum))


def _ran(source: SourceLines) -> Ran:
    return Ran(source.path, source.size, source.checksum)


def _as_here(sources: Iterable[RanSource], moved: Mapping[Ran, str]) -> tuple[RanSource, ...]:
    """Return the sources under their paths on this machine."""
    return tuple(
        each._replace(source=with_checksum(each.source)._replace(path=moved[ran]))
        if (ran := _ran(each.source)) in moved
        else each
        for each in sources
    )


def _other_versions(
    stale: Collection[str], moved: Iterable[Mapping[Ran, str]]
) -> list[OtherVersion]:
    """Return the stale sources that ran elsewhere, and where."""
    elsewhere = {
        OtherVersion(here, ran.path)
        for places in moved
        for ran, here in places.items()
        if here in stale and not _is_same(ran, here)
    }
    return sorted(elsewhere, key=lambda source: (source.path, source.there))


def _set_aside(found: Recorded, used: set[GroupKey]) -> Iterator[SetAside]:
    yield from found.unreadable
    for segment in found.segments:
        if segment.key not in used:
            yield SetAside(Path(segment.file), "it has line data, but the rcfile wants branches")
        elif segment.damage:
            yield SetAside(Path(segment.file), f"only in part: {_damage(segment)}")


def _damage(segment: ReadSegment) -> str:
    first, *others = segment.damage
    return f"{first} (and {len(others)} more)" if others else first


def _processes(segments: Iterable[ReadSegment], origins: Origins | None) -> list[RecordedProcess]:
    """Return the recorded processes by start time; a process may have written several segments."""
    by_token: dict[str, ProcessIdentity] = {}
    contexts: dict[str, frozenset[str]] = {}
    together: set[str] = set()
    for segment in segments:
        token = segment.process.token
        by_token.setdefault(token, segment.process)
        contexts[token] = segment.contexts | contexts.get(token, frozenset())
        if segment.has_together:
            together.add(token)
    started = sorted(by_token.values(), key=lambda process: process.started)
    return [
        RecordedProcess(
            who.host,
            who.pid,
            who.python,
            who.argv,
            origins.of_process(who) if origins else "",
            contexts[who.token],
            who.core,
            who.token in together,
        )
        for who in started
    ]


def _losses(
    segments: Iterable[ReadSegment], lost: Iterable[LostProcess], origins: Origins | None
) -> Iterator[str]:
    for process in lost:
        reason = _reason(process.error)
        yield f"process {process.pid} on {process.host} could record nothing: {reason}"
    for segment in segments:
        if segment.loss is not None:
            who, count = segment.process, segment.loss.times
            place = (origins and place_of(origins.of_process(who))) or f"on {who.host}"
            yield (
                f"process {who.pid} {place} could not record {count} sources or "
                f"lines: {_reason(segment.loss.error)}"
            )


# What is no error of the system: docs/recording-format.md.
_REASONS: Final = {
    0: "something in the process itself refused it",
    65536: "it freed hcov's tool id of `sys.monitoring`, and what first ran after that is missing",
    65537: "all tool ids of `sys.monitoring` were taken",
    65538: "a branch went where its bytecode does not say",
}


def _reason(error: int) -> str:
    return _REASONS.get(error) or os.strerror(error)
