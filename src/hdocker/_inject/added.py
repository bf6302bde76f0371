"""What is added to each container of an image, and what the session's processes keep of it.

A client waits for what reads this here: imports are few, and what is kept is written by marshal.
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
# Of a container that is none of the application's.
OWN_LABEL: Final = "hcoverage.own"
SESSION_VARIABLE: Final = "HCOVERAGE_SESSION"
IMAGE_VARIABLE: Final = "HCOVERAGE_IMAGE"
# What the one who starts a container knows of it, and the container has to be told.
PASSED_ON: Final = ("HCOVERAGE_CONTEXT", "HCOVERAGE_CONTEXT_FILE")


class Added:
    """What is added to each container of an image, kept for the length of a session.

    Attributes:
        mounts: For each mount, where it is here, where in the container, and whether the container
            may only read it; none where there is no Python in the image.
        environment: Variables; PYTHONPATH has the image's own in it.
    """

    __slots__ = ("environment", "mounts")

    def __init__(
        self,
        mounts: Sequence[tuple[str, str, bool]] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.mounts = mounts
        self.environment = environment or {}

    def mounts_beside(
        self, targets: Sequence[str], *, shares_volumes: bool
    ) -> list[tuple[str, str, bool]]:
        """Give the mounts for a container that has others.

        Args:
            targets: Where the others are in it.
            shares_volumes: Whether it has other containers' as well.
        """
        # What the user mounts is another file system than the one looked at. To mount a file into
        # it the engine would make one there, which stays, or fail.
        return [
            mount
            for mount in self.mounts
            if is_in(mount[1], PLACE)
            or not (shares_volumes or any(is_in(mount[1], directory) for directory in targets))
        ]

    def variables_for(
        self,
        image: str,
        users: Mapping[str, str | None],
        session: str,
        caller: Mapping[str, str],
    ) -> dict[str, str]:
        """Give the variables for a container.

        Args:
            image: The image, as the user names it.
            users: The variables that the user sets; None for one that is taken away.
            session: The session's startup directory.
            caller: The environment of the one who starts it.
        """
        environment = {**self.environment, **variables_of_call(image, caller)}
        for name in PASSED_ON:
            if users.get(name) is not None:
                environment.pop(name, None)
        if "PYTHONPATH" in users:
            # Without the session's own, which the user may have passed on from here.
            entries = (users["PYTHONPATH"] or "").split(":")
            theirs = [entry for entry in entries if entry not in {session, PLACE}]
            environment["PYTHONPATH"] = ":".join([PLACE, *theirs] if any(theirs) else [PLACE])
        return environment

    def save(self, path: str) -> None:
        """Write it for the other processes of the session."""
        _write(path, [list(self.mounts), dict(self.environment)])

    @classmethod
    def saved(cls, path: str) -> Added | None:
        """Read it; None where it has not been found out yet."""
        known = _read(path)
        return None if known is None else cls(*known)


def variables_of_call(image: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Give the variables of a container that only the one who starts it knows.

    Args:
        image: The image, as the user names it.
        environment: The environment of the one who starts it.
    """
    passed_on = {name: environment[name] for name in PASSED_ON if name in environment}
    return {IMAGE_VARIABLE: image, **passed_on}


def mount_option(source: str, target: str, read_only: bool) -> str:  # noqa: FBT001 - as kept
    """Render a mount as the value of `--mount`, which is a line of CSV."""
    fields = ["type=bind", f"source={source}", f"target={target}"]
    return ",".join([*map(_csv, fields), *(["readonly"] if read_only else [])])


def _csv(field: str) -> str:
    """Quote a field of CSV only where it has to be: a shell would take the quotes away."""
    doubled = field.replace('"', '""')
    return f'"{doubled}"' if set(field) & set(',"\r\n') else field


def is_in(path: str, directory: str) -> bool:
    """Tell whether a path in a container is a directory or below it."""
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def memory_of(session: str, kind: str, *key: str) -> str:
    """Name the file in which the session keeps what it found out."""
    words = "".join(c if c.isalnum() else "_" for c in "-".join(key))
    # Shortened words may be alike.
    return os.path.join(os.path.dirname(session), f"{kind}-{words[-100:]}-{_checksum(key):x}")


def settings(session: str) -> dict[str, Any]:
    """Read what the session told its doors."""
    known: dict[str, Any] = _read(_settings_file(session))
    return known


def write_settings(session: str, told: Mapping[str, Any]) -> None:
    """Tell the session's doors what they need to know."""
    _write(_settings_file(session), dict(told))


def _settings_file(session: str) -> str:
    return os.path.join(os.path.dirname(session), "doors")


def _checksum(words: Sequence[str]) -> int:
    checksum = 0
    for byte in "\0".join(words).encode(errors="surrogateescape"):
        checksum = (checksum * 31 + byte) % 2**64
    return checksum


def _read(path: str) -> Any:  # noqa: ANN401 - as marshal has it
    # Private to the session, and to one Python: it may be as fast as can be.
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
