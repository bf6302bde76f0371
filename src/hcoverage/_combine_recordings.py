"""Turn recordings into one data file that coverage.py can combine with all others."""

from __future__ import annotations

import dataclasses
import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING

from coverage import CoverageData

from hcoverage._combine_result import RecordedData, RecordedProcess, SetAside
from hcoverage._merge import PathMap
from hcoverage._merge_recordings import GroupKey, Part, Recorded, read_batch
from hcoverage._recordings import (
    ProcessIdentity,
    Recording,
    Segment,
    SourceLines,
    Unreadable,
    add_to_data,
    read_files,
)
from hcoverage._worker_pool import run_batches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Executor

    from coverage.config import CoverageConfig

    from hcoverage._recordings import LostProcess


def write_recorded_data(
    files: Iterable[Path],
    config: CoverageConfig,
    data_file: Path,
    local_path: Callable[[str], str] = lambda path: path,
    *,
    executor: Executor | None = None,
    progress: Callable[[int], object] = int,
) -> RecordedData:
    """Write what recordings hold, filtered as coverage.py would have, into a new data file.

    Args:
        files: The recorder's files.
        config: The rcfile's settings.
        data_file: The data file to write; there is none if nothing was recorded.
        local_path: Says where the source of a recorded path is on this machine.
        executor: Who reads them; None for doing it here.
        progress: Told how many files more have been read.

    Returns:
        What is in the data file, and what is not.
    """
    files = list(files)
    notes = read_files(file for file in files if not _is_segment(file)).lost
    found = _read([file for file in files if _is_segment(file)], config, executor, progress)
    if not (found.parts or notes or found.unreadable):
        return RecordedData()
    to_local = _to_local(config)
    groups = {key: _as_recording(found, key, to_local) for key in found.processes}
    data = CoverageData(basename=str(data_file))
    selected = add_to_data(groups.values(), data, config, local_path)
    data.close()
    left_out = {id(recording) for recording in selected.without_branches}
    used = {key for key, recording in groups.items() if id(recording) not in left_out}
    whole = [part for part in found.parts if part.key in used and not part.damage]
    return RecordedData(
        merged=(*(Path(part.file) for part in whole), *(lost.file for lost in notes)),
        set_aside=tuple(_set_aside(found, used)),
        processes=tuple(_processes(part for part in found.parts if part.key in used)),
        stale=tuple(sorted(selected.stale)),
        losses=tuple(_losses(found.parts, notes)),
    )


def _is_segment(file: Path) -> bool:
    return ".hcrec.lost-" not in file.name


def _read(
    files: list[Path],
    config: CoverageConfig,
    executor: Executor | None,
    progress: Callable[[int], object],
) -> Recorded:
    found = Recorded()
    read = functools.partial(read_batch, by_directory=config.relative_files)

    def lost(file: str) -> None:
        reason = "reading it ends the process that does"
        found.unreadable.append(Unreadable(Path(file), reason))

    for batch in run_batches(read, [str(file) for file in files], executor, lost):
        progress(len(batch.parts) + len(batch.unreadable))
        found.add(batch)
    return found


def _to_local(config: CoverageConfig) -> Callable[[SourceLines], SourceLines]:
    """Give what puts a source of a container where `[paths]` says that it is here.

    It has to be there before coverage.py decides whether it is wanted: `source`, `include` and
    `omit` are about the files of this machine.
    """
    map_path = PathMap(config)

    def to_local(source: SourceLines) -> SourceLines:
        here = os.path.abspath(map_path(source.path))  # noqa: PTH100 - relative_files
        if here == source.path or not os.path.isfile(here):  # noqa: PTH113 - may hold a NUL
            return source
        return dataclasses.replace(source, path=here)

    return to_local


def _as_recording(
    found: Recorded, key: GroupKey, to_local: Callable[[SourceLines], SourceLines]
) -> Recording:
    """What the processes of a group recorded, as if one of them had done it all."""
    process = found.processes[key]
    sources = tuple(to_local(source) for source in found.sources(key))
    segment = Segment(Path(), process, 1, sources, None, ())
    return Recording(process, (segment,))


def _set_aside(found: Recorded, used: set[GroupKey]) -> Iterator[SetAside]:
    for unreadable in found.unreadable:
        yield SetAside(unreadable.file, unreadable.reason)
    for part in found.parts:
        if part.key not in used:
            yield SetAside(Path(part.file), "it has line data, but the rcfile wants branches")
        elif part.damage:
            yield SetAside(Path(part.file), f"only in part: {_damage(part)}")


def _damage(part: Part) -> str:
    first, *others = part.damage
    return f"{first} (and {len(others)} more)" if others else first


def _processes(parts: Iterable[Part]) -> list[RecordedProcess]:
    """Who recorded, in the order they started; a process may have written several segments."""
    by_token: dict[str, ProcessIdentity] = {}
    for part in parts:
        by_token.setdefault(part.process.token, part.process)
    started = sorted(by_token.values(), key=lambda process: process.started)
    return [RecordedProcess(who.host, who.pid, who.python, who.argv) for who in started]


def _losses(parts: Iterable[Part], lost: Iterable[LostProcess]) -> Iterator[str]:
    for process in lost:
        reason = os.strerror(process.error)
        yield f"process {process.pid} on {process.host} could record nothing: {reason}"
    for part in parts:
        if part.loss is not None:
            who, count = part.process, part.loss.count
            yield (
                f"process {who.pid} on {who.host} could not record {count} sources or "
                f"lines: {os.strerror(part.loss.error)}"
            )
