"""A socket of the session, and a program behind it that runs beside the measured command.

The socket is there before the program is. That is nobody's child: a command that waits for its
children, as pytest may, is not to wait for it. It is in a session of its own, since what a terminal
sends is not for it.
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

# What a socket's address and a URL of it take everywhere.
_PLAIN_PATH: Final = r"/[A-Za-z0-9._/-]{1,90}"
_BACKLOG: Final = 4096
_PATIENCE: Final = 0.5  # seconds, for clients that are still there
# A shell leaves it to nobody, and starts it again if somebody kills it: the shell has the socket,
# too. A program that cannot run is not tried forever.
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
    """Have a listening socket in a `with` block.

    Args:
        directory: A directory for it alone; where its path is one that not all clients take,
            another one is made.
        name: The socket's name there.
        mode: Who may connect to it: its permissions.
        group: The group that they are about. Who is not of it has the socket for its user alone.

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
    """Have a program behind a socket; afterwards it goes as soon as its clients have gone.

    One that is killed is started again.

    Args:
        listening: The socket, which is the program's from then on.
        program: A program in Python. Its first arguments are the descriptors of the socket and of a
            pipe that can be read when the block ends; nothing is in that where this process was
            killed, and then the program removes the socket and its directory.
        words: Its other arguments.
        environment: Its environment.
        errors: Where it writes errors to.
        inherited: Descriptors that it has as well.

    Yields:
        What tells whether it has gone for good, with clients or without.

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
        # Not by closing it alone, which is no end of file while a fork of this process runs.
        with contextlib.suppress(BrokenPipeError):  # somebody has killed it
            os.write(end, b"!")
        os.close(end)
        select.select([gone], [], [], _PATIENCE)
        os.close(gone)
