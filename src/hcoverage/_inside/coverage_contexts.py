"""Has what coverage.py measures in a process attributed to the test that is running.

Loaded by ``process`` where a run has contexts and coverage.py measures. Its tracers ask at each
start of a function whether that begins a context, as dynamic contexts need it; here the answer is
always no, but it is looked whether the test is another one (``context_reader``), and coverage.py
is told so in the thread that is traced, as it does itself. What other threads run in the moment in
which coverage.py empties what it has counted may be lost, as with its own dynamic contexts.

So requests of several tests at once cannot be told apart here. Where one comes for another test
than the one that the process counts for, that is noted, and told at the end.

Runs from a copy in the startup directory: it stands alone, and nothing in it is newer than 3.8.
"""

from posix import O_CLOEXEC, O_CREAT, O_WRONLY, close, getpid, open as open_file, uname

# Functions look builtins up here: in what they are now, whatever becomes of them.
if "__hcoverage__" not in __builtins__:  # type: ignore[operator, used-before-def]
    __builtins__ = {**__builtins__, "__hcoverage__": True}  # type: ignore[assignment, dict-item]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any, Optional

    from hcoverage._inside.context_reader import ContextReader


class Requests:
    """What a service's middleware asks to attribute requests, as of ``recorder_requests``."""

    def __init__(self, directory: str, reader: "Optional[ContextReader]", text: str) -> None:
        """Know what this process counts for.

        Args:
            directory: The data directory.
            reader: What is followed; None where there is nothing to follow.
            text: The context for as long as the process runs, where nothing is followed.
        """
        self._directory = directory
        self._reader = reader
        self._text = text
        self._has_told = False

    def begin(self, name: str) -> None:
        """Have a request that is for a test: it counts for what the process counts for."""
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
    """Attribute what this process runs, from now on.

    Returns:
        Whether that is so; the rcfile may have other contexts.

    Args:
        measuring: The coverage.py that measures it.
        reader: What is followed; None where there is nothing to follow.
        text: The context for as long as the process runs, where nothing is followed.
        autosave: What saves its data while it runs.
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
                # Its file could be broken by a kill while it is written: let there be another.
                autosave.save(patience=0)
                seen, context = found
                collector.switch_context(context)
        except Exception:  # noqa: BLE001, S110 - it would end coverage.py's measuring
            pass

    look(None)
    # For threads that are traced already, and for those to come.
    collector.should_start_context = look
    for tracer in collector.tracers:
        tracer.should_start_context = look
    return True
