"""Keeps the events of engines' containers during a run.

An engine remembers only some hundred events, and each health check of a container is one or two. So
when the run begins, the engine is asked to send events as they happen, and `launcher` writes them
into a file. At the end, those that the engine still remembers are added.
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
# The label of a service's containers.
OF_SERVICE: Final = "com.docker.swarm.service.id"
# The command follows it.
EXECUTE: Final = "exec_create"
# Podman's word for the same; it tells neither the command nor its id.
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
        image: Its image, as the client named it.
        at: The time of the event, in seconds since the epoch.
        execution: The id of the command that was executed; empty if the engine does not tell.
        command: The words of that command, likewise.
        is_of_service: Whether the engine created the container itself, for a service of a swarm.
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
    """A stream of an engine's events that `launcher` copies to a file.

    Attributes:
        source: The descriptor that the events come from.
        target: The descriptor of the file.
        engine: The path of the engine's socket.
        request: The request for events; it is sent again if the engine starts again.
    """

    source: int
    target: int
    engine: str
    request: bytes

    def __str__(self) -> str:
        """Return it in the form that `launcher` takes."""
        return f"{self.source}:{self.target}:{os.fsencode(self.engine).hex()}:{self.request.hex()}"


def _file_of(door: Door, engine: str) -> Path:
    return door.private / f"events-{zlib.crc32(engine.encode()):x}"


@contextlib.contextmanager
def written_down(door: Door, engines: list[str], began: float) -> Iterator[list[Copied]]:
    """Ask engines to send their events until the end of a `with` block.

    Args:
        door: The door.
        engines: The paths of their sockets.
        began: The time of the first event, in seconds since the epoch.

    Yields:
        The streams that are to be copied.
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
    """Return an engine's events of a run, without those of our own containers.

    Raises:
        OSError, ValueError, LookupError, TypeError, AttributeError: It does not answer, or its
            answer is of another form.
    """
    question = f"/events?since={began:.9f}&until={ended:.9f}&filters={_FILTERS}"
    lines = ask(engine, question).splitlines()
    with contextlib.suppress(OSError):
        lines += _file_of(door, engine).read_bytes().splitlines()
    # An event that is in both is taken once. Lines that are no JSON are HTTP's, or were cut off.
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
