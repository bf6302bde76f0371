"""Attributes what coverage.py measures in a process to the running test.

``process`` loads this if a run has contexts and coverage.py measures. For dynamic contexts, the
tracers of coverage.py ask at each start of a function whether it begins a context. Here the answer
is always no, but this is the moment to look whether the test has changed (``context_reader``). If
so, coverage.py is told in the traced thread, as it does it itself. Lines that other threads run
while coverage.py empties its counts may be lost, as with its own dynamic contexts.

So requests of several tests at once cannot be separated here. If a request comes for another test
than the process's present one, that is noted, and reported at the end.

It runs from a copy in the startup directory: it stands alone, and nothing in it is newer than 3.8.
"""

from posix import O_CLOEXEC, O_CREAT, O_WRONLY, close, getpid, open as open_file, uname

# Functions look builtins up in this copy, which stays as it is when the application replaces some.
if "__hcoverage__" not in __builtins__:  # type: ignore[operator, used-before-def]
    __builtins__ = {**__builtins__, "__hcoverage__": True}  # type: ignore[assignment, dict-item]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any, Optional

    from hcoverage._inside.context_reader import ContextReader


class Requests:
    """The counterpart of a service's middleware, like that of ``recorder_requests``."""

    def __init__(self, directory: str, reader: "Optional[ContextReader]", text: str) -> None:
        """Store which context this process has.

        Args:
            directory: The data directory.
            reader: The file to follow; None if there is none.
            text: The context of the whole process, if no file is followed.
        """
        self._directory = directory
        self._reader = reader
        self._text = text
        self._has_told = False

    def begin(self, name: str) -> None:
        """Begin a test's request, which counts for the process's present context."""
        if self._has_told:
            return
        try:
            if self._reader is not None:
                found = self._reader.read()
                if found is None:
                    return  # It is just being changed.
                self._text = found[1]
            if self._text != name:
                self._has_told = True
                where = "%s/requests.%s.%d.txt" % (self._directory, uname().nodename, getpid())
                close(open_file(where, O_WRONLY | O_CREAT | O_CLOEXEC, 0o666))
        except Exception:  # noqa: BLE001, S110 - none of ours may reach the application
            pass


def follow(measuring: "Any", reader: "Optional[ContextReader]", text: str, autosave: "Any") -> bool:
    """Attribute all that this process runs from now on.

    Returns:
        Whether this is possible; the rcfile may have other contexts.

    Args:
        measuring: The coverage.py that measures this process.
        reader: The file to follow; None if there is none.
        text: The context of the whole process, if no file is followed.
        autosave: Saves its data while it runs.
    """
    collector = measuring._collector
    if collector.should_start_context is not None:
        return False  # The rcfile's own dynamic_context.
    if reader is None:
        collector.switch_context(text)
        return True
    numbers = reader.numbers
    seen = 0

    def look(_frame: "Optional[FrameType]") -> None:
        nonlocal seen
        if numbers[0] == seen:
            return
        try:
            found = reader.read()
            if found is not None:
                # A kill during writing could break its file: use another one.
                autosave.save(patience=0)
                seen, context = found
                collector.switch_context(context)
        except Exception:  # noqa: BLE001, S110 - it would end coverage.py's measuring
            pass

    look(None)
    # For threads that are traced already, and for later ones.
    collector.should_start_context = look
    for tracer in collector.tracers:
        tracer.should_start_context = look
    return True
