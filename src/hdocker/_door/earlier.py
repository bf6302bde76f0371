"""Puts our files into containers that were there before the run, so that they are measured.

Nothing can be mounted into a container that exists. But files can be put into it, whether it runs
or not: it gets the startup directory, and the `.pth` files that lead its Pythons there. A command
of `exec` gets the variables, too; what the container itself runs after `start` or `restart` has the
`.pth` files only. What they record stays in the container's files, until `fetching` fetches it:
before the container is removed, or at the end of the run.
"""

from __future__ import annotations

import io
import os
import re
import tarfile
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from hcoverage import RCFILE_NAME, SESSION_VARIABLE
from hdocker._door.api import ask_for_container, fetch_archive, put_archive
from hdocker._door.archive import Archive, put_file
from hdocker._door.door import may_run
from hdocker._door.fetching import OWNER, Prepared, fetch
from hdocker._door.notes import NotInjectedError
from hdocker._inject.added import OWN_LABEL, PLACE, is_in
from hdocker._inject.places import startup_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hdocker._door.door import Door
    from hdocker._door.images import Images
    from hdocker._door.peer import Caller
    from hdocker._inject.added import Added

EXEC: Final = "exec"
_ACTIONS: Final = {"POST": "exec|start|restart|stop|kill", "DELETE": ""}
_PATH: Final = r"(?:/v[0-9.]+)?(?:/libpod)?/containers/(?P<container>[^/]+)(?:/(?P<action>[a-z]+))?"
_STARTS: Final = (EXEC, "start", "restart")
_NAME_OF_DATA: Final = "data"
_LARGEST_OWNER: Final = 1 << 16  # bytes


@dataclass(frozen=True)
class Action:
    """What a request does with a container.

    Attributes:
        container: Its id or name.
        what: `exec`, `start`, `restart`, `stop`, `kill` or `DELETE`.
    """

    container: str
    what: str

    @property
    def starts(self) -> bool:
        """Whether it makes something run."""
        return self.what in _STARTS


def action_of(method: str, path: str) -> Action | None:
    """Return what a request does with a container; None if that does not matter here."""
    found = re.fullmatch(_PATH, path) if method in _ACTIONS else None
    if not found or not re.fullmatch(_ACTIONS[method], found["action"] or ""):
        return None
    return Action(found["container"], found["action"] or method)


