"""Connects to the socket of an engine, which is all that a run without an engine needs of `api`."""

from __future__ import annotations

import socket


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
    """Return whether something listens on a socket."""
    try:
        connect(engine).close()
    except OSError:
        return False
    return True
