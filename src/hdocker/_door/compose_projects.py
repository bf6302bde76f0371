"""Finds compose projects that were up before the run.

`up` leaves their containers as they are, and so do we. So they are not measured, and the end of the
run tells that: otherwise nobody would notice that `up` has created nothing. They are found because
compose first asks the engine for a project's containers.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, quote, urlsplit

from hdocker._door.api import ask_for_object
from hdocker._door.told import Told, first_of, several

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hdocker._door.door import Door

_PREFIX: Final = "com.docker.compose"
_PROJECT: Final = f"{_PREFIX}.project"
_ONE_OFF: Final = f"{_PREFIX}.oneoff"
_PLACE: Final = (_PROJECT, f"{_PREFIX}.service", f"{_PREFIX}.container-number")
_UP: Final = ("up", "watch")


class Projects:
    """The projects that clients of the run bring up."""

    def __init__(self, door: Door) -> None:
        """Begin with no project."""
        self._door = door
        self._lock = threading.Lock()
        self._seen: set[tuple[int, str]] = set()

    def notice(self, target: str, client: int) -> None:
        """Write down the containers that an `up` is about to find.

        Args:
            target: The path and the query of a client's request.
            client: The client's process id.

        Raises:
            OSError: The engine does not answer.
        """
        project = _project_in(target)
        if not project or not _is_up(client):
            return
        with self._lock:
            if (client, project) in self._seen:
                return
            self._seen.add((client, project))
        filters = quote(json.dumps({"label": [f"{_PROJECT}={project}"]}))
        found: list[dict[str, Any]] | None = ask_for_object(
            self._door.engine, f"/containers/json?filters={filters}"
        )
        ours = self._door.created_containers()
        for one in found or []:
            file = self._file(one.get("Labels") or {})
            if file and str(one.get("Id")) not in ours:
                name = str((one.get("Names") or [""])[0]).lstrip("/")
                file.parent.mkdir(exist_ok=True)
                file.write_text(json.dumps(asdict(Told(name, str(one.get("Image"))))))

    def forget(self, labels: Mapping[str, str]) -> None:
        """Forget a container, since compose has created it again."""
        file = self._file(labels)
        if file:
            file.unlink(missing_ok=True)

    def _file(self, labels: Mapping[str, str]) -> Path | None:
        place = [str(labels.get(label, "")) for label in _PLACE]
        if not all(place) or str(labels.get(_ONE_OFF)).lower() == "true":
            return None
        return self._door.left_alone / f"{zlib.crc32(os.fsencode(chr(0).join(place))):x}.json"


def tell_left_alone(door: Door) -> None:
    """Leave a note on the containers that an `up` in the run left as they were."""
    files = sorted(door.left_alone.glob("*.json")) if door.left_alone.is_dir() else []
    with contextlib.suppress(OSError, ValueError, TypeError):
        found = [Told(**json.loads(file.read_text("utf-8"))) for file in files]
        if found:
            door.note(_told(sorted(found)))


def _told(found: Sequence[Told]) -> str:
    return (
        f"{several(len(found), 'container was', 'containers were')} up before the run, and compose "
        f"left them as they are: {first_of(found)}; what they run by themselves is not measured: "
        "`docker compose down` before, so that the run creates them"
    )


def _project_in(target: str) -> str:
    """Return the project whose containers a request asks for; empty if it is another request."""
    try:
        filters = json.loads(parse_qs(urlsplit(target).query)["filters"][0])
        labels = list(filters["label"])
    except (ValueError, LookupError, TypeError):
        return ""
    named = [str(each).partition("=") for each in labels]
    return next((value for label, _, value in named if label == _PROJECT), "")


def _is_up(client: int) -> bool:
    """Return whether a client's command line brings a project up; True if it cannot be read."""
    try:
        words = Path(f"/proc/{client}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return True
    return any(os.fsdecode(word) in _UP for word in words)
