"""Watches which Pythons a command starts, from outside, by looking into /proc.

`unmeasured` compares the result with what was measured. A look is due when `python_starts` reports
a start, and now and then, for interpreters that it does not know. A process is missed if it ends
before the look, or if its parent ends before the first look at it. Processes in containers are the
engine's, not the command's, and are ignored. Without /proc nothing is seen.

`detached` has an interpreter started for this alone: what it imports is what that has to load.
"""

from __future__ import annotations

import os
import time

from hcoverage._watch.python_starts import PythonStarts, version_in

# `typing`, too, would take as long as all the rest.
TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Iterable, Iterator, Mapping
    from types import TracebackType
    from typing import Final, Self

    from hcoverage._watch.seen_python import SeenPython

    # A process's parent, when it started (which with its id is unique), and where its stack begins:
    # each `exec` chooses a new random place, each fork keeps it. 0 if we may not read it.
    Status = tuple[int, int, int]
    # What `SeenPython` has, but whether it is running.
    Python = tuple[tuple[int, ...], tuple[str, ...], str, str, Mapping[str, str] | None]

# Time between looks: in seconds, and as a multiple of a look's processor time, so that looking
# takes less than 1 % of one processor, however many processes there are.
_INTERVAL: Final = 0.1
_REST: Final = 150
# Seconds to the next look, if an `exec` is not complete or a reported start is not visible yet.
# On a busy machine this can take long, so the time is doubled for each of a few looks in a row.
_SOON: Final = 0.001
_MOST_SOON: Final = 5

# Fields of /proc/PID/stat, counted from the one after the program's name; see proc(5).
_STATE, _PARENT, _STARTED, _STACK = 0, 1, 19, 25


class PythonWatch:
    """Remembers the Pythons among the descendants of a process.

    Args:
        running: The process, if it and its descendants run already; else it is started later.
        others: Processes that must not be taken for its descendants.
    """

    def __init__(self, running: int | None = None, others: Iterable[int] = ()) -> None:
        self._root = 0
        self._descendants: dict[int, Status] = {}
        present = _present()
        self._others = set(others)
        if running is None:
            self._others = present
        elif _has_only(running, self._others):  # then the first look need not read all processes
            self._others = (present | self._others) - {running}
        self._soon = 0
        self._is_due = False
        self._starts = PythonStarts()
        # The key is what forks share with the process that they are forks of.
        self._seen: dict[object, Python] = {}
        self._known: dict[int, Status] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._starts.close()

    @property
    def descriptors(self) -> list[int]:
        """The descriptors that become readable when a look is due, for `select`; may be empty."""
        return self._starts.descriptors

    def signal_with(self, signum: signal.Signals) -> None:
        """Make the kernel send this process a signal when a look is due.

        Args:
            signum: A signal that does not end processes by default, such as SIGCHLD.
        """
        import fcntl  # who waits for the descriptors needs none of it

        # FreeBSD has inotify, but no such signal.
        for descriptor in self._starts.descriptors if hasattr(fcntl, "F_SETSIG") else ():
            fcntl.fcntl(descriptor, fcntl.F_SETSIG, signum)
            fcntl.fcntl(descriptor, fcntl.F_SETOWN, os.getpid())
            flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
            fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_ASYNC)

    @property
    def root(self) -> int:
        """The process that is watched, with its descendants; 0 before the first look."""
        return self._root

    def look(self, root: int) -> float:
        """Look once.

        Args:
            root: The process to watch, with its descendants; always the same.

        Returns:
            Seconds until the next look, so that looking costs next to nothing; look sooner if a
            start is reported.
        """
        before = time.process_time()
        was_told = self._starts.forget()  # first: a Python may start during the look
        self._root = root
        seen = len(self._seen)
        self._find_descendants()
        undecided = [
            pid for pid, status in self._descendants.items() if not self._decide(pid, status)
        ]
        self._is_due = (self._is_due or was_told) and len(self._seen) == seen
        before_this = 0 if was_told else self._soon
        self._soon = before_this + 1 if undecided or self._is_due else 0
        if 0 < self._soon <= _MOST_SOON:
            return _SOON * (1 << self._soon - 1)
        self._is_due = False
        return max(_INTERVAL, _REST * (time.process_time() - before))

    def seen(self) -> list[SeenPython]:
        """Return the Pythons that were seen so far, in that order."""
        from hcoverage._watch.seen_python import SeenPython  # it imports `typing`

        return [SeenPython(*facts) for facts in self.facts()]

    def facts(self) -> list[tuple[*Python, bool]]:
        """Return the same as plain tuples."""
        running = self._descendants.keys()
        return [(*python, not running.isdisjoint(python[0])) for python in self._seen.values()]

    def _find_descendants(self) -> None:
        present = _present()
        self._others &= present
        kept = self._descendants.keys() & present
        new = present - self._others - kept
        status = {pid: who for pid in kept | new if (who := _status(pid)) is not None}
        descendants = {pid: status[pid] for pid in kept & status.keys()}
        unknown = {pid: status[pid] for pid in new & status.keys()}
        while found := [
            pid for pid, who in unknown.items() if pid == self._root or who[0] in descendants
        ]:
            descendants.update((pid, unknown.pop(pid)) for pid in found)
        self._descendants = descendants
        # They are not checked again: no other process becomes a descendant later.
        self._others.update(unknown)

    def _decide(self, pid: int, status: Status) -> bool:
        """Remember a process if it is a Python; return False if its `exec` is not through yet."""
        if self._known.get(pid) == status:
            return True
        stack = status[-1]
        python = _read(pid)
        after = _status(pid)
        if after is None and not (python and python[1]):
            return False  # it ended before all was read
        if after is not None and after[-1] != stack:
            return False
        if python is None:
            if stack:  # otherwise a later `exec` of a Python would go unnoticed
                self._known[pid] = status
            return True
        _, argv, executable, _, _ = python
        if not argv:
            return False
        self._known[pid] = status
        self._starts.include(executable)
        key = stack or (argv, executable)
        first = self._seen.setdefault(key, python)
        if pid not in first[0]:
            self._seen[key] = ((*first[0], pid), *first[1:])
        return True


