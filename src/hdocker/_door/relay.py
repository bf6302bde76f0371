"""The relay: an engine that is behind no socket of this machine, behind one.

Run as a program, beside the measured command, where the engine is reached by TCP, with TLS, by SSH.
Docker's own client knows how: each connection becomes the input and output of a `docker system
dial-stdio`, so that nothing of it is copied here, and a half-closed one stays half open. Which
engine that is says the environment, as it does for the user's own calls.
"""

import os
import select
import socket
import subprocess
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

_DIAL: "Final" = ("system", "dial-stdio")
_PATIENCE: "Final" = 1.0  # seconds, for what a client said last before it went


class _Connection:
    """A connection, and the process of docker's client that it is handed to.

    Attributes:
        socket: The connection, kept to see when the other side has gone.
        alive: What can be read when the process has ended.
        ends: When the process is ended; None while the other side is there.
    """

    def __init__(self, connection: socket.socket, client: str) -> None:
        """Hand a connection on.

        Raises:
            OSError: The client cannot be started.
        """
        self.ends: float | None = None
        self.socket = connection
        self.alive, held = os.pipe()
        try:
            self._process = subprocess.Popen(
                [client, *_DIAL],
                stdin=connection.fileno(),
                stdout=connection.fileno(),
                pass_fds=[held],
            )
        except OSError:
            os.close(self.alive)
            raise
        finally:
            os.close(held)

    def end(self) -> None:
        """End the process, if it has not ended, and with it the connection."""
        self._process.kill()  # to another signal it may not listen
        self._process.wait()
        os.close(self.alive)
        self.socket.close()


class _Relay:
    """The connections that are there."""

    def __init__(self, client: str) -> None:
        self.waiting = select.poll()
        self._client = client
        self._connections: list[_Connection] = []

    def add(self, connection: socket.socket) -> None:
        """Hand a connection on; one that cannot be is closed."""
        try:
            added = _Connection(connection, self._client)
        except OSError:
            connection.close()
            return
        self._connections.append(added)
        self.waiting.register(added.alive, select.POLLIN)
        self.waiting.register(added.socket, 0)  # whether the other side has gone altogether

    def next(self) -> "list[int]":
        """Wait until something happens, and end what has to; list the descriptors it happens on."""
        ends = [each.ends for each in self._connections if each.ends is not None]
        patience = max(0.0, min(ends) - time.monotonic()) * 1000 if ends else None
        descriptors = [descriptor for descriptor, _ in self.waiting.poll(patience)]
        now = time.monotonic()
        for each in list(self._connections):
            if each.alive in descriptors or (each.ends is not None and each.ends <= now):
                self._forget(each)
            elif each.socket.fileno() in descriptors:
                self.waiting.unregister(each.socket)
                each.ends = now + _PATIENCE
        return descriptors

    def drain(self) -> None:
        """Wait until no connection is left."""
        while self._connections:
            self.next()

    def _forget(self, connection: _Connection) -> None:
        self._connections.remove(connection)
        self.waiting.unregister(connection.alive)
        if connection.ends is None:
            self.waiting.unregister(connection.socket)
        connection.end()


def _remove(path: str) -> None:
    """Remove a socket and its directory, as a run does that was not killed."""
    try:
        os.unlink(path)  # noqa: PTH108 - it starts quicker
        os.rmdir(os.path.dirname(path))  # noqa: PTH106, PTH120
    except OSError:
        pass


def main() -> None:
    """Hand connections on until the run ends, and wait for those that are there until they end.

    The arguments are the descriptors of the listening socket and of a pipe that can be read when
    the run ends, and the path of docker's client.
    """
    ending = int(sys.argv[2])
    relay = _Relay(sys.argv[3])
    with socket.socket(fileno=int(sys.argv[1])) as listening:
        relay.waiting.register(listening, select.POLLIN)
        relay.waiting.register(ending, select.POLLIN)
        while ending not in (descriptors := relay.next()):
            if listening.fileno() in descriptors:
                relay.add(listening.accept()[0])
        relay.waiting.unregister(listening)
        if not os.read(ending, 1):
            _remove(listening.getsockname())
    relay.waiting.unregister(ending)
    relay.drain()


if __name__ == "__main__":
    main()
