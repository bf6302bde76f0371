"""Learns from the kernel that a Python starts, but not which one: `watch` finds that.

There are two events. The interpreter's file is opened: that is as early as possible, so that even
on a busy machine a late look finds the process. And the directory of its encodings is listed: each
Python does that once, whatever its options, after `exec` is through. Linux reports both (inotify,
which needs no rights), and queues them for a late reader. Other systems report nothing, and there
are no events for interpreters that were not included yet.
"""

from __future__ import annotations

import os
import sys

# As in `watch`: this is loaded where nothing else is.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Final

_IN_OPEN: Final = 0x20  # sys/inotify.h
_LIBRARIES: Final = ("lib", "lib64")
_EVENTS: Final = 1 << 16  # bytes to read at once; the rest is read next time


class PythonStarts:
    """Knows whether a Python has started since the last question.

    At first it knows the interpreters on PATH and the one that runs this; see `include`.
    """

    def __init__(self) -> None:
        self._libc: Any = None
        self._descriptor = -1
        self._places: set[str] = set()
        try:
            import ctypes  # not everywhere

            self._libc = ctypes.CDLL(None)
            self._descriptor = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        except (ImportError, AttributeError, OSError):  # no ctypes, no inotify
            return
        for interpreter in {sys.executable, *_on_path()}:
            self.include(os.path.realpath(interpreter))

    @property
    def descriptors(self) -> list[int]:
        """The descriptor, or none, that becomes readable once a Python has started."""
        return [self._descriptor] if self._descriptor >= 0 else []

    def include(self, executable: str) -> None:
        """Watch for starts of another interpreter, too.

        Args:
            executable: Its file, links resolved.
        """
        version = version_in(os.path.basename(executable))
        if version is None or self._descriptor < 0:
            return
        above = os.path.dirname(os.path.dirname(executable))
        encodings = (f"{above}/{library}/python{version}/encodings" for library in _LIBRARIES)
        for place in (executable, *encodings):
            if place not in self._places:
                self._places.add(place)
                self._libc.inotify_add_watch(self._descriptor, os.fsencode(place), _IN_OPEN)

    def forget(self) -> bool:
        """Return whether a Python has started, and forget that start."""
        was_told = False
        try:
            while self._descriptor >= 0 and os.read(self._descriptor, _EVENTS):
                was_told = True
        except OSError:  # there was no event, or no further one
            pass
        return was_told

    def close(self) -> None:
        """Stop watching for starts."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1


def version_in(name: str) -> str | None:
    """Return the version in the name of an interpreter, as 3.14t or none; None for other names."""
    if not name.startswith("python"):
        return None
    version = name[len("python") :].removesuffix("d")
    return None if version.removesuffix("t").strip("0123456789.") else version


def _on_path() -> Iterator[str]:
    # Often one is a link to another, and what one is called by is one of many programs.
    for directory in dict.fromkeys(map(os.path.realpath, os.get_exec_path())):
        try:
            names = os.listdir(directory)
        except OSError:
            continue
        yield from (f"{directory}/{name}" for name in names if version_in(name) is not None)
