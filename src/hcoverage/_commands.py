"""The setup and merge steps as shell commands, for CI scripts that would rather read than import.

Each is one line for `sh -e`, quoted; nothing is run here.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hcoverage._data_directory import RCFILE_NAME
from hcoverage._environment import DEFAULT_DATA_DIR
from hcoverage._errors import UnknownReportError
from hcoverage._guest_settings import container_rcfile_text
from hcoverage._rcfile import read_rcfile

if TYPE_CHECKING:
    from collections.abc import Sequence

REPORTS: Final = ("report", "html", "xml", "json", "lcov")

_Path = str | os.PathLike[str]


def coverage_subprocess_commands(
    data_dir: _Path = DEFAULT_DATA_DIR, coveragerc: _Path = RCFILE_NAME
) -> list[str]:
    """Give the commands that make the data directory and put the rcfile into it.

    Args:
        data_dir: The data directory.
        coveragerc: The rcfile. A TOML file is read now, since containers need it as INI; and where
            there is no `.coveragerc`, what coverage.py finds instead, else its defaults.

    Returns:
        Shell commands, to be run one by one in the directory that the paths are relative to.

    Raises:
        OSError: An rcfile that is read now cannot be.
        RcfileError: coverage.py cannot use it.
    """
    directory = _operand(data_dir)
    copy = _operand(Path(data_dir) / RCFILE_NAME)
    is_missing = os.fspath(coveragerc) == RCFILE_NAME and not Path(coveragerc).exists()
    if is_missing or Path(coveragerc).suffix == ".toml":
        text = container_rcfile_text(read_rcfile(None if is_missing else coveragerc))
        put = f"printf %s {shlex.quote(text)} > {copy}"
    else:
        put = f"cp {_operand(coveragerc)} {copy}"
    return [f"mkdir -p {directory}", f"chmod 777 {directory}", put, f"chmod 644 {copy}"]


def combine_commands(
    data_dir: _Path = DEFAULT_DATA_DIR,
    coveragerc: _Path | None = None,
    reports: Sequence[str] = ("report", "html"),
) -> list[str]:
    """Give the commands that merge everything into `.coverage` and report on it.

    Args:
        data_dir: The data directory. Without any data file in it the first command fails: no
            container left data.
        coveragerc: The rcfile, where it is not one that coverage.py finds by itself.
        reports: Which of coverage.py's reports to make, of `report`, `html`, `xml`, `json`, `lcov`.

    Returns:
        Shell commands, to be run one by one in the directory that the run started in.

    Raises:
        UnknownReportError: A report that coverage.py does not have.
    """
    unknown = [report for report in reports if report not in REPORTS]
    if unknown:
        raise UnknownReportError(
            f"no such report: {', '.join(unknown)}; there are {', '.join(REPORTS)}"
        )
    rcfile = [] if coveragerc is None else [f"--rcfile={os.fspath(coveragerc)}"]
    commands = [shlex.join(["coverage", verb, *rcfile]) for verb in ("combine", *reports)]
    return [f"cp {_operand(data_dir)}/.coverage.* .", *commands]


def _operand(path: _Path) -> str:
    """Quote a path, and keep one that starts with a dash from being read as an option."""
    text = os.fspath(path)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)
