"""The table of engine clients: the particulars of each are here and nowhere else.

A new client needs a line here, and its name among the choices of `hcov docker`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Client:
    """The particulars of an engine's command-line client.

    Attributes:
        name: Its command.
        installing: How to install it, in words for a person.
        starting: How to start its engine, in words for a person.
        version: The arguments that print its engine's version.
        host_variable: The variable that names another engine.
        security: The template of `info` for how containers are isolated, in JSON.
        rootless: The arguments that print whether its engine runs without root.
        is_rootless: The text in the answer if it does.
        looks_at_mounts: Whether the engine reports a missing directory before it looks for the
            image, so that no image is needed to check what it sees of this machine.
    """

    name: str
    installing: str
    starting: str
    version: tuple[str, ...]
    host_variable: str
    security: str
    rootless: tuple[str, ...]
    is_rootless: str
    looks_at_mounts: bool


_DOCKER: Final = Client(
    name="docker",
    installing=("`sudo apt-get install docker.io`, or https://docs.docker.com/engine/install/"),
    starting="`sudo systemctl start docker`",
    version=("version", "--format", "{{.Server.Version}}"),
    host_variable="DOCKER_HOST",
    security="{{json .SecurityOptions}}",
    rootless=("info", "--format", "{{.SecurityOptions}}"),
    is_rootless="name=rootless",
    looks_at_mounts=True,
)
_PODMAN: Final = Client(
    name="podman",
    installing="`sudo apt-get install podman`, or https://podman.io/docs/installation",
    starting="`systemctl --user start podman.socket`",
    version=("info", "--format", "{{.Version.Version}}"),
    host_variable="CONTAINER_HOST",
    security="{{json .Host.Security}}",
    rootless=("info", "--format", "{{.Host.Security.Rootless}}"),
    is_rootless="true",
    looks_at_mounts=False,
)
CLIENTS: Final = {client.name: client for client in (_DOCKER, _PODMAN)}
