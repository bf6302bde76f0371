"""Finds out whether podman did anything during a run, without calling it.

A handful of files in its storage show that; `podman_past` asks podman what it did. Podman's own
configuration says where its storage is: containers-storage.conf(5).
"""

from __future__ import annotations

import glob
import os
import tomllib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_VARIABLE: Final = "CONTAINERS_STORAGE_CONF"
_SYSTEM: Final = ("/etc/containers/storage.conf", "/usr/share/containers/storage.conf")
_OF_ROOT: Final = "/var/lib/containers/storage"
# Files below the storage's directory. A start of a container is only in podman's database.
_CHANGED: Final = (
    "*-containers/containers.json",
    "*-images/images.json",
    "libpod/bolt_state.db",
    "db.sql",
)


def marks_of(environment: Mapping[str, str]) -> dict[str, tuple[int, int]]:
    """Return marks of files that change when podman creates, starts or builds something.

    Args:
        environment: The environment of podman's callers.
    """
    marks = {}
    for directory in _directories(environment):
        for pattern in _CHANGED:
            for file in glob.glob(os.path.join(glob.escape(directory), pattern)):  # noqa: PTH118, PTH207
                try:
                    known = os.stat(file)  # noqa: PTH116
                except OSError:
                    continue
                marks[file] = (known.st_mtime_ns, known.st_ino)
    return marks


def _directories(environment: Mapping[str, str]) -> set[str]:
    """Return the directories that may be podman's storage."""
    home = environment.get("HOME") or os.path.expanduser("~")  # noqa: PTH111
    data = environment.get("XDG_DATA_HOME") or os.path.join(home, ".local", "share")  # noqa: PTH118
    found = {_OF_ROOT, os.path.join(data, "containers", "storage")}  # noqa: PTH118
    for file in _files(environment, home):
        try:
            with open(file, "rb") as content:  # noqa: PTH123
                storage: dict[str, Any] = tomllib.load(content).get("storage", {})
        except (OSError, ValueError):
            continue  # Podman itself will report what is wrong.
        named = (storage.get(name) for name in ("graphroot", "rootless_storage_path"))
        found.update(os.path.expandvars(str(each)) for each in named if each)
    return found


def _files(environment: Mapping[str, str], home: str) -> Iterator[str]:
    named = environment.get(_VARIABLE)
    if named:
        yield named
        return
    own = environment.get("XDG_CONFIG_HOME") or os.path.join(home, ".config")  # noqa: PTH118
    yield os.path.join(own, "containers", "storage.conf")  # noqa: PTH118
    yield from _SYSTEM
