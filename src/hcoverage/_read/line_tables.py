"""Reads CPython's line tables: which line each instruction of a code object belongs to.

The result is that of `code.co_lines`, for tables of Python 3.11 and later, whatever Python reads
them. CPython's ``Objects/locations.md`` describes the format. Tables come from recordings, which
anybody may have written, so they are not given to CPython itself, which does not check them.
"""

from __future__ import annotations

import re
from typing import Final

_ENTRY: Final = rb"[\x80-\xff][\x00-\x7f]*"
_BEGINNING: Final = 0x80  # set in the first byte of an entry and in no other
_NO_LOCATION: Final = 15
_FIRST_WITH_LINE_DELTA: Final = 13
_FIRST_WITH_SMALL_DELTA: Final = 10
_LONGEST_NUMBER: Final = 6  # of six bits each, more than CPython's own 32 bits


def lines_of_instructions(table: bytes, first: int, count: int) -> tuple[int | None, ...]:
    """Return the line of each code unit, which has two bytes.

    Args:
        table: The code object's ``co_linetable``.
        first: Its ``co_firstlineno``.
        count: How many code units it has.

    Returns:
        Line numbers; None for units without a line, or beyond the end of the table, since programs
        can make code objects with any table.

    Raises:
        ValueError: It is no such table.
    """
    lines: list[int | None] = []
    line = first
    if table and table[0] < _BEGINNING:
        raise ValueError("a line table that begins in the middle of an entry")
    for entry in re.findall(_ENTRY, table):
        kind = entry[0] >> 3 & 15
        if kind in (_FIRST_WITH_LINE_DELTA, _FIRST_WITH_LINE_DELTA + 1):
            line += _signed_number(entry)
        elif _FIRST_WITH_SMALL_DELTA <= kind < _FIRST_WITH_LINE_DELTA:
            line += kind - _FIRST_WITH_SMALL_DELTA
        lines += [None if kind == _NO_LOCATION else line] * ((entry[0] & 7) + 1)
        if len(lines) >= count:
            break
    lines += [None] * (count - len(lines))
    return tuple(lines[:count])


def _signed_number(entry: bytes) -> int:
    """Return an entry's first number: six-bit groups, least first; the lowest bit is the sign."""
    number = 0
    for place, byte in enumerate(entry[1 : 1 + _LONGEST_NUMBER]):
        number |= (byte & 0x3F) << 6 * place
        if not byte & 0x40:
            return -(number >> 1) if number & 1 else number >> 1
    raise ValueError("a number in a line table that does not end")
