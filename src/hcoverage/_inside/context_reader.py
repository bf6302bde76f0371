"""Reads which test is running, from the file that pytest's process writes.

It runs in measured processes, from a copy in the startup directory, and only if a run has contexts.
It stands alone, and nothing in it is newer than Python 3.8. ``_session.context_file`` writes the
file and describes its format. The file lies in the data directory, so it is not trusted: its size
and checksum must be right, and its text is cut to a maximum length.
"""

import sys
from mmap import PROT_READ, mmap as map_file
from posix import O_CLOEXEC, O_NOFOLLOW, O_NONBLOCK, O_RDONLY, close, dup, fstat, open as open_file

# Functions look builtins up in this copy, which stays as it is when the application replaces some.
if "__hcoverage__" not in __builtins__:  # type: ignore[operator, used-before-def]
    __builtins__ = {**__builtins__, "__hcoverage__": True}  # type: ignore[assignment, dict-item]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final, Optional

SIZE: "Final" = 4096
TEXT_AT: "Final" = 16
PRIME: "Final" = 65521

_STANDARD_ERROR: "Final" = 2
_FILE_TYPE: "Final" = 0o170000
_REGULAR_FILE: "Final" = 0o100000


class ContextReader:
    """The mapped file: its content is visible at once, without a system call.

    Attributes:
        numbers: Its first item changes whenever the file's content does.
    """

    def __init__(self, path: str) -> None:
        """Map the file.

        Raises:
            OSError, ValueError: It is missing, or not a context file.
        """
        self._content = memoryview(_map(path))
        self.numbers = self._content.cast("Q")

    def read(self) -> "Optional[tuple[int, str]]":
        """Return the file's change number, and the name of the test or an empty string.

        Returns:
            None while the file is being written.
        """
        content = self._content
        number = self.numbers[0]
        length = int.from_bytes(content[8:12], "little")
        text = bytes(content[TEXT_AT : TEXT_AT + length])
        check = int.from_bytes(content[12:16], "little")
        if number % 2 or self.numbers[0] != number or check != remainder(text):
            return None
        return number, text.decode("utf-8", "replace")


def remainder(text: bytes) -> int:
    """Return a text's checksum, which differs for another text, or for a part of it."""
    return int.from_bytes(text + b"\1", "little") % PRIME


def _map(path: str) -> "map_file":
    # O_NONBLOCK: a FIFO put here must not stop the application.
    descriptor = open_file(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)
    taken = [descriptor]
    try:
        status = fstat(descriptor)
        if status.st_mode & _FILE_TYPE != _REGULAR_FILE or status.st_size != SIZE:
            raise ValueError("no file of contexts")
        if sys.version_info >= (3, 13):
            return map_file(descriptor, SIZE, prot=PROT_READ, trackfd=False)
        # The duplicate that is kept must not become one of the standard streams.
        while taken[-1] < _STANDARD_ERROR:
            taken.append(dup(descriptor))
        return map_file(descriptor, SIZE, prot=PROT_READ)
    finally:
        for number in taken:
            close(number)
