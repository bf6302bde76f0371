"""Open or read a file that anybody may have put there: no link followed, no fifo waited for."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, BinaryIO, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

# Far above what a process writes, and far below what would hurt. In bytes.
LARGEST: Final = 1 << 30

# O_NONBLOCK: a FIFO put here must not stop the merge until somebody writes to it.
_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


# Device, inode, size and time of modification: another file, or one written to, has another.
Stamp: TypeAlias = tuple[int, int, int, int]


class UntrustedDataError(Exception):
    """What lies there is not used; the message says why."""


class CutShortError(UntrustedDataError):
    """It is the beginning of a file, as is left by a process that is ended while it writes."""


def open_regular(
    path: str | os.PathLike[str], largest: int = LARGEST, *, follow: bool = False
) -> BinaryIO:
    """Open a regular file for reading.

    Args:
        path: The file. A link is refused, as is everything that is no regular file.
        largest: How many bytes it may have; holes count as what they read as.
        follow: Open what a link leads to, if that is a regular file.

    Returns:
        The open file.

    Raises:
        UntrustedDataError: It is not a regular file, or too large.
        OSError: It cannot be opened.
    """
    descriptor = os.open(path, _FLAGS & ~os.O_NOFOLLOW if follow else _FLAGS)
    reason = _refusal(os.fstat(descriptor), largest)
    if reason:
        os.close(descriptor)
        raise UntrustedDataError(reason)
    return os.fdopen(descriptor, "rb")


def _refusal(status: os.stat_result, largest: int) -> str:
    if not stat.S_ISREG(status.st_mode):
        return "it is not a regular file"
    if status.st_size > largest:
        return f"its {status.st_size} bytes are more than can be right"
    return ""


def read_regular(path: str | os.PathLike[str], largest: int = LARGEST) -> tuple[bytes, Stamp]:
    """Read a whole file.

    Args:
        path: The file. A link is refused, as is everything that is no regular file.
        largest: How many bytes it may have.

    Returns:
        Its content, and which file it was.

    Raises:
        UntrustedDataError: It is not a regular file, or too large.
        OSError: It cannot be opened or read.
    """
    # Without a file object around it: there may be ten thousand.
    descriptor = os.open(path, _FLAGS)
    try:
        status = os.fstat(descriptor)
        reason = _refusal(status, largest)
        if reason:
            raise UntrustedDataError(reason)
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
