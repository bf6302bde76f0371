"""Move a file, also to another file system, so that it is whole in one place at any moment."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from hcoverage._untrusted.file import open_regular

if TYPE_CHECKING:
    from typing import BinaryIO


def move(source: Path, target: Path) -> None:
    """Move what anybody may have written.

    Args:
        source: A file; on the same file system, anything.
        target: Where it is to be; there must be nothing.

    Raises:
        UntrustedDataError: It is on another file system and no regular file, or too large.
        OSError: It cannot be moved. In any case it is where it was.
    """
    try:
        source.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy(source, target)
        source.unlink()


def _copy(source: Path, target: Path) -> None:
    """Copy a regular file; no link is followed, and no more copied than can be right."""
    with open_regular(source) as file:
        descriptor, scratch = tempfile.mkstemp(dir=target.parent, prefix=".moving.")
        _write(file, descriptor, Path(scratch), target)


def _write(file: BinaryIO, descriptor: int, scratch: Path, target: Path) -> None:
    try:
        with os.fdopen(descriptor, "wb") as copy:
            shutil.copyfileobj(file, copy)
            status = os.fstat(file.fileno())
            copy.flush()
            os.fchmod(descriptor, status.st_mode & 0o777)
            os.utime(descriptor, ns=(status.st_atime_ns, status.st_mtime_ns))
            os.fsync(descriptor)
        scratch.replace(target)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise
    directory = os.open(target.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
