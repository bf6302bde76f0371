"""The proxy's process: waits for the first client, then has a child serve all clients.

`opening` runs it as a program, beside the measured command. It has a session of its own, since
signals from the terminal are not for it. Before a client comes it loads next to nothing. If the
child ends before the run, the run tells that its clients lost their connections, and the next
client gets a new child. If this process is killed, the shell that started it (`beside`) starts it
again. Meanwhile this process writes down engines' events, which `past` reads at the end. If an
engine is started again, it is asked again.
"""

import os
import select
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

_SOME: "Final" = 1 << 16  # bytes
# How the process before this one ended, in the shell's words: this number plus the signal's.
ENDED_VARIABLE: "Final" = "HCOVERAGE_ENDED_BEFORE"
_BY_SIGNAL: "Final" = 128
# Seconds between attempts to ask an engine again, at first and at most; doubled each time.
_SOON: "Final" = 0.05
_SELDOM: "Final" = 5.0


def main() -> None:
    """Wait for clients until the run ends.

    The arguments are the descriptors of the listening socket and of a pipe that can be read when
    the run ends; the streams to copy (`FROM:TO:SOCKET:REQUEST`, separated by commas, the last two
    in hexadecimal digits); the directory of the package; and what `Door.of_words` takes.
    """
    listener, ending, copied, package, *words = sys.argv[1:]
    ended_before = os.environ.pop(ENDED_VARIABLE, "")
    if ended_before:
        _proxy(package).tell_end(_BY_SIGNAL - int(ended_before), words)
    sources = [_Source(*each.split(":")) for each in copied.split(",") if each]
    waiting = _Waiting(int(ending), sources)
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
            _proxy(package).tell_end(os.waitstatus_to_exitcode(status), words)
    if not os.read(int(ending), 1):
        _remove_socket(int(listener))


class _Source:
    """A stream of an engine's events, and the file that it is copied to."""

    def __init__(self, source: str, target: str, path: str, request: str) -> None:
        self.descriptor = int(source)
        self.due = 0.0
        self._target = int(target)
        self._path = bytes.fromhex(path)
        self._request = bytes.fromhex(request)
        self._rest = _SOON

    def copy(self) -> None:
        """Copy what has come; if the engine has gone, plan to ask it again."""
        try:
            some = os.read(self.descriptor, _SOME)
        except OSError:
            some = b""
        if not some:
            os.close(self.descriptor)
            self._wait()
            return
        self._rest = _SOON
        self._write(some)

    def ask_again(self) -> None:
        """Ask the engine again, if it is back."""
        from socket import AF_UNIX, socket

        connection = socket(AF_UNIX)
        connection.settimeout(1)
        try:
            connection.connect(self._path)
            connection.sendall(self._request)
        except OSError:
            connection.close()
            self._wait()
            return
        self.descriptor = connection.detach()
        self._write(b"\n")  # A line that was cut off must not run into the next.

    def close(self) -> None:
        """Copy no more."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
        os.close(self._target)

    def _write(self, some: bytes) -> None:
        try:  # noqa: SIM105 - imports are few
            os.write(self._target, some)
        except OSError:
            pass  # The disk is full.

    def _wait(self) -> None:
        self.descriptor = -1
        self.due = time.monotonic() + self._rest
        self._rest = min(2 * self._rest, _SELDOM)


class _Waiting:
    """Waits for descriptors, and copies the streams meanwhile."""

    def __init__(self, ending: int, sources: "list[_Source]") -> None:
        self._ending = ending
        self._sources = sources

    def wait_for(self, descriptor: int) -> bool:
        """Wait until a descriptor can be read; return False if the run ends first."""
        while True:
            ready = self._poll([descriptor, self._ending])
            if self._ending in ready:
                while self._poll([], patience=0):
                    pass
                return False
            if descriptor in ready:
                return True
            self._ask_again()

    def _poll(self, descriptors: "list[int]", patience: "int | None" = None) -> "list[int]":
        waiting = select.poll()
        sources = {each.descriptor: each for each in self._sources if each.descriptor >= 0}
        for descriptor in (*descriptors, *sources):
            waiting.register(descriptor, select.POLLIN)
        lost = [each.due for each in self._sources if each.descriptor < 0]
        if lost and patience is None:
            patience = max(1, int(1000 * (min(lost) - time.monotonic())))
        ready = [each for each, _ in waiting.poll(patience)]
        for descriptor in sources.keys() & ready:
            sources[descriptor].copy()
        return ready

    def _ask_again(self) -> None:
        for source in self._sources:
            if source.descriptor < 0 and source.due <= time.monotonic():
                source.ask_again()

    def close(self) -> None:
        """Copy no more."""
        for source in self._sources:
            source.close()
        self._sources = []


def _remove_socket(listener: int) -> None:
    """Remove the socket and its directory, since the run was killed before it did."""
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
    """Load it without the package's `__init__`, which takes longer than creating a container."""
    if "hdocker" not in sys.modules:
        parent = type(sys)("hdocker")
        parent.__path__ = [package]
        sys.modules["hdocker"] = parent
        # Where hcoverage and this package are.
        sys.path.append(os.path.dirname(package))
    from hdocker._door import proxy

    return proxy


if __name__ == "__main__":
    main()
