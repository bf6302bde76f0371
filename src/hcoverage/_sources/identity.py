"""Checks whether a source on this machine has changed since a process ran it.

A recording has the size and CRC-32 of each source, or its size and time if nobody had touched it
since the session began. For such sources of the project the session keeps the CRC-32, so that one
written again with the same text counts as unchanged. A recording may name any file on this machine,
so files are opened with care.
"""

from __future__ import annotations

import functools
import os
from binascii import crc32
from typing import TYPE_CHECKING, Final, TypeAlias

from hcoverage._read.definitions import Definition, definitions_in
from hcoverage._untrusted.file import UntrustedDataError, open_regular

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from hcoverage._read.recording_format import SourceLines

_LARGEST_SOURCE: Final = 64 << 20  # bytes

Known: TypeAlias = tuple[int, int, int]
"""The size of a source in bytes, its modification time in nanoseconds, and its CRC-32."""


class Sources:
    """The sources on this machine, compared with their state when they ran."""

    def __init__(self, known: Mapping[str, Known]) -> None:
        self._known = known
        self._present = functools.cache(size_and_checksum)
        self._statements: dict[str, Mapping[int, int]] = {}
        self._definitions: dict[str, Sequence[Definition]] = {}
        self._current: dict[tuple[str, int | None, int | None, int | None], bool] = {}

    def is_current(self, source: SourceLines) -> bool:
        """Return whether a source is unchanged since it ran; true if it no longer exists."""
        # There may be thousands of contexts, each with a record of the source.
        ran = (source.path, source.size, source.checksum, source.modified)
        if ran not in self._current:
            self._current[ran] = self._is_current(source)
        return self._current[ran]

    def _is_current(self, source: SourceLines) -> bool:
        if source.size is None:
            return True
        if source.checksum is None:
            return _is_untouched(source) or self._has_same_text(source)
        checksum = with_checksum(source).checksum
        present = self._present(source.path)
        return present is None or checksum is None or present == (source.size, checksum)

    def _has_same_text(self, source: SourceLines) -> bool:
        """Return whether a source written since the session began has the same text as then."""
        size, modified, checksum = self._known.get(source.path, (None, None, None))
        ran = (source.size, source.modified)
        return ran == (size, modified) and self._present(source.path) == (size, checksum)

    def statements(self, path: str) -> Mapping[int, int]:
        """Map each line of a multi-line statement to the statement's first line."""
        # Imported here: not every release of coverage.py has it, and only branches need it.
        from coverage.sysmon import compute_multiline_map  # noqa: PLC0415

        if path not in self._statements:
            # Not a FIFO or a device, which a recording may name: reading would never end.
            is_file = os.path.isfile(path)  # noqa: PTH113 - a name with NUL is no error here
            self._statements[path] = compute_multiline_map(path) if is_file else {}
        return self._statements[path]

    def definitions(self, path: str) -> Sequence[Definition]:
        """Return the functions and classes of a source that are in one line."""
        if path not in self._definitions:
            is_file = os.path.isfile(path)  # noqa: PTH113 - a name with NUL is no error here
            self._definitions[path] = definitions_in(path) if is_file else ()
        return self._definitions[path]


def known_now(paths: Iterable[str]) -> dict[str, Known]:
    """Return the present state of sources, in case they are written again with the same text.

    Args:
        paths: Absolute paths.
    """
    found = {}
    for path in paths:
        try:
            status = os.stat(path)  # noqa: PTH116 - a str for thousands
        except OSError:
            continue
        present = size_and_checksum(path)
        if present is not None and present[0] == status.st_size:
            found[path] = (present[0], status.st_mtime_ns, present[1])
    return found


def with_checksum(source: SourceLines) -> SourceLines:
    """Return a source with its checksum, if it has only its time and is unchanged."""
    if source.checksum is not None or source.size is None or not _is_untouched(source):
        return source
    present = size_and_checksum(source.path)
    return source if present is None else source._replace(checksum=present[1])


def _is_untouched(source: SourceLines) -> bool:
    """Return whether a source has its old size and time; true if it no longer exists."""
    try:
        status = os.stat(source.path)  # noqa: PTH116 - may hold a NUL
    except (OSError, ValueError):
        return True
    return (status.st_size, status.st_mtime_ns) == (source.size, source.modified)


def size_and_checksum(path: str) -> tuple[int, int] | None:
    """Read a file that a recording names, which may be anything on this machine.

    Returns:
        Its size in bytes and CRC-32; None if it cannot be a source.
    """
    try:
        with open_regular(path, _LARGEST_SOURCE, follow=True) as file:
            content = file.read(_LARGEST_SOURCE)
    except (OSError, ValueError, UntrustedDataError):  # a name that no file can have: ValueError
        return None
    return len(content), crc32(content)
