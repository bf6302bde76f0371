"""Read a file that anybody may have put there: no link followed, no fifo waited for, bounded."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

# Device, inode, size and time of modification: another file, or one written to, has another.
Stamp: TypeAlias = tuple[int, int, int, int]


class NotRegularError(Exception):
    """There is something else than a file in its place, or too large a one; it says what."""


def read_regular(path: str, largest: int) -> tuple[bytes, Stamp]:
    """Read a whole file.

    Args:
        path: The file.
        largest: How many bytes it may have.

    Returns:
        Its content, and which file it was.

    Raises:
        NotRegularError: It is no regular file, or larger.
        OSError: It cannot be opened or read.
    """
    # O_NONBLOCK: a FIFO put here must not stop the merge until somebody writes to it.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise NotRegularError("it is not a regular file")
        if status.st_size > largest:
            raise NotRegularError(f"its {status.st_size} bytes are more than can be right")
        content = os.read(descriptor, status.st_size)
        if len(content) < status.st_size:
            content += b"".join(_rest(descriptor, status.st_size - len(content)))
        return content, stamp(status)
    finally:
        os.close(descriptor)


def stamp(status: os.stat_result) -> Stamp:
    """Tell a file from another one of its name, and from itself after a change."""
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def _rest(descriptor: int, missing: int) -> Iterator[bytes]:
    """Read on where the kernel gave less than was asked for, as it does over 2 GiB."""
    while missing > 0:
        piece = os.read(descriptor, missing)
        if not piece:
            return
        missing -= len(piece)
        yield piece
