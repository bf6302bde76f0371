"""Turn recordings into one data file that coverage.py can combine with all others."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from coverage import CoverageData

from hcoverage._combine_result import RecordedData, RecordedProcess, SetAside
from hcoverage._recordings import DataDirectory, Recording, Segment, add_to_data, read_files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from coverage.config import CoverageConfig


def write_recorded_data(
    files: Iterable[Path],
    config: CoverageConfig,
    data_file: Path,
    local_path: Callable[[str], str] = lambda path: path,
) -> RecordedData:
    """Write what recordings hold, filtered as coverage.py would have, into a new data file.

    Args:
        files: The recorder's files.
        config: The rcfile's settings.
        data_file: The data file to write; there is none if nothing was recorded.
        local_path: Says where the source of a recorded path is on this machine.

    Returns:
        What is in the data file, and what is not.
    """
    found = read_files(files)
    if not (found.recordings or found.lost or found.unreadable):
        return RecordedData()
    data = CoverageData(basename=str(data_file))
    selected = add_to_data(found.recordings, data, config, local_path)
    if found.recordings:
        data.write()
    data.close()
    without = {id(recording) for recording in selected.without_branches}
    used = [recording for recording in found.recordings if id(recording) not in without]
    whole = [segment for recording in used for segment in recording.segments if not segment.damage]
    return RecordedData(
        merged=(*(segment.file for segment in whole), *(lost.file for lost in found.lost)),
        set_aside=tuple(_set_aside(found, used)),
        processes=tuple(_process(recording) for recording in used),
        stale=tuple(sorted(selected.stale)),
        losses=tuple(_losses(found)),
    )


def _set_aside(found: DataDirectory, used: list[Recording]) -> Iterator[SetAside]:
    for unreadable in found.unreadable:
        yield SetAside(unreadable.file, unreadable.reason)
    for recording in found.recordings:
        for segment in recording.segments:
            if recording not in used:
                yield SetAside(segment.file, "it has line data, but the rcfile wants branches")
            elif segment.damage:
                yield SetAside(segment.file, f"only in part: {_damage(segment)}")


def _damage(segment: Segment) -> str:
    first, *others = segment.damage
    return f"{first} (and {len(others)} more)" if others else first


def _process(recording: Recording) -> RecordedProcess:
    process = recording.process
    return RecordedProcess(process.host, process.pid, process.python, process.argv)


def _losses(found: DataDirectory) -> Iterator[str]:
    for lost in found.lost:
        reason = os.strerror(lost.error)
        yield f"process {lost.pid} on {lost.host} could record nothing: {reason}"
    for recording in found.recordings:
        for segment in recording.segments:
            if segment.loss is not None:
                process, count = recording.process, segment.loss.count
                yield (
                    f"process {process.pid} on {process.host} could not record {count} sources or "
                    f"lines: {os.strerror(segment.loss.error)}"
                )