def _present() -> set[int]:
    try:
        return {int(name) for name in os.listdir("/proc") if name.isdigit()}
    except OSError:
        return set()


def _has_only(pid: int, children: set[int]) -> bool:
    """Return whether a process has no other children than these; False if that is not known."""
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                if not children.issuperset(map(int, file.read().split())):
                    return False
    except OSError:
        return False
    return True


def _status(pid: int) -> Status | None:
    """Read a process's status; return None if it has ended, even if nobody has waited for it."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The program's name, in parentheses, may contain anything.
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    if fields[_STATE] in b"ZX":
        return None
    return int(fields[_PARENT]), int(fields[_STARTED]), int(fields[_STACK])


def _read(pid: int) -> Python | None:
    """Read all facts of a process; return None if it is no Python, or in a container."""
    try:
        executable = os.readlink(f"/proc/{pid}/exe").removesuffix(" (deleted)")
    except OSError:
        # Another user's process: only the name that it was called by is readable.
        executable = next(iter(_strings(pid, "cmdline")), "")
    if version_in(os.path.basename(executable)) is None or _is_contained(pid):
        return None
    environment = dict(_pairs(_strings(pid, "environ"))) or _none_if_hidden(pid)
    # Read last: if it is still there, all of the above was complete.
    argv = tuple(_strings(pid, "cmdline"))
    interpreter = _interpreter(pid, argv, executable, environment or {})
    return (pid,), argv, executable, interpreter, environment


def _strings(pid: int, name: str) -> list[str]:
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            content = file.read()
    except OSError:
        return []
    return [os.fsdecode(item) for item in content.split(b"\0")[:-1]]


def _pairs(lines: list[str]) -> Iterator[tuple[str, str]]:
    for line in lines:
        name, _, value = line.partition("=")
        yield name, value


def _none_if_hidden(pid: int) -> dict[str, str] | None:
    return {} if os.access(f"/proc/{pid}/environ", os.R_OK) else None


def _is_contained(pid: int) -> bool:
    """Return whether a process has another id in its own namespace, as in a container."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            ids = next((line.split()[1:] for line in file if line.startswith(b"NSpid:")), [])
    except OSError:
        return False
    return len(ids) > 1


def _interpreter(
    pid: int, argv: tuple[str, ...], executable: str, environment: Mapping[str, str]
) -> str:
    """Find the interpreter's path as it was called: perhaps a link in a virtual environment."""
    called = argv[0] if argv else ""
    if "/" not in called:
        directories = environment.get("PATH", os.defpath).split(os.pathsep)
        files = (os.path.join(directory, called) for directory in directories)
        found = (file for file in files if os.path.isfile(file) and os.access(file, os.X_OK))
        called = next(found, "")
    try:
        absolute = os.path.join(os.readlink(f"/proc/{pid}/cwd"), called)
    except OSError:
        absolute = called
    # A program may give itself any name.
    same = called and os.path.realpath(absolute) == os.path.realpath(executable)
    return os.path.normpath(absolute) if same else executable
