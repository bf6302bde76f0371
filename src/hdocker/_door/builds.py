"""Writes down when builds ran, and which of their steps started a Python."""

from __future__ import annotations

import contextlib
import json
import math
import re
import time
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, quote, urlsplit

from hdocker._door.api import ask_for_object
from hdocker._door.build_steps import Steps, starts_python
from hdocker._door.told import first_of, several

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from hdocker._door.door import Door

_PATH: Final = re.compile(r"(?:/v[0-9.]+)?(?:/libpod)?/(?:build|grpc)")
_IMAGE: Final = re.compile(rb"sha256:[0-9a-f]{64}")
_QUIET_ANSWER: Final = 1 << 16  # bytes
_SHOWN_WIDTH: Final = 70
# What an image's history adds to the command.
_AROUND: Final = re.compile(r"^(RUN )?(\|[0-9]+ .*?)?/bin/sh -c |^RUN | # buildkit$")


class Build:
    """A build that runs, or several on one connection."""

    def __init__(self, door: Door, target: str, *, is_wanted: bool) -> None:
        """Begin.

        Args:
            door: The door.
            target: The path and the query of the client's request.
            is_wanted: Whether to tell what is not measured.
        """
        self._door = door
        self._began = time.time()
        self._is_wanted = is_wanted
        self._steps = Steps()
        # Then the classic builder says only which image it has built.
        self._is_quiet = parse_qs(urlsplit(target).query).get("q") == ["1"]
        self._answer = b""
        _write(door, began=self._began)

    def take(self, some: bytes) -> None:
        """Take the next bytes from the engine."""
        if self._is_wanted:
            self._note(self._steps.take(some))
            if self._is_quiet:
                self._answer = (self._answer + some)[:_QUIET_ANSWER]

    def end(self) -> None:
        """Write down that the build has ended."""
        _write(self._door, began=self._began, ended=time.time())
        if self._is_wanted:
            self._note(self._steps.end())
            image = _IMAGE.search(self._answer)
            if image:
                self._note(self._new_steps(image[0].decode()))

    def _new_steps(self, image: str) -> list[str]:
        """Return the steps of an image that were not in the cache, and started a Python."""
        found: list[dict[str, Any]] = []
        with contextlib.suppress(OSError):
            found = ask_for_object(self._door.engine, f"/images/{quote(image)}/history") or []
        made = [str(one["CreatedBy"]) for one in found if one["Created"] >= int(self._began)]
        return [step for step in map(step_of, reversed(made)) if starts_python(step)]

    def _note(self, steps: list[str]) -> None:
        for step in steps:
            _write(self._door, step=step)


def step_of(text: str) -> str:
    """Return the instruction in the Dockerfile for an entry of an image's history."""
    return f"RUN {_AROUND.sub('', text)}"


def is_build(path: str) -> bool:
    """Return whether a request with this path starts builds."""
    return bool(_PATH.fullmatch(path))


def times_of_builds(door: Door) -> list[tuple[float, float]]:
    """Return when each build began and ended, in seconds since the epoch."""
    ends: dict[float, float] = {}
    for each in _written(door):
        if "began" in each:
            ends[each["began"]] = each.get("ended", math.inf)
    return list(ends.items())


def add_steps(door: Door, steps: Iterable[str]) -> None:
    """Write down those of some steps that started a Python and are not written down yet.

    Args:
        door: The door.
        steps: Steps of builds.
    """
    known = [str(each["step"]) for each in _written(door) if "step" in each]
    for step in steps:
        if starts_python(step) and step not in known:
            _write(door, step=step)


def tell_steps(door: Door) -> None:
    """Leave a note on the steps that started a Python."""
    steps = [str(each["step"]) for each in _written(door) if "step" in each]
    if steps:
        ran = several(len(steps), "step of a build ran Python", "steps of builds ran Python")
        shown = first_of([f"`{_shortened(each)}`" for each in dict.fromkeys(steps)])
        door.note(
            f"{ran}, and what a build runs cannot be measured: {shown}; what is to be measured has "
            "to run in a container of the image"
        )


def _shortened(step: str) -> str:
    words = " ".join(step.split())
    return words if len(words) <= _SHOWN_WIDTH else f"{words[:_SHOWN_WIDTH].rstrip()} …"


def _write(door: Door, **known: object) -> None:
    with contextlib.suppress(OSError), door.builds.open("a") as file:
        file.write(f"{json.dumps(known)}\n")


def _written(door: Door) -> Iterator[dict[str, Any]]:
    with contextlib.suppress(OSError):
        for line in door.builds.read_text("ascii").splitlines():
            with contextlib.suppress(ValueError):
                yield json.loads(line)
