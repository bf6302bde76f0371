"""A progress bar for long work, if a person is watching; otherwise nothing."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from click._termui_impl import ProgressBar

    import hcoverage

# Seconds: shorter work is over before anybody could read the bar.
_PATIENCE: Final = 1.0


@contextlib.contextmanager
def progress_bar(label: str) -> Iterator[hcoverage.OnProgress | None]:
    """Show progress on stderr for the length of a `with` block, once it has taken a second.

    Args:
        label: The text before the bar.

    Returns:
        The `on_progress` for `hcoverage.combine`, or None if stderr is not a terminal.
    """
    if not sys.stderr.isatty():
        yield None
        return
    with contextlib.ExitStack() as stack:
        yield _Progress(label, stack)


class _Progress:
    def __init__(self, label: str, stack: contextlib.ExitStack) -> None:
        self._label = label
        self._stack = stack
        self._started = time.monotonic()
        self._bar: ProgressBar[int] | None = None

    def __call__(self, done: int, total: int, /) -> None:
        if self._bar is None:
            if time.monotonic() - self._started < _PATIENCE or done == total:
                return
            from click import progressbar  # noqa: PLC0415 - most merges are over before it is shown

            self._bar = self._stack.enter_context(
                progressbar(length=total, label=f"hcov: {self._label}", file=sys.stderr)
            )
        self._bar.length = total
        self._bar.update(max(0, done - self._bar.pos))
