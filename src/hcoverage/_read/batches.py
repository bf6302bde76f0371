"""Have files read in batches: here, or where there is enough to do by processes on all CPUs.

Starting and serving those is left to ``worker_pool``, which is loaded only then: with what it needs
it takes as long as merging a few files.
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
# Of executors that do not tell how many workers they have.
_BATCHES: Final = 32


@contextlib.contextmanager
def default_executor(work: int, least: int) -> Iterator[WorkerPool | None]:
    """Return a pool as large as the machine, or none where the work is not worth one.

    Args:
        work: How much there is to do.
        least: From how much on processes are faster than doing it here.
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
    """Call a function over all items in batches, and give the results as they come in order.

    Args:
        function: Takes a batch, that is neighbouring items.
        items: What there is.
        executor: Who calls; None for doing it here and at once.
        lost: Told of an item that ended the process that it was handled in.

    Raises:
        Exception: Whatever an executor of the caller's fails with.
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
    """Find which items end a process, so that they do not cost the others."""
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
