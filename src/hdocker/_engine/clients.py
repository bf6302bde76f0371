"""The clients of engines, one table: what is particular to each is told here and nowhere else.

A new one gets its line here, and its name among the choices of `hcov docker`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Client:
    """What is particular to the command-line client of an engine.

    Attributes:
        name: Its command.
        installing: How it is installed, in words for a person.
        starting: How its engine is started, likewise.
        version: What has it tell its engine's version.
        host_variable: The variable that names another engine.
        security: The template of `info` for how containers are kept apart, in JSON.
        rootless: What has it tell whether its engine runs without root.
        is_rootless: What is in the answer if so.
        looks_at_mounts: Whether the engine says that a directory is not there before it looks for
            the image, so that what it sees of this machine is found out without one.
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
