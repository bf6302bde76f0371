"""Finds which of the started Pythons left no data, and the likely cause.

It uses what `watch` saw and the names of the files that processes left; it reads no data.
"""

from __future__ import annotations

import enum
import os
import re
import shlex
import site
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from hcoverage._data_directory.names import pids_of
from hcoverage._settings.environment import SESSION_VARIABLE
from hcoverage._watch.command_line import command_line
from hcoverage._watch.packaging import builds, installs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from hcoverage._watch.seen_python import SeenPython

# The oldest Python in which the hook does anything.
_OLDEST: Final = (3, 8)

_INSTALL: Final = "{python} -m pip install hcoverage && {python} -m hcov inject"


class Doors(NamedTuple):
    """The ways by which processes of a session learn that they are measured.

    Attributes:
        startup: The session's startup directory.
        hook: The hook in site-packages.
        builds_count: Whether what builds run of the project counts.
    """

    startup: str
    hook: Path
    builds_count: bool


class Reason(enum.Enum):
    """Why a Python left no data, as far as can be seen from outside, and what to do about it.

    A remedy may contain the interpreter's path, quoted for a shell. The message page `not-measured`
    lists all reasons.
    """

    NO_SITE = ("-S keeps Python from reading any start-up hook", "start it without")
    TOO_OLD = ("Python before 3.8 cannot be measured", "run it on a newer one")
    OTHER_USER = (
        "it ran as another user, whose environment is not seen",
        "keep the environment, as `sudo --preserve-env=HCOVERAGE_SESSION,PYTHONPATH` does",
    )
    # Otherwise Python would have read the hook.
    NO_USER_SITE = (
        "the hook is in the user's own site-packages, which -I and -s leave out",
        "use a virtual environment",
    )
    NO_VARIABLES = (
        "another environment's Python was started without the variables of the run",
        "pass HCOVERAGE_SESSION and PYTHONPATH on, or run hcov in that environment",
    )
    PYTHONPATH_IGNORED = (
        "another environment's Python ignores PYTHONPATH, by -E or -I",
        f"`{_INSTALL}`",
    )
    PYTHONPATH_REPLACED = (
        "another environment's Python was started with another PYTHONPATH",
        f"extend PYTHONPATH instead of replacing it, or `{_INSTALL}`",
    )
    BUILT_APART = (
        "a package is built in an environment of its own, out of reach, and setup.py counts",
        "build with `--no-build-isolation`, or name setup.py in `omit` of the rcfile",
    )
    STILL_RUNNING = (
        "it is still running, and had saved nothing yet",
        "end it before the command ends",
    )
    ENDED_EARLY = (
        "it was killed as it started, could not write its data, or its own start-up got in the way",
        "look at what `{python} -v -c pass` does as it starts",
    )

    def __init__(self, cause: str, remedy: str) -> None:
        self.cause = cause
        self._remedy = remedy

    def remedy(self, interpreter: str) -> str:
        """Return what to do.

        Args:
            interpreter: The Python's path.
        """
        return self._remedy.format(python=shlex.quote(interpreter))


class Unmeasured(NamedTuple):
    """A Python that was started and left no data.

    Attributes:
        pid: Its process id.
        argv: Its command line.
        reason: Why, as far as can be seen from outside.
        remedy: What to do.
    """

    pid: int
    argv: tuple[str, ...]
    reason: Reason
    remedy: str

    @property
    def cause(self) -> str:
        """Why, in words for a person."""
        return self.reason.cause


def find_unmeasured(
    seen: Iterable[SeenPython], file_names: Iterable[str], doors: Doors
) -> list[Unmeasured]:
    """Find the Pythons that left neither data nor a note of what went wrong.

    Args:
        seen: The Pythons that were started.
        file_names: The names of all files that were in the data directory.
        doors: The ways by which they should have been measured.

    Returns:
        These Pythons, except those that somebody excluded on purpose, that another session
        measures, or that run no code of the project since they install or build packages.
    """
    known = pids_of(file_names)
    found = []
    for python in seen:
        session = (python.environment or {}).get(SESSION_VARIABLE, doors.startup)
        is_wanted = session == doors.startup and not _is_of_session(python, doors)
        if is_wanted and known.isdisjoint(python.pids) and _may_run_ours(python, doors):
            reason = _reason(python, doors)
            remedy = reason.remedy(python.interpreter)
            found.append(Unmeasured(python.pids[0], python.argv, reason, remedy))
    return found


def _is_of_session(python: SeenPython, doors: Doors) -> bool:
    """Return whether a Python is the session's own, such as the stand-in for `docker run`."""
    private = os.path.dirname(doors.startup)  # noqa: PTH120
    return any(word.startswith(f"{private}/") for word in python.argv[1:])


def _may_run_ours(python: SeenPython, doors: Doors) -> bool:
    """Return whether a Python may have run code of the project."""
    return not installs(python.argv) and (doors.builds_count or not builds(python.argv))


def _reason(python: SeenPython, doors: Doors) -> Reason:
    """Return the likely reason."""
    options = command_line(python.argv).options
    if "S" in options:
        return Reason.NO_SITE
    version = _version(python.executable)
    if version is not None and version < _OLDEST:
        return Reason.TOO_OLD
    if python.environment is None:
        return Reason.OTHER_USER
    if builds(python.argv):
        return Reason.BUILT_APART
    if not _shares_site_packages(python, doors.hook):
        closed = _why_no_door_led_in(options, python.environment, doors)
    else:
        closed = Reason.NO_USER_SITE if options & set("sI") else None
    return closed or (Reason.STILL_RUNNING if python.is_running else Reason.ENDED_EARLY)


def _why_no_door_led_in(
    options: frozenset[str], environment: Mapping[str, str], doors: Doors
) -> Reason | None:
    """Return why a Python without the hook did not read the startup directory; None if it did."""
    if SESSION_VARIABLE not in environment:
        return Reason.NO_VARIABLES
    if options & set("EI"):
        return Reason.PYTHONPATH_IGNORED
    if doors.startup not in environment.get("PYTHONPATH", "").split(os.pathsep):
        return Reason.PYTHONPATH_REPLACED
    return None


def _version(executable: str) -> tuple[int, int] | None:
    """Return the version that the interpreter's name has, if any."""
    match = re.match(r"python([23])\.?([0-9]*)", os.path.basename(executable))  # noqa: PTH119
    if match is None or not (match[2] or match[1] == "2"):
        return None
    return int(match[1]), int(match[2] or 0)


def _shares_site_packages(python: SeenPython, hook: Path) -> bool:
    """Return whether an interpreter reads the hook's directory; the user's own counts for all."""
    version = _version(python.executable)
    if version is not None and "python{}.{}".format(*version) not in hook.parts:
        return False
    # Resolve the directory, not the interpreter, which is a link in a virtual environment.
    prefix = Path(python.interpreter).parent.resolve().parent
    if any(hook.is_relative_to(prefix / libraries) for libraries in ("lib", "lib64", "local/lib")):
        return True
    in_environment = (prefix / "pyvenv.cfg").exists()
    return not in_environment and hook.is_relative_to(site.getuserbase())
