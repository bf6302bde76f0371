"""Has what coverage.py measures in a process attributed to the test that is running.

Loaded by ``process`` where a run has contexts and coverage.py measures. Its tracers ask at each
start of a function whether that begins a context, as dynamic contexts need it; here the answer is
always no, but it is looked whether the test is another one (``context_reader``), and coverage.py
is told so in the thread that is traced, as it does itself. What other threads run in the moment in
which coverage.py empties what it has counted may be lost, as with its own dynamic contexts.

Runs from a copy in the startup directory: it stands alone, and nothing in it is newer than 3.8.
"""

# Functions look builtins up here: in what they are now, whatever becomes of them.
if "__hcoverage__" not in __builtins__:  # type: ignore[operator, used-before-def]
    __builtins__ = {**__builtins__, "__hcoverage__": True}  # type: ignore[assignment, dict-item]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any, Optional

    from hcoverage._inside.context_reader import ContextReader


def follow(measuring: "Any", reader: "Optional[ContextReader]", text: str, autosave: "Any") -> None:
    """Attribute what this process runs, from now on.

    Args:
        measuring: The coverage.py that measures it.
        reader: What is followed; None where there is nothing to follow.
        text: The context for as long as the process runs, where nothing is followed.
        autosave: What saves its data while it runs.
    """
    collector = measuring._collector
    if collector.should_start_context is not None:
        return  # The rcfile's own dynamic_context.
    if reader is None:
        collector.switch_context(text)
        return
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
