"""`inject` and `remove`: measuring for whatever this process starts from now on.

The state is this process's environment and one file in site-packages. For a command that is to run
from start to end there is `session`, which holds the same state for just as long.
"""

from __future__ import annotations

import os
from pathlib import Path

from hcoverage._session import hook as _hook
from hcoverage._settings.environment import DEFAULT_DATA_DIR, injected_environment
from hcoverage._settings.rcfile import explained, read_rcfile

# What `remove` puts back: the values before the first `inject`, and what `inject` made of them.
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
    and `HCOVERAGE_DATA_DIR`, so that data files end up in the current directory whatever directory
    a process starts in. Calling it again changes nothing, or moves to another rcfile.

    Args:
        coveragerc: The rcfile.
        data_dir: The data directory that containers get, see `coverage_subprocess_commands`.

    Returns:
        The path of the hook.

    Raises:
        OSError: What keeps measuring from being set up: there is no such rcfile (NoRcfileError),
            coverage.py cannot use it (RcfileError), site-packages has a `coverage.pth` that is
            neither ours nor coverage.py's documented line (ForeignHookError), or none can be
            written (HookPermissionError).
        ImportError: coverage.py cannot be imported by this Python (MissingCoverageError).
    """
    _hook.require_coverage()
    rcfile = read_rcfile(coveragerc)
    here = Path.cwd()
    with explained(rcfile.path):
        environment = injected_environment(rcfile, here / data_dir, here)
    hook = _hook.install()
    for name, value in environment.items():
        _before.setdefault(name, os.environ.get(name))
        _injected[name] = os.environ[name] = value
    return hook


def remove() -> None:
    """Undo `inject`: remove the hook and restore the environment; nothing to undo is no error.

    coverage.py's documented line is put back where the hook took its place. Another `coverage.pth`
    that is not ours is left alone, with an `HcoverageWarning`; so is a variable that somebody else
    changed since.

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
