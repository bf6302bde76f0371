"""Unpacks data files and recordings from archives, by our rules and never by the archive's.

A member is written only if it is a regular file, under the last part of its name alone, into a
directory of our own, and within bounds. So a name, a link or a claimed size in an archive does no
harm. Refused members are reported; the archive itself is never changed.
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
_LARGEST_TOTAL: Final = 8 << 30  # bytes, unpacked
# The most to read into memory at once: an archive's header may make the libraries ask for more.
_LARGEST_READ: Final = 64 << 20  # bytes
_PIECE: Final = 1 << 20  # bytes
_COARSEST_TIME: Final = 2.0  # seconds: the coarsest time stamps of a file system

_DAMAGED: Final = (
    tarfile.TarError,
    zipfile.BadZipFile,
    EOFError,
    OSError,
    ValueError,
    # Encrypted, or compressed by a method that this Python lacks.
    RuntimeError,
    NotImplementedError,
    zlib.error,
    lzma.LZMAError,
)


@dataclasses.dataclass
class Unpacked:
    """The files that were unpacked from an archive.

    Attributes:
        files: The path of each unpacked file, and its name in the archive.
        set_aside: The members that were refused, and why.
    """

    files: dict[Path, str] = dataclasses.field(default_factory=dict)
    set_aside: list[SetAside] = dataclasses.field(default_factory=list)


def is_archive(path: Path) -> bool:
    """Return whether a file is an archive, by its name."""
    return path.name.endswith((".zip", ".tar", *_PACKERS, *_NEWER_PACKERS))


def take_in(archive: Path, data_dir: Path, *, since: float) -> list[str]:
    """Put what a container recorded in a directory of its own into the data directory.

    Files that are there already under the same name stay.

    Args:
        archive: A tar archive of the container's own data directory.
        data_dir: The data directory.
        since: In seconds since the epoch; older files are not of this run.

    Returns:
        One line for each refused member, with the reason.

    Raises:
        OSError: There is no room.
    """
    with tempfile.TemporaryDirectory(dir=data_dir, prefix=".taken.") as scratch:
        unpacked = unpack(archive, Path(scratch), _is_of_a_run, since=since - _COARSEST_TIME)
        for file in unpacked.files:
            target = data_dir / file.name
            # An empty file is from an earlier run, or from a process that ended before it wrote.
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
    """Unpack the data files and recordings of an archive, from all its directories.

    Args:
        archive: The archive.
        directory: An empty directory of our own to unpack into.
        is_wanted: Chooses files by name; by default data files and recordings.
        since: In seconds since the epoch; older members of a tar archive are left out.

    Returns:
        The unpacked files and the refused members; of a damaged archive, those before the damage.
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
    """A file that bounds each read, since a forged header may ask for too much at once."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:
            size = _LARGEST_READ  # the end of a zip archive
        if size > _LARGEST_READ:
            raise UntrustedDataError("it claims sizes that cannot be right")
        return super().read(size)


class _Writer:
    """Writes members, and keeps count of them and of their bytes."""

    def __init__(self, archive: Path, directory: Path, is_wanted: Callable[[str], bool]) -> None:
        self.unpacked = Unpacked()
        self._archive = archive
        self._is_wanted = is_wanted
        self.directory = directory
        self._members = 0
        # Half of the free space is left to others.
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
            refusal: Why it is refused, or an empty string.
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
        """Write a decompressed stream, within the same bounds."""
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
    # Decompress first, within bounds: then tarfile's reads can be bounded, too.
    with tempfile.TemporaryFile(dir=writer.directory) as plain:
        with opener(file) as source:
            writer.copy_whole(source, plain)
        plain.seek(0)
        _take_members(plain, writer, since)


def _take_members(file: IO[bytes], writer: _Writer, since: float) -> None:
    with tarfile.TarFile(fileobj=_Careful(_raw(file)), errorlevel=2) as archive:
        while (member := archive.next()) is not None:
            writer.count()
            # tarfile would keep all members in memory.
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
