"""The engine as a value: docker or podman, with sudo or without.

It builds command lines, runs them, and turns an engine's stderr into an exception that says what to
do. Its callers decide what the engine is asked for.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from hcoverage import unmeasured_environment
from hdocker._engine.clients import CLIENTS, Client
from hdocker._errors import (
    CommandError,
    EngineError,
    EngineNotFoundError,
    EnginePermissionError,
    EngineUnreachableError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# What docker 20.10 to 28 and podman 4 to 5 write to stderr, in lower case.
_NO_PERMISSION: Final = ("permission denied while trying to connect",)
_NO_ANSWER: Final = (
    "cannot connect to the docker daemon",
    "error during connect",
    "failed to connect to the docker api",
    "cannot connect to podman",
    "unable to connect to podman",
)


@dataclass(frozen=True)
class Engine:
    """A container engine's command-line client.

    Attributes:
        name: One of `CLIENTS`.
        use_sudo: Whether commands go through `sudo`.
        client: The path of the client, if it must not be looked up on PATH.
        client_options: The client's own options, which come before the subcommand.
    """

    name: str = "docker"
    use_sudo: bool = False
    client: str = ""
    client_options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.name not in CLIENTS:
            raise EngineError(
                f"no such engine: {self.name!r}; there are {' and '.join(map(repr, CLIENTS))}"
            )

    @property
    def facts(self) -> Client:
        """The particulars of its client."""
        return CLIENTS[self.name]

    def argv(self, *arguments: str) -> list[str]:
        """Return the command line that passes arguments to the engine."""
        client = [self.client or self.name, *self.client_options]
        return [*(["sudo"] if self.use_sudo else []), *client, *arguments]

    def require_program(self) -> None:
        """Check that the client is on PATH; only a command can show whether an engine answers.

        Raises:
            EngineNotFoundError: The client, or a requested `sudo`, is not on PATH.
        """
        if not shutil.which(self.client or self.name):
            raise EngineNotFoundError(
                f"there is no `{self.name}` on PATH: install it with {self.facts.installing}"
            )
        if self.use_sudo and not shutil.which("sudo"):
            raise EngineNotFoundError(
                "there is no `sudo` on PATH: install it, or leave `use_sudo` out"
            )

    def run(self, *arguments: str) -> str:
        """Run a command to its end.

        Args:
            arguments: The arguments after `docker`.

        Returns:
            Its stdout.

        Raises:
            EngineNotFoundError: The client is not on PATH.
            EngineUnreachableError: No engine answers.
            EnginePermissionError: The engine denies access.
            CommandError: The command ended with another exit status than 0 for another reason.
        """
        self.require_program()
        argv = self.argv(*arguments)
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            env=_unmeasured(),
        )
        if done.returncode:
            raise self.error(argv, done.returncode, done.stderr)
        return done.stdout

    def stream(self, *arguments: str, show: Callable[[str], object]) -> str:
        """Run a command to its end, and show its output line by line as it comes.

        Args:
            arguments: The arguments after `docker`.
            show: Called with each line of stdout and stderr, including its line end.

        Returns:
            All of its output.

        Raises:
            EngineError: As for `run`.
        """
        self.require_program()
        argv = self.argv(*arguments)
        lines = []
        with subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=_unmeasured(),
        ) as process:
            try:
                for line in process.stdout or ():
                    lines.append(line)
                    show(line)
            except BaseException:
                process.terminate()
                raise
        if process.returncode:
            raise self.error(argv, process.returncode, "".join(lines))
        return "".join(lines)

    def inspect_images(self, *names: str) -> dict[str, dict[str, Any]]:
        """Inspect local images; one call is enough if all of them are here.

        Returns:
            The engine's facts about each image, by the requested name; images that are not here
            are left out.

        Raises:
            EngineError: The engine cannot be asked.
        """
        if not names:
            return {}
        # A result has no requested name: only the order tells, and only if all images are here.
        try:
            return dict(zip(names, json.loads(self.run("image", "inspect", *names)), strict=True))
        except CommandError:
            if len(names) == 1:
                return {}
        found = {}
        for name in names:
            with contextlib.suppress(CommandError):
                found[name] = json.loads(self.run("image", "inspect", name))[0]
        return found

    def own_user(self) -> str:
        """Return the `--user` of a container whose files will belong to this process's user.

        Raises:
            EngineError: The engine cannot be asked.
        """
        # In an engine without root, the container's root is the engine's own user.
        return "0:0" if os.getuid() and self._is_rootless() else f"{os.getuid()}:{os.getgid()}"

    def _is_rootless(self) -> bool:
        return self.facts.is_rootless in self.run(*self.facts.rootless)

    def error(self, argv: Sequence[str], returncode: int, output: str) -> EngineError:
        """Return the error that fits a failed command's output."""
        said = output.lower()
        if any(phrase in said for phrase in _NO_PERMISSION):
            return EnginePermissionError(
                f"no permission to talk to {self.name} ({_last_line(output)}): join its group with "
                f"`sudo usermod -aG {self.name} $USER` and log in again, or use `use_sudo=True`"
            )
        if any(phrase in said for phrase in _NO_ANSWER):
            return EngineUnreachableError(
                f"no {self.name} engine answers ({_last_line(output)}): start it with "
                f"{self.facts.starting}, or point DOCKER_HOST or CONTAINER_HOST to one"
            )
        return CommandError.of(argv, returncode, output)


def _unmeasured() -> dict[str, str]:
    """Return the environment for our own containers, which the doors must leave alone."""
    return unmeasured_environment(os.environ)


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2]
