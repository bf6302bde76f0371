"""Watches which Pythons this process starts, from a process that is not its child.

This is for pytest. The tests would notice a thread in their process, since Python warns when a
process with threads forks, and a child, since `os.wait()` waits for it. Nor is it a fork of their
process, which would have to copy each page of memory that it writes to from then on: it is another
Python that loads next to nothing (`serve`), and starts while the session is prepared.
"""

from __future__ import annotations

import contextlib
import marshal
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, Self

from hcoverage._settings.environment import unmeasured_environment
from hcoverage._watch.seen_python import SeenPython

if TYPE_CHECKING:
    from types import TracebackType

# Its parent ends at once, in a session of its own, so that Ctrl-C does not reach the watch.
_PROGRAM: Final = """\
import os, sys
starter = os.getpid()
if os.fork():
    os._exit(0)
sys.path.append(sys.argv[2])
from hcoverage._watch.serve import serve
serve(int(sys.argv[1]), starter)
"""
_ABOVE: Final = Path(__file__).parents[2]


class DetachedWatch:
    """A process that watches this one, until this one asks for the result, or ends.

    The constructor starts it; it is watching once the `with` block is entered. Without /proc
    nothing is watched.

    Attributes:
        is_lost: Whether `seen` got no answer: it could not start watching, or was killed.

    Raises:
        OSError: The process cannot be started.
    """

    def __init__(self) -> None:
        self._starter: subprocess.Popen[bytes] | None = None
        self._ask = -1
        self._answer: BinaryIO | None = None
        self.is_lost = False
        if not os.path.exists(f"/proc/{os.getpid()}/stat") or not sys.executable:  # noqa: PTH110
            return
        question, self._ask = os.pipe()
        said, answer = os.pipe()
        self._answer = os.fdopen(said, "rb", 0)
        try:
            self._starter = _start(question, answer)
        except OSError:
            self.close()
            raise
        finally:
            os.close(question)
            os.close(answer)

    def __enter__(self) -> Self:
        self._reap_starter()
        if self._answer is not None:
            self._answer.read(1)
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
        self.is_lost = not said
        self.close()
        return [SeenPython(*facts) for facts in marshal.loads(said)] if said else []  # noqa: S302 - from our own process

    def close(self) -> None:
        """End the watch."""
        self._reap_starter()
        if self._answer is not None:
            self._answer.close()
            os.close(self._ask)
        self._answer = None

    def _reap_starter(self) -> None:
        if self._starter is not None:
            self._starter.wait()
        self._starter = None


def _start(question: int, answer: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-I", "-S", f"-Xutf8={sys.flags.utf8_mode}"]
    if sys.dont_write_bytecode:
        command.append("-B")
    return subprocess.Popen(
        [*command, "-c", _PROGRAM, str(os.getpid()), str(_ABOVE)],
        stdin=question,
        stdout=answer,
        stderr=subprocess.DEVNULL,
        env=unmeasured_environment(os.environ),
        start_new_session=True,
    )
