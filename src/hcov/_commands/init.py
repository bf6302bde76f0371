"""`hcov init`: writes a `.coveragerc` that fits the project."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import hcoverage

if TYPE_CHECKING:
    from pathlib import Path

# Files that runs leave in a project, as patterns for .gitignore.
IGNORED: Final = (".coverage", ".coverage.*", ".hcov-*", "coverage_data/", "htmlcov/")


class RcfileExistsError(hcoverage.HcoverageError, FileExistsError):
    """There is a `.coveragerc` already, which must not be overwritten."""


def write_rcfile(directory: Path, *, force: bool = False) -> Path:
    """Write a `.coveragerc` for the project in a directory.

    Args:
        directory: The project's root.
        force: Replace a `.coveragerc` that is there.

    Returns:
        The path of the rcfile.

    Raises:
        RcfileExistsError: There is a `.coveragerc`, and `force` is not set.
        OSError: It cannot be written.
    """
    path = directory / ".coveragerc"
    if path.exists() and not force:
        raise RcfileExistsError(f"{path} is there already: edit it, or replace it with --force")
    path.write_text(hcoverage.default_rcfile_text(directory), encoding="utf-8")
    return path
