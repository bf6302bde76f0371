"""Opens the doors, in the process that has the session; `closing` closes them.

The socket is made before the command starts. The process that listens on it runs beside the
command, and does nothing until a client comes.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hcoverage import DATA_DIR_VARIABLE, SESSION_VARIABLE, unmeasured_environment
from hdocker._door.engine_address import (
    DEFAULT_SOCKET,
    TLS_VARIABLES,
    address_of,
    machine_of,
    other_sockets,
    socket_of,
)
from hdocker._door.engine_socket import engine_socket
from hdocker._door.podman import podman_in, podman_measured
from hdocker._door.podman_storage import marks_of
from hdocker._inject.added import write_settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from hdocker._door.door import Door

# Set it to 1 if others use the engine at the same time: then it is not known whose containers went
# past.
_SHARED_ENGINE_VARIABLE: Final = "HCOVERAGE_SHARED_ENGINE"
# Set it to 1 if nothing needs the name of the engine's machine, which DOCKER_HOST has.
_REMOTE_ENGINE_VARIABLE: Final = "HCOVERAGE_REMOTE_ENGINE"
# What makes clients use a door; or why none does.
_BY_DOCKER_HOST: Final = (
    "a client comes through the proxy if it goes by DOCKER_HOST, without -H, --context or an "
    "address in its code"
)
_BY_CONTAINER_HOST: Final = (
    "podman comes through the proxy if it goes by CONTAINER_HOST or containers.conf as the run has "
    "them, without --url, --connection or --hooks-dir"
)
_BY_REQUEST: Final = (
    "DOCKER_HOST names another machine, which tests may find their containers' ports by, so no "
    f"client was led through the proxy: set {_REMOTE_ENGINE_VARIABLE}=1 if none needs that name"
)
_KILLED: Final = (
    "the proxy of the engine's API was killed, with what starts it again, and from then on no "
    "client reached the engine"
)
_NAME: Final = "docker.sock"
_LAUNCHER: Final = Path(os.path.abspath(__file__)).with_name("launcher.py")  # noqa: PTH100


@contextlib.contextmanager
def containers_measured(environment: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Measure the containers that a session's command starts in a `with` block.

    At its end, notes in the data directory tell which containers went past the doors.

    Args:
        environment: The whole environment for the command, with the session's variables.

    Yields:
        The environment that leads clients to the doors.

    Raises:
        OSError: The doors cannot be made.
    """
    client = _client(environment)
    here = [os.path.abspath(entry) for entry in sys.path]  # noqa: PTH100
    known = {"path": here, "data_dir": environment[DATA_DIR_VARIABLE]}
    write_settings(environment[SESSION_VARIABLE], known)
    is_shared = environment.get(_SHARED_ENGINE_VARIABLE) == "1"
    services: list[str] = []
    with contextlib.ExitStack() as undo:

        def podman_door(service: str, podman: str) -> str:
            services.append(service)
            door = _door(service, environment, podman)
            undo.enter_context(_brought_home(door, "podman-door"))
            engines = [] if is_shared else [service]
            return undo.enter_context(_served(door, "podman-door", engines, _BY_CONTAINER_HOST))

        led = podman_measured(environment, podman_door)
        engine = undo.enter_context(engine_socket(environment, client))
        if engine:
            door = _door(engine, environment, client)
            undo.enter_context(_brought_home(door, "door"))
            leads = _leads(environment)
            engines = [] if is_shared else [engine, *other_sockets(environment, engine)]
            advice = _BY_DOCKER_HOST if leads else _BY_REQUEST
            address = undo.enter_context(_served(door, "door", engines, advice))
            led = _led(led, address) if leads else led
        if not is_shared:
            # The events of a service include what other podmans do.
            tells_containers = not services
            undo.enter_context(_podman_followed(environment, tells_containers=tells_containers))
        yield led


@contextlib.contextmanager
def _podman_followed(environment: Mapping[str, str], *, tells_containers: bool) -> Iterator[None]:
    """At the end of a `with` block, leave notes on what podman did that no hook saw.

    Args:
        environment: The environment of podman's callers, without the session's configuration.
        tells_containers: Whether to tell of containers, and not of builds only.
    """
    podman = podman_in(environment)
    before = marks_of(environment) if podman else {}
    began = time.time()
    yield
    if podman and marks_of(environment) != before:
        from hdocker._door.podman_past import tell_what_podman_did  # noqa: PLC0415 - few need it

        door = _door("", environment, podman)
        tell_what_podman_did(door, environment, began, tells_containers=tells_containers)


