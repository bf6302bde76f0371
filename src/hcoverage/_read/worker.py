"""The program of a worker of `worker_pool`: it imports nothing that only the pool itself needs."""

from __future__ import annotations

import gc
import os
import pickle
import signal
import sys
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def serve() -> None:
    """Answer calls until there are no more."""
    # Ctrl-C reaches the whole process group; the pool's process decides what to do.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # There are many objects here, and none is part of a cycle.
    gc.disable()
    requests, replies = sys.stdin.buffer, sys.stdout.buffer
    while True:
        try:
            fn, args, kwargs = pickle.load(requests)  # noqa: S301 - from our own parent
        except EOFError:
            os._exit(0)  # everything is flushed, and freeing large results takes time
        _reply(replies, fn, args, kwargs)


def _reply(
    replies: IO[bytes], fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    try:
        answer = (True, fn(*args, **kwargs))
    except Exception as error:  # noqa: BLE001 - it is raised where the call was made
        answer = (False, error)
    pickle.dump(answer, replies, pickle.HIGHEST_PROTOCOL)
    replies.flush()
