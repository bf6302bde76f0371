"""Questions of our own to the engine's API, over its socket.

By HTTP/1.0, so that an answer is no more than what comes until the connection ends.
"""

from __future__ import annotations

import json
import socket
from typing import Any, Final
from urllib.parse import quote

_SOME: Final = 1 << 18  # bytes
_LARGEST: Final = 1 << 26
_PATIENCE: Final = 10.0  # seconds, between one part of an answer and the next
_OK: Final = b"200"


def connect(engine: str) -> socket.socket:
    """Connect to an engine.

    Args:
        engine: The path of its socket.

    Raises:
        OSError: It does not answer.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(engine)
    except BaseException:
        connection.close()
        raise
    return connection


def answers(engine: str) -> bool:
    """Tell whether an engine is behind a socket."""
    try:
        connect(engine).close()
    except OSError:
        return False
    return True


def ask(engine: str, question: str) -> bytes:
    """Ask an engine.

    Args:
        engine: The path of its socket.
        question: The path and the query.

    Returns:
        What it answers; nothing where it has none.

    Raises:
        OSError: It does not answer.
    """
    request = f"GET {question} HTTP/1.0\r\nHost: docker\r\n\r\n"
    received = bytearray()
    with connect(engine) as connection:
        connection.settimeout(_PATIENCE)
        connection.sendall(request.encode())
        while len(received) < _LARGEST and (some := connection.recv(_SOME)):
            received += some
    head, _, content = bytes(received).partition(b"\r\n\r\n")
    return content if head.split(b" ")[1:2] == [_OK] else b""


def ask_for_object(engine: str, question: str) -> Any:  # noqa: ANN401 - what JSON has
    """Ask an engine for what it describes by JSON; None where it has none.

    Raises:
        OSError: It does not answer.
    """
    try:
        return json.loads(ask(engine, question) or b"null")
    except ValueError:
        return None


def image_identity(engine: str, image: str) -> str:
    """Ask for the id of an image; nothing where it is not there.

    Raises:
        OSError: The engine does not answer.
    """
    found = ask_for_object(engine, f"/images/{quote(image, safe='/:@')}/json")
    return str(found.get("Id", "")) if isinstance(found, dict) else ""
