"""Keeps the mounts of containers that outlive the run, so that these can be started again.

Only empty files and directories stay, which measure nothing. A later run removes them, when the
engine has no such container any more.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from typing import TYPE_CHECKING, Any, Final

from hcoverage import IN_USE, LASTING, is_locked
from hdocker._door.api import ask_for_object
from hdocker._inject.added import is_in

if TYPE_CHECKING:
    from pathlib import Path

    from hdocker._door.door import Door

_OURS: Final = "hcov-*"
_LARGEST_MARK: Final = 1 << 16  # bytes


def mark_used(door: Door) -> None:
    """Note that what containers mount must stay, even if the run is killed.

    Raises:
        OSError: The note cannot be written.
    """
    if door.lasting.is_dir() and not door.in_use.exists():
        door.in_use.write_text(json.dumps({"engine": door.engine}), "utf-8")


def let_outlive(door: Door) -> None:
    """Keep what existing containers mount; remove what earlier runs left.

    Args:
        door: The door; no more containers are created through it.
    """
    try:
        containers = _sources(door.engine)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        containers = None  # The engine has gone.
    with contextlib.suppress(OSError):
        if door.in_use.exists():
            if containers is not None and not _have(containers, door.private):
                door.in_use.unlink()
            else:
                _empty(door.lasting)
    if containers is not None:
        _remove_unused(door, containers)


def _sources(engine: str) -> list[str]:
    """Return the paths on an engine's machine that its containers mount.

    Raises:
        OSError: It does not answer.
    """
    found: list[dict[str, Any]] = ask_for_object(engine, "/containers/json?all=1")
    return [str(mount.get("Source", "")) for one in found for mount in one["Mounts"] or ()]


def _have(sources: list[str], directory: Path) -> bool:
    return any(is_in(source, str(directory)) for source in sources)


def _empty(lasting: Path) -> None:
    """Empty the directories and files that containers mount, but keep them.

    Raises:
        OSError: It cannot be done.
    """
    for entry in list(lasting.iterdir()):
        if entry.is_symlink():
            entry.unlink()
            entry.mkdir()
        elif entry.is_dir():
            for part in list(entry.iterdir()):
                if part.is_dir():
                    places = [each.name for each in part.iterdir() if each.is_dir()]
                    shutil.rmtree(part)
                    for place in places:
                        (part / place).mkdir(parents=True)
                elif part.is_file():
                    part.write_bytes(b"")  # Running containers mount this very file.


def _remove_unused(door: Door, containers: list[str]) -> None:
    """Remove what earlier runs left and no container mounts."""
    for mark in door.private.parent.glob(f"{_OURS}/{LASTING}/{IN_USE}*"):
        lasting = mark.parent
        private = lasting.parent
        with contextlib.suppress(OSError, ValueError):
            is_ours = lasting.lstat().st_uid == private.lstat().st_uid == os.geteuid()
            if private == door.private or not is_ours or is_locked(private):
                continue
            with mark.open(encoding="utf-8") as file:
                engine = json.loads(file.read(_LARGEST_MARK)).get("engine")
            if engine == door.engine and not _have(containers, private):
                shutil.rmtree(lasting)
                private.rmdir()  # It fails if there is data in it.
