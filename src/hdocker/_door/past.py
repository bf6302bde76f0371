"""Finds what went past the door: containers created or started, and commands executed.

A client that gets another address, by an option, a context or in its own code, does not use the
door. It cannot be led there, but the engine knows its containers.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from hdocker._door.api import ask_for_container, ask_for_object
from hdocker._door.builds import times_of_builds
from hdocker._door.door import ids_in
from hdocker._door.engine_events import CREATE, EXECUTE, OF_SERVICE, START, Event, events_of
from hdocker._door.fetching import Prepared
from hdocker._door.oci import PAUSE
from hdocker._door.told import Told, first_of, several
from hdocker._inject.added import OWN_LABEL, SESSION_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from hdocker._door.door import Door

_DIGEST: Final = "sha256:"
_SHORT: Final = len(_DIGEST) + 12
_PAST: Final = "past hcoverage's proxy to the engine, by this run or by somebody else"


@dataclass(frozen=True)
class Run:
    """A run, as far as it matters here.

    Attributes:
        door: Its door.
        began: When the door was opened, in seconds since the epoch.
        ended: When it was closed.
        advice: What makes clients use it.
    """

    door: Door
    began: float
    ended: float
    advice: str


def tell_what_went_past(run: Run, engines: Iterable[str]) -> None:
    """Leave notes on what is not measured, since it went past the door.

    Args:
        run: The run.
        engines: The paths of engines' sockets. Several may belong to one engine.
    """
    created: dict[str, Event] = {}
    engine_of: dict[Event, str] = {}
    for engine in engines:
        # The engine may have gone, or answer in another form.
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError, AttributeError):
            engine_of.update(
                dict.fromkeys(events_of(run.door, engine, run.began, run.ended), engine)
            )
            created.update(_listed(engine, run.began))
    events = sorted(engine_of, key=lambda each: each.at)
    created.update(_by_container(events, CREATE))
    ours = run.door.created_containers() | _steps(run.door, created.values())
    past = [
        each
        for identity, each in created.items()
        if identity not in ours and not each.image.startswith(PAUSE)
    ]
    _tell_of_services(run, [each for each in past if each.is_of_service])
    past = [each for each in past if not each.is_of_service]
    _tell(run, past, "container was created", "containers were created")
    prepared = {each.identity: each.began for each in Prepared.all_of(run.door)}
    new = ours | created.keys()
    seen = new | prepared.keys() | ids_in(run.door.started)
    started = _by_container(events, START)
    past = [each for identity, each in started.items() if identity not in seen]
    _tell(run, past, "older container was started", "older containers were started")
    past = [
        each
        for each in _not_asked_for(run.door, events)
        if each.container not in new
        and each.at < prepared.get(each.container, each.at + 1)
        and not _is_its_own(engine_of[each], each)
    ]
    _tell(run, past, "command was executed", "commands were executed", "in ")


def _by_container(events: Iterable[Event], what: str) -> dict[str, Event]:
    return {each.container: each for each in events if each.what == what}


def _not_asked_for(door: Door, events: Iterable[Event]) -> Iterator[Event]:
    """Yield the commands that were executed, but not requested through the door."""
    asked = []
    with contextlib.suppress(OSError):
        asked = [line.split(" ", 1) for line in door.executed.read_text("utf-8").splitlines()]
    ids = {identity for identity, _ in asked}
    left = Counter(container for _, container in asked)
    for each in events:
        if each.what != EXECUTE or each.execution in ids:
            continue
        if not each.execution:
            # Podman does not tell the command's id.
            named = (one for one in left if left[one] and _names_it(one, each))
            if container := next(named, ""):
                left[container] -= 1
                continue
        yield each


def _names_it(word: str, event: Event) -> bool:
    return word == event.name or event.container.startswith(word)


def _listed(engine: str, began: float) -> dict[str, Event]:
    """Return the containers created since the run began that still exist."""
    found: list[dict[str, Any]] = ask_for_object(engine, "/containers/json?all=1") or []
    return {
        str(one["Id"]): Event(
            CREATE,
            str(one["Id"]),
            str((one.get("Names") or [""])[0]).lstrip("/"),
            str(one["Image"]),
            at=float(one["Created"]),
            is_of_service=OF_SERVICE in (one.get("Labels") or {}),
        )
        for one in found
        # The engine tells whole seconds.
        if int(one.get("Created", 0)) > began and OWN_LABEL not in (one.get("Labels") or {})
    }


def _steps(door: Door, created: Iterable[Event]) -> set[str]:
    """Return the containers that the engine itself created, for steps of a build."""
    times = times_of_builds(door)
    return {
        each.container
        for each in created
        if not each.image
        or (
            each.image.startswith(_DIGEST)  # without a name
            and any(began <= each.at <= ended for began, ended in times)
        )
    }


def _is_its_own(engine: str, event: Event) -> bool:
    """Return whether a command is its container's health check, or the container is left alone."""
    known: dict[str, Any] = {}
    with contextlib.suppress(OSError):
        known = ask_for_container(engine, event.container)
    config = known.get("Config") or {}
    check = " ".join(((config.get("Healthcheck") or {}).get("Test") or ())[1:])
    is_check = bool(check) and event.command.endswith(check)
    return is_check or f"{SESSION_VARIABLE}=" in (config.get("Env") or ())


def _tell_of_services(run: Run, past: list[Event]) -> None:
    if past:
        of = several(len(past), "container of a service was", "containers of services were")
        run.door.note(
            f"{of} created by the engine itself, not through the proxy: {_names(past)}; to measure "
            "it, run it in a container that a client creates"
        )


def _tell(run: Run, past: list[Event], one: str, more: str, where: str = "") -> None:
    if past:
        run.door.note(
            f"{several(len(past), one, more)} {_PAST}: {where}{_names(past)}; {run.advice}"
        )


def _names(past: Iterable[Event]) -> str:
    named = (
        Told(each.name, each.image[: _SHORT if each.image.startswith(_DIGEST) else None])
        for each in past
    )
    return first_of([*dict.fromkeys(named)])
