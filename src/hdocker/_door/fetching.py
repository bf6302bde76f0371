"""Fetches what containers from before the run recorded, and removes our files from them.

What they recorded is in their own files (`earlier`), of which the engine makes archives. An archive
is kept as it came; hcoverage checks its content.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import tarfile
import tempfile
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from hdocker._door.api import call, fetch_archive, put_archive
from hdocker._door.archive import Archive
from hdocker._inject.added import PLACE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from hdocker._door.door import Door

# The file beside ours in a container that says which run put them there.
OWNER: Final = "owner"
DATA: Final = f"{PLACE}/data"
LARGEST: Final = 8 << 30  # bytes
_MOST_FILES: Final = 100_000


@dataclass(frozen=True)
class Prepared:
    """A container from before the run that has been given our files.

    Attributes:
        identity: Its id.
        host: Its host name.
        image: Its image, as the client named it.
        pth: The paths of our `.pth` files in it.
        removes_itself: Whether it is removed as it ends.
        began: When it was given our files, in seconds since the epoch.
    """

    identity: str
    host: str
    image: str
    pth: tuple[str, ...]
    removes_itself: bool
    began: float

    def save(self, door: Door) -> None:
        """Write this down for the end of the run.

        Raises:
            OSError: It cannot be written.
        """
        door.earlier.mkdir(exist_ok=True)
        (door.earlier / f"{self.identity}.json").write_text(json.dumps(asdict(self)), "utf-8")

    @classmethod
    def all_of(cls, door: Door) -> list[Prepared]:
        """Return all of these containers of a run."""
        files = sorted(door.earlier.glob("*.json")) if door.earlier.is_dir() else []
        known = (json.loads(file.read_text("utf-8")) for file in files)
        return [cls(**{**each, "pth": tuple(each["pth"])}) for each in known]


def fetch(door: Door, identity: str) -> Path | None:
    """Fetch what a container has recorded so far.

    Args:
        door: The door.
        identity: The container's id.

    Returns:
        The archive. If the container is gone, the one fetched before; None if there is none.

    Raises:
        OSError: The engine does not answer, or there is no room.
    """
    archive = door.earlier / f"{identity}.tar"
    scratch = archive.with_suffix(".part")
    with scratch.open("wb") as file:
        said = fetch_archive(door.engine, identity, DATA, file, LARGEST)
    if said.is_good:
        scratch.replace(archive)
    else:
        scratch.unlink()
    return archive if archive.exists() else None


def bring_home(door: Door, began: float) -> None:
    """Put what containers from before the run recorded into the data directory.

    Our files are removed from containers that run. In others they are emptied, and have no effect.

    Args:
        door: The door.
        began: When it was opened, in seconds since the epoch; what is older is another run's.
    """
    for container in Prepared.all_of(door):
        try:
            archive = fetch(door, container.identity)
        except OSError as error:
            _tell(door, container, f"cannot be fetched: {error}")
            continue
        if archive is None:
            _tell(door, container, "is gone with it")
            continue
        _take_in(door, container, archive, began)
        with contextlib.suppress(OSError):
            _make_tidy(door.engine, container)


def _take_in(door: Door, container: Prepared, archive: Path, began: float) -> None:
    from hcoverage import take_in  # noqa: PLC0415 - few runs have such containers

    for reason in take_in(archive, door.data_dir, since=began):
        _tell(door, container, f"is not whole: {reason}")
    with contextlib.suppress(OSError):
        door.note_image(container.host, container.image)


def _tell(door: Door, container: Prepared, what: str) -> None:
    door.note(
        f"container {container.identity[:12]} ({container.image}) was there before the run, and "
        f"what was recorded in it {what}"
    )


def _make_tidy(engine: str, container: Prepared) -> None:
    """Remove our files from a container; if that cannot be done, empty them.

    Raises:
        OSError: The engine does not answer.
    """
    if _remove(engine, container):
        return
    for path in (*container.pth, PLACE):
        empty_files(engine, container.identity, path)


def empty_files(engine: str, container: str, path: str) -> None:
    """Make files of a container empty.

    Args:
        engine: The path of the engine's socket.
        container: The container's id.
        path: A file, or a directory of files.

    Raises:
        OSError: The engine does not answer.
    """
    directory, _, name = path.rpartition("/")
    archive = Archive()
    for file in _files_in(engine, container, path):
        if PurePosixPath(file).parts[:1] == (name,):
            archive.add_file(file, b"")
    put_archive(engine, container, directory, archive.content())


def _files_in(engine: str, container: str, path: str) -> Iterator[str]:
    """Yield the files of a path in a container, by their names in an archive of it."""
    with tempfile.TemporaryFile() as file:
        if not fetch_archive(engine, container, path, file, LARGEST).is_good:
            return
        file.seek(0)
        with contextlib.suppress(tarfile.TarError), tarfile.open(fileobj=file) as archive:
            members = itertools.islice(archive, _MOST_FILES)
            yield from (each.name for each in members if each.isreg() and ".." not in each.name)


def _remove(engine: str, container: Prepared) -> bool:
    """Remove our files by `rm` in a container; return whether that was possible."""
    words = ["rm", "-rf", PLACE, *container.pth]
    wanted = {"User": "0:0", "Cmd": words, "AttachStdout": True}
    place = f"/containers/{quote(container.identity, safe='')}/exec"
    made = call(engine, "POST", place, json.dumps(wanted).encode())
    if not made.is_good:
        return False
    command = f"/exec/{made.known['Id']}"
    call(engine, "POST", f"{command}/start", b"{}", patience=None)
    ended = call(engine, "GET", f"{command}/json").known
    return isinstance(ended, dict) and ended.get("ExitCode") == 0
