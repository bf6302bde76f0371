"""Finds the engine that clients talk to: by the environment, or by the client's context."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import socket
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_SOCKET: Final = "/var/run/docker.sock"
_UNIX: Final = "unix://"
_NO_CONTEXT: Final = ("", "default")
# They make docker's client use TLS. A socket needs none, and old clients would fail.
TLS_VARIABLES: Final = ("DOCKER_TLS", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH")


def address_of(environment: Mapping[str, str]) -> str:
    """Find the engine as docker's own client does.

    Args:
        environment: The client's environment.

    Returns:
        Its address, in the form of DOCKER_HOST; empty if the current context has none.
    """
    host = environment.get("DOCKER_HOST")
    if host:
        return host
    context = environment.get("DOCKER_CONTEXT") or str(
        _read(os.path.join(_configuration(environment), "config.json")).get("currentContext") or ""
    )
    if context in _NO_CONTEXT:
        return _UNIX + DEFAULT_SOCKET
    name = hashlib.sha256(context.encode()).hexdigest()
    file = os.path.join(_configuration(environment), "contexts", "meta", name, "meta.json")
    return _host_of(_read(file))


def _host_of(context: Mapping[str, Any]) -> str:
    try:
        return str(context["Endpoints"]["docker"]["Host"])
    except (KeyError, TypeError):
        return ""


def socket_of(address: str) -> str:
    """Return the path of the socket that an address names; empty if it names none."""
    if not address.startswith(_UNIX):
        return ""
    return os.path.normpath(address.removeprefix(_UNIX))


def other_sockets(environment: Mapping[str, str], engine: str) -> list[str]:
    """Return the sockets of other engines here, which clients may use by another address.

    Args:
        environment: The clients' environment.
        engine: The socket of the engine that they use by default.
    """
    contexts = os.path.join(_configuration(environment), "contexts", "meta", "*", "meta.json")
    addresses = (_host_of(_read(file)) for file in sorted(glob.glob(contexts)))
    sockets = map(os.path.realpath, filter(None, [DEFAULT_SOCKET, *map(socket_of, addresses)]))
    return [each for each in dict.fromkeys(sockets) if each != os.path.realpath(engine)]


def machine_of(address: str) -> str:
    """Return the name of the machine that an engine is on; empty if it is this machine."""
    if socket_of(address):
        return ""
    from urllib.parse import urlsplit

    try:
        name = urlsplit(address).hostname or ""
    except ValueError:
        return ""
    return "" if _is_this(name) else name


def is_open(environment: Mapping[str, str]) -> bool:
    """Return whether DOCKER_HOST names an engine that serves anybody who reaches its port."""
    is_tcp = environment.get("DOCKER_HOST", "").startswith("tcp:")
    return is_tcp and not any(map(environment.get, TLS_VARIABLES))


def _is_this(name: str) -> bool:
    """Return whether a name is this machine's: then a socket can be bound to its address."""
    try:
        family, kind, _, _, where = socket.getaddrinfo(name, 0, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as one:
            one.bind(where)
    except OSError:
        return False
    return True


def _configuration(environment: Mapping[str, str]) -> str:
    return environment.get("DOCKER_CONFIG") or os.path.join(
        environment.get("HOME") or os.path.expanduser("~"), ".docker"
    )


def _read(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            found = json.load(file)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
