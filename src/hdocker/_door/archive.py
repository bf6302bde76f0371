"""Makes tar archives of files that the engine's API puts into containers.

In an archive everything belongs to root, and everybody may read it.
"""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hdocker._door.api import put_archive

if TYPE_CHECKING:
    from collections.abc import Iterable

_FILE: Final = 0o644
_DIRECTORY: Final = 0o755
_OPEN: Final = 0o777


class Archive:
    """An archive that is being made."""

    def __init__(self) -> None:
        """Begin an empty archive."""
        self._file = io.BytesIO()
        self._archive = tarfile.open(fileobj=self._file, mode="w")  # noqa: SIM115

    def add_tree(self, name: str, source: Path, leave_out: Iterable[Path] = ()) -> None:
        """Add a directory with its content.

        Args:
            name: Its name in the archive.
            source: Its path here.
            leave_out: Files and directories to leave out.
        """
        left_out = set(leave_out)
        self.add_directory(name)
        for path in sorted(source.iterdir()):
            if path in left_out:
                continue
            if path.is_dir():
                self.add_tree(f"{name}/{path.name}", path, left_out)
            elif path.is_file():
                # With its time: compiled files contain that of their source.
                self.add_file(f"{name}/{path.name}", path.read_bytes(), path.stat().st_mtime)

    def add_directory(self, name: str, *, is_open: bool = False) -> None:
        """Add an empty directory.

        Args:
            name: Its name in the archive.
            is_open: Whether everybody may write into it.
        """
        member = tarfile.TarInfo(name)
        member.type = tarfile.DIRTYPE
        member.mode = _OPEN if is_open else _DIRECTORY
        self._archive.addfile(member)

    def add_file(self, name: str, content: bytes, time: float = 0) -> None:
        """Add a file.

        Args:
            name: Its name in the archive.
            content: Its content.
            time: Its time of modification, in seconds since the epoch.
        """
        member = tarfile.TarInfo(name)
        member.size = len(content)
        member.mode = _FILE
        member.mtime = int(time)
        self._archive.addfile(member, io.BytesIO(content))

    def content(self) -> bytes:
        """Finish the archive, and return its bytes."""
        self._archive.close()
        return self._file.getvalue()


def put_file(engine: str, container: str, source: str, target: str) -> None:
    """Put a file into a container; if the engine refuses, nothing happens.

    Args:
        engine: The path of the engine's socket.
        container: The container's id.
        source: The path of the file here.
        target: Its path in the container.

    Raises:
        OSError: The engine does not answer, or the file cannot be read.
    """
    directory, name = os.path.split(target)
    archive = Archive()
    archive.add_file(name, Path(source).read_bytes())
    put_archive(engine, container, directory, archive.content())
