"""Fetches what is in the volumes of an engine that does not see this machine's files; removes them.

A keeper, a container that never starts, mounts a session's volumes (`_inject.volumes`). The engine
makes an archive of their content. hcoverage checks that, as any container can write there.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from hcoverage import is_locked
from hdocker._door.api import ask_for_object, call, fetch_archive
from hdocker._door.archive import put_file
from hdocker._door.fetching import DATA, LARGEST, empty_files
from hdocker._inject.added import OWN_LABEL, PLACE
from hdocker._inject.volumes import KEEPERS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hdocker._door.creation import BindMount
    from hdocker._door.door import Door

_ARCHIVE: Final = "volumes.tar"


def copy_into(engine: str, created: bytes, copies: Sequence[BindMount]) -> None:
    """Copy files into a container that has just been created.

    If it refuses them, as a read-only one does, only its variables lead to the startup directory.

    Args:
        engine: The path of the engine's socket.
        created: The engine's answer to the creation.
        copies: The files.
    """
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
        identity = str(json.loads(created)["Id"])
        for copy in copies:
            put_file(engine, identity, copy.source, copy.target)


def bring_home_from_volumes(door: Door, began: float) -> None:
    """Put what is in a session's volumes into the data directory, and remove the volumes.

    If a container that outlives the run uses them, they stay, with emptied files.

    Args:
        door: The door.
        began: When it was opened, in seconds since the epoch.
    """
    directory = door.private / KEEPERS
    files = sorted(directory.glob("*.json")) if directory.is_dir() else []
    keepers = [json.loads(file.read_text("utf-8")) for file in files]
    if not keepers:
        return
    try:
        _fetch(door, keepers[0]["keeper"], began)
        for keeper in keepers:
            _remove(door.engine, keeper["keeper"], keeper["volumes"])
        _remove_unused(door.engine)
    except OSError as error:
        door.note(f"what containers recorded in volumes of the engine cannot be fetched: {error}")


def _fetch(door: Door, keeper: str, began: float) -> None:
    from hcoverage import take_in  # noqa: PLC0415 - few runs have such an engine

    archive = door.private / KEEPERS / _ARCHIVE
    with archive.open("wb") as file:
        said = fetch_archive(door.engine, keeper, DATA, file, LARGEST)
    if not said.is_good:
        raise ConnectionError(said.reason)
    for reason in take_in(archive, door.data_dir, since=began):
        door.note(f"what containers recorded in volumes of the engine is not whole: {reason}")


def _remove(engine: str, keeper: str, volumes: Sequence[str]) -> None:
    empty_files(engine, keeper, PLACE)
    call(engine, "DELETE", f"/containers/{quote(keeper, safe='')}?force=1")
    for volume in volumes:
        call(engine, "DELETE", f"/volumes/{quote(volume, safe='')}")  # refused while it is used


def _remove_unused(engine: str) -> None:
    """Remove the volumes and keepers that are left from this machine's runs that are over."""
    question = quote(json.dumps({"label": [OWN_LABEL]}))
    containers = ask_for_object(engine, f"/containers/json?all=1&filters={question}")
    for one in containers or []:
        if _is_left((one.get("Labels") or {}).get(OWN_LABEL)):
            call(engine, "DELETE", f"/containers/{quote(str(one['Id']), safe='')}?force=1")
    found: dict[str, Any] = ask_for_object(engine, f"/volumes?filters={question}") or {}
    for volume in found.get("Volumes") or []:
        if _is_left((volume.get("Labels") or {}).get(OWN_LABEL)):
            call(engine, "DELETE", f"/volumes/{quote(str(volume['Name']), safe='')}")


def _is_left(owner: object) -> bool:
    """Return whether something belongs to a run of this machine that is over."""
    host, _, private = str(owner or "").partition(":")
    return host == os.uname().nodename and private.startswith("/") and not is_locked(Path(private))
