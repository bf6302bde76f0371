"""Reads the names of files in a data directory: the kind of each, and its process.

coverage.py's names are defined by SUFFIX_PATTERN in coverage/sqldata.py, ours by
`docs/recording-format.md`.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_DATA_FILE_PREFIX: Final = ".coverage."
# SQLite's own files beside a data file that is being written.
_COMPANIONS: Final = ("-journal", "-wal", "-shm")
RECORDING_SUFFIX: Final = ".hcrec"
CONTEXT_SUFFIX: Final = ".hctest"
# `.coverage.{hostname}.pid{pid}.X{random}x`, see SUFFIX_PATTERN in coverage/sqldata.py; before
# coverage.py 7.10 without `pid`, `X` and `x`.
_DATA_FILE_NAME: Final = r".*\.(?P<host>[^./]+)\.(?:pid)?(?P<pid>\d{1,10})\.[^/]*"
_RECORDING_NAME: Final = r"(?P<host>.+)\.(?P<pid>\d{1,10})\.[0-9a-f]{16}\.\d+\.hcrec.*"
# A container may have the host's own name, so its files have a prefix before it: one for each
# container (`_inside.process`), or one for all if coverage.py is in the image (`IN_CONTAINER`).
IN_CONTAINER: Final = "in-container"
_CONTAINER_PREFIX: Final = f"{_DATA_FILE_PREFIX}in-"
_CONTAINER_IN_NAME: Final = (
    rf"\.coverage\.(?P<mark>in-[0-9a-f]+-[0-9a-f]+|{IN_CONTAINER})\.(?P<host>[^./]+)"
    r"\.(?:pid)?\d{1,10}\.[^/]*"
)


def data_files(directory: Path) -> list[Path]:
    """List the data files in a directory, sorted; ignore all other files."""
    # Names are sorted and filtered, not paths: there may be ten thousand.
    return [directory / name for name in sorted(os.listdir(directory)) if is_data_file_name(name)]  # noqa: PTH208


def is_data_file_name(name: str) -> bool:
    """Return whether coverage.py wrote a file for one process, by its name."""
    return name.startswith(_DATA_FILE_PREFIX) and not name.endswith(_COMPANIONS)


def is_recording(file: Path) -> bool:
    """Return whether the recorder wrote a file, by its name (`docs/recording-format.md`)."""
    return _is_recording_name(file.name)


def name_among_others(name: str) -> str:
    """Return the name of a file in a directory with data of more processes.

    Data files and recordings have the name of their process, and a random part. What a command has
    combined by itself has neither.
    """
    if is_data_file_name(name) or _is_recording_name(name):
        return name
    return f"{_DATA_FILE_PREFIX}{this_host()}.pid{os.getpid()}.X{os.urandom(3).hex()}x"


def process_of(name: str) -> tuple[str, int] | None:
    """Return the host and the id of the process that wrote a data file or recording.

    Returns:
        The host as `host_in_names` spells it, and the id; None if the file's name does not have
        them.
    """
    found = RECORDING_SUFFIX in name and re.fullmatch(_RECORDING_NAME, name)
    found = found or re.fullmatch(_DATA_FILE_NAME, name)
    if not found:
        return None
    container = _in_container(name)
    host = str(found["host"])
    if container:
        mark = str(container["mark"])
        host = f"{mark}-{host}" if mark == IN_CONTAINER else mark
    return host_in_names(host), int(found["pid"])


def container_of(name: str) -> str:
    """Return the host name of the container that wrote a data file, by its name; else empty."""
    found = _in_container(name)
    return str(found["host"]) if found else ""


def _in_container(name: str) -> re.Match[str] | None:
    is_of_one = name.startswith(_CONTAINER_PREFIX)
    return re.fullmatch(_CONTAINER_IN_NAME, name) if is_of_one else None


def host_in_names(host: str) -> str:
    """Return a host name as coverage.py spells it in names of data files: without dots."""
    return host.replace(".", "_")


def this_host() -> str:
    """Return this machine's name, as `host_in_names` spells it."""
    return host_in_names(os.uname().nodename)


def recordings(directory: Path) -> list[Path]:
    """List the recorder's files in a directory, sorted."""
    names = sorted(filter(_is_recording_name, os.listdir(directory)))  # noqa: PTH208
    return [directory / name for name in names]


def pids_of(file_names: Iterable[str]) -> frozenset[int]:
    """Return the ids of this host's processes that wrote some files, by the files' names.

    Recordings are `{host}.{pid}.…`, data files `.coverage.{host}.pid{pid}.…`, before coverage.py
    7.10 without `pid`, and notes `problem.{host}.{pid}.txt`
    and `itself.{host}.{pid}.txt`.
    """
    host = os.uname().nodename
    spelled = "|".join({re.escape(host_in_names(host)), re.escape(host.replace("/", "_"))})
    own = re.compile(rf"(?:\.coverage\.|problem\.|itself\.)?(?:{spelled})\.(?:pid)?([0-9]+)\.")
    return frozenset(int(match[1]) for name in file_names if (match := own.match(name)))


def _is_recording_name(name: str) -> bool:
    return RECORDING_SUFFIX in name and (
        name.endswith(RECORDING_SUFFIX) or f"{RECORDING_SUFFIX}.lost-" in name
    )
