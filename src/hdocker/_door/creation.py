"""Reads the bodies of requests that create containers, and adds to them.

Docker's API and podman's own (libpod) describe a container in different words. Names are read as Go
reads them: capital letters do not matter, and of several with one name the last counts. What comes
after the JSON is ignored.
"""

from __future__ import annotations

import json
import posixpath
import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_PATH: Final = r"(?:/v[0-9.]+)?(?P<libpod>/libpod)?/containers/create"
# Numbers that are not integers are kept as they were written: Python would make `1000.0` of `1e3`.
_NUMBER: Final = secrets.token_hex(12)
_NUMBERS: Final = f'"{_NUMBER}([^"]*)"'


@dataclass(frozen=True)
class BindMount:
    """A mount: a file or directory of the engine's machine, or a volume.

    Attributes:
        source: Its path there; the name of a volume, which has no slash.
        target: Its path in the container.
        read_only: Whether the container may only read it.
    """

    source: str
    target: str
    read_only: bool

    @property
    def is_volume(self) -> bool:
        """Whether it is a volume."""
        return "/" not in self.source


class Creation(Protocol):
    """The container that a request asks for."""

    @property
    def image(self) -> str:
        """Its image, as the client names it; empty if there is none."""

    @property
    def variables(self) -> dict[str, str | None]:
        """Its variables; None for one of the image that the client removes."""

    @property
    def targets(self) -> list[str]:
        """The paths in it at which something is mounted."""

    @property
    def sources(self) -> list[str]:
        """The paths on the engine's machine that are mounted."""

    @property
    def lenders(self) -> list[str]:
        """The containers whose volumes it mounts, too: their ids or names."""

    def move_sources(self, moved: Mapping[str, str]) -> None:
        """Replace paths that are mounted: old ones by new ones."""

    @property
    def labels(self) -> dict[str, str]:
        """Its labels."""

    def changed(
        self,
        mounts: Sequence[BindMount],
        variables: Mapping[str, str],
        labels: Mapping[str, str],
    ) -> bytes:
        """Return the body with mounts added, and variables and labels added or replaced."""


def reader_of(method: str, path: str) -> type[DockerCreation | LibpodCreation] | None:
    """Return the class that reads a request's body; None if the request creates no container."""
    found = re.fullmatch(_PATH, path) if method == "POST" else None
    if not found:
        return None
    return LibpodCreation if found["libpod"] else DockerCreation


class DockerCreation:
    """A container as Docker's API describes it."""

    def __init__(self, body: bytes) -> None:
        """Read a body.

        Raises:
            ValueError: The engine would not understand it.
        """
        self._model = _read(body)
        self._host = _field(self._model, "HostConfig", dict)
        self.image = _field(self._model, "Image", str)
        self._settings: list[str] = _field(self._model, "Env", list)
        self.labels: dict[str, str] = _field(self._model, "Labels", dict)
        self._mounts: list[dict[str, Any]] = _field(self._host, "Mounts", list)
        self._binds: list[list[str]] = [
            str(bind).split(":") for bind in _field(self._host, "Binds", list)
        ]

    @property
    def variables(self) -> dict[str, str | None]:
        """Its variables; None for one of the image that the client removes."""
        return dict(map(_variable, self._settings))

    @property
    def targets(self) -> list[str]:
        """The paths in it at which something is mounted."""
        found = [
            *((bind[1:2] or bind)[0] for bind in self._binds),
            *(_field(mount, "Target", str) for mount in self._mounts),
            *_field(self._host, "Tmpfs", dict),
            *_field(self._model, "Volumes", dict),
        ]
        return [posixpath.normpath(target) for target in found]

    @property
    def sources(self) -> list[str]:
        """The paths on the engine's machine that are mounted."""
        mounted = (_field(mount, "Source", str) for mount in self._mounts)
        return [*(bind[0] for bind in self._binds), *mounted]

    def move_sources(self, moved: Mapping[str, str]) -> None:
        """Replace paths that are mounted: old ones by new ones."""
        if self._binds:
            self._binds = [[moved.get(bind[0], bind[0]), *bind[1:]] for bind in self._binds]
            self._host["Binds"] = [":".join(bind) for bind in self._binds]
        for mount in self._mounts:
            source = _field(mount, "Source", str)
            if source in moved:
                mount["Source"] = moved[source]

    @property
    def lenders(self) -> list[str]:
        """The containers whose volumes it mounts, too: their ids or names."""
        return _lenders(_field(self._host, "VolumesFrom", list))

    def changed(
        self,
        mounts: Sequence[BindMount],
        variables: Mapping[str, str],
        labels: Mapping[str, str],
    ) -> bytes:
        """Return the body with mounts added, and variables and labels added or replaced."""
        kept = [each for each in self._settings if _variable(each)[0] not in variables]
        settings = [*kept, *map("=".join, variables.items())]
        added = [
            {
                "Type": "volume" if mount.is_volume else "bind",
                "Source": mount.source,
                "Target": mount.target,
                "ReadOnly": mount.read_only,
            }
            for mount in mounts
        ]
        host = {**self._host, "Mounts": [*self._mounts, *added]}
        model = {**self._model, "Env": settings, "HostConfig": host}
        return _written({**model, "Labels": {**self.labels, **labels}} if labels else model)


