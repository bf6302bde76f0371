"""What is added to each container of an image, and the files in which a session keeps it.

Clients of the engine wait while a process loads and reads this. So it imports little, and the
files are written by marshal.
"""

from __future__ import annotations

import marshal
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, Final

# Beside what images use: /opt is for add-on packages by the file system hierarchy standard.
PLACE: Final = "/opt/hcoverage"
# The package that leads to it from a standard library.
PACKAGE_NAME: Final = "sitecustomize"
# Marks containers and volumes that are ours, not the application's.
OWN_LABEL: Final = "hcoverage.own"
SESSION_VARIABLE: Final = "HCOVERAGE_SESSION"
IMAGE_VARIABLE: Final = "HCOVERAGE_IMAGE"
# The container needs these variables of the process that starts it.
PASSED_ON: Final = ("HCOVERAGE_CONTEXT", "HCOVERAGE_CONTEXT_FILE")


class Added:
    """What is added to each container of an image; kept for one session.

    Attributes:
        mounts: Of each mount the path here, the path in the container, and whether the container
            may only read it. Empty if the image has no Python.
        environment: Variables; PYTHONPATH includes the image's own.
    """

    __slots__ = ("environment", "mounts")

    def __init__(
        self,
        mounts: Sequence[tuple[str, str, bool]] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.mounts = mounts
        self.environment = environment or {}

    def mounts_beside(self, targets: Sequence[str]) -> list[tuple[str, str, bool]]:
        """Return the mounts to add to a container that has mounts of its own.

        Args:
            targets: The paths of its own mounts in the container.
        """
        # To mount a file into a directory that the user mounts, the engine would first create one
        # there. It would leave that to the user, or fail.
        return [
            mount
            for mount in self.mounts
            if is_in(mount[1], PLACE) or not any(is_in(mount[1], target) for target in targets)
        ]

    def why_hidden(self, image: str, targets: Sequence[str]) -> list[str]:
        """Tell which Pythons of an image can be reached by PYTHONPATH alone, and why.

        Args:
            image: The image, as the user names it.
            targets: The paths of the container's own mounts.
        """
        libraries = [
            os.path.dirname(target)
            for _, target, _ in self.mounts
            if os.path.basename(target) == PACKAGE_NAME
        ]
        hidden = {
            target: " and ".join(library for library in libraries if is_in(library, target))
            for target in targets
        }
        return [
            f"image {image}: a container has a mount of its own at {target}, where Python's "
            f"library {library} is: `python -I` and processes with a cleared environment are not "
            "measured with that Python there"
            for target, library in hidden.items()
            if library
        ]

    def variables_for(
        self,
        image: str,
        users: Mapping[str, str | None],
        session: str,
        caller: Mapping[str, str],
    ) -> dict[str, str]:
        """Return the variables to set in a container.

        Args:
            image: The image, as the user names it.
            users: The variables that the user sets; None for one that the user removes.
            session: The session's startup directory.
            caller: The environment of the process that starts the container.
        """
        environment = {**self.environment, **variables_of_call(image, caller)}
        for name in PASSED_ON:
            if users.get(name) is not None:
                environment.pop(name, None)
        if "PYTHONPATH" in users:
            # Without the session's own entry, which the user may have passed on.
            entries = (users["PYTHONPATH"] or "").split(":")
            theirs = [entry for entry in entries if entry not in {session, PLACE}]
            environment["PYTHONPATH"] = ":".join([PLACE, *theirs] if any(theirs) else [PLACE])
        return environment

    def save(self, path: str) -> None:
        """Write this for the other processes of the session."""
        _write(path, [list(self.mounts), dict(self.environment)])

    @classmethod
    def saved(cls, path: str) -> Added | None:
        """Read what `save` wrote; return None if that has not happened yet."""
        known = _read(path)
        return None if known is None else cls(*known)


def variables_of_call(image: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that differ between containers of one image.

    Args:
        image: The image, as the user names it.
        environment: The environment of the process that starts the container.
    """
    passed_on = {name: environment[name] for name in PASSED_ON if name in environment}
    return {IMAGE_VARIABLE: image, **passed_on}


def mount_option(source: str, target: str, read_only: bool) -> str:  # noqa: FBT001 - as kept
    """Return a mount as the value of `--mount`, which is a line of CSV."""
    fields = ["type=bind", f"source={source}", f"target={target}"]
    return ",".join([*map(_csv, fields), *(["readonly"] if read_only else [])])


def _csv(field: str) -> str:
    """Quote a field of CSV only if it must be: a shell would remove the quotes."""
    doubled = field.replace('"', '""')
    return f'"{doubled}"' if set(field) & set(',"\r\n') else field


def is_in(path: str, directory: str) -> bool:
    """Return whether a path in a container is a directory, or is below it."""
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def memory_of(session: str, kind: str, *key: str) -> str:
    """Return the path of the file in which a session keeps what it found out."""
    words = "".join(c if c.isalnum() else "_" for c in "-".join(key))
    # A checksum, since shortened keys may be the same.
    return os.path.join(os.path.dirname(session), f"{kind}-{words[-100:]}-{_checksum(key):x}")


def settings(session: str) -> dict[str, Any]:
    """Read what `write_settings` wrote."""
    known: dict[str, Any] = _read(_settings_file(session))
    return known


def write_settings(session: str, told: Mapping[str, Any]) -> None:
    """Write what a session's processes must know to add to containers."""
    _write(_settings_file(session), dict(told))


def _settings_file(session: str) -> str:
    return os.path.join(os.path.dirname(session), "doors")


def _checksum(words: Sequence[str]) -> int:
    checksum = 0
    for byte in "\0".join(words).encode(errors="surrogateescape"):
        checksum = (checksum * 31 + byte) % 2**64
    return checksum


def _read(path: str) -> Any:  # noqa: ANN401 - as marshal has it
    # marshal is fastest, and enough: one Python writes and reads it.
    try:
        with open(path, "rb") as file:
            return marshal.load(file)  # noqa: S302
    except FileNotFoundError:
        return None


def _write(path: str, known: list[Any] | dict[str, Any]) -> None:
    scratch = f"{path}.{os.getpid()}"
    with open(scratch, "wb") as file:
        marshal.dump(known, file)
    os.replace(scratch, path)
