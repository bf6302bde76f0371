"""Who is at the other end of a connection: its environment, and that of those that started it.

A client tells the engine nothing of who it works for, and its own environment may be anything. What
opts out of measuring, and the test that something is done for, is found at the nearest process that
says so, up to the one that has the session. Where there is no /proc, as on macOS, nothing is known.
"""

from __future__ import annotations

import os
import re
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from hcoverage import CONTAINERS_VARIABLE, CONTEXT_FILE_VARIABLE, SESSION_VARIABLE
from hdocker._inject.added import PASSED_ON, PLACE

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator, Mapping

_CREDENTIALS: Final = struct.Struct("3i")
_MOST_ANCESTORS: Final = 100
_CONTEXT: Final = "HCOVERAGE_CONTEXT"


class Caller(NamedTuple):
    """What is known of the one who asks.

    Attributes:
        wants_none: Whether it, or who started it, wants containers left alone.
        told: The variables that its containers are to be told.
    """

    wants_none: bool
    told: Mapping[str, str]


def process_of(connection: socket.socket) -> int:
    """Give the process id of a connection's other end; 0 where that is not known."""
    import socket  # noqa: PLC0415 - podman's hook has none

    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return 0
    found = connection.getsockopt(socket.SOL_SOCKET, option, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(found)[0])


def caller_of(process: int, owner: int, session: str, data_dir: Path) -> Caller:
    """Find out on whose behalf a process asks.

    Args:
        process: Its process id.
        owner: That of the process that has the session.
        session: The session's startup directory.
        data_dir: The session's data directory.
    """
    nearest: dict[str, str] = {}
    told: dict[str, str] = {}
    for pid in _with_ancestors(process, owner):
        # What the owner was started with is not what it has its command do.
        variables = {} if pid == owner else _environment(pid)
        for name in (CONTAINERS_VARIABLE, SESSION_VARIABLE):
            if name in variables:
                nearest.setdefault(name, variables[name])
        if not told:
            told = _followed(pid, data_dir) or {
                name: variables[name] for name in PASSED_ON if name in variables
            }
    # In a container of the session it has another name.
    is_other = nearest.get(SESSION_VARIABLE, session) not in (session, PLACE)
    return Caller(is_other or nearest.get(CONTAINERS_VARIABLE) == "0", told)


def _with_ancestors(process: int, owner: int) -> Iterator[int]:
    for _ in range(_MOST_ANCESTORS):
        if process <= 1 or process == os.getpid():
            return
        yield process
        if process == owner:
            return
        process = _parent(process)


def _parent(process: int) -> int:
    try:
        stat = Path(f"/proc/{process}/stat").read_bytes()
    except OSError:
        return 0
    return int(stat.rpartition(b")")[2].split()[1])


def _environment(process: int) -> dict[str, str]:
    try:
        found = Path(f"/proc/{process}/environ").read_bytes()
    except OSError:  # another user's, or it has ended
        return {}
    items = (item.partition("=") for item in os.fsdecode(found).split("\0"))
    return {name: value for name, equals, value in items if equals}


def _followed(process: int, data_dir: Path) -> dict[str, str]:
    """Tell what runs now in a process that knows: it has the file mapped that says so."""
    pattern = re.compile(re.escape(os.fsencode(data_dir)) + rb"/(test\.[^/\n]*)\n")
    try:
        found = pattern.search(Path(f"/proc/{process}/maps").read_bytes())
    except OSError:
        return {}
    if not found:
        return {}
    name = os.fsdecode(found[1])
    from hcoverage import read_context  # noqa: PLC0415 - few runs have contexts

    context = read_context(data_dir / name)
    return {CONTEXT_FILE_VARIABLE: name, **({_CONTEXT: context} if context else {})}
