"""Runs what a test only needs: no measured run around the tests gets any of it."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import hcoverage

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def run_unmeasured(
    command: Sequence[str | Path], directory: str | Path | None = None, **variables: str
) -> None:
    """Run a command to its end.

    Args:
        command: The program and its arguments.
        directory: Where to run it. [default: the current directory]
        variables: Variables beside the environment's own.

    Raises:
        AssertionError: It failed; the message is what it said.
    """
    done = subprocess.run(
        command,
        cwd=directory,
        env={**hcoverage.unmeasured_environment(os.environ), **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
