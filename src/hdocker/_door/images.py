"""Finds out what containers of an image are given; once, and keeps it for the session.

To find out takes a container of the image, and the client waits in a call that it gives up after a
minute. So a process of its own does it, and is waited for only for a while. If it takes longer, the
present container is not measured, but later ones can be.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Final

from hdocker._door.api import image_identity
from hdocker._door.notes import NotInjectedError
from hdocker._inject.added import Added, memory_of, settings

if TYPE_CHECKING:
    from hdocker._door.door import Door

# docker-py gives up after 60 s.
PATIENCE: Final = 40.0
_FIND_OUT: Final = """\
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from hdocker._inject.injection import find_out
image, client, engine, session, data_dir, memory = sys.argv[2:]
# Docker's own finds it by DOCKER_HOST.
to = ("--url", "unix://" + engine) if engine and client.endswith("/podman") else ()
options = dict(session=session, data_dir=data_dir, memory=memory, by_volumes=True)
print(find_out(image, client, to, **options))
"""


class Images:
    """The images of the session's containers."""

    def __init__(self, door: Door) -> None:
        """Begin; what an earlier proxy of the session found out is in files."""
        self._door = door
        self._lock = threading.Lock()
        self._searches: dict[str, threading.Thread] = {}
        self._reasons: dict[str, str] = {}

    def added_to(self, image: str) -> Added | None:
        """Return what is added to the containers of an image; None if there is no such image.

        Raises:
            NotInjectedError: It cannot be found out, or that takes too long.
            OSError: The engine does not answer.
        """
        identity = image_identity(self._door.engine, image)
        if not identity:
            return None
        memory = memory_of(self._door.session, "injection", "door", identity)
        if not os.path.exists(memory):  # noqa: PTH110 - as `memory_of` has it
            self._search(image, identity, memory)
        return Added.saved(memory)

    def _search(self, image: str, identity: str, memory: str) -> None:
        with self._lock:
            search = self._searches.get(identity)
            if search is None or not search.is_alive():
                arguments = (image, identity, memory)
                search = threading.Thread(target=self._find_out, args=arguments, daemon=True)
                self._searches[identity] = search
                search.start()
        search.join(PATIENCE)
        if search.is_alive():
            raise NotInjectedError(
                f"image {image}: looking into it took longer than {PATIENCE:.0f} s; containers of "
                "it that were created meanwhile are not measured"
            )
        if not os.path.exists(memory):  # noqa: PTH110
            raise NotInjectedError(f"image {image}: {self._reasons.get(identity, '')}")
        if self._reasons.get(identity):
            raise NotInjectedError(self._reasons[identity])

    def _find_out(self, image: str, identity: str, memory: str) -> None:
        self._reasons[identity] = find_out(self._door, image, memory)


def find_out(door: Door, image: str, memory: str) -> str:
    """Find out what containers of an image are given, and save it.

    Args:
        door: The door.
        image: The image, which is here.
        memory: The file to save it in.

    Returns:
        Why the image's containers are not measured; empty if they are.
    """
    if not door.client:
        return "there is no `docker` on PATH to look into it with"
    import json  # noqa: PLC0415 - few images are looked into

    path = json.dumps(settings(door.session)["path"])
    words = [image, door.client, door.engine, door.session, str(door.data_dir), memory]
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _FIND_OUT, path, *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    said = done.stdout if done.returncode == 0 else done.stderr
    return said.strip().rpartition("\n")[2]
