"""A container as podman is about to make it, by the OCI runtime specification: what is added to it.

That says nothing of the image, which is found in podman's storage by where the container's files
are: podman itself cannot be asked for a container that it is just starting.
"""

from __future__ import annotations

import json
import os
import posixpath
from pathlib import Path
from typing import Any, Final, NamedTuple

from hcoverage import SESSION_VARIABLE
from hdocker._door.door import Door, NotInjectedError
from hdocker._door.peer import caller_of
from hdocker._inject.added import PLACE, Added, is_in, memory_of

_STORED: Final = ("containers.json", "volatile-containers.json")
_LARGEST: Final = 1 << 28  # bytes
# What podman itself puts into a pod, to keep it.
_PAUSE: Final = ("localhost/podman-pause:", "k8s.gcr.io/pause:", "registry.k8s.io/pause:")
_HERE: Final = "localhost/"


class _Image(NamedTuple):
    identity: str
    name: str
    container: str


def measured(
    container: dict[str, Any], session: str, data_dir: str, owner: str, client: str
) -> dict[str, Any] | None:
    """Give a container with what measures it; None where it is left as it is.

    Args:
        container: Its OCI configuration.
        session: The session's startup directory.
        data_dir: The session's data directory.
        owner: The process id of who has the session.
        client: The path of podman.
    """
    door = Door("", session, Path(data_dir), int(owner), client)
    try:
        return _measured(container, door)
    except NotInjectedError as reason:
        door.note(str(reason))
    except Exception as error:  # noqa: BLE001 - the application must not notice
        door.note(f"a container, by podman: {type(error).__name__}: {error}")
    return None


def _measured(container: dict[str, Any], door: Door) -> dict[str, Any] | None:
    process = container.get("process") or {}
    settings = [str(each).partition("=") for each in process.get("env") or ()]
    variables: dict[str, str | None] = {name: value for name, _, value in settings}
    caller = caller_of(os.getppid(), door.owner, door.session, door.data_dir)
    if caller.wants_none or variables.get(SESSION_VARIABLE) == "":
        return None
    image = _image_of(str((container.get("root") or {}).get("path", "")))
    if image is None or image.name.startswith(_PAUSE):
        return None
    mounts = container.get("mounts") or []
    if _has_it_already(image, mounts, door):
        return None
    added = _added(image, door)
    if not added.mounts:
        return None
    targets = [posixpath.normpath(str(mount.get("destination"))) for mount in mounts]
    beside = added.mounts_beside(targets, shares_volumes=False)
    name = image.name.removeprefix(_HERE)
    host = str(container.get("hostname", ""))
    if host != os.uname().nodename:  # it has one of its own, by which `podman exec` is known
        door.note_image(host, name)
    wanted = added.variables_for(name, variables, door.session, caller.told)
    environment = [*({**variables, **wanted}).items()]
    with door.created.open("a") as created:  # so that no door tells that it came past
        created.write(f"{image.container}\n")
    return {
        **container,
        "mounts": [*mounts, *(_mount(*mount) for mount in beside)],
        "process": {**process, "env": [f"{key}={value}" for key, value in environment]},
    }


def _mount(source: str, target: str, read_only: bool) -> dict[str, Any]:  # noqa: FBT001 - as kept
    options = ["rbind", "rprivate", "ro" if read_only else "rw"]
    return {"destination": target, "type": "bind", "source": source, "options": options}


def _added(image: _Image, door: Door) -> Added:
    """Give what is added to an image's containers, which takes a while for the first of them.

    Raises:
        NotInjectedError: It cannot be found out.
    """
    memory = memory_of(door.session, "injection", "podman", image.identity)
    added = Added.saved(memory)
    if added is None:
        from hdocker._door.images import find_out  # noqa: PLC0415 - once for an image

        reason = find_out(door, image.identity, memory)
        if reason:
            raise NotInjectedError(reason.replace(image.identity, image.name))
        added = Added.saved(memory)
    if added is None:
        raise NotInjectedError(f"image {image.name}: podman could not look into it")
    return added


def _has_it_already(image: _Image, mounts: list[dict[str, Any]], door: Door) -> bool:
    """Tell whether `get_docker_base_cmd` has been here.

    Raises:
        NotInjectedError: Something of the user's is in our place.
    """
    for mount in mounts:
        target = posixpath.normpath(str(mount.get("destination")))
        if is_in(PLACE, target) or is_in(target, PLACE):
            if is_in(str(mount.get("source")), str(door.private)):
                return True
            raise NotInjectedError(
                f"image {image.name}: a container's mount at {target} is in the way of ours at "
                f"{PLACE}"
            )
    return False


def _image_of(root: str) -> _Image | None:
    """Find the image of a container by where podman's storage has its files.

    That is `overlay/LAYER/merged`, or `vfs/dir/LAYER`, below the storage's own directory.

    Returns:
        None where it is of no image, as with `--rootfs`.
    """
    place = Path(root)
    if len(place.parents) <= 2:  # noqa: PLR2004 - as above
        return None
    storage, driver = place.parents[2], place.parts[-3]
    for name in _STORED:
        try:
            with (storage / f"{driver}-containers" / name).open("rb") as file:
                known = json.loads(file.read(_LARGEST))
        except OSError:
            continue
        for one in known:
            if one.get("layer") in place.parts[-2:] and one.get("image"):
                told = json.loads(one.get("metadata") or "{}")
                named = str(told.get("image-name") or one["image"])
                return _Image(str(one["image"]), named, str(one.get("id")))
    return None
