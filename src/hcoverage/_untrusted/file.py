"""Opens and reads files that anybody may have made: follows no link, waits for no FIFO."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, BinaryIO, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

# Bytes: far more than a process writes, far less than would hurt.
LARGEST: Final = 1 << 30

# O_NONBLOCK: a FIFO put here must not stop the merge until somebody writes to it.
_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


# Device, inode, size and modification time: these change if the file is replaced or written to.
Stamp: TypeAlias = tuple[int, int, int, int]


class UntrustedDataError(Exception):
    """The file must not be used; the message says why."""


class CutShortError(UntrustedDataError):
    """The file has only its beginning: its process ended while it wrote."""


def open_regular(
    path: str | os.PathLike[str], largest: int = LARGEST, *, follow: bool = False
) -> BinaryIO:
    """Open a regular file for reading.

    Args:
        path: The file. A link is refused, like everything that is not a regular file.
        largest: The most bytes that it may have, including holes.
        follow: Follow a link, if it leads to a regular file.

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
        path: The file. A link is refused, like everything that is not a regular file.
        largest: The most bytes that it may have.

    Returns:
        Its content, and the stamp that identifies it.

    Raises:
        UntrustedDataError: It is not a regular file, or too large.
        OSError: It cannot be opened or read.
    """
    # Without a file object: there may be ten thousand files.
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
    """Return the stamp that differs for another file of the same name, and after a change."""
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def _rest(descriptor: int, missing: int) -> Iterator[bytes]:
    """Read the rest where the kernel returned less than requested, as it does over 2 GiB."""
    while missing > 0:
        piece = os.read(descriptor, missing)
        if not piece:
            return
        missing -= len(piece)
        yield piece
