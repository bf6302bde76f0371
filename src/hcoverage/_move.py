"""Move a file, also to another file system, so that it is whole in one place at any moment."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from pathlib import Path

from hcoverage._untrusted_file import UntrustedDataError, open_regular


def move(source: Path, directory: Path) -> Path:
    """Move what anybody may have written into a directory, over nothing that is there.

    Args:
        source: A file; on the same file system, anything.
        directory: Where it is to be.

    Returns:
        Where it is now.

    Raises:
        OSError: It cannot be moved; it is where it was.
    """
    target = directory / source.name
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    try:
        source.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy(source, target)
        source.unlink()
    return target


def _copy(source: Path, target: Path) -> None:
    """Copy a regular file; no link is followed, and no more copied than can be right."""
    try:
        file = open_regular(source)
    except UntrustedDataError as error:
        raise OSError(errno.EINVAL, str(error), str(source)) from error
    descriptor, scratch = tempfile.mkstemp(dir=target.parent, prefix=".moving.")
    try:
        with file, os.fdopen(descriptor, "wb") as copy:
            shutil.copyfileobj(file, copy)
            status = os.fstat(file.fileno())
            copy.flush()
            os.fchmod(descriptor, status.st_mode & 0o777)
            os.utime(descriptor, ns=(status.st_atime_ns, status.st_mtime_ns))
            os.fsync(descriptor)
        Path(scratch).replace(target)
    except BaseException:
        Path(scratch).unlink(missing_ok=True)
        raise
    directory = os.open(target.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
