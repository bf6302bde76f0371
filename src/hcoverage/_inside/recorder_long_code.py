"""Records the lines of long code objects before Python 3.14: instruction by instruction.

There, a LINE event searches the code object's line table from its beginning. An INSTRUCTION event
searches nothing: its offset is marked, and the line table is written beside the marks once, so that
the reader finds the lines. ``recorder`` loads this, from beside itself and under its own name, so
that both can be copied together. Like the recorder it is a guest: it takes no lock, prints nothing,
and lets no exception of its own reach the application.
"""

import sys

# Functions look builtins up in this copy, which stays as it is when the application replaces some.
if "__hcoverage__" not in __builtins__:  # type: ignore[operator, used-before-def]
    __builtins__ = {**__builtins__, "__hcoverage__": True}  # type: ignore[assignment, dict-item]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType
    from typing import Any, Final

    from hcoverage._inside.recorder import Recorder
    from hcoverage._inside.recorder_writer import Marks

CODE_KIND: "Final" = b"CODE"

# RESUME, END_FOR, END_SEND and END_ASYNC_FOR, for which CPython sends no line events
# (`initialize_lines` in instrumentation.c). As numbers: by then the application may have made the
# standard library unreadable, by giving up its privileges or its root directory.
_NO_LINE_STARTS: "Final" = (151, 4, 5, 54) if sys.version_info < (3, 13) else (149, 11, 12, 10)

# CO_GENERATOR, CO_COROUTINE and CO_ASYNC_GENERATOR, see the `inspect` module.
_GENERATORS: "Final" = 0x20 | 0x80 | 0x200

# The code objects with instruction events, by their line tables.
_owners: "dict[bytes, CodeType]" = {}


def watch(
    monitoring: "Any", tool: int, second: "int | None", code: "CodeType", recorder: "Recorder"
) -> bool:
    """Enable instruction events in a code object, whatever traces it later.

    Before Python 3.14, CPython notes which tool wants an instruction only once there are two tools,
    and then forgets the first (`update_instrumentation_data` in `instrumentation.c` sets
    `per_instruction_tools` to zero). `sys.settrace` is such a second tool, in code that it traces.
    So we use two from the beginning, the second for an event that this code has seldom or never.

    Args:
        monitoring: `sys.monitoring`.
        tool: Our tool id.
        second: Another tool id that is ours for now, or None; it is given back.
        code: The code object.
        recorder: Has the room for the marks.

    Returns:
        Whether the events are enabled. If not, there is no second tool, or another code object
        with the same line table has taken its place.

    Raises:
        OSError: There is no room on the disk, or the directory cannot be written to.
        OverflowError: The code object says that it begins in a line below zero.
        ValueError: The tool id is not in use.
    """
    events = monitoring.events
    try:
        if second is None or _owners.setdefault(code.co_linetable, code) is not code:
            return False
        room(recorder, code)
        rare = events.STOP_ITERATION if code.co_flags & _GENERATORS else events.PY_YIELD
        monitoring.set_local_events(second, code, rare)
        monitoring.set_local_events(tool, code, rare | events.INSTRUCTION)
        monitoring.set_local_events(second, code, 0)
    finally:
        if second is not None:
            monitoring.free_tool_id(second)
    return True


def room(recorder: "Recorder", code: "CodeType") -> "Marks":
    """Make room for the marks of a code object, if it has none yet.

    Returns:
        The marks of instructions, by offset.

    Raises:
        OSError: There is no room on the disk, or the directory cannot be written to.
        OverflowError: The code object says that it begins in a line below zero.
    """
    table = code.co_linetable
    marks = recorder.instructions.get(table)
    if marks is None:
        instructions = code.co_code
        without_line = _offsets_without_line(instructions)
        numbers = (len(table), len(without_line), *without_line)
        segment, position = recorder.writer.add_record(
            CODE_KIND,
            recorder.sources[code.co_filename],
            code.co_firstlineno,
            len(instructions),
            b"".join([number.to_bytes(4, "little") for number in numbers]) + table,
        )
        marks = recorder.instructions[table] = segment.marks(position, len(instructions))
    return marks


def _offsets_without_line(instructions: bytes) -> "list[int]":
    """Return the offsets of instructions for which CPython sends no line events."""
    opcodes = instructions[::2]
    found = []
    for opcode in _NO_LINE_STARTS:
        place = opcodes.find(opcode)
        while place >= 0:
            found.append(2 * place)
            place = opcodes.find(opcode, place + 1)
    return found
