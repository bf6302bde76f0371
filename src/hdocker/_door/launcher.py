"""The proxy's process: waits for the first client, and has a child serve it and all others.

Run as a program by `opening`, beside the measured command, in a session of its own: what a terminal
sends is not for it. Until a client comes it has loaded next to nothing. The child does the work;
should it end before the run does, what its clients lost is told, and the next one gets a new child.
Throughout it writes down what engines say of their containers, which is read at the end (`past`).
"""

import os
import select
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

_SOME: "Final" = 1 << 16  # bytes


def main() -> None:
    """Wait for clients until the run ends.

    The arguments are the descriptors of the listening socket and of a pipe that can be read when
    the run ends, those of what is to be copied (`FROM:TO`, by commas), the directory of the
    package, and what `Door.of_words` takes.
    """
    listener, ending, copied, package, *words = sys.argv[1:]
    pairs = (pair.split(":") for pair in copied.split(",") if pair)
    waiting = _Waiting(int(ending), {int(source): int(target) for source, target in pairs})
    while waiting.wait_for(int(listener)):
        gone, going = os.pipe()
        child = os.fork()
        if not child:
            os.close(gone)
            waiting.close()
            _proxy(package).serve(int(listener), int(ending), words)
            os._exit(0)
        os.close(going)
        if not waiting.wait_for(gone):
            waiting.close()
        os.close(gone)
        status = os.waitpid(child, 0)[1]
        if status and not _has_ended(int(ending)):
            _proxy(package).tell_end(status, words)
    if not os.read(int(ending), 1):
        _remove_socket(int(listener))


class _Waiting:
    """Waits for what happens, and copies meanwhile what comes."""

    def __init__(self, ending: int, copies: "dict[int, int]") -> None:
        self._ending = ending
        self._copies = copies

    def wait_for(self, descriptor: int) -> bool:
        """Wait until something can be read; tell whether that was so before the run has ended."""
        while True:
            ready = self._poll([descriptor, self._ending])
            if self._ending in ready:
                while self._poll([], patience=0):
                    pass
                return False
            if descriptor in ready:
                return True

    def _poll(self, descriptors: "list[int]", patience: "int | None" = None) -> "list[int]":
        waiting = select.poll()
        for each in (*descriptors, *self._copies):
            waiting.register(each, select.POLLIN)
        ready = [each for each, _ in waiting.poll(patience)]
        for source in self._copies.keys() & ready:
            self._copy(source)
        return ready

    def close(self) -> None:
        """Copy no more."""
        for source, target in self._copies.items():
            os.close(source)
            os.close(target)
        self._copies = {}

    def _copy(self, source: int) -> None:
        try:
            some = os.read(source, _SOME)
            os.write(self._copies[source], some)
        except OSError:  # the engine has gone, or there is no room
            some = b""
        if not some:
            os.close(source)
            os.close(self._copies.pop(source))


def _remove_socket(listener: int) -> None:
    """Do what a run does that was not killed."""
    import socket

    path = socket.socket(fileno=listener).getsockname()
    try:
        os.unlink(path)
        os.rmdir(os.path.dirname(path))
    except OSError:
        pass


def _has_ended(ending: int) -> bool:
    return bool(select.select([ending], [], [], 0)[0])


def _proxy(package: str) -> "Any":  # noqa: ANN401 - a module
    """Load it without the package's `__init__`, which takes longer than a container to be made."""
    if "hdocker" not in sys.modules:
        parent = type(sys)("hdocker")
        parent.__path__ = [package]
        sys.modules["hdocker"] = parent
        # What hcoverage and this package are found by.
        sys.path.append(os.path.dirname(package))
    from hdocker._door import proxy

    return proxy


if __name__ == "__main__":
    main()
