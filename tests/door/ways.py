"""The same command by two ways: through the door, and without it."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

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
