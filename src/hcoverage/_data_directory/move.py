"""Moves a file, even to another file system, so that one place has it whole at any moment."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hcoverage._untrusted.file import open_regular

if TYPE_CHECKING:
    from typing import BinaryIO

UNFINISHED_PREFIX: Final = ".moving."


def move(source: Path, target: Path) -> None:
    """Move a file that anybody may have written.

    Args:
        source: A file; on the same file system, anything.
        target: The new path; nothing may exist there.

    Raises:
        UntrustedDataError: The target is on another file system, and the source is too large or
            not a regular file.
        OSError: The file cannot be moved. After any error it is still at its old path.
    """
    try:
        source.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy(source, target)
        source.unlink()


def _copy(source: Path, target: Path) -> None:
    """Copy a regular file; follow no link, and copy no more than a file of ours can have."""
    with open_regular(source) as file:
        descriptor, scratch = tempfile.mkstemp(dir=target.parent, prefix=UNFINISHED_PREFIX)
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
