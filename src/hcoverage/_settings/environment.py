"""The environment: by which variables a process finds out that it is measured, and how."""

from __future__ import annotations

import os

# Podman's hook loads this, and podman waits for it: `typing` takes as long as all else.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Final

DEFAULT_DATA_DIR: Final = "coverage_data"

DATA_DIR_VARIABLE: Final = "HCOVERAGE_DATA_DIR"
SESSION_VARIABLE: Final = "HCOVERAGE_SESSION"
DATA_FILE_VARIABLE: Final = "COVERAGE_FILE"
# Set to 0 by users, or by a run for its command, it has hdocker leave containers alone.
CONTAINERS_VARIABLE: Final = "HCOVERAGE_CONTAINERS"
# What a process is started for, and the file in the data directory that tells what it is by then.
CONTEXT_VARIABLE: Final = "HCOVERAGE_CONTEXT"
CONTEXT_FILE_VARIABLE: Final = "HCOVERAGE_CONTEXT_FILE"

# Everything that decides what the hook, coverage.py and hdocker do in a process.
VARIABLES: Final = (
    "COVERAGE_PROCESS_START",
    "COVERAGE_PROCESS_CONFIG",
    DATA_FILE_VARIABLE,
    DATA_DIR_VARIABLE,
    SESSION_VARIABLE,
    CONTEXT_VARIABLE,
    CONTEXT_FILE_VARIABLE,
)


def session_environment(
    inherited: Mapping[str, str],
    startup: Path,
    data_dir: Path,
    for_coverage: Mapping[str, str],
    data_file: str | None = None,
) -> dict[str, str]:
    """Return the whole environment of a command that a session measures.

    Args:
        inherited: The environment that the command would have had.
        startup: The session's startup directory, first on PYTHONPATH for interpreters that have no
            hook of ours.
        data_dir: The data directory, absolute.
        for_coverage: The variables by which coverage.py's own hook starts it too, where every
            process is measured by it; none where the recorder does, in whose way it would be.
        data_file: The COVERAGE_FILE of what the command itself measures or merges; None for none.

    Returns:
        The environment. It says nowhere where our data is: a `coverage combine` that the command
        runs for a purpose of its own would take it for an order to merge that.
    """
    unmeasured = unmeasured_environment(inherited)
    # Without the startup directory of a session around this one, whose code would be measured.
    python_path = [str(startup), *filter(None, [unmeasured.get("PYTHONPATH")])]
    own = {} if data_file is None else {DATA_FILE_VARIABLE: data_file}
    return {
        **unmeasured,
        **own,
        **for_coverage,
        SESSION_VARIABLE: str(startup),
        DATA_DIR_VARIABLE: str(data_dir),
        "PYTHONPATH": os.pathsep.join(python_path),
    }


def users_data_file(inherited: Mapping[str, str]) -> str | None:
    """Return the data file that the user has named by COVERAGE_FILE; None where `inject` did.

    Args:
        inherited: Any environment, such as `os.environ`.
    """
    is_injected = DATA_DIR_VARIABLE in inherited and not inherited.get(SESSION_VARIABLE)
    return None if is_injected else inherited.get(DATA_FILE_VARIABLE)


def unmeasured_environment(inherited: Mapping[str, str]) -> dict[str, str]:
    """Take out of an environment what makes processes measure, or sends coverage.py elsewhere.

    Args:
        inherited: Any environment, such as `os.environ`.

    Returns:
        The environment for a process that is not to be measured, a report for example.
    """
    left_out = {*VARIABLES, CONTAINERS_VARIABLE}
    environment = {name: value for name, value in inherited.items() if name not in left_out}
    session = inherited.get(SESSION_VARIABLE)
    if session and "PYTHONPATH" in environment:
        kept = [entry for entry in environment["PYTHONPATH"].split(os.pathsep) if entry != session]
        environment["PYTHONPATH"] = os.pathsep.join(kept)
        if not kept:
            del environment["PYTHONPATH"]
    # Empty, and not absent: else the hook would look for a session among the process's ancestors.
    environment[SESSION_VARIABLE] = ""
    return environment
