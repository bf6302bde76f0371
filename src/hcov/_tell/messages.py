"""Messages: hcov's own words go to stderr, under its name, so that stdout is the command's.

Inside pytest there is one place for all words, its terminal: `written_by` has them go there.
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
    """Print a message for the person who runs hcov; names in it may come from anywhere."""
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
    """Have somebody else write messages and reports for the length of a `with` block."""
    token = _WRITE.set(write)
    try:
        yield
    finally:
        _WRITE.reset(token)


def writer() -> Callable[[str], object] | None:
    """Return who writes messages and reports; None for stderr and stdout."""
    return _WRITE.get()


def message_of(error: Exception) -> str:
    """Return the error's text, its first line ending in the slug of the page that explains it.

    Of an OSError raised with errno and message it is the message alone.
    """
    text, slug = str(error), hcoverage.slug_of(error)
    if slug == hcoverage.Page.MISSING_MODULE:
        text += ": install hcoverage again, with what it depends on"
    if isinstance(error, OSError) and error.filename is None and error.strerror:
        text = error.strerror
    return hcoverage.with_slug(text, slug)