class LibpodCreation:
    """A container as podman's own API describes it."""

    def __init__(self, body: bytes) -> None:
        """Read a body.

        Raises:
            ValueError: The engine would not understand it.
        """
        self._model = _read(body)
        has_root = _field(self._model, "rootfs", str)
        self.image = "" if has_root else _field(self._model, "image", str)
        self._settings: dict[str, str] = _field(self._model, "env", dict)
        self.labels: dict[str, str] = _field(self._model, "labels", dict)
        self._mounts: list[dict[str, Any]] = _field(self._model, "mounts", list)

    @property
    def variables(self) -> dict[str, str | None]:
        """Its variables; None for one of the image that the client removes."""
        taken = dict.fromkeys(_field(self._model, "unsetenv", list))
        return {**taken, **self._settings}

    @property
    def targets(self) -> list[str]:
        """The paths in it at which something is mounted."""
        volumes = _field(self._model, "volumes", list)
        overlays = _field(self._model, "overlay_volumes", list)
        found = [
            *(_field(mount, "destination", str) for mount in self._mounts),
            *(_field(volume, "Dest", str) for volume in volumes),
            *(_field(volume, "destination", str) for volume in overlays),
        ]
        return [posixpath.normpath(target) for target in found]

    @property
    def sources(self) -> list[str]:
        """The paths on the engine's machine that are mounted."""
        return [_field(mount, "source", str) for mount in self._mounts]

    def move_sources(self, moved: Mapping[str, str]) -> None:
        """Replace paths that are mounted: old ones by new ones."""
        for mount in self._mounts:
            source = _field(mount, "source", str)
            if source in moved:
                mount["source"] = moved[source]

    @property
    def lenders(self) -> list[str]:
        """The containers whose volumes it mounts, too: their ids or names."""
        return _lenders(_field(self._model, "volumes_from", list))

    def changed(
        self,
        mounts: Sequence[BindMount],
        variables: Mapping[str, str],
        labels: Mapping[str, str],
    ) -> bytes:
        """Return the body with mounts added, and variables and labels added or replaced."""
        added = [
            {
                "type": "bind",
                "source": mount.source,
                "destination": mount.target,
                "options": ["rbind", "ro" if mount.read_only else "rw"],
            }
            for mount in mounts
            if not mount.is_volume
        ]
        volumes = [
            {
                "Name": mount.source,
                "Dest": mount.target,
                "Options": ["ro" if mount.read_only else "rw"],
            }
            for mount in mounts
            if mount.is_volume
        ]
        model = {
            **self._model,
            "env": {**self._settings, **variables},
            "mounts": [*self._mounts, *added],
            "volumes": [*_field(self._model, "volumes", list), *volumes],
        }
        return _written({**model, "labels": {**self.labels, **labels}} if labels else model)


# See `Dial` in driver/docker-container/driver.go of buildx.
_TO_BUILDER: Final = ["buildctl", "dial-stdio"]


class Execution:
    """A command in a container, which both APIs describe in the same words."""

    def __init__(self, body: bytes) -> None:
        """Read a body.

        Raises:
            ValueError: The engine would not understand it.
        """
        self._model = _read(body)
        self._settings: list[str] = _field(self._model, "Env", list)

    @property
    def variables(self) -> dict[str, str | None]:
        """Its variables; None for one that the client removes."""
        return dict(map(_variable, self._settings))

    @property
    def is_of_builder(self) -> bool:
        """Whether a client, such as buildx, reaches a builder in the container by it."""
        words = self._model.get("Cmd")
        return isinstance(words, list) and words[:2] == _TO_BUILDER

    def changed(self, variables: Mapping[str, str]) -> bytes:
        """Return the body with variables added or replaced."""
        kept = [each for each in self._settings if _variable(each)[0] not in variables]
        return _written({**self._model, "Env": [*kept, *map("=".join, variables.items())]})


def _lenders(named: Sequence[object]) -> list[str]:
    # After a name may come how to mount: `name:ro`.
    return [str(each).partition(":")[0] for each in named]


def _variable(setting: str) -> tuple[str, str | None]:
    name, equals, value = setting.partition("=")
    return name, value if equals else None


def _read(body: bytes) -> dict[str, Any]:
    decoder = json.JSONDecoder(
        object_pairs_hook=_object,
        parse_float=lambda text: f"{_NUMBER}{text}",
        parse_constant=_refuse,
    )
    try:
        model, _ = decoder.raw_decode(body.decode("utf-8").lstrip(" \t\r\n"))
    except RecursionError as error:
        raise ValueError("it is too deep") from error
    if not isinstance(model, dict):
        raise ValueError("it is no object")  # noqa: TRY004 - as the others
    return model


def _written(model: Mapping[str, Any]) -> bytes:
    return re.sub(_NUMBERS, r"\1", json.dumps(model)).encode("ascii")


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        earlier = found.pop(name, None)
        found[name] = _joined(earlier, value)
    return found


def _joined(earlier: object, value: object) -> object:
    """Return the value of a name that an object has twice, as Go decodes it."""
    both = isinstance(earlier, dict) and isinstance(value, dict)
    return {**earlier, **value} if both else value  # type: ignore[dict-item] # both are


def _refuse(text: str) -> float:
    raise ValueError(f"{text} is no number of JSON")


def _field(model: dict[str, Any], name: str, kind: type[Any]) -> Any:  # noqa: ANN401 - of that kind
    """Return the value of a name, whatever its capital letters; rename it to this spelling.

    Raises:
        ValueError: The value is of another kind.
    """
    if not isinstance(model, dict):
        raise ValueError("it is no object")  # noqa: TRY004 - as the others
    value = None
    for key in list(_alike(model, name)):
        value = _joined(value, model.pop(key))
    if value is None:
        return kind()
    if not isinstance(value, kind) or (kind is str and str(value).startswith(_NUMBER)):
        raise ValueError(f"{name} is something else")
    model[name] = value
    return value


def _alike(model: Mapping[str, Any], name: str) -> Iterator[str]:
    return (key for key in model if key.casefold() == name.casefold())
