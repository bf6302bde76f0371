"""The same command by two ways: through the door, and without it; and what a run tells of one."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import hdocker

if TYPE_CHECKING:
    import hcoverage

RUNNERS: Final = ("hcov run", "pytest --hcov")


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


def told_by(runner: str, script: str) -> list[str]:
    """Have a test of a run do something by a script, and give what the run says.

    Args:
        runner: One of `RUNNERS`.
        script: The script. Beside the test is a module `app`.
    """
    Path("test_it.py").write_text(
        "import subprocess, app\n"
        f"def test_it(): subprocess.run(['sh', '-ec', {script!r}], check=True)\n"
    )
    python = [sys.executable, "-m"]
    pytest_words = [*python, "pytest", "-q", "-p", "no:cacheprovider"]
    whole = {
        "hcov run": [*python, "hcov", "run", "--", *pytest_words],
        "pytest --hcov": [*pytest_words, "--hcov"],
    }
    done = run(*whole[runner])
    assert done.returncode == 0, done.stdout + done.stderr
    return [*done.stdout.splitlines(), *done.stderr.splitlines()]
