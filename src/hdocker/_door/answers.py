"""The engine's answers: passed on to a client, or read whole.

What passes them on reads no more than shows whether an answer starts another protocol (`proxy` must
know that before it reads on), compose's marks, and what a build tells.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from typing import TYPE_CHECKING, Final

from hdocker._door.api import receive, send
from hdocker._door.connection import connect
from hdocker._door.requests import Body, Head, UnknownProtocolError, read_answer, status_of

if TYPE_CHECKING:
    from hdocker._door.builds import Build
    from hdocker._door.labels import Marks

_SOME: Final = 1 << 18  # bytes
# After a piece of so many bytes, let the engine send more for so many seconds: it comes in fewer
# pieces then, and `docker cp` of 150 MB out of a container takes 0.95 of the time instead of 1.15.
_MUCH: Final = 1 << 16
_PAUSE: Final = 0.0002
_SWITCHED: Final = 101
_OK: Final = 200


class Answers:
    """The engine's answers to a client.

    Attributes:
        has_come: Whether anything has come since the last request, or there was no request.
        are_stream: Whether what comes is no HTTP any more.
        status_is_known: Whether it has been found out if the answer becomes a stream.
    """

    def __init__(self, client: socket.socket, engine: socket.socket, marks: Marks) -> None:
        self.has_come = True
        self.are_stream = False
        self.status_is_known = True
        self._client = client
        self._engine = engine
        self._marks = marks
        self._sending = threading.Lock()
        self._shows_labels = False
        self._build: Build | None = None
        self._head = b""

    def expect(self, *, may_be_stream: bool, shows_labels: bool, build: Build | None) -> None:
        """Prepare for the answer to a request that is about to be passed on."""
        self._end_build()
        self._build = build
        self._head = b""
        self._shows_labels = shows_labels
        self.status_is_known = not may_be_stream
        self.has_come = False

    def send(self, what: bytes) -> None:
        """Send something of our own to the client."""
        with self._sending:
            self._client.sendall(what)

    def pass_on(self) -> None:
        """Pass on what the engine sends, until it sends no more."""
        rest = b""
        try:
            while some := self._engine.recv(_SOME):
                self._look_at(some)
                if self._shows_labels and not self.are_stream:
                    some, rest = self._marks.restored(rest + some)
                elif rest:
                    some, rest = rest + some, b""
                self.has_come = True
                self.send(some)
                if len(some) >= _MUCH:
                    time.sleep(_PAUSE)
                if self._build:
                    self._build.take(some)
            self.send(rest)
            self._client.shutdown(socket.SHUT_WR)
        except OSError:
            end(self._client, self._engine)
        self._end_build()

    def _end_build(self) -> None:
        build, self._build = self._build, None
        if build:
            build.end()

    def _look_at(self, some: bytes) -> None:
        """Find out whether the answer begins a stream."""
        if self.status_is_known:
            return
        self._head += some
        try:
            head = read_answer(self._head)
        except UnknownProtocolError:
            head = Head(b"", b"", ())
            self.are_stream = True
        if head is None:
            return
        status = status_of(head)
        if status == _SWITCHED or (status == _OK and not head.has_length):
            self.are_stream = True
        elif status < _OK:
            self._head = self._head[len(head.raw) :]
            return
        self._head = b""
        self.status_is_known = True


class Answer:
    """The engine's answer to a request that had a connection of its own.

    Attributes:
        raw: All of it, as it came.
        content: Its body.
    """

    def __init__(self, raw: bytes, head: Head | None, content: bytes) -> None:
        self.raw = raw
        self.content = content
        self._head = head

    @property
    def status(self) -> int:
        """Its status; 0 if the engine ended the connection instead."""
        return status_of(self._head) if self._head else 0

    @property
    def leaves_connection(self) -> bool:
        """Whether another request may follow on the client's connection."""
        head = self._head
        return bool(head and head.has_length and b"close" not in head.values(b"connection"))

    @property
    def told(self) -> str:
        """The reason of a refusal, in words."""
        return self._item("message") or self.content.decode(errors="replace")

    @property
    def identity(self) -> str:
        """The id of what was created; empty if there is none."""
        return self._item("Id")

    def _item(self, name: str) -> str:
        try:
            return str(json.loads(self.content)[name])
        except (ValueError, KeyError, TypeError):
            return ""


def end(*connections: socket.socket) -> None:
    """End connections of which one has gone, so that the others see it."""
    for connection in connections:
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)


def asked(engine: str, request: bytes) -> Answer:
    """Send a request on a connection of its own, and wait for the answer as long as it takes."""
    received = b""
    try:
        with connect(engine) as connection:
            send(connection, request)
            while True:
                head = read_answer(received)
                if head and status_of(head) in range(100, _OK):
                    received = received[len(head.raw) :]  # We have sent it to the client already.
                    continue
                if head and head.has_length:
                    body = Body(head.length, keep=True)
                    body.take(received[len(head.raw) :])
                    if body.has_ended:
                        return Answer(received, head, bytes(body.content))
                some = receive(connection)
                if not some:
                    content = received[len(head.raw) :] if head else b""
                    return Answer(received, head, content)
                received += some
    except (OSError, UnknownProtocolError):
        return Answer(received, None, b"")
