"""How a combine tells how far it is; who shows it is not its business."""

from __future__ import annotations

from typing import Protocol


class OnProgress(Protocol):
    """Called as a combine goes on, from the thread that called `combine`."""

    def __call__(self, done: int, total: int, /) -> None:
        """Take note of how far it is.

        Args:
            done: How many files have been read; never fewer than the last time.
            total: How many there are; it may grow while processes still write.
        """
