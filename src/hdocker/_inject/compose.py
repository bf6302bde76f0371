"""Compose: an override file that has the services of a compose file measured.

Compose itself merges files and tells what comes of them (`docker compose config`); here is only
what is added to each service. The override is JSON, which is YAML too, so that nothing has to be
quoted by rules of our own.
"""

from __future__ import annotations

import json
import os
import posixpath
import shlex
import subprocess
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hcoverage import SESSION_VARIABLE
from hdocker._engine.engine import Engine
from hdocker._errors import (
    CommandError,
    ComposeError,
    ComposeNotFoundError,
    ServiceWarning,
)
from hdocker._inject.injection import Injection, inject_into
from hdocker._shim.main import PASSED_ON, PLACE, is_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from hdocker._inject.injection import Mount

_HOW_TO_INSTALL: Final = (
    "`sudo apt-get install docker-compose-v2` on Ubuntu, or "
    "https://docs.docker.com/compose/install/linux/"
)
# What compose says where it finds no file, in lower case.
_NO_FILE: Final = "no configuration file provided"
_HEADER: Final = """\
# Made by `hcov docker compose-override`, of use in the `hcov run` that it was called in alone:
# docker compose -f compose.yaml -f THIS_FILE up
"""
_WARN_AT_CALLER: Final = 2


@dataclass(frozen=True)
class Service:
    """What measuring has to know of a service.

    Attributes:
        name: Its name.
        image: Its image, by the name that compose gives it where the file has none.
        is_built: Whether compose can build the image.
        environment: Its variables, with compose's `$$` for each `$`; None for one that is taken
            from compose's own environment and is not there.
        targets: Where in its containers something is mounted.
        shares_volumes: Whether it has the volumes of other containers as well.
    """

    name: str
    image: str
    is_built: bool
    environment: Mapping[str, str | None]
    targets: tuple[str, ...]
    shares_volumes: bool

    @classmethod
    def of(cls, name: str, project: str, model: Mapping[str, Any]) -> Service:
        """Take it from the model that compose prints."""
        return cls(
            name,
            model.get("image") or f"{project}-{name}",
            bool(model.get("build")),
            model.get("environment") or {},
            tuple(_targets(model)),
            bool(model.get("volumes_from")),
        )

    @property
    def is_measured_already(self) -> bool:
        """Whether another override has been here."""
        return self.environment.get(SESSION_VARIABLE) == PLACE

    @property
    def is_left_alone(self) -> bool:
        """Whether the user said that it is not to be measured."""
        return self.environment.get(SESSION_VARIABLE) == ""

    @property
    def obstacle(self) -> str:
        """The path of a mount that is in the way of ours; nothing if there is none."""
        both_ways = (place for place in self.targets if is_in(place, PLACE) or is_in(PLACE, place))
        return next(both_ways, "")


@dataclass(frozen=True)
class Project:
    """What compose makes of the files it was given.

    Attributes:
        name: The project's name.
        services: The services that were asked for, with all that they depend on.
    """

    name: str
    services: tuple[Service, ...]


@dataclass(frozen=True)
class Compose:
    """Compose's command line.

    Attributes:
        engine: The client that has it.
        words: `compose` and the options that choose a project, such as `-f FILE`.
    """

    engine: Engine
    words: tuple[str, ...] = ("compose",)

    def project(self, *services: str) -> Project:
        """Have compose read its files.

        Args:
            services: The services that are wanted; all that the profiles leave by default.

        Raises:
            EngineNotFoundError: There is no client on PATH.
            ComposeNotFoundError: The client has no compose.
            ComposeError: Compose finds no file, or cannot read it.
        """
        model = json.loads(self.run("config", "--format", "json", *services))
        name = str(model.get("name", ""))
        found = (model.get("services") or {}).items()
        # What a provider makes is no container.
        containers = [item for item in found if not item[1].get("provider")]
        return Project(name, tuple(Service.of(key, name, value) for key, value in containers))

    def run(self, *arguments: str) -> str:
        """Run one of compose's commands to its end, in this process's own environment.

        Which may have variables in it that the compose file uses.

        Returns:
            What it wrote to stdout.

        Raises:
            EngineError: As for `project`.
        """
        self.engine.require_program()
        argv = self.engine.argv(*self.words, *arguments)
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            return done.stdout
        error = self.engine.error(argv, done.returncode, done.stderr)
        if not isinstance(error, CommandError):
            raise error
        if not self._is_there():
            raise ComposeNotFoundError(
                f"{self.engine.name} has no compose: install it with {_HOW_TO_INSTALL}"
            ) from error
        if _NO_FILE in done.stderr.lower():
            raise ComposeError(
                f"there is no compose file in {Path.cwd()} or above it: name one with `-f`, or go "
                "to the directory that it is in"
            ) from error
        raise ComposeError(
            f"compose cannot read its files; `{shlex.join(argv)}` says:\n{done.stderr.strip()}"
        ) from error

    def _is_there(self) -> bool:
        argv = self.engine.argv(self.words[0], "version")
        return subprocess.run(argv, capture_output=True, check=False).returncode == 0


