"""Take data files and recordings out of archives, by our rules and never by the archive's.

A member is written under its own last name alone, into a directory of our own, only if it is a
regular file, and only within bounds. So a name, a link or a claimed size in an archive can do
nothing. What is refused is told; the archive itself is never changed.
"""

from __future__ import annotations

import bz2
import dataclasses
import gzip
import io
import lzma
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, BinaryIO, Final, cast

from hcoverage._data_directory.names import is_data_file_name, is_recording
from hcoverage._data_directory.notes import is_note
from hcoverage._untrusted.file import LARGEST, UntrustedDataError, open_regular
from hcoverage._untrusted.set_aside import SetAside

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_MOST_MEMBERS: Final = 100_000
_LARGEST_ARCHIVE: Final = 8 << 30  # bytes
_LARGEST_TOTAL: Final = 8 << 30  # bytes, of what is unpacked
# At once, into memory: what the libraries ask for at an archive's word.
_LARGEST_READ: Final = 64 << 20  # bytes
_PIECE: Final = 1 << 20  # bytes
_COARSEST_TIME: Final = 2.0  # seconds: of a file system's time stamps

_DAMAGED: Final = (
    tarfile.TarError,
    zipfile.BadZipFile,
    EOFError,
    OSError,
    ValueError,
    # Encrypted, or packed in a way that this Python has not.
    RuntimeError,
    NotImplementedError,
    zlib.error,
    lzma.LZMAError,
)


@dataclasses.dataclass
class Unpacked:
    """What was taken out of an archive.

    Attributes:
        files: Where each file is now, and its name in the archive.
        set_aside: What was not taken, and why.
    """

    files: dict[Path, str] = dataclasses.field(default_factory=dict)
    set_aside: list[SetAside] = dataclasses.field(default_factory=list)


def is_archive(path: Path) -> bool:
    """Tell from its name whether a file is an archive."""
    return path.name.endswith((".zip", ".tar", *_PACKERS, *_NEWER_PACKERS))


def take_in(archive: Path, data_dir: Path, *, since: float) -> list[str]:
    """Put what a container has recorded in files of its own into the data directory.

    What is there already by the same name stays.

    Args:
        archive: A tar archive of the data directory that the container had instead.
        data_dir: The data directory.
        since: In seconds since the epoch; what was changed before is not this run's.

    Returns:
        What was refused, and why, one line each.

    Raises:
        OSError: There is no room.
    """
    with tempfile.TemporaryDirectory(dir=data_dir, prefix=".taken.") as scratch:
        unpacked = unpack(archive, Path(scratch), _is_of_a_run, since=since - _COARSEST_TIME)
        for file in unpacked.files:
            target = data_dir / file.name
            # An empty one is of an earlier run, or of a process that had no time to begin it.
            if file.stat().st_size and not target.exists():
                file.rename(target)
    return [f"{refused.path.name}: {refused.reason}" for refused in unpacked.set_aside]


def unpack(
    archive: Path,
    directory: Path,
    is_wanted: Callable[[str], bool] | None = None,
    *,
    since: float = 0,
) -> Unpacked:
    """Take the data files and recordings out of an archive, from all its directories.

    Args:
        archive: The archive.
        directory: An empty directory of our own to put them into.
        is_wanted: Which files to take, by their names; by default data files and recordings.
        since: In seconds since the epoch; of a tar archive, what was changed before is not taken.

    Returns:
        Where they are, and what was refused; a damaged archive gives what comes before the damage.
    """
    writer = _Writer(archive, directory, is_wanted or _is_wanted)
    try:
        with open_regular(archive, _LARGEST_ARCHIVE) as file:
            if archive.name.endswith(".zip"):
                _unpack_zip(file, writer)
            else:
                _unpack_tar(archive, file, writer, since)
    except (UntrustedDataError, *_DAMAGED) as error:
        some = f"only {len(writer.unpacked.files)} of its files: " if writer.unpacked.files else ""
        writer.unpacked.set_aside.append(SetAside(archive, f"{some}{_reason(error)}"))
    return writer.unpacked


