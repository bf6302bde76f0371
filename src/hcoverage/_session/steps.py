"""Runs the setup and merge steps, for helpers that call functions instead of shell commands.

It runs the commands of `commands`, so that the steps are described in one place.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING, Final

from hcoverage._data_directory.directory import RCFILE_NAME
from hcoverage._errors import StepError
from hcoverage._session.commands import combine_commands, coverage_subprocess_commands
from hcoverage._settings.environment import DEFAULT_DATA_DIR, unmeasured_environment

if TYPE_CHECKING:
    from collections.abc import Sequence

_DATA_FILE_VARIABLE: Final = "COVERAGE_FILE"
# Our own Python's coverage.py, whatever is on PATH; `-P` drops the directory that `-m` adds.
_COVERAGE: Final = f'coverage() {{ {shlex.quote(sys.executable)} -P -m coverage "$@"; }}\n'


def coverage_commands_subprocess(
    data_dir: str | os.PathLike[str] = DEFAULT_DATA_DIR,
    coveragerc: str | os.PathLike[str] = RCFILE_NAME,
) -> None:
    """Make the data directory and put the rcfile into it, in the current directory.

    This runs the commands of `coverage_subprocess_commands`.

    Args:
        data_dir: As `coverage_subprocess_commands` has it.
        coveragerc: As `coverage_subprocess_commands` has it.

    Raises:
        StepError: A command failed; its message is on stderr.
        OSError: The rcfile cannot be read.
    """
    _carry_out(coverage_subprocess_commands(data_dir, coveragerc))


def coverage_combine(
    data_dir: str | os.PathLike[str] = DEFAULT_DATA_DIR,
    coveragerc: str | os.PathLike[str] | None = None,
    reports: Sequence[str] = ("report", "html"),
) -> None:
    """Merge everything into `.coverage` and report on it, in the current directory.

    This runs the commands of `combine_commands`; the reports go to the same places.

    Args:
        data_dir: As `combine_commands` has it.
        coveragerc: As `combine_commands` has it.
        reports: As `combine_commands` has it.

    Raises:
        StepError: A command failed, such as `coverage combine` if nothing was measured, or
            `coverage report` if the total is under `fail_under`; its message is on stderr.
        UnknownReportError: A report that coverage.py does not have.
    """
    _carry_out(combine_commands(data_dir, coveragerc, reports))


def _carry_out(commands: Sequence[str]) -> None:
    # Not measured, even between `inject` and `remove`; but COVERAGE_FILE stays as `inject` set it.
    environment = unmeasured_environment(os.environ)
    if _DATA_FILE_VARIABLE in os.environ:
        environment[_DATA_FILE_VARIABLE] = os.environ[_DATA_FILE_VARIABLE]
    sys.stdout.flush()
    for command in commands:
        done = subprocess.run(["sh", "-ec", _COVERAGE + command], env=environment, check=False)
        if done.returncode:
            raise StepError(
                f"`{command}` ended with exit status {done.returncode}: "
                "what it said is above; put that right and call it again"
            )
