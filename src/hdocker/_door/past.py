"""What went past the door: containers that the engine made or started during the run.

A client that is told another address, by an option, a context or in its own code, does not come
through the door. It cannot be led there, but the engine knows of its containers.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from hdocker._door.api import ask, ask_for_object
from hdocker._door.fetching import Prepared
from hdocker._inject.added import OWN_LABEL

if TYPE_CHECKING:
    from hdocker._door.door import Door

_EVENTS: Final = json.dumps({"type": ["container"], "event": ["create", "start"]})
_SHOWN: Final = 3
# What the engine's classic builder names the images by that a build's steps run in.
_STEP: Final = "sha256:"


@dataclass(frozen=True)
class _Container:
    identity: str
    name: str
    image: str

    def __str__(self) -> str:
        return f"{self.name} ({self.image})"


def tell_what_went_past(door: Door, began: float, ended: float, advice: str) -> None:
    """Leave notes of containers that are not measured, since nobody saw them come.

    Args:
        door: The door.
        began: When it was opened, in seconds since the epoch.
        ended: When it was closed.
        advice: How clients come to the door.
    """
    try:
        created, started = _by_events(door.engine, began, ended)
        created |= _by_list(door.engine, began)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return  # the engine has gone, or is one that says something else
    ours = door.created_containers() | {each.identity for each in Prepared.all_of(door)}
    past = [one for identity, one in created.items() if identity not in ours]
    if past:
        door.note(
            f"{_count(past, 'container was', 'containers were')} created past hcoverage's door to "
            f"the engine, by this run or by somebody else: {_names(past)}; {advice}"
        )
    before = [
        one for identity, one in started.items() if identity not in ours and identity not in created
    ]
    if before:
        door.note(
            f"{_count(before, 'container was', 'containers were')} started that had been created "
            f"before the run: {_names(before)}; remove them before, so that the run creates them"
        )


def _by_events(
    engine: str, began: float, ended: float
) -> tuple[dict[str, _Container], dict[str, _Container]]:
    """Give what was created, and what was started; engines remember some hundred events."""
    question = f"/events?since={began:.9f}&until={ended:.9f}&filters={quote(_EVENTS)}"
    created: dict[str, _Container] = {}
    started: dict[str, _Container] = {}
    for line in ask(engine, question).splitlines():
        event = json.loads(line)
        actor = event.get("Actor") or {}
        attributes = actor.get("Attributes") or {}
        image = str(attributes.get("image", ""))
        if OWN_LABEL in attributes or image.startswith(_STEP):
            continue
        one = _Container(str(actor.get("ID")), str(attributes.get("name", "")), image)
        found = created if event.get("Action", event.get("status")) == "create" else started
        found[one.identity] = one
    return created, started


def _by_list(engine: str, began: float) -> dict[str, _Container]:
    """Give what was created and is still there."""
    found: list[dict[str, Any]] = ask_for_object(engine, "/containers/json?all=1") or []
    containers = [
        _Container(
            str(one["Id"]), str((one.get("Names") or [""])[0]).lstrip("/"), str(one["Image"])
        )
        for one in found
        # In whole seconds.
        if int(one.get("Created", 0)) > began and OWN_LABEL not in (one.get("Labels") or {})
    ]
    return {one.identity: one for one in containers if not one.image.startswith(_STEP)}


def _count(containers: list[_Container], one: str, several: str) -> str:
    return f"{len(containers)} {one if len(containers) == 1 else several}"


def _names(containers: list[_Container]) -> str:
    more = f" and {len(containers) - _SHOWN} more" if containers[_SHOWN:] else ""
    return ", ".join(map(str, containers[:_SHOWN])) + more
