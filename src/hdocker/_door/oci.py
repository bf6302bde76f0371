"""Adds our mounts and variables to the OCI configuration of a container that podman will make.

The configuration does not name the image. It is found in podman's storage, by the directory of the
container's files: podman itself cannot be asked about a container that it is just starting.
"""

from __future__ import annotations

import os

from hdocker._door.notes import NotInjectedError, created_in, note_image_in, note_in
from hdocker._door.peer import caller_of
from hdocker._door.quick_json import read
from hdocker._inject.added import PLACE, SESSION_VARIABLE, Added, is_in, memory_of

# Podman waits while this is loaded, so imports are few.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

_STORED: Final = ("containers.json", "volatile-containers.json")
_LARGEST: Final = 1 << 28  # bytes
# Images of the container that podman itself puts into a pod, to keep the pod.
PAUSE: Final = ("localhost/podman-pause:", "k8s.gcr.io/pause:", "registry.k8s.io/pause:")
_HERE: Final = "localhost/"


class _Image:
    """A container's image, from podman's storage."""

    def __init__(self, known: dict[str, Any]) -> None:
        told = read((known.get("metadata") or "{}").encode())
        self.identity = str(known["image"])
        self.name = str(told.get("image-name") or self.identity)
        self.container = str(known.get("id"))


class _Run:
    """The run, from the hook's arguments."""

    def __init__(self, session: str, data_dir: str, owner: str, client: str) -> None:
        self.session = session
        self.data_dir = data_dir
        self.owner = owner
        self.client = client

    @property
    def private(self) -> str:
        return os.path.dirname(self.session)


def measured(
    container: dict[str, Any], session: str, data_dir: str, owner: str, client: str
) -> dict[str, Any] | None:
    """Return a container's configuration with our mounts and variables; None to leave it as it is.

    Args:
        container: Its OCI configuration.
        session: The session's startup directory.
        data_dir: The session's data directory.
        owner: The id of the process that has the session.
        client: The path of podman.
    """
    try:
        return _measured(container, _Run(session, data_dir, owner, client))
    except NotInjectedError as reason:
        note_in(data_dir, str(reason))
    except Exception as error:  # noqa: BLE001 - the application must not notice
        note_in(data_dir, f"a container, by podman: {type(error).__name__}: {error}")
    return None


def _measured(container: dict[str, Any], run: _Run) -> dict[str, Any] | None:
    process = container.get("process") or {}
    settings = [str(each).partition("=") for each in process.get("env") or ()]
    variables: dict[str, str | None] = {name: value for name, _, value in settings}
    image = _image_of(str((container.get("root") or {}).get("path", "")))
    if image is None or image.name.startswith(PAUSE):
        return None
    with open(created_in(run.private), "a") as created:  # else the run tells that it went past
        created.write(f"{image.container}\n")
    caller = caller_of(os.getppid(), int(run.owner), run.session, run.data_dir)
    if caller.wants_none or variables.get(SESSION_VARIABLE) == "":
        return None
    mounts = container.get("mounts") or []
    if _has_it_already(image, mounts, run):
        return None
    added = _added(image, run)
    if not added.mounts:
        return None
    targets = [os.path.normpath(str(mount.get("destination"))) for mount in mounts]
    beside = added.mounts_beside(targets)
    name = image.name.removeprefix(_HERE)
    for reason in added.why_hidden(name, targets):
        note_in(run.data_dir, reason)
    host = str(container.get("hostname", ""))
    if host != os.uname().nodename:  # Files of `podman exec` have the container's own host name.
        note_image_in(run.data_dir, host, name)
    wanted = added.variables_for(name, variables, run.session, caller.told)
    environment = [*({**variables, **wanted}).items()]
    return {
        **container,
        "mounts": [*mounts, *(_mount(*mount) for mount in beside)],
        "process": {**process, "env": [f"{key}={value}" for key, value in environment]},
    }


def _mount(source: str, target: str, read_only: bool) -> dict[str, Any]:  # noqa: FBT001 - as kept
    options = ["rbind", "rprivate", "ro" if read_only else "rw"]
    return {"destination": target, "type": "bind", "source": source, "options": options}


def _added(image: _Image, run: _Run) -> Added:
    """Return what is added to an image's containers; for the first of them that takes a while.

    Raises:
        NotInjectedError: It cannot be found out.
    """
    memory = memory_of(run.session, "injection", "podman", image.identity)
    added = Added.saved(memory)
    if added is None:
        from hdocker._door.door import Door
        from hdocker._door.images import find_out

        door = Door.of_words(["", run.session, run.data_dir, run.owner, run.client])
        reason = find_out(door, image.identity, memory)
        if reason:
            raise NotInjectedError(reason.replace(image.identity, image.name))
        added = Added.saved(memory)
    if added is None:
        raise NotInjectedError(f"image {image.name}: podman could not look into it")
    return added


def _has_it_already(image: _Image, mounts: list[dict[str, Any]], run: _Run) -> bool:
    """Return whether `get_docker_base_cmd` has added our mounts already.

    Raises:
        NotInjectedError: A mount of the user's is in the way of ours.
    """
    for mount in mounts:
        target = os.path.normpath(str(mount.get("destination")))
        if is_in(PLACE, target) or is_in(target, PLACE):
            if is_in(str(mount.get("source")), run.private):
                return True
            raise NotInjectedError(
                f"image {image.name}: a container's mount at {target} is in the way of ours at "
                f"{PLACE}"
            )
    return False


def _image_of(root: str) -> _Image | None:
    """Find the image of a container by the path of its files in podman's storage.

    That is `overlay/LAYER/merged`, or `vfs/dir/LAYER`, below the storage's own directory.

    Returns:
        None if it has no image, as with `--rootfs`.
    """
    above, _, last = root.rpartition("/")
    above, _, layer = above.rpartition("/")
    storage, _, driver = above.rpartition("/")
    if not storage:
        return None
    for name in _STORED:
        try:
            with open(f"{storage}/{driver}-containers/{name}", "rb") as file:
                known = read(file.read(_LARGEST))
        except OSError:
            continue
        for one in known:
            if one.get("layer") in (layer, last) and one.get("image"):
                return _Image(one)
    return None
