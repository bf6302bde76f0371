"""Finds and reads the recorder's files in a data directory.

Left to others: what the bytes mean (``recording_format``), merging thousands of recordings fast
(``recording_batch``), which sources count (``_sources.choice``), mapping paths and merging into
``.coverage`` (``combine``), and all output.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from hcoverage._data_directory.names import RECORDING_SUFFIX
from hcoverage._read.recording_format import (
    LARGEST_SEGMENT,
    ProcessIdentity,
    RecordingError,
    Segment,
    SourceLines,
    in_context,
    parse_segment,
)
from hcoverage._untrusted.file import UntrustedDataError, read_regular
from hcoverage._untrusted.set_aside import SetAside

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator

_NAME_PARTS: Final = 4


class LostProcess(NamedTuple):
    """A process that could record nothing at all.

    Attributes:
        file: The empty file that shows it.
        host: The name of its host or container.
        pid: Its process id there.
        error: The ``errno`` of the failure.
    """

    file: Path
    host: str
    pid: int
    error: int


class Recording(NamedTuple):
    """What the recorder wrote for one process.

    Attributes:
        process: The process.
        segments: The files, by number.
    """

    process: ProcessIdentity
    segments: tuple[Segment, ...]

    @property
    def sources(self) -> Iterator[SourceLines]:
        """Yield what ran, from all segments."""
        return (source for segment in self.segments for source in segment.sources)

    def by_context(self) -> list[Recording]:
        """Split a recording into one for each context."""
        sources: dict[str, list[SourceLines]] = {}
        for source in self.sources:
            sources.setdefault(source.context, []).append(source)
        if not any(sources):
            return [self]
        return [
            Recording(in_context(self.process, context), (Segment.of(self.process, found),))
            for context, found in sources.items()
        ]


class DataDirectory(NamedTuple):
    """All of the recorder's files in a data directory.

    Attributes:
        recordings: One for each process, by start time.
        lost: Processes that could record nothing.
        unreadable: Files that look like recordings and cannot be read.
    """

    recordings: tuple[Recording, ...]
    lost: tuple[LostProcess, ...]
    unreadable: tuple[SetAside, ...]


def read_files(files: Iterable[Path]) -> DataDirectory:
    """Read recordings at any time, even while they are being written.

    Args:
        files: The recorder's files; other files are ignored.
    """
    segments = []
    lost = []
    unreadable = []
    for file in files:
        if file.name.endswith(RECORDING_SUFFIX):
            try:
                segments.append(read_segment(file))
            except (OSError, RecordingError) as error:
                unreadable.append(SetAside(file, str(error)))
        elif f"{RECORDING_SUFFIX}.lost-" in file.name:
            process = _parse_lost(file)
            if process is not None:
                lost.append(process)
    return DataDirectory(_by_process(segments), tuple(lost), tuple(unreadable))


def read_segment(file: str | os.PathLike[str]) -> Segment:
    """Read one file of a recording.

    Args:
        file: The file. A link, or anything but a regular file, is refused.

    Raises:
        OSError: The file cannot be opened or read.
        RecordingError: The file is not a recording, or its header is damaged.
    """
    try:
        content, _ = read_regular(file, LARGEST_SEGMENT)
    except UntrustedDataError as error:
        raise RecordingError(str(error)) from None
    return parse_segment(Path(file), content)


def _by_process(segments: Iterable[Segment]) -> tuple[Recording, ...]:
    by_token: dict[str, list[Segment]] = {}
    for segment in segments:
        by_token.setdefault(segment.process.token, []).append(segment)
    recordings = [
        Recording(parts[0].process, tuple(parts))
        for parts in (sorted(group, key=lambda part: part.part) for group in by_token.values())
    ]
    return tuple(sorted(recordings, key=lambda recording: recording.process.started))


def _parse_lost(file: Path) -> LostProcess | None:
    name, _, code = file.name.rpartition(".lost-")
    parts = name.removesuffix(RECORDING_SUFFIX).rsplit(".", 3)
    if len(parts) != _NAME_PARTS or not parts[1].isdecimal() or not code.isdecimal():
        return None
    return LostProcess(file, parts[0], int(parts[1]), int(code))
