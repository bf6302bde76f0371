"""What we ourselves ask an engine, whichever way its answers come."""

from __future__ import annotations

import io
import socket
import threading
from typing import TYPE_CHECKING, Final

import pytest

from hdocker._door.api import fetch_archive

if TYPE_CHECKING:
    from pathlib import Path

HEAD: Final = b"HTTP/1.0 200 OK\r\nContent-Type: application/x-tar\r\n\r\n"


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param((HEAD + b"an archive",), id="at once"),
        pytest.param((HEAD, b"an archive"), id="the head alone"),
        pytest.param((HEAD[:-3], HEAD[-3:] + b"an", b" archive"), id="the head in two"),
    ],
)
def test_an_archive_is_whole_however_it_comes(parts: tuple[bytes, ...], temporary: Path) -> None:
    path = str(temporary / "engine.sock")
    fetched = io.BytesIO()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()

        def answer() -> None:
            connection, _ = listening.accept()
            with connection:
                while b"\r\n\r\n" not in connection.recv(1 << 16, socket.MSG_PEEK):
                    pass
                connection.recv(1 << 16)
                for part in parts:
                    connection.sendall(part)
                    # The other side has read it: a socket of this machine holds nothing then.
                    while pending(connection):
                        pass

        thread = threading.Thread(target=answer)
        thread.start()
        said = fetch_archive(path, "a", "/data", fetched, 1 << 20)
        thread.join()
    assert (said.status, fetched.getvalue()) == (200, b"an archive")


def pending(connection: socket.socket) -> int:
    """Count the bytes that were sent and not read, by SIOCOUTQ."""
    import array
    import fcntl
    import termios

    count = array.array("i", [0])
    fcntl.ioctl(connection, termios.TIOCOUTQ, count)
    return count[0]
