"""Reads files in batches: in this process, or, if there is enough work, in processes on all CPUs.

``worker_pool`` starts these and talks to them. It is imported only then: with its own imports, that
takes as long as merging a few files.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Executor

    from hcoverage._read.worker_pool import WorkerPool

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_BATCHES_PER_WORKER: Final = 2
# For executors that do not tell how many workers they have.
_BATCHES: Final = 32


@contextlib.contextmanager
def default_executor(work: int, least: int) -> Iterator[WorkerPool | None]:
    """Yield a pool with a worker for each CPU, or None if the work is not worth one.

    Args:
        work: The amount of work.
        least: The amount from which on a pool is faster than this process alone.
    """
    workers = _cpus()
    if work < least or workers == 1 or not sys.executable:
        yield None
        return
    from hcoverage._read.worker_pool import WorkerPool  # noqa: PLC0415 - most need none

    with WorkerPool(workers) as pool:
        yield pool


def run_batches(
    function: Callable[[Sequence[_Item]], _Result],
    items: Sequence[_Item],
    executor: Executor | None,
    lost: Callable[[_Item], None],
) -> Iterator[_Result]:
    """Call a function for all items in batches, and yield the results in order.

    Args:
        function: Takes a batch, which is a run of neighbouring items.
        items: The items.
        executor: Makes the calls; None to call in this process.
        lost: Called with each item that ended its worker process.

    Raises:
        Exception: Any error of the caller's own executor.
    """
    if executor is None:
        if items:
            yield function(items)
        return
    from hcoverage._read.worker_pool import WorkerDiedError, WorkerPool  # noqa: PLC0415 - as above

    own = isinstance(executor, WorkerPool)
    batches = (
        executor.workers * _BATCHES_PER_WORKER if isinstance(executor, WorkerPool) else _BATCHES
    )
    size = max(1, -(-len(items) // batches))
    futures = [
        (batch, executor.submit(function, batch))
        for batch in (items[start : start + size] for start in range(0, len(items), size))
    ]
    for batch, future in futures:
        try:
            yield future.result()
        except WorkerDiedError:
            if not own:
                raise
            yield from _one_by_one(function, batch, executor, lost)


def _one_by_one(
    function: Callable[[Sequence[_Item]], _Result],
    batch: Sequence[_Item],
    executor: Executor,
    lost: Callable[[_Item], None],
) -> Iterator[_Result]:
    """Find the items that end a process, so that the other items are not lost with them."""
    from hcoverage._read.worker_pool import WorkerDiedError  # noqa: PLC0415 - as above

    for item in batch:
        try:
            yield executor.submit(function, [item]).result()
        except WorkerDiedError:
            lost(item)


def _cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
