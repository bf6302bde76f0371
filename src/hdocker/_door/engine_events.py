"""What engines say that they do with containers, kept for the length of a run.

An engine remembers some hundred events, and each check of a container's health is one or two. So it
is asked at the beginning to tell them as they come; `launcher` writes down what it says. What it
still remembers at the end is added to that.
"""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import quote

from hdocker._door.api import ask, asked, request_for
from hdocker._inject.added import OWN_LABEL

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from hdocker._door.door import Door

CREATE: Final = "create"
START: Final = "start"
# The label of what is a service's.
OF_SERVICE: Final = "com.docker.swarm.service.id"
# What follows it is the command.
EXECUTE: Final = "exec_create"
# The same of podman, which tells neither the command nor its id.
_EXECUTE_BY_PODMAN: Final = "exec"
_EVENTS: Final = [CREATE, START, EXECUTE, _EXECUTE_BY_PODMAN]
_FILTERS: Final = quote(json.dumps({"type": ["container"], "event": _EVENTS}))
_NANO: Final = 1e9


@dataclass(frozen=True)
class Event:
    """Something that an engine did.

    Attributes:
        what: `CREATE`, `START` or `EXECUTE`.
        container: The container's id.
        name: Its name.
        image: Its image, as it was named.
        at: When it was, in seconds since the epoch.
        execution: The id of what was executed; empty where the engine does not tell.
        command: Its words, likewise.
        is_of_service: Whether the engine made the container by itself, for a service of a swarm.
    """

    what: str
    container: str
    name: str
    image: str
    at: float
    execution: str = ""
    command: str = ""
    is_of_service: bool = False


class Copied(NamedTuple):
    """What an engine tells.

    Attributes:
        source: The descriptor that it tells it by.
        target: That of the file that it belongs into.
        engine: The path of the engine's socket.
        request: What it is asked, also if it was started again.
    """

    source: int
    target: int
    engine: str
    request: bytes

    def __str__(self) -> str:
        """Give it as `launcher` takes it."""
        return f"{self.source}:{self.target}:{os.fsencode(self.engine).hex()}:{self.request.hex()}"


def _file_of(door: Door, engine: str) -> Path:
    return door.private / f"events-{zlib.crc32(engine.encode()):x}"


@contextlib.contextmanager
def written_down(door: Door, engines: list[str], began: float) -> Iterator[list[Copied]]:
    """Have it that engines tell what they do, until the end of a `with` block.

    Args:
        door: The door.
        engines: The paths of their sockets.
        began: From when on, in seconds since the epoch.

    Yields:
        What is to be copied.
    """
    with contextlib.ExitStack() as undo:
        copied = []
        for engine in engines:
            with contextlib.suppress(OSError):
                file = undo.enter_context(_file_of(door, engine).open("ab"))
                question = f"/events?since={began:.9f}&filters={_FILTERS}"
                source = undo.enter_context(asked(engine, "GET", question))
                request = request_for("GET", question)
                copied.append(Copied(source.fileno(), file.fileno(), engine, request))
        yield copied


def events_of(door: Door, engine: str, began: float, ended: float) -> list[Event]:
    """Give what an engine did in a run, but for what it did for us.

    Raises:
        OSError, ValueError, LookupError, TypeError, AttributeError: It does not answer, or is one
            that says something else.
    """
    question = f"/events?since={began:.9f}&until={ended:.9f}&filters={_FILTERS}"
    lines = ask(engine, question).splitlines()
    with contextlib.suppress(OSError):
        lines += _file_of(door, engine).read_bytes().splitlines()
    # What is both is one; what is no JSON is HTTP's, or was cut off.
    found = dict.fromkeys(_event(line) for line in lines if line.startswith(b"{"))
    return sorted((each for each in found if each), key=lambda each: each.at)


def _event(line: bytes) -> Event | None:
    try:
        said: dict[str, Any] = json.loads(line)
    except ValueError:
        return None
    actor = said.get("Actor") or {}
    attributes = actor.get("Attributes") or {}
    what, _, command = str(said.get("Action", said.get("status"))).partition(":")
    if OWN_LABEL in attributes:
        return None
    return Event(
        EXECUTE if what == _EXECUTE_BY_PODMAN else what,
        str(actor.get("ID")),
        str(attributes.get("name", "")),
        str(attributes.get("image", "")),
        int(said.get("timeNano", 0)) / _NANO,
        str(attributes.get("execID", "")),
        command.strip(),
        OF_SERVICE in attributes,
    )
