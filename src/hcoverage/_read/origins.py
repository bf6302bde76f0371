"""Origins: who ran a line, in a person's terms: the command itself, its subprocesses, an image.

Processes of one origin are reported and merged together, so that ten thousand of them cost no more
than one. This module decides the origin of a process, by its recording or the name of its data
file. While data is merged, each context carries its origin, in a *label*.

It runs in worker processes, so nothing here needs coverage.py's own code. `_result.origin_data`
keeps what each origin ran.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final, NamedTuple

from hcoverage._data_directory.names import container_of, host_in_names, process_of, this_host
from hcoverage._printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from hcoverage._read.recording_format import ProcessIdentity

MAIN: Final = "main"
SUBPROCESSES: Final = "subprocesses"
# For processes of this machine, if the command's own process is not known.
PROCESSES: Final = "processes"

_SEPARATOR: Final = "\x1f"
_IMAGE: Final = "image "
_CONTAINER: Final = "container "
_HOST: Final = "host "
# The host name of a container without a given one: the start of its id.
_CONTAINER_NAME: Final = r"[0-9a-f]{12}"
LONGEST: Final = 200  # characters; a container says what it likes
_PIDS: Final = 1 << 22  # Linux's /proc/sys/kernel/pid_max is at most this
_MARKS_OF_CONTAINERS: Final = ("/.dockerenv", "/run/.containerenv")
_ORDER: Final = (MAIN, SUBPROCESSES, PROCESSES, _IMAGE, _CONTAINER, _HOST)


class Origins(NamedTuple):
    """Finds the origin of a process.

    Attributes:
        host: The name of this machine, as coverage.py writes it into names; empty if origins are
            not wanted.
        is_container: Whether this machine is a container itself.
        main: The process id of the command's first Python here; None if that is not known.
        of_hosts: The known origins of other hosts.
    """

    host: str
    is_container: bool = False
    main: int | None = None
    of_hosts: Mapping[str, str] = {}

    def of_process(self, process: ProcessIdentity) -> str:
        """Return the origin of a recorded process."""
        if process.image:
            return _named(_IMAGE, process.image)
        host = host_in_names(process.host)
        if host == self.host and (self.is_container or not process.container):
            # A fork goes on marking in its parent's mapping, so the two cannot be told apart.
            return self._of_pid(process.root_pid or process.pid)
        return self._of_host(host, is_container=bool(process.container))

    def of_data_file(self, path: str) -> str:
        """Return the origin of the process that wrote a data file; empty if its name has none."""
        if not self.host:
            return ""
        name = os.path.basename(path)  # noqa: PTH119
        process = process_of(name)
        if process is None:
            return ""
        host, pid = process
        if host == self.host:
            return self._of_pid(pid)
        container = container_of(name)
        # If the file alone does not name the image, other files of the same host may.
        if not container or host in self.of_hosts:
            return self._of_host(host)
        return self._of_host(container, is_container=True)

    def with_hosts(self, of_hosts: Mapping[str, str]) -> Origins:
        """Return a copy that knows the origins of more hosts."""
        return self._replace(of_hosts={**self.of_hosts, **of_hosts})

    def _of_pid(self, pid: int) -> str:
        if self.main is None:
            return PROCESSES
        return MAIN if pid == self.main else SUBPROCESSES

    def _of_host(self, host: str, *, is_container: bool = False) -> str:
        known = self.of_hosts.get(host)
        if known is not None:
            return known
        is_container = is_container or bool(re.fullmatch(_CONTAINER_NAME, host))
        return _named(_CONTAINER if is_container else _HOST, host)


# For data whose origin cannot be known.
NOT_KNOWN: Final = Origins("")


def origins_here(files: Iterable[Path], command: int | None, images: Mapping[str, str]) -> Origins:
    """Return the origins of the processes that wrote some files.

    Args:
        files: Their data files and recordings.
        command: The process id of the command; None if there is no such command. The first Python
            is that process or, if the command is no Python, as `make`, the one started next:
            process ids are assigned in turn.
        images: The images of containers, by their hosts.
    """
    host = this_host()
    main = None
    if command is not None:
        found = (process_of(file.name) for file in files)
        pids = {each[1] for each in found if each and each[0] == host}
        main = min(pids, key=lambda pid: (pid - command) % _PIDS, default=command)
    is_container = any(map(os.path.exists, _MARKS_OF_CONTAINERS))
    of_hosts = {host_in_names(host): _named(_IMAGE, name) for host, name in images.items()}
    return Origins(host, is_container, main, of_hosts)


def images_of(processes: Iterable[ProcessIdentity]) -> dict[str, str]:
    """Return the origins of the hosts whose processes know their image."""
    return {
        host_in_names(process.host): _named(_IMAGE, process.image)
        for process in processes
        if process.image
    }


def in_order(names: Iterable[str]) -> list[str]:
    """Sort origins: main, subprocesses, images, containers, other hosts."""
    return sorted(names, key=lambda name: (_rank(name), name))


def label(origin: str, context: str) -> str:
    """Return the label of an origin and a context."""
    return f"{origin}{_SEPARATOR}{context}"


def origin_of(labelled: str) -> str:
    """Return the origin in a label; empty if it is not known."""
    return labelled.partition(_SEPARATOR)[0]


def context_of(labelled: str) -> str:
    """Return the context in a label."""
    return labelled.partition(_SEPARATOR)[2]


def place_of(origin: str) -> str:
    """Return where processes of an origin ran, such as `of image shop:1`; empty if here."""
    kind, _, name = origin.partition(" ")
    if not name:
        return ""
    return f"on {name}" if f"{kind} " == _HOST else f"of {origin}"


def _named(kind: str, name: str) -> str:
    return kind + printable(name)[:LONGEST]


def _rank(name: str) -> int:
    return next((n for n, start in enumerate(_ORDER) if name.startswith(start)), len(_ORDER))
