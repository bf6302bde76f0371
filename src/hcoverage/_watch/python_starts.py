"""Learns from the kernel that a Python starts, but not which one: `watch` finds that.

There are two events. The interpreter's file is opened: that is as early as possible, so that even
on a busy machine a late look finds the process. And the directory of its encodings is listed: each
Python does that once, whatever its options, after `exec` is through. Linux reports both (inotify,
which needs no rights), and queues them for a late reader. Other systems report nothing, and there
are no events for interpreters that were not included yet.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

_IN_OPEN: Final = 0x20  # sys/inotify.h
_LIBRARIES: Final = ("lib", "lib64")
_EVENTS: Final = 1 << 16  # bytes to read at once; the rest is read next time
_NAME: Final = r"python([23]\.[0-9]+t?)d?"
_CALLED: Final = r"python[0-9.]*t?d?"


class PythonStarts:
    """Knows whether a Python has started since the last question.

    At first it knows the interpreters on PATH and the one that runs this; see `include`.
    """

    def __init__(self) -> None:
        self._libc: Any = None
        self._descriptor = -1
        self._places: set[Path] = set()
        with contextlib.suppress(ImportError, AttributeError, OSError):  # no ctypes, no inotify
            self._open()
        for interpreter in {sys.executable, *_on_path()} if self._descriptor >= 0 else ():
            self.include(os.path.realpath(interpreter))

    def _open(self) -> None:
        import ctypes  # noqa: PLC0415 - not everywhere

        self._libc = ctypes.CDLL(None)
        self._descriptor = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def descriptors(self) -> list[int]:
        """The descriptor, or none, that becomes readable once a Python has started."""
        return [self._descriptor] if self._descriptor >= 0 else []

    def include(self, executable: str) -> None:
        """Watch for starts of another interpreter, too.

        Args:
            executable: Its file, links resolved.
        """
        match = re.fullmatch(_NAME, os.path.basename(executable))  # noqa: PTH119 - often
        if match is None or self._descriptor < 0:
            return
        above = Path(executable).parent.parent
        encodings = [above / lib / f"python{match[1]}" / "encodings" for lib in _LIBRARIES]
        for place in (Path(executable), *encodings):
            if place not in self._places:
                self._places.add(place)
                self._libc.inotify_add_watch(self._descriptor, os.fsencode(place), _IN_OPEN)

    def forget(self) -> bool:
        """Return whether a Python has started, and forget that start."""
        was_told = False
        with contextlib.suppress(OSError):  # there was no event, or no further one
            while self._descriptor >= 0 and os.read(self._descriptor, _EVENTS):
                was_told = True
        return was_told

    def close(self) -> None:
        """Stop watching for starts."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1


def _on_path() -> Iterator[str]:
    # Often one is a link to another, and what one is called by is one of many programs.
    for directory in dict.fromkeys(map(os.path.realpath, os.get_exec_path())):
        with contextlib.suppress(OSError):
            names = os.listdir(directory)  # noqa: PTH208 - large
            yield from (f"{directory}/{name}" for name in names if re.fullmatch(_CALLED, name))