class Earlier:
    """The containers that were there before the run, or were created past the door."""

    def __init__(self, door: Door, images: Images) -> None:
        """Begin with the containers that an earlier proxy of the session has prepared."""
        self._door = door
        self._images = images
        self._locks: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()
        self._prepared = {each.identity: each for each in Prepared.all_of(door)}

    def variables_for(
        self, action: Action, asked: Mapping[str, str | None], caller: Caller
    ) -> dict[str, str]:
        """Prepare a container for a command of `exec`, and return the command's variables.

        Args:
            action: What is asked for.
            asked: The variables that the client sets.
            caller: The client.

        Raises:
            NotInjectedError: It cannot be measured.
            OSError: The engine does not answer.
        """
        if asked.get(SESSION_VARIABLE) == "":
            return {}
        found = self._find(action.container)
        if found is None or not found.is_running:
            return {}
        if found.identity in self._door.created_containers():
            known = set(found.variables)
            return (
                {name: value for name, value in caller.told.items() if name not in asked}
                if (SESSION_VARIABLE in known)
                else {}
            )
        added = self._prepare(found, action.what)
        if added is None:
            return {}
        users = {**found.variables, **asked}
        return added.variables_for(found.image, users, self._door.session, caller.told)

    def before(self, action: Action) -> None:
        """Prepare a container that is about to start; fetch its data if it is about to go.

        Raises:
            NotInjectedError: It cannot be measured.
            OSError: The engine does not answer.
        """
        if action.starts:
            found = self._find(action.container)
            if found and found.identity not in self._door.created_containers():
                self._prepare(found, action.what)
            return
        if not self._prepared:
            return
        found = self._find(action.container)
        known = self._prepared.get(found.identity) if found else None
        if known and (action.what == "DELETE" or known.removes_itself):
            fetch(self._door, known.identity)

    def identity_of(self, container: str) -> str:
        """Return the id of a container; empty if there is none.

        Raises:
            OSError: The engine does not answer.
        """
        found = self._find(container)
        return found.identity if found else ""

    def _find(self, name: str) -> _Found | None:
        known = ask_for_container(self._door.engine, name)
        return _Found(known) if known else None

    def _prepare(self, found: _Found, what: str) -> Added | None:
        if found.wants_none:
            return None
        if what != EXEC:
            if found.is_running and what == "start":
                return None
            found.require_to_stay()
        found.require_place()
        with self._lock:
            lock = self._locks.setdefault(found.identity, threading.Lock())
        with lock:
            added = self._images.added_to(found.image_identity)
            if added is None or not added.mounts:
                return None
            if found.identity not in self._prepared:
                self._put(found, added)
        return added

    def _put(self, found: _Found, added: Added) -> None:
        """Put our files into a container."""
        door = self._door
        self._require_to_be_ours(found)
        mounts = added.mounts_beside(found.targets)
        # No `sitecustomize` for libraries: emptied files may stay, and then hide the image's own.
        pth = [(source, target) for source, target, _ in mounts if target.endswith(".pth")]
        said = put_archive(door.engine, found.identity, "/", self._startup_archive(found))
        if not said.is_good:
            raise NotInjectedError(
                f"container {found.name} ({found.image}) was there before the run, and hcoverage's "
                f"files cannot be put into it: {said.reason}"
            )
        prepared = Prepared(
            found.identity,
            found.host,
            found.image,
            tuple(target for _, target in pth),
            found.removes_itself,
            time.time(),
        )
        prepared.save(door)
        for source, target in pth:
            put_file(door.engine, found.identity, source, target)
        self._prepared[found.identity] = prepared

    def _startup_archive(self, found: _Found) -> bytes:
        place = PLACE.lstrip("/")
        archive = Archive()
        archive.add_directory(os.path.dirname(place))  # noqa: PTH120 - of a container
        archive.add_tree(place, startup_of(self._door.lasting, found.image_identity))
        archive.add_directory(f"{place}/{_NAME_OF_DATA}", is_open=True)
        archive.add_file(f"{place}/{_NAME_OF_DATA}/{RCFILE_NAME}", self._rcfile())
        archive.add_file(f"{place}/{OWNER}", self._door.sign.encode())
        return archive.content()

    def _rcfile(self) -> bytes:
        return (self._door.data_dir / RCFILE_NAME).read_bytes()

    def _require_to_be_ours(self, found: _Found) -> None:
        """Refuse a container into which another run has put its files.

        Raises:
            NotInjectedError: The container is one of these.
        """
        file = io.BytesIO()
        place = f"{PLACE}/{OWNER}"
        said = fetch_archive(self._door.engine, found.identity, place, file, largest=_LARGEST_OWNER)
        if not said.is_good:
            return
        file.seek(0)
        with tarfile.open(fileobj=file) as archive:
            content = archive.extractfile(OWNER)
            sign = content.read().decode(errors="replace") if content else ""
        if sign and sign != self._door.sign and may_run(sign):
            raise NotInjectedError(
                f"container {found.name} ({found.image}) was there before the run, and another "
                f"run measures it now; if there is no such run, remove {PLACE} in it"
            )


class _Found:
    """A container, as the engine describes it."""

    def __init__(self, known: dict[str, Any]) -> None:
        config, host = known.get("Config") or {}, known.get("HostConfig") or {}
        self.identity = str(known.get("Id"))
        self.name = str(known.get("Name")).lstrip("/")
        self.host = str(config.get("Hostname", ""))
        self.image = str(config.get("Image", ""))
        self.image_identity = str(known.get("Image", ""))
        self.is_running = bool((known.get("State") or {}).get("Running"))
        self.removes_itself = bool(host.get("AutoRemove"))
        self.targets = [str(each.get("Destination")) for each in known.get("Mounts") or ()]
        self.targets += list(host.get("Tmpfs") or ())
        settings = (str(each).partition("=") for each in config.get("Env") or ())
        self.variables: dict[str, str | None] = {name: value for name, _, value in settings}
        self._labels = config.get("Labels") or {}

    @property
    def wants_none(self) -> bool:
        """Whether it must be left alone."""
        return self.variables.get(SESSION_VARIABLE) == "" or OWN_LABEL in self._labels

    def require_to_stay(self) -> None:
        """Refuse a container whose files are gone before they can be fetched.

        Raises:
            NotInjectedError: The container is one of these.
        """
        if self.removes_itself:
            raise NotInjectedError(
                f"container {self.name} ({self.image}) was created before the run and removes "
                "itself as it ends, so that what it ran cannot be fetched: have the run create it"
            )

    def require_place(self) -> None:
        """Refuse a container that has a mount where our files belong.

        Raises:
            NotInjectedError: The container is one of these.
        """
        if any(is_in(PLACE, target) or is_in(target, PLACE) for target in self.targets):
            raise NotInjectedError(
                f"container {self.name} ({self.image}) was there before the run, and has something "
                f"mounted at {PLACE}, as one that an earlier run created: remove it before, so "
                "that the run creates it"
            )
