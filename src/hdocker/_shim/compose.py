"""What runs in the place of `docker compose up` in a measured command: the part for compose.

The services are measured by one more file, which compose merges into its own. What is in it depends
on the images, so they have to be there first: those that compose would build it is had to build
before, with what it says where it would say it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hdocker._engine.engine import Engine
from hdocker._errors import (
    CommandError,
    ComposeError,
    EngineError,
    EnginePermissionError,
    EngineUnreachableError,
    ImageNameError,
)
from hdocker._inject.compose import Compose, Project, override, render, why_not_measured
from hdocker._inject.injection import inject_into
from hdocker._shim import command_line as _command_line, main as _shim

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Where compose looks where it is not told, in its own order.
_FILES: Final = ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml")
_OVERRIDES: Final = (
    "compose.override.yml",
    "compose.override.yaml",
    "docker-compose.override.yml",
    "docker-compose.override.yaml",
)
_FILE_VARIABLE: Final = "COMPOSE_FILE"
_SEPARATOR_VARIABLE: Final = "COMPOSE_PATH_SEPARATOR"
_SEPARATORS: Final = (os.pathsep, "|", "\n")
_STDIN: Final = "-"
_LABEL: Final = "com.docker.compose"


@dataclass(frozen=True)
class _Call:
    """A call of compose.

    Attributes:
        arguments: The client's arguments.
        subcommand_at: Where compose's own subcommand is.
        globals: Compose's options before it.
        options: The options after it.
        words_at: Where the words after it are that name services.
    """

    arguments: Sequence[str]
    subcommand_at: int
    globals: Sequence[tuple[str, str]]
    options: Sequence[tuple[str, str]]
    words_at: Sequence[int]

    @property
    def subcommand(self) -> str:
        return self.arguments[self.subcommand_at]

    @property
    def services(self) -> list[str]:
        """The services that are named: `up web`, `scale web=2`."""
        return [self.arguments[place].partition("=")[0] for place in self.words_at]

    @property
    def one_off(self) -> str:
        """The service that gets a container besides those it has; nothing if it is none."""
        return self.services[0] if self.subcommand == "run" else ""

    def values(self, name: str) -> list[str]:
        """List what was given for an option, by its long name."""
        return [value for key, value in (*self.globals, *self.options) if key == name]

    def without_build(self) -> _Call:
        """Give the same call for when everything has been built."""
        # What comes after the service is the container's command.
        end = self.words_at[0] if self.one_off else len(self.arguments)
        kept = [
            argument
            for place, argument in enumerate(self.arguments)
            if not (argument == "--build" and self.subcommand_at < place < end)
        ]
        removed = len(self.arguments) - len(kept)
        words_at = [place - removed for place in self.words_at] if self.one_off else self.words_at
        return dataclasses.replace(self, arguments=kept, words_at=words_at)


def measured(client: str, session: str, arguments: list[str], compose_at: int) -> list[str]:
    """Give the client's arguments, with the file that measures the services in them.

    Where the arguments name no file, the environment's `COMPOSE_FILE` is set instead, which leaves
    to compose what else it takes from where its files are.

    Args:
        client: The real client's path.
        session: The session's startup directory.
        arguments: What the client was called with.
        compose_at: Where in them `compose` is.

    Raises:
        SystemExit: An image cannot be built, which compose has told.
    """
    try:
        call = _read_call(client, session, arguments, compose_at)
        return arguments if call is None else _measured(client, session, call, compose_at)
    except (ComposeError, EnginePermissionError, EngineUnreachableError):
        pass  # compose will tell it, in its own words
    except (_shim.NotMeasuredError, _command_line.UnknownOptionError) as error:
        _shim.note(session, error, arguments)
    return arguments


def _measured(client: str, session: str, call: _Call, compose_at: int) -> list[str]:
    if _STDIN in call.values("--file"):
        raise _shim.NotMeasuredError("its compose file comes from standard input")
    options = tuple(call.arguments[:compose_at])
    engine = Engine(Path(client).name, client=client, client_options=options)
    compose = Compose(engine, tuple(call.arguments[compose_at : call.subcommand_at]))
    project = compose.project(*call.services)
    call = _build(compose, project, call)
    added = _added(engine, session, project, call)
    if not added:
        return list(call.arguments)
    own = _write(session, render(added))
    if call.values("--file"):
        at = call.subcommand_at
        return [*call.arguments[:at], "--file", own, *call.arguments[at:]]
    _set_files([*_files(compose, call), own])
    return list(call.arguments)


def _read_call(client: str, session: str, arguments: list[str], compose_at: int) -> _Call | None:
    """Read the arguments; None where no container is made."""
    options = _shim.options_of(session, client, ("compose",))
    at, before = _command_line.read_options(arguments, compose_at + 1, options)
    if at >= len(arguments) or arguments[at] not in _shim.COMPOSE_SUBCOMMANDS:
        return None
    options = _shim.options_of(session, client, ("compose", arguments[at]))
    after: list[tuple[str, str]] = []
    words_at: list[int] = []
    place = at + 1
    while place < len(arguments):
        place, found = _command_line.read_options(arguments, place, options)
        after += found
        if arguments[place : place + 1] == ["--"]:
            place += 1
        if place < len(arguments):
            words_at.append(place)
            place += 1
        if arguments[at] == "run" and words_at:
            break
    call = _Call(arguments, at, before, after, words_at)
    makes_none = call.values("--dry-run") or call.values("--help")
    return None if makes_none or (arguments[at] == "run" and not words_at) else call


def _build(compose: Compose, project: Project, call: _Call) -> _Call:
    """Have the images built that compose would build; give the call without that."""
    if call.values("--no-build"):
        return call
    built = [service for service in project.services if service.is_built]
    is_asked = bool(call.values("--build"))
    if not is_asked:
        present = compose.engine.inspect_images(*dict.fromkeys(each.image for each in built))
        built = [service for service in built if service.image not in present]
    if not built:
        return call
    quiet = ["--quiet"] if call.values("--quiet-build") else []
    names = [service.name for service in built]
    argv = compose.engine.argv(*compose.words, "build", *quiet, *names)
    status = subprocess.run(argv, stdin=subprocess.DEVNULL, check=False).returncode
    if status:
        raise SystemExit(status)
    return call.without_build() if is_asked else call


def _added(engine: Engine, session: str, project: Project, call: _Call) -> dict[str, Any]:
    """Give what is added to each service, and tell which cannot be measured."""
    data_dir = Path(_shim.settings(session)["data_dir"])
    started = _passed_on(engine, project, str(Path(session).parent))
    added = {}
    reasons = []
    for service in project.services:
        if service.is_measured_already or service.is_left_alone:
            continue
        reason = why_not_measured(service)
        if reason:
            reasons.append(f"service {service.name}: {reason}")
            continue
        try:
            injection = inject_into(service.image, engine, data_dir, session=Path(session))
        except (ImageNameError, EnginePermissionError, EngineUnreachableError):
            continue
        except EngineError as error:
            reasons.append(f"service {service.name}: {error}")
            continue
        variables: dict[str, str | None] = {**injection.environment}
        if service.name in started and service.name != call.one_off:
            kept = {name: variables[name] for name in variables if name not in _shim.PASSED_ON}
            variables = {**kept, **started[service.name]}
        if injection.mounts:
            added[service.name] = override(service, injection.mounts, variables)
    if reasons:
        _shim.note(session, _shim.NotMeasuredError("; ".join(reasons)), call.arguments)
    return added


def _passed_on(engine: Engine, project: Project, private: str) -> dict[str, dict[str, str]]:
    """Find the services that the session has containers of, and the variables passed on to those.

    With others compose would make the containers anew, though nothing has changed for the user.
    """
    labels = (f"{_LABEL}.project={project.name}", f"{_LABEL}.oneoff=False")
    wanted = [word for label in labels for word in ("--filter", f"label={label}")]
    found = {}
    with contextlib.suppress(CommandError):  # one has just been removed
        containers = engine.run("ps", "--all", "--quiet", *wanted).split()
        said = engine.run("inspect", *containers) if containers else "[]"
        for container in json.loads(said):
            config = container["Config"]
            if any(private in str(mount.get("Source")) for mount in container["Mounts"]):
                variables = dict(line.partition("=")[::2] for line in config["Env"] or ())
                found[config["Labels"][f"{_LABEL}.service"]] = {
                    name: variables[name] for name in _shim.PASSED_ON if name in variables
                }
    return found


def _files(compose: Compose, call: _Call) -> list[str]:
    """List the files that compose takes if none is named in its options."""
    directory = Path([".", *call.values("--project-directory")][-1]).absolute()
    places = (directory, *directory.parents)
    settings: Mapping[str, str] = os.environ
    has_more = call.values("--env-file") or "COMPOSE_ENV_FILES" in settings
    if _FILE_VARIABLE not in settings and (
        has_more or any((place / ".env").exists() for place in places)
    ):
        # A compose before 2.24 does not tell.
        with contextlib.suppress(ComposeError):
            lines = compose.run("config", "--environment").splitlines()
            settings = dict(line.partition("=")[::2] for line in lines)
    if settings.get(_FILE_VARIABLE):
        separator = settings.get(_SEPARATOR_VARIABLE) or os.pathsep
        return settings[_FILE_VARIABLE].split(separator)
    for place in places:
        found = [str(place / name) for name in _FILES if (place / name).exists()]
        if found:
            more = [str(place / name) for name in _OVERRIDES if (place / name).exists()]
            return [*found[:1], *more[:1]]
    return []


def _set_files(files: Sequence[str]) -> None:
    fitting = (each for each in _SEPARATORS if not any(each in file for file in files))
    os.environ[_SEPARATOR_VARIABLE] = separator = next(fitting, os.pathsep)
    os.environ[_FILE_VARIABLE] = separator.join(files)


def _write(session: str, text: str) -> str:
    """Write the override, one file for each content; two calls may be at it at once."""
    path = Path(session).with_name(f"compose-{zlib.crc32(text.encode()):x}.yaml")
    descriptor, scratch = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    Path(scratch).replace(path)
    return str(path)
