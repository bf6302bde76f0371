"""Publishes which test is running to the processes and containers that already run.

The file lies in the data directory, where containers see it too. Processes that follow it map it
into memory (`_inside.context_reader`), so that they see a change at no cost and without a call.

It has 4096 bytes. In this order: a number (8 bytes) that grows with each change and is odd while
the rest is being written; the length of the text (4); a checksum (4), which is the text and a byte
of 1, taken as one integer, modulo 65521; the text in UTF-8. All integers are little-endian.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from pathlib import Path
from typing import Final

from hcoverage._data_directory.names import CONTEXT_SUFFIX
from hcoverage._inside.context_reader import SIZE, TEXT_AT, ContextReader, remainder
from hcoverage._printable import printable

# Test names can have any length, but must fit into the environment as well.
_LONGEST: Final = 2000
_CUT: Final = "..."


def context_of(name: str) -> str:
    """Return the context for a test's name: printable, and cut if it is very long."""
    text = printable(name)
    encoded = text.encode()
    if len(encoded) <= _LONGEST:
        return text
    return encoded[:_LONGEST].decode(errors="ignore") + _CUT


def read_context(path: Path) -> str:
    """Read from a context file what is running now; return an empty text if it cannot be read."""
    try:
        found = ContextReader(str(path)).read()
    except (OSError, ValueError):
        return ""
    return found[1] if found else ""


class ContextFile:
    """A file that tells which test is running.

    Attributes:
        path: Where it is.
    """

    def __init__(self, path: Path) -> None:
        """Open an existing file for publishing.

        Raises:
            OSError: The file is missing, or may not be written.
            ValueError: It is not a context file.
        """
        self.path = path
        # Containers write into this directory: the name may be a link or a FIFO.
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            self._memory = mmap.mmap(descriptor, SIZE)
        finally:
            os.close(descriptor)
        self._content = memoryview(self._memory)
        self._numbers = self._content.cast("Q")
        self._number = self._numbers[0] & ~1

    @classmethod
    def made(cls, data_dir: Path) -> ContextFile:
        """Create the file in a data directory.

        Raises:
            OSError: The file cannot be written.
        """
        descriptor, name = tempfile.mkstemp(dir=data_dir, prefix="test.", suffix=CONTEXT_SUFFIX)
        try:
            os.fchmod(descriptor, 0o644)  # containers have other users
            os.pwrite(descriptor, bytes(SIZE), 0)
        finally:
            os.close(descriptor)
        return cls(Path(name))

    def publish(self, text: str) -> None:
        """Publish what is running now.

        Args:
            text: A context, as `context_of` returns it; empty for none.
        """
        encoded = text.encode()
        facts = len(encoded).to_bytes(4, "little") + remainder(encoded).to_bytes(4, "little")
        self._numbers[0] = self._number + 1
        self._content[8:TEXT_AT] = facts
        self._content[TEXT_AT : TEXT_AT + len(encoded)] = encoded
        self._number += 2
        self._numbers[0] = self._number

    def remove(self) -> None:
        """Remove the file; processes that follow it keep what they saw last."""
        self.path.unlink(missing_ok=True)
