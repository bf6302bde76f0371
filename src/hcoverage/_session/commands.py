"""The setup and merge steps as shell commands, for CI scripts that do not import us.

Each command is one quoted line for `sh -e`; this module runs none of them, `steps` does. Only the
data of one run may count: set-up removes older data, and containers' data goes once it is merged.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hcoverage._data_directory.directory import RCFILE_NAME
from hcoverage._errors import UnknownReportError
from hcoverage._session.guest_settings import container_rcfile_text
from hcoverage._settings.environment import DEFAULT_DATA_DIR
from hcoverage._settings.rcfile import read_rcfile

if TYPE_CHECKING:
    from collections.abc import Sequence

REPORTS: Final = ("report", "html", "xml", "json", "lcov")

_DATA_FILE_NAME: Final = ".coverage"

_Path = str | os.PathLike[str]


def coverage_subprocess_commands(
    data_dir: _Path = DEFAULT_DATA_DIR, coveragerc: _Path = RCFILE_NAME
) -> list[str]:
    """Return the commands that make the data directory and put the rcfile into it.

    They also remove the unmerged data of earlier runs, in it and beside the data file.

    Args:
        data_dir: The data directory.
        coveragerc: The rcfile. A TOML file is read now, since containers need it as INI. If there
            is no `.coveragerc`, the one that coverage.py finds is used, else its defaults.

    Returns:
        Shell commands, to be run one by one in the directory that the paths are relative to.

    Raises:
        OSError: The rcfile has to be read now and cannot be.
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
    data_file = _operand(_data_file(None if is_missing else coveragerc))
    # Here only names that coverage.py gives to a process: other jobs' data may lie there, too.
    left = f"rm -f {directory}/.coverage.* {data_file}.*.pid*"
    return [f"mkdir -p {directory}", f"chmod 777 {directory}", left, put, f"chmod 644 {copy}"]


def combine_commands(
    data_dir: _Path = DEFAULT_DATA_DIR,
    coveragerc: _Path | None = None,
    reports: Sequence[str] = ("report", "html"),
) -> list[str]:
    """Return the commands that merge everything into `.coverage` and report on it.

    Args:
        data_dir: The data directory. It may be empty: then no container ran.
        coveragerc: The rcfile, if coverage.py does not find it by itself.
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
    combine, *others = [shlex.join(["coverage", verb, *rcfile]) for verb in ("combine", *reports)]
    of_containers = f"{_operand(data_dir)}/.coverage.*"
    copy = _copy(of_containers, _data_file(coveragerc))
    return [copy, combine, f"rm -f {of_containers}", *others]


def _copy(files: str, data_file: str) -> str:
    """Return the command that copies any data files to where coverage.py combines."""
    directory, name = os.path.split(data_file)
    if name == _DATA_FILE_NAME:
        command = f"cp {files} {_operand(directory or '.')}"
        # If there was something to copy, cp runs again, to print what is wrong.
        return f"{command} 2>/dev/null || ! ls {files} >/dev/null 2>&1 || {command}"
    renamed = f'{_operand(data_file)}"${{file##*/{_DATA_FILE_NAME}}}"'
    return f'for file in {files}; do test ! -e "$file" || cp "$file" {renamed}; done'


def _data_file(coveragerc: _Path | None) -> str:
    """Return the path of coverage.py's data file, relative if it is below this directory."""
    try:
        data_file = read_rcfile(coveragerc).settings.data_file
    except (OSError, ImportError):  # the command that uses it will report that
        return _DATA_FILE_NAME
    is_usual = Path.cwd() / data_file == Path.cwd() / _DATA_FILE_NAME
    return _DATA_FILE_NAME if is_usual else data_file


def _operand(path: _Path) -> str:
    """Quote a path, and keep one that starts with a dash from being read as an option."""
    text = os.fspath(path)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)
