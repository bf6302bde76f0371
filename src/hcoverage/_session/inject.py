"""`inject` and `remove`: measuring for whatever this process starts from now on.

They change this process's environment and one file in site-packages. To measure one command from
start to end, use `session`: it holds the same state for just as long.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from hcoverage._session import hook as _hook
from hcoverage._session.guest_settings import for_processes_here
from hcoverage._settings.environment import (
    DATA_DIR_VARIABLE,
    DATA_FILE_VARIABLE,
    DEFAULT_DATA_DIR,
)
from hcoverage._settings.rcfile import explained, read_rcfile

if TYPE_CHECKING:
    from hcoverage._settings.rcfile import Rcfile

# The values before the first `inject`, and those that `inject` set: `remove` needs both.
_before: dict[str, str | None] = {}
_injected: dict[str, str] = {}


def inject(
    coveragerc: str | os.PathLike[str] = ".coveragerc",
    *,
    data_dir: str | os.PathLike[str] = DEFAULT_DATA_DIR,
) -> Path:
    """Measure every Python process that this process starts from now on, however deep.

    Writes the hook into site-packages, where it stays until `remove`, and sets in this process's
    environment `COVERAGE_PROCESS_START` (the rcfile), `COVERAGE_PROCESS_CONFIG`, `COVERAGE_FILE`
    and `HCOVERAGE_DATA_DIR`, so that data files end up in the current directory, whatever directory
    a process starts in. A second call changes nothing, or switches to another rcfile.

    Args:
        coveragerc: The rcfile.
        data_dir: The data directory for containers, see `coverage_subprocess_commands`.

    Returns:
        The path of the hook.

    Raises:
        OSError: Measuring cannot be set up: there is no such rcfile (NoRcfileError), coverage.py
            cannot use it (RcfileError), site-packages has a `coverage.pth` that is neither ours
            nor coverage.py's documented line (ForeignHookError), or no site-packages can be
            written (HookPermissionError).
        ImportError: coverage.py cannot be imported by this Python (MissingCoverageError).
    """
    _hook.require_coverage()
    rcfile = read_rcfile(coveragerc)
    here = Path.cwd()
    with explained(rcfile.path):
        environment = _environment(rcfile, here / data_dir, here)
    hook = _hook.install()
    for name, value in environment.items():
        _before.setdefault(name, os.environ.get(name))
        _injected[name] = os.environ[name] = value
    return hook


def remove() -> None:
    """Undo `inject`: remove the hook and restore the environment, if there is anything to undo.

    Puts back coverage.py's documented line if the hook replaced it. Leaves alone any other
    `coverage.pth` that is not ours, with an `HcoverageWarning`, and variables that somebody else
    has changed since.

    Raises:
        PermissionError: The hook cannot be removed.
    """
    for name, before in _before.items():
        if os.environ.get(name) != _injected[name]:
            continue
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
    _before.clear()
    _injected.clear()
    _hook.remove()


def _environment(rcfile: Rcfile, data_dir: Path, directory: Path) -> dict[str, str]:
    """Return the environment for processes that share the user's own rcfile.

    Args:
        rcfile: The rcfile.
        data_dir: The data directory, absolute; containers' data goes there.
        directory: Where the run starts. All of the host's data files go where coverage.py puts
            them when started there, also those of processes that start elsewhere.

    Returns:
        The variables to set.

    Raises:
        ValueError: The rcfile's `data_file` is not a possible file name.
    """
    data_file = directory / rcfile.settings.data_file
    if "\0" in str(data_file):
        raise ValueError("a null byte in data_file")
    return {
        "COVERAGE_PROCESS_START": str(rcfile.path),
        # coverage.py's own way (`patch = subprocess`) to keep relative sources right for children
        # that start in another directory; it has precedence over the rcfile.
        "COVERAGE_PROCESS_CONFIG": for_processes_here(rcfile, directory, data_file).encoded,
        # For multiprocessing's children, which read the rcfile again.
        DATA_FILE_VARIABLE: str(data_file),
        DATA_DIR_VARIABLE: str(data_dir),
    }
