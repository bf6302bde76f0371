"""The same command by two ways: through the door, and without it."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import hdocker

if TYPE_CHECKING:
    import hcoverage


@dataclass(frozen=True)
class Ways:
    """The environments for the same command.

    Attributes:
        session: The session.
        through: As the session has it.
        direct: With the engine itself.
    """

    session: hcoverage.Session
    through: dict[str, str]
    direct: dict[str, str]

    def both(self, *command: str) -> list[subprocess.CompletedProcess[str]]:
        return [
            subprocess.run(command, env=each, check=False, text=True, capture_output=True)
            for each in (self.through, self.direct)
        ]


def run(*command: str, **options: object) -> subprocess.CompletedProcess[str]:
    """Run a command as the environment here has it, and get its output as text."""
    return subprocess.run(  # type: ignore[call-overload,no-any-return] # the caller's options
        command, check=False, text=True, **{"capture_output": True, **options}
    )


def unmeasured(*command: str, **options: object) -> subprocess.CompletedProcess[str]:
    """Do the same, and have its containers left alone."""
    environment = {**os.environ, hdocker.CONTAINERS_VARIABLE: "0"}
    return run(*command, env=environment, **options)
