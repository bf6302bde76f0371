"""The door's beginning and end, in the process that has the session.

The socket is there before the command starts; the process behind it starts beside the command, and
does nothing until a client comes. It is nobody's child: a command that waits for its children, as
pytest may, is not to wait for it.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hcoverage import DATA_DIR_VARIABLE, SESSION_VARIABLE, unmeasured_environment
from hdocker._door.api import answers
from hdocker._door.compose_projects import tell_left_alone
from hdocker._door.door import Door
from hdocker._door.engine_address import socket_of
from hdocker._door.fetching import bring_home
from hdocker._door.keepers import bring_home_from_volumes
from hdocker._door.outliving import let_outlive
from hdocker._door.past import tell_what_went_past
from hdocker._door.podman import podman_measured
from hdocker._shim.install import measure_containers

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# What a socket's address and a URL of it take everywhere.
_PLAIN_PATH: Final = re.compile(r"/[A-Za-z0-9._/-]{1,90}")
# Set to 1 where others use the engine at the same time: whose containers went past is not known.
_SHARED_ENGINE_VARIABLE: Final = "HCOVERAGE_SHARED_ENGINE"
_NAME: Final = "docker.sock"
_BACKLOG: Final = 4096
_PATIENCE: Final = 0.5  # seconds, for clients that are still there
# A shell leaves it to nobody, at no cost.
_LEAVE: Final = '"$@" &'
_LAUNCHER: Final = Path(os.path.abspath(__file__)).with_name("launcher.py")  # noqa: PTH100


@contextlib.contextmanager
def containers_measured(environment: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Have the containers measured that a command of a session starts, in a `with` block.

    What is not measured for having come another way is told at its end, in the data directory.

    Args:
        environment: The whole environment for the command, as the session has it.

    Yields:
        The environment, by which clients come through our doors.

    Raises:
        OSError: They cannot be made.
    """
    environment = podman_measured(environment)
    engine = socket_of(environment)
    if not engine or not answers(engine) or not sys.executable:
        yield measure_containers(environment)
        return
    door = Door(
        engine=engine,
        session=environment[SESSION_VARIABLE],
        data_dir=Path(environment[DATA_DIR_VARIABLE]),
        owner=os.getpid(),
        client=_client(environment),
    )
    with contextlib.ExitStack() as undo:
        listening = undo.enter_context(_listening(door))
        address = f"unix://{listening.getsockname()}"
        began = time.time()
        undo.enter_context(_served(door, listening))
        yield {
            "TESTCONTAINERS_DOCKER_SOCKET_OVERRIDE": engine,  # of what outlives the run
            **measure_containers(environment, engine=engine, door=address),
            "DOCKER_HOST": address,
        }
        if environment.get(_SHARED_ENGINE_VARIABLE) != "1":
            tell_what_went_past(door, began, time.time())
        tell_left_alone(door)
        bring_home(door, began)
        bring_home_from_volumes(door, began)
        let_outlive(door)


def _client(environment: Mapping[str, str]) -> str:
    found = shutil.which("docker", path=environment.get("PATH"))
    return os.path.abspath(found) if found else ""  # noqa: PTH100


@contextlib.contextmanager
def _listening(door: Door) -> Iterator[socket.socket]:
    """Have a socket that whoever may connect to the engine's may connect to, and nobody else."""
    with contextlib.ExitStack() as undo:
        directory = door.private / "door"
        if not _PLAIN_PATH.fullmatch(str(directory / _NAME)):
            directory = Path(tempfile.mkdtemp(prefix="hcov-door-", dir="/tmp"))  # short
        directory.mkdir(exist_ok=True)
        undo.callback(shutil.rmtree, directory, ignore_errors=True)
        directory.chmod(0o755)
        listening = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        before = os.umask(0o177)
        try:
            listening.bind(str(directory / _NAME))
        finally:
            os.umask(before)
        status = os.stat(door.engine)  # noqa: PTH116
        with contextlib.suppress(OSError):  # not of that group: then it is for this user alone
            os.chown(directory / _NAME, -1, status.st_gid)
            (directory / _NAME).chmod(status.st_mode & 0o777)
        listening.listen(_BACKLOG)
        yield listening


@contextlib.contextmanager
def _served(door: Door, listening: socket.socket) -> Iterator[None]:
    """Have the proxy behind a socket; afterwards it goes as soon as its clients have gone."""
    ending, end = os.pipe()
    gone, going = os.pipe()
    try:
        try:
            _start(door, listening, ending, going)
        finally:
            os.close(ending)
            os.close(going)
            listening.close()
        yield
    finally:
        # Not by closing it alone, which is no end of file while a fork of this process runs.
        with contextlib.suppress(BrokenPipeError):  # somebody has killed it
            os.write(end, b"!")
        os.close(end)
        select.select([gone], [], [], _PATIENCE)
        os.close(gone)


def _start(door: Door, listening: socket.socket, ending: int, going: int) -> None:
    descriptors = (listening.fileno(), ending, going)
    package = str(_LAUNCHER.parents[1])
    subprocess.run(
        [
            *("/bin/sh", "-c", _LEAVE, "sh"),
            *(sys.executable, "-I", "-S", str(_LAUNCHER)),
            *(str(listening.fileno()), str(ending), package, *door.words),
        ],
        env={**unmeasured_environment(os.environ), "DOCKER_HOST": f"unix://{door.engine}"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=descriptors,
        start_new_session=True,
        check=True,
        cwd="/",
    )