def _door(engine: str, environment: Mapping[str, str], client: str) -> Door:
    from hdocker._door.door import Door  # noqa: PLC0415 - without an engine, nobody needs it

    return Door(
        engine=engine,
        session=environment[SESSION_VARIABLE],
        data_dir=Path(environment[DATA_DIR_VARIABLE]),
        owner=os.getpid(),
        client=client,
    )


@contextlib.contextmanager
def _brought_home(door: Door, name: str) -> Iterator[None]:
    """At the end of a `with` block, fetch what containers of a door have recorded."""
    began = time.time()
    yield
    from hdocker._door.closing import close  # noqa: PLC0415 - as above

    close(door, began, Path(name, _NAME))


def _client(environment: Mapping[str, str]) -> str:
    found = shutil.which("docker", path=environment.get("PATH"))
    return os.path.abspath(found) if found else ""  # noqa: PTH100


def _leads(environment: Mapping[str, str]) -> bool:
    """Return whether DOCKER_HOST is changed, to lead clients to the door.

    If it names a machine, tests may use that name to reach their containers' ports.
    """
    host = environment.get("DOCKER_HOST", "")
    names_machine = host.startswith("tcp:") and bool(machine_of(host))
    return not names_machine or environment.get(_REMOTE_ENGINE_VARIABLE) == "1"


@contextlib.contextmanager
def _served(door: Door, name: str, engines: list[str], advice: str) -> Iterator[str]:
    """Run the proxy behind a socket with the permissions of the engine's, for a `with` block.

    At its end, leave notes on what went past the proxy.

    Args:
        door: The door.
        name: The name of its directory.
        engines: The sockets of the engines to ask what went past it.
        advice: What makes clients use it.

    Yields:
        The socket's address.
    """
    from hdocker._door.beside import listening_at, program_behind  # noqa: PLC0415 - as above
    from hdocker._door.engine_events import written_down  # noqa: PLC0415

    engine = os.stat(door.engine)  # noqa: PTH116
    package = str(_LAUNCHER.parents[1])
    outside = _without_tls(unmeasured_environment(os.environ))
    # In `lasting`, since a container that mounts the socket may outlive the run.
    door.lasting.mkdir(exist_ok=True)
    door.lasting.chmod(0o755)
    directory = door.lasting / name
    began = time.time()
    mode = engine.st_mode & 0o777
    environment = {**outside, "DOCKER_HOST": f"unix://{door.engine}"}
    with listening_at(directory, _NAME, mode, engine.st_gid) as listening:
        address = f"unix://{listening.getsockname()}"
        with contextlib.ExitStack() as undo:
            with written_down(door, engines, began) as copied:
                words = [",".join(map(str, copied)), package, *door.words]
                inherited = [each for one in copied for each in (one.source, one.target)]
                behind = program_behind(
                    listening, _LAUNCHER, words, environment, inherited=inherited
                )
                has_gone = undo.enter_context(behind)
            yield address
            if has_gone():
                door.note(_KILLED)
    # Imported here: without an engine, nobody needs it.
    from hdocker._door.past import Run, tell_what_went_past  # noqa: PLC0415

    tell_what_went_past(Run(door, began, time.time(), advice), engines)


def _led(environment: Mapping[str, str], address: str) -> dict[str, str]:
    """Return an environment that leads clients to a socket instead of the engine."""
    engine = address_of(environment)
    machine = machine_of(engine)
    return {
        # The engine's own: testcontainers mounts it into a container that outlives the run.
        "TESTCONTAINERS_DOCKER_SOCKET_OVERRIDE": socket_of(engine) or DEFAULT_SOCKET,
        **({"TESTCONTAINERS_HOST_OVERRIDE": machine} if machine else {}),
        **_without_tls(environment),
        "DOCKER_HOST": address,
    }


def _without_tls(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name not in TLS_VARIABLES}
