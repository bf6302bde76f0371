"""Watches a process until it asks for the result, or is gone: the other end of `detached`."""

from __future__ import annotations

import marshal
import os
import select

from hcoverage._watch.watch import PythonWatch

_QUESTION, _ANSWER = 0, 1  # the standard streams


def serve(root: int, starter: int) -> None:
    """Watch a process, and say so; once it asks, answer with all that was seen.

    Args:
        root: The process.
        starter: Its child that has started this one.
    """
    watch = PythonWatch(root, others=(starter, os.getpid()))
    pause = watch.look(root)
    os.write(_ANSWER, b"!")
    is_asked = False
    while not is_asked and os.path.exists(f"/proc/{root}"):
        is_asked = _QUESTION in select.select([_QUESTION, *watch.descriptors], [], [], pause)[0]
        pause = watch.look(root)
    if is_asked and os.read(_QUESTION, 1):
        with os.fdopen(_ANSWER, "wb") as file:
            marshal.dump(watch.facts(), file)
    os._exit(0)
