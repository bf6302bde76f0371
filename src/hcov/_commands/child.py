"""Runs the measured command as if hcov were not there: its own terminal, signals, exit status."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import hcoverage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

# The same as for env(1), timeout(1) and `docker run`.
CANNOT_EXECUTE: Final = 126
NOT_FOUND: Final = 127
_SIGNALLED: Final = 128

_PASSED_ON: Final = frozenset(
    {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2}
)
# Signals that a terminal sends to its whole foreground process group, including the command.
_FROM_TERMINAL: Final = frozenset({signal.SIGINT, signal.SIGQUIT, signal.SIGHUP})
_STANDARD_INPUT: Final = 0
_SI_KERNEL: Final = 0x80  # siginfo.h: sent by the kernel, not by kill(2)


class NotStartedError(hcoverage.HcoverageError):
    """The command could not be started.

    Attributes:
        exit_status: 126 or 127, as in a shell.
    """

    def __init__(self, message: str, exit_status: int) -> None:
        super().__init__(message)
        self.exit_status = exit_status

    def __reduce__(self) -> tuple[type[NotStartedError], tuple[str, int]]:
        return type(self), (str(self), self.exit_status)


def run_command(
    command: Sequence[str],
    environment: Mapping[str, str],
    look: Callable[[int], float] | None = None,
) -> int:
    """Run a command to its end, and pass on the signals that this process gets meanwhile.

    Args:
        command: The argv.
        environment: Its whole environment.
        look: Called with the command's process id when it starts, now and then, and before its end
            is known; it returns the number of seconds until the next call.

    Returns:
        Its exit status; 128 + N if signal N ended it, as in a shell.

    Raises:
        NotStartedError: The command cannot be started.
    """
    waited_for = _PASSED_ON | {signal.SIGCHLD}
    # Blocked before the command starts: a signal in between must wait, and not end this process.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, waited_for)
    try:
        process = _start(command, environment, before)
        timeout = look(process.pid) if look else None
        while process.poll() is None:
            signum, from_terminal = _next_signal(waited_for, timeout)
            if signum in _PASSED_ON and not from_terminal:
                process.send_signal(signum)
            elif look:
                timeout = look(process.pid)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    status = process.returncode
    return status if status >= 0 else _SIGNALLED - status


def _start(
    command: Sequence[str], environment: Mapping[str, str], mask: set[int | signal.Signals]
) -> subprocess.Popen[bytes]:
    def unblock() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    try:
        return subprocess.Popen(
            command,
            env=environment,
            preexec_fn=unblock,  # noqa: PLW1509 - one thread here
            close_fds=False,  # others that we were given are the command's, as a pipe of the shell
        )
    except FileNotFoundError as error:
        raise NotStartedError(
            f"no command {command[0]!r}: is it installed, and is its directory on PATH?", NOT_FOUND
        ) from error
    except OSError as error:
        raise NotStartedError(
            f"cannot run {command[0]!r}: {error.strerror}", CANNOT_EXECUTE
        ) from error


def _next_signal(waited_for: frozenset[signal.Signals], timeout: float | None) -> tuple[int, bool]:
    """Wait for a signal; return it, and whether the terminal has sent it to the command, too.

    Args:
        waited_for: The signals to wait for.
        timeout: How many seconds to wait; None for no limit.

    Returns:
        0 as the signal when the time is over.
    """
    if sys.platform == "darwin":  # has no sigwaitinfo: assume that the terminal sent such signals
        signum = int(signal.sigwait(waited_for))
        return signum, signum in _FROM_TERMINAL and os.isatty(_STANDARD_INPUT)
    if timeout is None:
        information = signal.sigwaitinfo(waited_for)
    else:
        timed = signal.sigtimedwait(waited_for, timeout)
        if timed is None:
            return 0, False
        information = timed
    by_kernel = information.si_code == _SI_KERNEL
    return information.si_signo, by_kernel and information.si_signo in _FROM_TERMINAL