class _Careful(io.BufferedReader):
    """A file that does not read as much at once as a forged header may ask for."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:
            size = _LARGEST_READ  # the end of a zip archive
        if size > _LARGEST_READ:
            raise UntrustedDataError("it claims sizes that cannot be right")
        return super().read(size)


class _Writer:
    """Writes members, and counts."""

    def __init__(self, archive: Path, directory: Path, is_wanted: Callable[[str], bool]) -> None:
        self.unpacked = Unpacked()
        self._archive = archive
        self._is_wanted = is_wanted
        self.directory = directory
        self._members = 0
        # Half of what is free is left to others.
        self.remaining = min(_LARGEST_TOTAL, shutil.disk_usage(directory).free // 2)

    def count(self) -> None:
        """Count a member, of whatever kind."""
        self._members += 1
        if self._members > _MOST_MEMBERS:
            raise UntrustedDataError(f"it has more than {_MOST_MEMBERS} members")

    def write(self, name: str, refusal: str, read: Callable[[], IO[bytes]]) -> None:
        """Write one member.

        Args:
            name: Its name in the archive.
            refusal: Why it is not taken, or an empty string.
            read: Opens it.
        """
        base = PurePosixPath(name.replace("\\", "/")).name
        if not self._is_wanted(base):
            return
        if not refusal and _leads_outside(name):
            refusal = "its name leads out of the archive"
        if refusal:
            self.unpacked.set_aside.append(SetAside(self._archive / base, refusal))
            return
        copy = self.directory / str(self._members) / base
        try:
            copy.parent.mkdir()
            with read() as source, copy.open("xb") as destination:
                self._copy(source, destination)
        except (UntrustedDataError, *_DAMAGED) as error:
            copy.unlink(missing_ok=True)
            self.unpacked.set_aside.append(SetAside(self._archive / base, _reason(error)))
        else:
            self.unpacked.files[copy] = name

    def copy_whole(self, source: IO[bytes], destination: IO[bytes]) -> None:
        """Write what is unpacked on the way, within the same bounds."""
        for piece in _pieces(source):
            self._use(len(piece))
            destination.write(piece)

    def _copy(self, source: IO[bytes], destination: IO[bytes]) -> None:
        size = 0
        for piece in _pieces(source):
            size += len(piece)
            if size > LARGEST:
                raise UntrustedDataError(f"it is larger than {LARGEST} bytes")
            self._use(len(piece))
            destination.write(piece)

    def _use(self, size: int) -> None:
        self.remaining -= size
        if self.remaining < 0:
            raise UntrustedDataError("unpacked, it would take more room than can be right")


def _pieces(source: IO[bytes]) -> Iterator[bytes]:
    while piece := source.read(_PIECE):
        yield piece


def _unpack_zip(file: BinaryIO, writer: _Writer) -> None:
    with zipfile.ZipFile(_Careful(_raw(file))) as archive:
        for member in archive.infolist():
            writer.count()
            mode = member.external_attr >> 16
            special = stat.S_IFMT(mode) not in (0, stat.S_IFREG)
            refusal = "it is not a regular file" if special or member.is_dir() else ""
            writer.write(member.filename, refusal, lambda member=member: archive.open(member))  # type: ignore[misc]


def _unpack_tar(archive: Path, file: BinaryIO, writer: _Writer, since: float) -> None:
    opener = _opener(archive)
    if opener is None:
        _take_members(file, writer, since)
        return
    # First the compression alone, within bounds: then tarfile can be watched as it reads.
    with tempfile.TemporaryFile(dir=writer.directory) as plain:
        with opener(file) as source:
            writer.copy_whole(source, plain)
        plain.seek(0)
        _take_members(plain, writer, since)


def _take_members(file: IO[bytes], writer: _Writer, since: float) -> None:
    with tarfile.TarFile(fileobj=_Careful(_raw(file)), errorlevel=2) as archive:
        while (member := archive.next()) is not None:
            writer.count()
            # tarfile remembers each.
            archive.members.clear()  # type: ignore[attr-defined]
            if member.mtime < since:
                continue
            writer.write(member.name, _refusal(member), lambda m=member: _opened(archive, m))  # type: ignore[misc]


def _refusal(member: tarfile.TarInfo) -> str:
    if not member.isreg():
        return "it is not a regular file"
    return "it is a sparse member: pack it without `--sparse`" if member.issparse() else ""


def _opened(archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    file = archive.extractfile(member)
    if file is None:
        raise UntrustedDataError("it is not a regular file")
    return file


def _opener(archive: Path) -> Callable[[BinaryIO], IO[bytes]] | None:
    packers = {**_PACKERS, **_NEWER_PACKERS}
    return next((packers[suffix] for suffix in packers if archive.name.endswith(suffix)), None)


def _zstd(file: BinaryIO) -> IO[bytes]:
    try:
        from compression import zstd  # type: ignore[import-not-found,unused-ignore] # noqa: PLC0415
    except ImportError:
        raise UntrustedDataError(
            "Python before 3.14 has no zstd: unpack it first, or pack it as .tar.gz"
        ) from None
    opened: IO[bytes] = zstd.open(file)
    return opened


def _gzip(file: BinaryIO) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(file))


_PACKERS: Final[dict[str, Callable[[BinaryIO], IO[bytes]]]] = {
    ".tar.gz": _gzip,
    ".tgz": _gzip,
    ".tar.xz": lzma.open,
    ".txz": lzma.open,
    ".tar.bz2": bz2.open,
    ".tbz2": bz2.open,
}
_NEWER_PACKERS: Final[dict[str, Callable[[BinaryIO], IO[bytes]]]] = {".tar.zst": _zstd}


def _raw(file: IO[bytes]) -> io.FileIO:
    return io.FileIO(file.fileno(), closefd=False)


def _is_wanted(name: str) -> bool:
    return name == ".coverage" or is_data_file_name(name) or is_recording(Path(name))


def _is_of_a_run(name: str) -> bool:
    return _is_wanted(name) or is_note(name)


def _leads_outside(name: str) -> bool:
    parts = name.replace("\\", "/").split("/")
    return name.startswith(("/", "\\")) or ".." in parts or "\0" in name


def _reason(error: Exception) -> str:
    if isinstance(error, UntrustedDataError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"the archive is damaged ({error})"
