"""Finds out who is at the other end of a connection, and which processes started it.

A client does not tell the engine for whom it works, and its own environment may be anything. So
its ancestors are looked at, too, up to the process that has the session. The nearest one that opts
out of measuring, or names a test, counts. Without /proc, as on macOS, nothing is known.
"""

from __future__ import annotations

import os

from hcoverage import CONTAINERS_VARIABLE, CONTEXT_FILE_VARIABLE, SESSION_VARIABLE
from hdocker._inject.added import PASSED_ON, PLACE

# Podman waits while this is loaded, so imports are few.
TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator, Mapping
    from pathlib import Path
    from typing import Final

_CREDENTIALS: Final = "3i"
_MOST_ANCESTORS: Final = 100
_CONTEXT: Final = "HCOVERAGE_CONTEXT"


class Caller:
    """What is known of a client.

    Attributes:
        wants_none: Whether it, or an ancestor, opts out of measuring.
        told: The variables that its containers get.
    """

    __slots__ = ("told", "wants_none")

    def __init__(self, told: Mapping[str, str], *, wants_none: bool) -> None:
        self.told = told
        self.wants_none = wants_none


def process_of(connection: socket.socket) -> int:
    """Return the process id of a connection's other end; 0 if it is not known."""
    import socket
    import struct

    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return 0
    found = connection.getsockopt(socket.SOL_SOCKET, option, struct.calcsize(_CREDENTIALS))
    return int(struct.unpack(_CREDENTIALS, found)[0])


def caller_of(process: int, owner: int, session: str, data_dir: str | Path) -> Caller:
    """Find out for whom a process works.

    Args:
        process: Its process id.
        owner: The id of the process that has the session.
        session: The session's startup directory.
        data_dir: The session's data directory.
    """
    nearest: dict[str, str] = {}
    told: dict[str, str] = {}
    for pid in _with_ancestors(process, owner):
        # The owner's own environment does not count: its command gets another.
        variables = {} if pid == owner else _environment(pid)
        for name in (CONTAINERS_VARIABLE, SESSION_VARIABLE):
            if name in variables:
                nearest.setdefault(name, variables[name])
        if not told:
            told = _followed(pid, data_dir) or {
                name: variables[name] for name in PASSED_ON if name in variables
            }
    # In containers of the session, the startup directory has another name.
    is_other = nearest.get(SESSION_VARIABLE, session) not in (session, PLACE)
    return Caller(told, wants_none=is_other or nearest.get(CONTAINERS_VARIABLE) == "0")


def _with_ancestors(process: int, owner: int) -> Iterator[int]:
    for _ in range(_MOST_ANCESTORS):
        if process <= 1 or process == os.getpid():
            return
        yield process
        if process == owner:
            return
        process = _parent(process)


def _parent(process: int) -> int:
    stat = _of(process, "stat")
    return int(stat.rpartition(b")")[2].split()[1]) if stat else 0


def _environment(process: int) -> dict[str, str]:
    items = (item.partition("=") for item in os.fsdecode(_of(process, "environ")).split("\0"))
    return {name: value for name, equals, value in items if equals}


def _followed(process: int, data_dir: str | Path) -> dict[str, str]:
    """Return variables for the test that a process runs now; empty if it maps no context file."""
    beginning = os.fsencode(os.path.join(data_dir, "test."))
    _, found, rest = _of(process, "maps").partition(beginning)
    name = "test." + os.fsdecode(rest.partition(b"\n")[0])
    if not found or "/" in name:
        return {}
    from pathlib import Path

    from hcoverage import read_context

    context = read_context(Path(data_dir, name))
    return {CONTEXT_FILE_VARIABLE: name, **({_CONTEXT: context} if context else {})}


def _of(process: int, name: str) -> bytes:
    """Read a file of /proc for a process; empty if it is another user's, or has ended."""
    try:
        with open(f"/proc/{process}/{name}", "rb") as file:
            return file.read()
    except OSError:
        return b""
