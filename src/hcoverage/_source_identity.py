"""Tells whether a source on this machine is what it was when a process ran it.

A recording knows it by its size and CRC-32, or by its size and time where nobody had touched it
since the session began. What a recording names may be anything on this machine, so it is opened
with care.
"""

from __future__ import annotations

import os
import stat
from binascii import crc32
from dataclasses import replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from hcoverage._recording_format import SourceLines

_LARGEST_SOURCE: Final = 64 << 20  # bytes


class NoSourceError(Exception):
    """What a recording names is nothing that a source can be."""


class Sources:
    """The sources on this machine, compared with what they were when they ran."""

    def __init__(self, local_path: Callable[[str], str]) -> None:
        self._local_path = local_path
        self._known: dict[str, tuple[int, int] | None] = {}
        self._statements: dict[str, Mapping[int, int]] = {}
        self._current: dict[tuple[str, int | None, int | None, int | None], bool] = {}

    def is_current(self, source: SourceLines) -> bool:
        """Tell whether a source is what it was when it ran; also where it is no more."""
        # There may be thousands of contexts, and in each a record of it.
        ran = (source.path, source.size, source.checksum, source.modified)
        if ran not in self._current:
            self._current[ran] = self._is_current(source)
        return self._current[ran]

    def _is_current(self, source: SourceLines) -> bool:
        if source.size is None:
            return True
        here = self._local_path(source.path)
        if source.checksum is None and here == source.path:
            return _is_untouched(source)
        checksum = with_checksum(source).checksum
        present = self._present(here)
        return present is None or checksum is None or present == (source.size, checksum)

    def statements(self, path: str) -> Mapping[int, int]:
        """For the lines of statements of several lines, the first one's number."""
        # Not in every release of coverage.py, and needed for branches only.
        from coverage.sysmon import compute_multiline_map  # noqa: PLC0415

        if path not in self._statements:
            local = self._local_path(path)
            # Not what would never end, as a FIFO or a device that a recording names.
            is_file = os.path.isfile(local)  # noqa: PTH113 - a name with NUL is no error here
            self._statements[path] = compute_multiline_map(local) if is_file else {}
        return self._statements[path]

    def _present(self, path: str) -> tuple[int, int] | None:
        if path not in self._known:
            try:
                content = read_source(path)
            except (OSError, ValueError, NoSourceError):
                self._known[path] = None
            else:
                self._known[path] = (len(content), crc32(content))
        return self._known[path]


def with_checksum(source: SourceLines) -> SourceLines:
    """Give a source that is known by its time the checksum too, while it is what it was."""
    if source.checksum is not None or source.size is None or not _is_untouched(source):
        return source
    try:
        content = read_source(source.path)
    except (OSError, ValueError, NoSourceError):
        return source
    return replace(source, checksum=crc32(content))


def _is_untouched(source: SourceLines) -> bool:
    """Whether a source has the size and time that it had; also where it is no more."""
    try:
        status = os.stat(source.path)  # noqa: PTH116 - may hold a NUL
    except (OSError, ValueError):
        return True
    return (status.st_size, status.st_mtime_ns) == (source.size, source.modified)


def read_source(path: str) -> bytes:
    """Read the source that a recording names, which may be anything on this machine.

    Raises:
        NoSourceError: It is no regular file, or too large for a source.
        OSError: It cannot be read.
        ValueError: Its name is none that a file can have.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as stream:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > _LARGEST_SOURCE:
            raise NoSourceError("not a source")
        return stream.read(_LARGEST_SOURCE)
