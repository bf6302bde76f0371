"""The coverage core: what a process must find in its environment to be measured by coverage.py.

A core is this much: the environment that makes processes measure, and files in the data directory
that `_combine` can read. A second core is a second module like this one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from hcoverage._rcfile import Rcfile

DATA_DIR_VARIABLE: Final = "HCOVERAGE_DATA_DIR"

# Everything that decides what the hook, coverage.py and hdocker do in a process.
VARIABLES: Final = (
    "COVERAGE_PROCESS_START",
    "COVERAGE_PROCESS_CONFIG",
    "COVERAGE_FILE",
    "COVERAGE_RCFILE",
    DATA_DIR_VARIABLE,
)


def injected_environment(rcfile: Rcfile, data_dir: Path, directory: Path) -> dict[str, str]:
    """Give the environment for processes that share the user's own rcfile.

    Args:
        rcfile: The rcfile.
        data_dir: The data directory, absolute; containers' data goes there.
        directory: Where the run starts; the host's own data files go where coverage.py puts them
            when started there, also those of processes that start elsewhere.

    Returns:
        The variables to set.
    """
    return {
        "COVERAGE_PROCESS_START": str(rcfile.path),
        # coverage.py's own way (`patch = subprocess`) to keep relative sources what they are for
        # children that start in another directory; it has precedence over the rcfile.
        "COVERAGE_PROCESS_CONFIG": rcfile.settings.serialize(),
        # For multiprocessing's children, which read the rcfile again.
        "COVERAGE_FILE": str(directory / rcfile.settings.data_file),
        DATA_DIR_VARIABLE: str(data_dir),
    }


def session_environment(
    inherited: Mapping[str, str], shared_rcfile: Path, data_dir: Path
) -> dict[str, str]:
    """Give the whole environment of a command that a session measures.

    Args:
        inherited: The environment that the command would have had.
        shared_rcfile: The rcfile as `Rcfile.shared_text` renders it.
        data_dir: The data directory, absolute.

    Returns:
        The environment. COVERAGE_FILE is not in it: a `coverage combine` that the command runs for
        a purpose of its own would take it for an order to merge our data.
    """
    return {
        **unmeasured_environment(inherited),
        "COVERAGE_PROCESS_START": str(shared_rcfile),
        DATA_DIR_VARIABLE: str(data_dir),
    }


def unmeasured_environment(inherited: Mapping[str, str]) -> dict[str, str]:
    """Take out of an environment what makes processes measure, or sends coverage.py elsewhere.

    Args:
        inherited: Any environment, such as `os.environ`.

    Returns:
        The environment for a process that is not to be measured, a report for example.
    """
    return {name: value for name, value in inherited.items() if name not in VARIABLES}
