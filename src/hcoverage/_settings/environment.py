"""The environment variables by which a process learns that it is measured, and how."""

from __future__ import annotations

import os

# Podman waits for its hook, which loads this: `typing` would take as long as all the rest.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Final

DEFAULT_DATA_DIR: Final = "coverage_data"

DATA_DIR_VARIABLE: Final = "HCOVERAGE_DATA_DIR"
SESSION_VARIABLE: Final = "HCOVERAGE_SESSION"
DATA_FILE_VARIABLE: Final = "COVERAGE_FILE"
# If users, or a run for its command, set this to 0, hdocker leaves containers alone.
CONTAINERS_VARIABLE: Final = "HCOVERAGE_CONTAINERS"
# The context at a process's start, and the file in the data directory that has the current one.
CONTEXT_VARIABLE: Final = "HCOVERAGE_CONTEXT"
CONTEXT_FILE_VARIABLE: Final = "HCOVERAGE_CONTEXT_FILE"

# All variables that decide what the hook, coverage.py and hdocker do in a process.
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
        startup: The session's startup directory. It comes first on PYTHONPATH, for interpreters
            without our hook.
        data_dir: The data directory, absolute.
        for_coverage: The variables that make coverage.py's own hook start it, too, if coverage.py
            measures every process; none for the recorder, which that would disturb.
        data_file: The COVERAGE_FILE for data that the command measures or merges itself, or None.

    Returns:
        The environment. It does not say where our data is: otherwise a `coverage combine` that
        the command runs for its own purpose would merge it.
    """
    unmeasured = unmeasured_environment(inherited)
    # Without an outer session's startup directory, whose code would be measured.
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
    """Return the data file that the user set as COVERAGE_FILE; None if `inject` set it.

    Args:
        inherited: Any environment, such as `os.environ`.
    """
    is_injected = DATA_DIR_VARIABLE in inherited and not inherited.get(SESSION_VARIABLE)
    return None if is_injected else inherited.get(DATA_FILE_VARIABLE)


def unmeasured_environment(inherited: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without the variables that start measuring or redirect coverage.py.

    Args:
        inherited: Any environment, such as `os.environ`.

    Returns:
        The environment for a process that must not be measured, such as a report.
    """
    left_out = {*VARIABLES, CONTAINERS_VARIABLE}
    environment = {name: value for name, value in inherited.items() if name not in left_out}
    session = inherited.get(SESSION_VARIABLE)
    if session and "PYTHONPATH" in environment:
        kept = [entry for entry in environment["PYTHONPATH"].split(os.pathsep) if entry != session]
        environment["PYTHONPATH"] = os.pathsep.join(kept)
        if not kept:
            del environment["PYTHONPATH"]
    # Empty, not absent: otherwise the hook would look for a session among the process's ancestors.
    environment[SESSION_VARIABLE] = ""
    return environment
