"""Open a file that anybody may have put there: no link followed, no fifo waited for, bounded."""

from __future__ import annotations

import os
import stat
from typing import BinaryIO, Final

# Far above what a process writes, and far below what would hurt. In bytes.
LARGEST: Final = 1 << 30


class UntrustedDataError(Exception):
    """What lies there is not used; the message says why."""


def open_regular(path: str | os.PathLike[str], largest: int = LARGEST) -> BinaryIO:
    """Open a regular file for reading.

    Args:
        path: The file. A link is refused, as is everything that is no regular file.
        largest: How many bytes it may have; holes count as what they read as.

    Returns:
        The open file.

    Raises:
        UntrustedDataError: It is not a regular file, or too large.
        OSError: It cannot be opened.
    """
    # O_NONBLOCK: a FIFO put here must not stop the merge until somebody writes to it.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
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
