"""Sends our own requests to the engine's API, over its socket.

They are of HTTP/1.0, so an answer is simply what comes until the connection ends.
"""

from __future__ import annotations

import contextlib
import json
from typing import IO, TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import quote

from hdocker._door.connection import connect

if TYPE_CHECKING:
    import socket

_SOME: Final = 1 << 18  # bytes
_LARGEST: Final = 1 << 26
_PATIENCE: Final = 10.0  # seconds, for each part of an answer
_OK: Final = 200
_REFUSED: Final = 400
_JSON: Final = "application/json"
_END_OF_HEAD: Final = b"\r\n\r\n"
_TAR: Final = "application/x-tar"


class Said(NamedTuple):
    """An engine's answer.

    Attributes:
        status: Its status; 0 if it is not HTTP.
        content: Its body.
    """

    status: int
    content: bytes

    @property
    def is_good(self) -> bool:
        """Whether the engine did what it was asked for."""
        return _OK <= self.status < _REFUSED

    @property
    def known(self) -> Any:  # noqa: ANN401 - what JSON has
        """The body, decoded from JSON; None if it is empty or no JSON."""
        try:
            return json.loads(self.content or b"null")
        except ValueError:
            return None

    @property
    def reason(self) -> str:
        """The reason of a refusal, in words."""
        found = self.known
        if isinstance(found, dict) and isinstance(found.get("message"), str):
            return str(found["message"])
        return self.content.decode(errors="replace").strip() or f"status {self.status}"


def call(
    engine: str,
    method: str,
    question: str,
    body: bytes | None = None,
    *,
    kind: str = _JSON,
    patience: float | None = _PATIENCE,
) -> Said:
    """Send a request to an engine, and return its answer.

    Args:
        engine: The path of its socket.
        method: The method.
        question: The path and the query.
        body: The body of the request.
        kind: The media type of the body.
        patience: How long to wait for each part of the answer, in seconds; None for no limit.

    Raises:
        OSError: It does not answer.
    """
    received = bytearray()
    with asked(engine, method, question, body, kind=kind, patience=patience) as connection:
        while len(received) < _LARGEST and (some := receive(connection)):
            received += some
    head, _, content = bytes(received).partition(_END_OF_HEAD)
    return Said(_status(head), content)


def ask(engine: str, question: str) -> bytes:
    """Send a GET request to an engine.

    Args:
        engine: The path of its socket.
        question: The path and the query.

    Returns:
        The body of its answer; empty if it refuses.

    Raises:
        OSError: It does not answer.
    """
    said = call(engine, "GET", question)
    return said.content if said.status == _OK else b""


def put_archive(engine: str, container: str, directory: str, archive: bytes) -> Said:
    """Put files into a container, whether it runs or not.

    Args:
        engine: The path of the engine's socket.
        container: The container's id or name.
        directory: A directory in it.
        archive: A tar archive of the files.

    Raises:
        OSError: The engine does not answer.
    """
    question = f"/containers/{quote(container, safe='')}/archive?path={quote(directory)}"
    return call(engine, "PUT", question, archive, kind=_TAR, patience=None)


def fetch_archive(engine: str, container: str, path: str, file: IO[bytes], largest: int) -> Said:
    """Fetch a tar archive of a file or directory of a container, whether it runs or not.

    Args:
        engine: The path of the engine's socket.
        container: The container's id or name.
        path: What to fetch.
        file: Where to write the archive; its content is not to be trusted.
        largest: How many bytes to fetch at most.

    Returns:
        The engine's answer, without the archive.

    Raises:
        OSError: The engine does not answer or stops in between, or the archive is too large.
    """
    question = f"/containers/{quote(container, safe='')}/archive?path={quote(path)}"
    head = b""
    with asked(engine, "GET", question) as connection:
        while _END_OF_HEAD not in head and len(head) < _SOME:
            some = connection.recv(_SOME)
            if not some:
                break
            head += some
        head, _, content = head.partition(_END_OF_HEAD)
        if _status(head) != _OK:
            return Said(_status(head), content + connection.recv(_SOME))
        some = content or connection.recv(_SOME)  # the head may come alone
        while some:
            largest -= len(some)
            if largest < 0:
                raise ConnectionError("it is too large")
            file.write(some)
            some = connection.recv(_SOME)
    return Said(_OK, b"")


def asked(
    engine: str,
    method: str,
    question: str,
    body: bytes | None = None,
    *,
    kind: str = _JSON,
    patience: float | None = None,
) -> socket.socket:
    """Send a request, like `call`, and return the connection on which the engine answers.

    Raises:
        OSError: It does not answer.
    """
    request = request_for(method, question, body, kind=kind)
    connection = connect(engine)
    try:
        connection.settimeout(patience)
        send(connection, request)
    except BaseException:
        connection.close()
        raise
    return connection


def send(connection: socket.socket, request: bytes) -> None:
    """Send a request; no more of it than the engine reads.

    The engine may refuse before it has read everything; its answer says why.

    Raises:
        OSError: The engine does not read on.
    """
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        connection.sendall(request)


def receive(connection: socket.socket) -> bytes:
    """Receive what an engine sends next; nothing if it sends no more.

    Raises:
        OSError: It sends nothing for too long.
    """
    # An engine that has not read everything resets the connection at its end.
    with contextlib.suppress(ConnectionResetError):
        return connection.recv(_SOME)
    return b""


def request_for(
    method: str, question: str, body: bytes | None = None, *, kind: str = _JSON
) -> bytes:
    """Return the bytes of a request; the arguments are those of `call`."""
    lines = [f"{method} {question} HTTP/1.0", "Host: docker"]
    if body is not None:
        lines += [f"Content-Type: {kind}", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "\r\n"]).encode() + (body or b"")


def _status(head: bytes) -> int:
    words = head.split(b" ")[1:2]
    return int(words[0]) if words and words[0].isdigit() else 0


def ask_for_object(engine: str, question: str) -> Any:  # noqa: ANN401 - what JSON has
    """Send a GET request to an engine, and decode the JSON; return None if there is none.

    Raises:
        OSError: It does not answer.
    """
    try:
        return json.loads(ask(engine, question) or b"null")
    except ValueError:
        return None


def ask_for_container(engine: str, container: str) -> dict[str, Any]:
    """Return what an engine tells of a container, by its id or name; nothing if there is none.

    Raises:
        OSError: The engine does not answer.
    """
    found = ask_for_object(engine, f"/containers/{quote(container, safe='')}/json")
    return found if isinstance(found, dict) else {}


def image_identity(engine: str, image: str) -> str:
    """Return the id of an image; empty if the engine does not have it.

    Raises:
        OSError: The engine does not answer.
    """
    found = ask_for_object(engine, f"/images/{quote(image, safe='/:@')}/json")
    return str(found.get("Id", "")) if isinstance(found, dict) else ""