def compose_override(
    files: Sequence[str | os.PathLike[str]] = (),
    *,
    profiles: Sequence[str] = (),
    use_sudo: bool = False,
) -> str:
    """Write an override file for compose that has the services of a compose file measured.

    Where `docker` is called by its name under `hcov run`, nobody needs it: its shim does the same.

    Args:
        files: The compose files; by default those that compose finds.
        profiles: The profiles whose services are measured too.
        use_sudo: Run the engine's client through `sudo`.

    Returns:
        The file's text.

    Raises:
        ComposeError: This process is not part of `hcov run`, compose cannot read the files, or a
            service's image is not built yet.
        ComposeNotFoundError: The engine's client has no compose.
        EngineError: As for `get_docker_base_cmd`.

    Warns:
        ServiceWarning: A service cannot be measured, and runs as it would.
    """
    if not Path(os.environ.get(SESSION_VARIABLE) or "/nowhere").is_dir():
        raise ComposeError(
            "an override file is of use inside of `hcov run` alone: run "
            "`hcov run -- COMMAND`, with a COMMAND that makes the file and uses it"
        )
    chosen = [word for file in files for word in ("-f", os.fspath(file))]
    wanted = [word for profile in profiles for word in ("--profile", profile)]
    compose = Compose(Engine("docker", use_sudo), ("compose", *chosen, *wanted))
    project = compose.project()
    _require_built(compose, project)
    added = {}
    for service in project.services:
        reason = why_not_measured(service)
        injection = Injection() if reason else inject_into(service.image, compose.engine)
        if injection.mounts:
            # What is passed on is whatever it is when compose reads the file.
            variables = {**injection.environment, **dict.fromkeys(PASSED_ON)}
            added[service.name] = override(service, injection.mounts, variables)
        else:
            reason = reason or f"there is no Python in its image {service.image}"
            warnings.warn(
                f"service {service.name} is not measured: {reason}",
                ServiceWarning,
                stacklevel=_WARN_AT_CALLER,
            )
    return _HEADER + render(added)


def why_not_measured(service: Service) -> str:
    """Tell what in a service's own words keeps it from being measured; nothing if it is not."""
    if service.is_measured_already:
        return "it is measured already"
    if service.is_left_alone:
        return f"it has an empty {SESSION_VARIABLE}"
    if service.obstacle:
        return f"its mount at {service.obstacle} is in the way of ours at {PLACE}"
    return ""


def override(
    service: Service, mounts: Sequence[Mount], variables: Mapping[str, str | None]
) -> dict[str, Any]:
    """Give what is added to a service, to be merged by compose's rules.

    Args:
        service: The service.
        mounts: What a container of its image is given.
        variables: The variables for it; None for a value that compose takes from its own
            environment.
    """
    environment = {
        name: value if value is None else _escaped(value)
        for name, value in variables.items()
        if name not in PASSED_ON or name not in service.environment
    }
    if service.environment.get("PYTHONPATH") is not None:
        environment["PYTHONPATH"] = _joined(str(service.environment["PYTHONPATH"]))
    return {
        "environment": environment,
        "volumes": [
            {
                "type": "bind",
                "source": _escaped(str(mount.source)),
                "target": _escaped(mount.target),
                "read_only": mount.read_only,
                "bind": {"create_host_path": False},
            }
            for mount in mounts
            # What the user mounts is another file system than the one looked at.
            if is_in(mount.target, PLACE)
            or not (
                service.shares_volumes or any(is_in(mount.target, its) for its in service.targets)
            )
        ],
    }


def render(services: Mapping[str, Any]) -> str:
    """Render what is added to services as a compose file."""
    return json.dumps({"services": services}, indent=2) + "\n"


def _require_built(compose: Compose, project: Project) -> None:
    built = [service for service in project.services if service.is_built]
    present = compose.engine.inspect_images(*dict.fromkeys(service.image for service in built))
    missing = [service.name for service in built if service.image not in present]
    if missing:
        command = compose.engine.argv(*compose.words, "build", *missing)
        raise ComposeError(
            f"no image has been built for {', '.join(missing)}: run `{shlex.join(command)}`"
        )


def _targets(model: Mapping[str, Any]) -> Iterator[str]:
    tmpfs = model.get("tmpfs") or ()
    paths = [each["target"] for each in model.get("volumes") or ()]
    paths += [each.partition(":")[0] for each in ([tmpfs] if isinstance(tmpfs, str) else tmpfs)]
    for kind, directory in (("configs", "/"), ("secrets", "/run/secrets")):
        for each in model.get(kind) or ():
            paths.append(posixpath.join(directory, each.get("target") or each["source"]))
    yield from map(posixpath.normpath, paths)


def _joined(python_path: str) -> str:
    # Without the session's own, which the user may have passed on from here.
    session = _escaped(os.environ.get(SESSION_VARIABLE, ""))
    theirs = [entry for entry in python_path.split(":") if entry not in {session, PLACE}]
    return ":".join([PLACE, *theirs] if any(theirs) else [PLACE])


def _escaped(text: str) -> str:
    # Compose would put variables in.
    return text.replace("$", "$$")
