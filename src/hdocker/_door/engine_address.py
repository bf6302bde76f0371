"""Where the engine is that clients talk to: by the environment, or by the client's context."""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_DEFAULT: Final = "/var/run/docker.sock"
_UNIX: Final = "unix://"
_NO_CONTEXT: Final = ("", "default")


def socket_of(environment: Mapping[str, str]) -> str:
    """Find the engine's socket as docker's own client does.

    Args:
        environment: The client's environment.

    Returns:
        Its path; nothing where the engine is behind something else.
    """
    host = environment.get("DOCKER_HOST")
    if host:
        return _path(host)
    directory = _configuration(environment)
    context = environment.get("DOCKER_CONTEXT") or str(
        _read(os.path.join(directory, "config.json")).get("currentContext") or ""
    )
    return socket_of_context(context, environment)


def socket_of_context(context: str, environment: Mapping[str, str]) -> str:
    """Find the socket of the engine that a context of docker's client is about; as `socket_of`."""
    if context in _NO_CONTEXT:
        return _path(environment.get("DOCKER_HOST") or _UNIX + _DEFAULT)
    name = hashlib.sha256(context.encode()).hexdigest()
    directory = _configuration(environment)
    known = _read(os.path.join(directory, "contexts", "meta", name, "meta.json"))
    try:
        return _path(str(known["Endpoints"]["docker"]["Host"]))
    except (KeyError, TypeError):
        return ""


def _configuration(environment: Mapping[str, str]) -> str:
    return environment.get("DOCKER_CONFIG") or os.path.join(
        environment.get("HOME") or os.path.expanduser("~"), ".docker"
    )


def _path(host: str) -> str:
    return os.path.normpath(host.removeprefix(_UNIX)) if host.startswith(_UNIX) else ""


def _read(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            found = json.load(file)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
