"""Leaves notes for the end of the run. Podman waits while this is loaded, so imports are few."""

from __future__ import annotations

import os
import zlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

_LONGEST: Final = 1900  # bytes; the run tells less than 2000 of a note
_LONGEST_NAME: Final = 200


class NotInjectedError(Exception):
    """Nothing can be added to a container, and the user should know why."""


def note_in(data_dir: str | os.PathLike[str], text: str) -> None:
    """Leave a note on what is not measured; the end of the run tells it, once."""
    shown = text.encode(errors="replace")[:_LONGEST]
    shown = shown.decode(errors="ignore").encode()
    path = os.path.join(data_dir, f"problem.door-{zlib.crc32(shown)}.txt")
    try:
        with open(path, "wb") as file:
            file.write(shown)
    except OSError:
        pass  # Nobody can be told.


def note_image_in(data_dir: str | os.PathLike[str], host: str, image: str) -> None:
    """Leave a note on the image of the container that has a host name.

    Raises:
        OSError: It cannot be written.
    """
    # The host name becomes a part of a file's name.
    is_plain = host.replace("-", "").replace(".", "").replace("_", "").isalnum()
    if is_plain and len(host) <= _LONGEST_NAME:
        with open(os.path.join(data_dir, f"image.{host}.txt"), "wb") as file:
            file.write(image.encode())


def created_in(private: str | os.PathLike[str]) -> str:
    """Return the file with the ids of the containers that were created through a door."""
    return os.path.join(private, "created-containers")
