"""Closes a door: fetches what containers recorded, and provides for containers that stay."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from hdocker._door.builds import tell_steps
from hdocker._door.compose_projects import tell_left_alone
from hdocker._door.fetching import bring_home
from hdocker._door.keepers import bring_home_from_volumes
from hdocker._door.outliving import let_outlive

if TYPE_CHECKING:
    from pathlib import Path

    from hdocker._door.door import Door


def close(door: Door, began: float, socket: Path) -> None:
    """Fetch what containers have recorded, and keep the mounts of those that outlive the run.

    Args:
        door: The door that clients came through.
        began: When it opened, in seconds since the epoch.
        socket: The path of its socket, relative to `Door.lasting`.
    """
    tell_steps(door)
    tell_left_alone(door)
    bring_home(door, began)
    bring_home_from_volumes(door, began)
    let_outlive(door)
    if door.in_use.exists():  # A container that mounts the socket then reaches the engine itself.
        place = door.lasting / socket
        with contextlib.suppress(OSError):
            place.parent.mkdir()
            place.symlink_to(door.engine)
