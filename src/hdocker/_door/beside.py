"""Makes a socket, and runs a program that listens on it beside the measured command.

The socket is made first. The program is a child of neither hcov nor the command, since a command
may wait for all its children, as pytest may. It has a session of its own, since signals from the
terminal are not for it.
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
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from hdocker._door.launcher import ENDED_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

# Paths that all clients take as a socket's address, and in a URL.
_PLAIN_PATH: Final = r"/[A-Za-z0-9._/-]{1,90}"
_BACKLOG: Final = 4096
_PATIENCE: Final = 0.5  # seconds, for clients that are still connected
# A shell has the program in the background, so that nobody waits for it. If a signal ends it, the
# shell, which has the socket, too, starts it again; but not forever.
_LEAVE: Final = f"""{{
    "$@"; ended=$?
    for again in 1 2 3 4 5 6 7 8 9 10; do
        [ $ended -gt 128 ] || break
        {ENDED_VARIABLE}=$ended "$@"; ended=$?
    done
}} &"""


@contextlib.contextmanager
def listening_at(
    directory: Path, name: str, mode: int, group: int | None = None
) -> Iterator[socket.socket]:
    """Make a listening socket for a `with` block.

    Args:
        directory: A directory for the socket alone; if not all clients would take its path, another
            one is made instead.
        name: The socket's name there.
        mode: The socket's permissions: who may connect.
        group: The socket's group. If this user is not in it, only this user may connect.

    Raises:
        OSError: It cannot be made.
    """
    with contextlib.ExitStack() as undo:
        if not re.fullmatch(_PLAIN_PATH, str(directory / name)):
            directory = Path(tempfile.mkdtemp(prefix="hcov-door-", dir="/tmp"))  # short
        directory.mkdir(parents=True, exist_ok=True)
        undo.callback(shutil.rmtree, directory, ignore_errors=True)
        directory.chmod(0o755)
        listening = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        before = os.umask(0o177)
        try:
            listening.bind(str(directory / name))
        finally:
            os.umask(before)
        with contextlib.suppress(OSError):
            if group is not None:
                os.chown(directory / name, -1, group)
            (directory / name).chmod(mode)
        listening.listen(_BACKLOG)
        yield listening


@contextlib.contextmanager
def program_behind(
    listening: socket.socket,
    program: Path,
    words: Sequence[str],
    environment: Mapping[str, str],
    *,
    errors: IO[bytes] | None = None,
    inherited: Sequence[int] = (),
) -> Iterator[Callable[[], bool]]:
    """Run a program behind a socket; after the `with` block it ends when its clients have gone.

    If it is killed, it is started again.

    Args:
        listening: The socket; from now on it is the program's.
        program: A program in Python. Its first arguments are the descriptors of the socket and of a
            pipe that can be read when the block ends. If the pipe is empty then, this process was
            killed, and the program removes the socket and its directory.
        words: Its other arguments.
        environment: Its environment.
        errors: Where its errors go.
        inherited: Further descriptors that it inherits.

    Yields:
        A function that returns whether it has ended for good.

    Raises:
        OSError: It cannot be started.
    """
    ending, end = os.pipe()
    gone, going = os.pipe()
    try:
        try:
            subprocess.run(
                [
                    *("/bin/sh", "-c", _LEAVE, "sh"),
                    *(sys.executable, "-I", "-S", str(program)),
                    *(str(listening.fileno()), str(ending), *words),
                ],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors or subprocess.DEVNULL,
                pass_fds=(listening.fileno(), ending, going, *inherited),
                start_new_session=True,
                check=True,
                cwd="/",
            )
        finally:
            os.close(ending)
            os.close(going)
            listening.close()
        yield lambda: bool(select.select([gone], [], [], 0)[0])
    finally:
        # To close the pipe is not enough: a fork of this process may hold it open.
        with contextlib.suppress(BrokenPipeError):  # The program was killed.
            os.write(end, b"!")
        os.close(end)
        select.select([gone], [], [], _PATIENCE)
        os.close(gone)
