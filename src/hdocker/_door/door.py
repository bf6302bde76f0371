"""What the processes of a door know: where it leads, and which session it belongs to."""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import hcoverage  # It loads each of its names at first use.
from hdocker._door.notes import created_in, note_image_in, note_in

if TYPE_CHECKING:
    from collections.abc import Sequence


class Door(NamedTuple):
    """What the proxy has to know.

    Attributes:
        engine: The path of the engine's socket.
        session: The session's startup directory.
        data_dir: The session's data directory.
        owner: The id of the process that has the session.
        client: The path of the engine's command-line client; empty if there is none.
    """

    engine: str
    session: str
    data_dir: Path
    owner: int
    client: str

    @classmethod
    def of_words(cls, words: Sequence[str]) -> Door:
        """Make a door from what `words` returns."""
        engine, session, data_dir, owner, client = words
        return cls(engine, session, Path(data_dir), int(owner), client)

    @property
    def words(self) -> list[str]:
        """All of it, as arguments of a program."""
        return [self.engine, self.session, str(self.data_dir), str(self.owner), self.client]

    @property
    def private(self) -> Path:
        """The session's private directory."""
        return Path(self.session).parent

    def _of_engine(self, name: str) -> str:
        return f"{name}-{zlib.crc32(os.fsencode(os.path.realpath(self.engine))):x}"

    @property
    def created(self) -> Path:
        """The file with the ids of the containers that were created through the door."""
        return Path(created_in(self.private))

    @property
    def executed(self) -> Path:
        """The file with the commands executed through the door: their ids and containers."""
        return self.private / "executed-commands"

    @property
    def started(self) -> Path:
        """The file with the ids of older containers that were started through the door."""
        return self.private / "started-containers"

    @property
    def builds(self) -> Path:
        """The file with what is known of builds."""
        return self.private / "builds"

    @property
    def marks(self) -> Path:
        """The file with the marks of compose's containers."""
        return self.private / "compose-marks"

    @property
    def lasting(self) -> Path:
        """The directory of what containers mount."""
        return self.private / hcoverage.LASTING

    @property
    def in_use(self) -> Path:
        """The file that exists if containers may mount something from `lasting`."""
        return self.lasting / self._of_engine(hcoverage.IN_USE)

    @property
    def earlier(self) -> Path:
        """The directory with what is known of containers from before the run."""
        return self.private / self._of_engine("earlier-containers")

    @property
    def left_alone(self) -> Path:
        """The directory with what is known of compose's containers that were up before the run."""
        return self.private / self._of_engine("left-alone")

    @property
    def sign(self) -> str:
        """What identifies the run in containers that it has put files into."""
        return f"{os.uname().nodename} {self.owner} {_began(self.owner)}"

    def created_containers(self) -> set[str]:
        """Return the ids of the containers that were created through the door."""
        return ids_in(self.created)

    def note_image(self, host: str, image: str) -> None:
        """Leave a note on the image of the container that has a host name.

        Raises:
            OSError: It cannot be written.
        """
        note_image_in(self.data_dir, host, image)

    def note(self, text: str) -> None:
        """Leave a note on what is not measured; the end of the run tells it, once."""
        note_in(self.data_dir, text)


def ids_in(file: Path) -> set[str]:
    """Return the ids that a file has, one in each line; none if there is no file."""
    try:
        return set(file.read_text("ascii").split())
    except OSError:
        return set()


def may_run(sign: str) -> bool:
    """Return whether the run that has a sign (`Door.sign`) may still be running."""
    host, owner, began = [*sign.split(" "), "", ""][:3]
    return host != os.uname().nodename or not owner.isdigit() or _began(int(owner)) == began


def _began(process: int) -> str:
    """Return when a process began: with its id, that is unique."""
    try:
        stat = Path(f"/proc/{process}/stat").read_bytes()
    except OSError:
        return ""
    return stat.rpartition(b")")[2].split()[19].decode()
