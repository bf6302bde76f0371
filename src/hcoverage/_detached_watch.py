"""Watch which Pythons this process starts, from a process that is none of its children.

For pytest: a thread in the process that runs the tests would be noticed, since Python warns of a
fork where there are threads, and so would a child, which `os.wait()` waits for. What is looked at
is `_watch`'s.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import select
import subprocess
import sys
from typing import TYPE_CHECKING, BinaryIO, Final, Self

from hcoverage._environment import unmeasured_environment
from hcoverage._watch import PythonWatch

if TYPE_CHECKING:
    from types import TracebackType

    from hcoverage._watch import SeenPython

# A child of a process that has ended, in a session of its own, which Ctrl-C does not reach.
_PROGRAM: Final = """\
import os, sys
starter = os.getpid()
if os.fork():
    os._exit(0)
os.setsid()
import json
sys.path[:] = json.loads(sys.argv[2])
from hcoverage._detached_watch import _serve
_serve(int(sys.argv[1]), starter)
"""
_READY: Final = b"!"


class DetachedWatch:
    """A process that watches this one, until this one asks what it has seen, or ends.

    It watches already when it has been made. Without /proc there is none, and nothing is seen.

    Raises:
        OSError: It cannot be started.
    """

    def __init__(self) -> None:
        self._ask = -1
        self._answer: BinaryIO | None = None
        if not os.path.exists(f"/proc/{os.getpid()}/stat") or not sys.executable:  # noqa: PTH110
            return
        question, self._ask = os.pipe()
        said, answer = os.pipe()
        self._answer = os.fdopen(said, "rb", 0)
        command = [sys.executable, "-I", "-S", "-c", _PROGRAM, str(os.getpid())]
        try:
            subprocess.run(
                [*command, json.dumps(sys.path)],
                stdin=question,
                stdout=answer,
                stderr=subprocess.DEVNULL,
                env=unmeasured_environment(os.environ),
                check=False,
            )
        except OSError:
            self.close()
            raise
        finally:
            os.close(question)
            os.close(answer)
        self._answer.read(len(_READY))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def seen(self) -> list[SeenPython]:
        """Give the Pythons that were seen, this one among them, and end the watch."""
        if self._answer is None:
            return []
        # Not by closing it, which is no end of file while a fork of this process runs.
        with contextlib.suppress(BrokenPipeError):  # somebody has killed it
            os.write(self._ask, b"?")
        said = self._answer.read()
        self.close()
        return pickle.loads(said) if said else []  # noqa: S301 - from our own process

    def close(self) -> None:
        """End the watch."""
        if self._answer is not None:
            self._answer.close()
            os.close(self._ask)
        self._answer = None


def _serve(root: int, starter: int) -> None:
    """Watch a process until it asks, or is gone; what the watching process runs."""
    watch = PythonWatch(root, others=(starter, os.getpid()))
    question, answer = sys.stdin.fileno(), sys.stdout.buffer
    pause = watch.look(root)
    os.write(answer.fileno(), _READY)
    is_asked = False
    while not is_asked and os.path.exists(f"/proc/{root}"):  # noqa: PTH110 - often
        is_asked = question in select.select([question, *watch.descriptors], [], [], pause)[0]
        pause = watch.look(root)
    if os.read(question, 1) if is_asked else b"":
        pickle.dump(watch.seen(), answer)
        answer.flush()
    os._exit(0)
