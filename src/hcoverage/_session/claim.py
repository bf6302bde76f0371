"""A run's claim on its data file: two runs that write the same file must not measure at once.

The claim is a locked file in the temporary directory, not beside the data file, so that a run puts
nothing into the project while its command runs. The kernel drops the lock when the process that
holds it ends, in whatever way; its children do not inherit it. `_result.target` guards the moment
of writing.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import tempfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hcoverage._errors import DataFileBusyError
from hcoverage._settings.environment import SESSION_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Iterator

_NAME: Final = ".hcov-claim-{uid}-{key:08x}"
_LONGEST_PID: Final = 20  # bytes


@contextlib.contextmanager
def claimed(data_file: Path) -> Iterator[None]:
    """Claim a data file for the length of a `with` block.

    If a run's command starts another run, the inner one writes its result first, so the two are no
    rivals. Where there are no locks, or another user has taken the lock file's name, nothing is
    claimed.

    Args:
        data_file: The data file, absolute.

    Raises:
        DataFileBusyError: Another run has it.
    """
    around = os.environ.get(SESSION_VARIABLE, "")
    key = zlib.crc32(os.fsencode(f"{os.path.realpath(data_file)}\0{around}"))
    place = Path(tempfile.gettempdir(), _NAME.format(uid=os.geteuid(), key=key))
    try:
        descriptor = _open_locked(place)
    except BlockingIOError as error:
        raise DataFileBusyError(
            f"another run{_whose(place)} is measuring for {data_file}: wait for it, or give this "
            "one a data file of its own with the variable COVERAGE_FILE"
        ) from error
    except OSError:
        descriptor = None
    if descriptor is None:
        yield
        return
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        # Before the unlock: a run that waits for the lock must not find this file.
        place.unlink(missing_ok=True)
        os.close(descriptor)


def _open_locked(place: Path) -> int | None:
    """Open and lock our file; return None if another user has taken its name."""
    while True:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(place, flags, 0o600)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
                os.close(descriptor)
                return None
            # Not `flock`: a forked child would hold that lock for as long as it lives.
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(place, status):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        # Its owner has just removed it.
        os.close(descriptor)


def _is_at(place: Path, status: os.stat_result) -> bool:
    try:
        return os.path.samestat(place.lstat(), status)
    except FileNotFoundError:
        return False


def _whose(place: Path) -> str:
    try:
        pid = place.read_bytes()[:_LONGEST_PID]
    except OSError:
        return ""
    return f" (process {pid.decode()})" if pid.isdigit() else ""
