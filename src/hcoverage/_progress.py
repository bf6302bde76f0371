"""The callback by which combining reports its progress."""

from __future__ import annotations

from typing import Protocol


class OnProgress(Protocol):
    """Called while combining goes on, in the thread that called `combine`."""

    def __call__(self, done: int, total: int, /) -> None:
        """Report the progress.

        Args:
            done: How many files have been read; never fewer than in the last call.
            total: How many files there are; it may grow while processes still write.
        """
