"""Watches which Pythons this process starts, from a process that is not its child.

This is for pytest. The tests would notice a thread in their process, since Python warns when a
process with threads forks, and a child, since `os.wait()` waits for it. While this process has one
thread, it is forked, which takes a tenth of the start of another Python. `watch` does the watching.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import json
import os
import pickle
import select
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, BinaryIO, Final, Self

from hcoverage._settings.environment import unmeasured_environment
from hcoverage._watch.watch import PythonWatch

if TYPE_CHECKING:
    from types import TracebackType

    from hcoverage._watch.watch import SeenPython

# Its parent ends at once, and it has a session of its own, so that Ctrl-C does not reach it.
_PROGRAM: Final = """\
import os, sys
starter = os.getpid()
if os.fork():
    os._exit(0)
os.setsid()
import json
sys.path[:] = json.loads(sys.argv[2])
from hcoverage._watch.detached import _serve
_serve(int(sys.argv[1]), starter)
"""
_READY: Final = b"!"
_ABOVE: Final = 100


class DetachedWatch:
    """A process that watches this one, until this one asks for the result, or ends.

    It is already watching when the constructor returns. Without /proc nothing is watched.

    Raises:
        OSError: The process cannot be started.
    """

    def __init__(self) -> None:
        self._ask = -1
        self._answer: BinaryIO | None = None
        if not os.path.exists(f"/proc/{os.getpid()}/stat") or not sys.executable:  # noqa: PTH110
            return
        question, self._ask = os.pipe()
        said, answer = os.pipe()
        self._answer = os.fdopen(said, "rb", 0)
        try:
            if _has_one_thread():
                _fork(question, answer)
            else:
                _start_another(question, answer)
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
        """End the watch; return the Pythons that were seen, including this one."""
        if self._answer is None:
            return []
        # Closing the pipe would not do: a running fork of this process keeps it open.
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


def _has_one_thread() -> bool:
    try:
        return len(os.listdir("/proc/self/task")) == 1  # noqa: PTH208 - of any kind
    except OSError:
        return False


def _fork(question: int, answer: int) -> None:
    """Watch in a fork of this process that keeps only the two descriptors."""
    root = os.getpid()
    # Signals that arrive meanwhile are meant for this process.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        starter = os.fork()
        if not starter:
            _become_the_watch(question, answer, root)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    os.waitpid(starter, 0)


def _become_the_watch(question: int, answer: int, root: int) -> None:
    try:
        starter = os.getpid()
        if os.fork():
            os._exit(0)
        os.setsid()
        for signum in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(signum, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, set())
        gc.freeze()  # to collect what it has of the other process would copy all of that
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream, descriptor in enumerate((question, answer, nowhere)):
            # First to high numbers: one descriptor may have another's final number.
            os.dup2(fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _ABOVE + 3), _ABOVE + stream)
        for stream in range(3):
            os.dup2(_ABOVE + stream, stream)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        _serve(root, starter)
    finally:
        # The fork must do nothing else that this process would do.
        os._exit(1)


def _start_another(question: int, answer: int) -> None:
    command = [sys.executable, "-I", "-S", "-c", _PROGRAM, str(os.getpid())]
    subprocess.run(
        [*command, json.dumps(sys.path)],
        stdin=question,
        stdout=answer,
        stderr=subprocess.DEVNULL,
        env=unmeasured_environment(os.environ),
        check=False,
    )


def _serve(root: int, starter: int) -> None:
    """Watch a process until it asks or is gone; the watching process runs this."""
    watch = PythonWatch(root, others=(starter, os.getpid()))
    question, answer = 0, 1
    pause = watch.look(root)
    os.write(answer, _READY)
    is_asked = False
    while not is_asked and os.path.exists(f"/proc/{root}"):  # noqa: PTH110 - often
        is_asked = question in select.select([question, *watch.descriptors], [], [], pause)[0]
        pause = watch.look(root)
    if os.read(question, 1) if is_asked else b"":
        with os.fdopen(answer, "wb") as file:
            pickle.dump(watch.seen(), file)
    os._exit(0)
