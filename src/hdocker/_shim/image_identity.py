"""Which image a name stands for just now, asked of the engine before each container of it.

Another image may have the name since the last one. Starting the client to ask takes as long as all
else that a shim does, so the engine's socket is asked where it is clear which that is, and the
client everywhere else. As `_shim`, it imports what every Python start has loaded.
"""

from __future__ import annotations

import _socket  # without what `socket` loads for other uses
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Final

_DEFAULT_SOCKET: Final = "/var/run/docker.sock"
_UNIX: Final = "unix://"
# Of what goes into a URL as it is.
_PLAIN: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/:@")
_ANSWER_LIMIT: Final = 5.0  # seconds; then the client may try
_LARGEST: Final = 1 << 20


def identity_by_socket(image: str, environment: Mapping[str, str]) -> str:
    """Ask docker's engine for the id of an image, by its socket.

    Args:
        image: The image, as named.
        environment: The client's environment, by which it finds the engine.

    Returns:
        The id; nothing where the engine is not plainly behind a socket here, or has no such image,
        or anything else.
    """
    path = _socket_path(environment)
    if not path or not _PLAIN.issuperset(image):
        return ""
    request = f"GET /images/{image}/json HTTP/1.0\r\nHost: docker\r\n\r\n"
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        connection.settimeout(_ANSWER_LIMIT)
        connection.connect(path)
        connection.sendall(request.encode())
        answer = b""
        while len(answer) < _LARGEST and (part := connection.recv(1 << 16)):
            answer += part
    except OSError:
        return ""
    finally:
        connection.close()
    status, _, rest = answer.partition(b"\r\n")
    # The first of the fields, in all versions of the engine.
    identity = rest.partition(b'{"Id":"')[2].partition(b'"')[0].decode("ascii", "replace")
    return identity if b" 200 " in status and identity.startswith("sha256:") else ""


def _socket_path(environment: Mapping[str, str]) -> str:
    host = environment.get("DOCKER_HOST", "")
    if environment.get("DOCKER_CONTEXT"):
        return ""
    if host:
        return host.removeprefix(_UNIX) if host.startswith(_UNIX) else ""
    home = environment.get("HOME", "")
    directory = environment.get("DOCKER_CONFIG") or (home and os.path.join(home, ".docker"))
    try:
        with open(os.path.join(directory, "config.json"), "rb") as file:
            return "" if b"currentContext" in file.read() else _DEFAULT_SOCKET
    except FileNotFoundError:
        return _DEFAULT_SOCKET if directory else ""
