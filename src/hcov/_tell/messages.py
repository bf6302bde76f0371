"""Messages: hcov's own lines go to stderr, with its name, so that stdout belongs to the command.

Inside pytest all output goes to pytest's terminal: `written_by` redirects it there.
"""

from __future__ import annotations

import contextlib
import contextvars
import sys
from typing import TYPE_CHECKING, Final

import hcoverage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_WRITE: Final[contextvars.ContextVar[Callable[[str], object] | None]] = contextvars.ContextVar(
    "write", default=None
)


def tell(message: str) -> None:
    """Print a message for the user; names in it may come from anywhere."""
    lines = [hcoverage.printable(line) for line in message.split("\n")]
    text = "\n".join([f"hcov: {lines[0]}", *lines[1:]])
    write = _WRITE.get()
    if write is None:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
    else:
        write(f"{text}\n")


@contextlib.contextmanager
def written_by(write: Callable[[str], object]) -> Iterator[None]:
    """Send messages and reports to a function for the length of a `with` block."""
    token = _WRITE.set(write)
    try:
        yield
    finally:
        _WRITE.reset(token)


def writer() -> Callable[[str], object] | None:
    """Return the function that writes messages and reports; None for stderr and stdout."""
    return _WRITE.get()


def message_of(error: Exception) -> str:
    """Return an error's text, with the slug of its page at the end of the first line.

    For an OSError raised with errno and message, the text is the message alone.
    """
    text, slug = str(error), hcoverage.slug_of(error)
    if slug == hcoverage.Page.MISSING_MODULE:
        text += ": install hcoverage again, with what it depends on"
    if isinstance(error, OSError) and error.filename is None and error.strerror:
        text = error.strerror
    return hcoverage.with_slug(text, slug)
