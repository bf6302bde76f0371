"""Finds what podman did without our hook: containers, commands in older ones, and builds.

Podman runs our hook when it starts a container, if it has the session's configuration. With another
(`--hooks-dir`, `sudo`, a cleared environment) it does not. It runs no hook for `exec`, or for the
steps of a build. Podman keeps a record of all that, which is read at the end of the run.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from hdocker._door.builds import add_steps, step_of, tell_steps
from hdocker._door.oci import PAUSE
from hdocker._door.told import Told, first_of, several
from hdocker._inject.added import OWN_LABEL

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from hdocker._door.door import Door

_PATIENCE: Final = 60  # seconds
_PAST: Final = "past hcoverage's hook, by this run or by somebody else"
_ADVICE: Final = (
    "podman asks the hook if it has the run's CONTAINERS_CONF, which sudo drops, and no --hooks-dir"
)
_OF_NO_IMAGE: Final = "without an image (--rootfs)"
_NEEDS_IMAGE: Final = "hcov measures containers of images alone"
_ADVICE_ON_COMMANDS: Final = "to measure it, run it in a container that the run has started"
_OF_RUN: Final = "/bin/sh -c "


class _Podman:
    """Asks podman."""

    def __init__(self, client: str, environment: Mapping[str, str]) -> None:
        self._client = client
        self._environment = environment

    def ask(self, *words: str) -> str:
        """Run a command of podman, and return its output.

        Raises:
            OSError, subprocess.SubprocessError: It does not answer.
        """
        return subprocess.run(
            [self._client, "--remote=false", *words],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            check=True,
            timeout=_PATIENCE,
        ).stdout

    def events(self, began: float) -> list[dict[str, Any]]:
        """Return its events since a time, in seconds since the epoch."""
        since = datetime.fromtimestamp(began, UTC).isoformat()
        said = self.ask("events", "--since", since, "--stream=false", "--format", "json")
        return [json.loads(line) for line in said.splitlines()]

    def images(self) -> list[dict[str, Any]]:
        """Return all images, also those of a build's steps."""
        said = self.ask("images", "--all", "--no-trunc", "--format", "json")
        known: list[dict[str, Any]] = json.loads(said)
        return known

    def steps(self, images: Sequence[str]) -> dict[tuple[str, str], None]:
        """Return the steps that made images: when each ran, and its command."""
        known = json.loads(self.ask("image", "inspect", *images)) if images else []
        return {
            (str(each.get("created")), str(each.get("created_by"))): None
            for one in known
            for each in one.get("History") or ()
        }


def tell_what_podman_did(
    door: Door, environment: Mapping[str, str], began: float, *, tells_containers: bool
) -> None:
    """Leave notes on what is not measured.

    Args:
        door: The door of podman's containers.
        environment: The environment of podman's callers, without the session's configuration.
        began: When the run began, in seconds since the epoch.
        tells_containers: Whether to tell of containers, and not of builds only.
    """
    podman = _Podman(door.client, environment)
    try:
        events = podman.events(began)
    except (OSError, ValueError, subprocess.SubprocessError):
        door.note(
            "podman was used in this run and keeps no record of it (`podman events`), so whether "
            "all of its containers were measured is not known"
        )
        return
    if tells_containers:
        _tell_of_containers(door, events)
    with contextlib.suppress(OSError, ValueError, LookupError, subprocess.SubprocessError):
        _tell_of_builds(door, podman, events, began)


def _tell_of_containers(door: Door, events: list[dict[str, Any]]) -> None:
    ours = door.created_containers()
    started = {each["ID"]: each for each in events if _is_of_interest(each, "start")}
    past = [each for identity, each in started.items() if identity not in ours]
    _tell(door, [each for each in past if each.get("Image")], _PAST, _ADVICE)
    _tell(door, [each for each in past if not each.get("Image")], _OF_NO_IMAGE, _NEEDS_IMAGE)
    executed = [
        each
        for each in events
        if _is_of_interest(each, "exec") and each["ID"] not in {*ours, *started}
    ]
    if executed:
        are = several(len(executed), "command was executed", "commands were executed")
        door.note(
            f"{are} by podman in containers from before the run, by this run or by somebody else: "
            f"in {_names(executed)}; {_ADVICE_ON_COMMANDS}"
        )


def _tell(door: Door, past: list[dict[str, Any]], how: str, advice: str) -> None:
    if past:
        are = several(len(past), "container was started", "containers were started")
        door.note(f"{are} by podman {how}: {_names(past)}; {advice}")


def _is_of_interest(event: Mapping[str, Any], what: str) -> bool:
    return (
        event.get("Type") == "container"
        and event.get("Status") == what
        and OWN_LABEL not in (event.get("Attributes") or {})
        and not str(event.get("Image", "")).startswith(PAUSE)
    )


def _names(events: Iterable[Mapping[str, Any]]) -> str:
    named = (Told(str(each.get("Name")), str(each.get("Image") or "no image")) for each in events)
    return first_of([*dict.fromkeys(named)])


def _tell_of_builds(
    door: Door, podman: _Podman, events: list[dict[str, Any]], began: float
) -> None:
    known = podman.images()
    new = [str(one["Id"]) for one in known if int(one.get("Created", 0)) >= int(began)]
    since = datetime.fromtimestamp(int(began), UTC)
    ran = [
        step_of(text)
        for at, text in podman.steps(new)
        if _OF_RUN in text and datetime.fromisoformat(at) >= since
    ]
    add_steps(door, ran)
    tell_steps(door)
    built = {str(each.get("Name")) for each in events if each.get("Status") == "build"}
    gone = built - {str(one["Id"]) for one in known}
    if gone:
        are = several(len(gone), "image was built", "images were built")
        door.note(
            f"{are} by podman and removed in this run, and what a build runs cannot be measured: "
            "whether a step ran Python is not known any more"
        )
