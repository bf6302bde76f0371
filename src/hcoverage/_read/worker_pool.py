"""Calls functions on all CPUs, in worker processes that are never measured.

This is not `concurrent.futures.ProcessPoolExecutor`: forked workers would be forks of a program
with threads, and measured like it; spawned ones would run the caller's main module again, which
breaks a script without a guard. Our workers are separate Pythons that only serve calls.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import queue
import subprocess
import sys
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, TypeVar

from hcoverage._settings.environment import unmeasured_environment

if TYPE_CHECKING:
    from collections.abc import Callable

_Result = TypeVar("_Result")

_PROGRAM: Final = """\
import json, sys
sys.path[:] = json.loads(sys.argv.pop())
from hcoverage._read.worker import serve
serve()
"""


class WorkerDiedError(BrokenExecutor):
    """The worker of a call is gone; the pool starts another one for the next call."""


class WorkerPool(Executor):
    """An executor over processes of this interpreter.

    Args:
        workers: How many processes to start; they start at once, to be ready early.
    """

    def __init__(self, workers: int) -> None:
        self.workers: Final = workers
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="hcoverage-worker")
        self._idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        for _ in range(workers):
            self._idle.put(_Worker())

    def submit(
        self,
        fn: Callable[..., _Result],
        /,
        *args: Any,  # noqa: ANN401 - whatever the function takes
        **kwargs: Any,  # noqa: ANN401
    ) -> Future[_Result]:
        """Let a worker call a function that it can import, with arguments that can be pickled."""
        return self._threads.submit(self._call, fn, args, kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002
        """End the workers after their current calls."""
        self._threads.shutdown(wait=wait, cancel_futures=cancel_futures)
        for _ in range(self.workers if wait else 0):
            self._idle.get().end()

    def _call(
        self, fn: Callable[..., _Result], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:  # noqa: ANN401
        worker = self._idle.get()
        try:
            succeeded, result = worker.call((fn, args, kwargs))
        except (OSError, EOFError, pickle.UnpicklingError) as error:
            worker.end()
            self._idle.put(_Worker())
            raise WorkerDiedError(f"a worker process ended with {worker.status}") from error
        except BaseException:
            # Half-sent or half-received bytes would be taken for the next call's.
            worker.end()
            self._idle.put(_Worker())
            raise
        self._idle.put(worker)
        if not succeeded:
            raise result
        return result


class _Worker:
    """One process, and the pipes to it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, json.dumps(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=unmeasured_environment(os.environ),
        )

    @property
    def status(self) -> int | None:
        return self._process.returncode

    def call(self, what: tuple[Any, ...]) -> tuple[bool, Any]:
        assert self._process.stdin is not None  # noqa: S101 - for the type
        assert self._process.stdout is not None  # noqa: S101
        pickle.dump(what, self._process.stdin)
        self._process.stdin.flush()
        succeeded, result = pickle.load(self._process.stdout)  # noqa: S301 - our own process
        return succeeded, result

    def end(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):  # the worker may be gone already
                    pipe.close()
        self._process.wait()
