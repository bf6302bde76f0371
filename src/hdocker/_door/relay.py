"""The relay: a socket on this machine for an engine that is reached by TCP, TLS or SSH.

It runs as a program, beside the measured command. Docker's own client knows how to reach the
engine: each connection becomes the input and output of a `docker system dial-stdio`. So no byte is
copied here, and a half-closed connection stays half open. The environment says which engine it is,
as for the user's own calls.
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
_PATIENCE: "Final" = 1.0  # seconds, for the last bytes of a client that has gone


class _Connection:
    """A connection, and the process of docker's client that has taken it over.

    Attributes:
        socket: The connection, kept to see when the other side has gone.
        alive: A descriptor that can be read when the process has ended.
        ends: When to kill the process; None while the other side is there.
    """

    def __init__(self, connection: socket.socket, client: str) -> None:
        """Start a client for a connection.

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
        """End the process, if it still runs, and with it the connection."""
        self._process.kill()  # It may ignore other signals.
        self._process.wait()
        os.close(self.alive)
        self.socket.close()


class _Relay:
    """The open connections."""

    def __init__(self, client: str) -> None:
        self.waiting = select.poll()
        self._client = client
        self._connections: list[_Connection] = []

    def add(self, connection: socket.socket) -> None:
        """Start a client for a connection; close the connection if that fails."""
        try:
            added = _Connection(connection, self._client)
        except OSError:
            connection.close()
            return
        self._connections.append(added)
        self.waiting.register(added.alive, select.POLLIN)
        self.waiting.register(added.socket, 0)  # to see whether the other side has gone

    def next(self) -> "list[int]":
        """Wait for an event; end connections that are over; return the descriptors with events."""
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
    """Remove a socket and its directory, since the run was killed before it did."""
    try:
        os.unlink(path)  # noqa: PTH108 - it starts quicker
        os.rmdir(os.path.dirname(path))  # noqa: PTH106, PTH120
    except OSError:
        pass


def main() -> None:
    """Relay connections until the run ends; then wait until the open ones end.

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
