"""What is known of a Python that was seen to start."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


class SeenPython(NamedTuple):
    """A Python that was started, with all its forks.

    Attributes:
        pids: Its process id, then those of the forks that were seen.
        argv: Its command line.
        executable: The file of the interpreter, links resolved.
        interpreter: The interpreter as it was started, in a virtual environment for example.
        environment: Its environment at the start; None if we may not read it.
        is_running: Whether it existed at the last look.
    """

    pids: tuple[int, ...]
    argv: tuple[str, ...]
    executable: str
    interpreter: str
    environment: Mapping[str, str] | None
    is_running: bool = False
