"""The hook: the file in site-packages that makes a Python measure from its first line.

This module only writes and removes the file. `session` sets the environment without which the hook
does nothing, `_inside.startup` is what the hook runs, and `documented_hook` keeps the file that the
hook replaced.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import os
import shlex
import signal
import site
import subprocess
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from hcoverage._atomic_write import write_atomically
from hcoverage._errors import (
    ForeignHookError,
    ForeignHookWarning,
    HookPermissionError,
    MissingCoverageError,
)
from hcoverage._inside import startup
from hcoverage._session import documented_hook

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_T = TypeVar("_T")

NAME: Final = "coverage"

_MODULE: Final = f"_{NAME}_hook"

_PROC: Final = Path("/proc/self/stat")
_ENDING: Final = frozenset({signal.SIGHUP, signal.SIGINT, signal.SIGTERM})

_OURS: Final = "# Written by hcoverage; `hcov remove` takes it away."
_TEMPORARY: Final = "# For as long as `hcov run` runs."
_COVERAGES_OWN: Final = "a1_coverage.pth"  # since 7.13

_ASKING: Final = ("HCOVERAGE_SESSION", "COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG")

# PEP 829 silences `import` lines in .pth files from Python 3.18 on. Before that a .start file gains
# nothing, and makes `site` import pkgutil, re and 20 more modules at every Python start, measured
# or not: on 3.15 the start takes 1.7 times as long.
_START_FILE_SINCE: Final = (3, 18)
# From this version on, a .start file makes `site` ignore the `import` lines of its .pth twin.
_START_FILE_COUNTS_SINCE: Final = (3, 15)


def pth_text() -> str:
    """Return the hook as the text of a `.pth` file that stands alone, for an image.

    Returns:
        A comment and one `import` line that any Python from 3.8 on reads. The line first looks at
        the environment, and imports nothing if there is nothing to measure.
    """
    asked = " or ".join(f'os.getenv("{name}")' for name in _ASKING)
    return f"{_OURS}\nimport os; ({asked}) and exec({_source() + 'start()'!r}, {{}})\n"


def _installed_pth_text(sessions: Path) -> str:
    """Return the hook for a site-packages directory; its work is in a module beside it.

    Every Python start compiles the line, even with nothing to measure, so the line is short.

    Args:
        sessions: Where running sessions announce themselves to children with an empty environment.
    """
    asked = [f'os.getenv("{name}")' for name in _ASKING] + [f"os.path.isdir({str(sessions)!r})"]
    # If the startup directory comes first on sys.path, `_inside.sitecustomize` starts measuring.
    needed = 'os.getenv("HCOVERAGE_SESSION") not in sys.path[:1]'
    # The last run to end may remove the module after this line was read, before the import.
    run = f"try:\n import {_MODULE}\nexcept ImportError:\n pass\nelse:\n {_MODULE}.hook()"
    return f"{_OURS}\nimport os, sys; ({' or '.join(asked)}) and {needed} and exec({run!r})\n"


def install() -> Path:
    """Write the hook into the first directory that Python reads at start-up and that we can write.

    It replaces coverage.py's documented line, which `remove` puts back.

    Returns:
        The path of the hook.

    Raises:
        MissingCoverageError: coverage.py cannot be imported by this Python.
        ForeignHookError: A `coverage.pth` there is neither ours nor coverage.py's line.
        HookPermissionError: None of these directories can be written.
    """
    require_coverage()
    return _install(lambda path: path, temporary=False)


def _install(then: Callable[[Path], _T], *, temporary: bool) -> _T:
    """Write the hook, and call a function with it before another run may look at it or remove it.

    Args:
        then: The function.
        temporary: Mark the hook as there for one run only. A lasting hook that is there already
            stays lasting.
    """
    refusals = []
    for directory in _directories():
        try:
            directory.mkdir(parents=True, exist_ok=True)
            with alone_in(directory):
                return then(_install_into(directory, temporary=temporary))
        except ForeignHookError:
            raise
        except OSError as error:
            refusals.append(f"{directory} ({error.strerror})")
    raise HookPermissionError(
        f"the start-up hook cannot be written into {', '.join(refusals) or 'any site-packages'}: "
        "use a virtual environment of your own (python -m venv), or inject as the owner of this one"
    )


def remove() -> None:
    """Remove all our hooks that Python reads, and put back the files that they replaced.

    Warns of a `coverage.pth` that is neither ours nor coverage.py's line.
    """
    for directory in _directories():
        path = directory / f"{NAME}.pth"
        places = (path, path.with_suffix(".start"))
        if any(_is_ours(place) or documented_hook.is_kept(place) for place in places):
            with alone_in(directory):
                _remove_files(path)
        elif path.exists() and not documented_hook.is_documented(path):
            warnings.warn(
                f"{path} was not written by hcoverage and is left alone: "
                "remove it by hand if nothing else needs it",
                ForeignHookWarning,
                stacklevel=3,
            )


@contextlib.contextmanager
def held() -> Iterator[Path]:
    """Hold the hook in place for the length of a `with` block, shared with other runs.

    The last run to leave removes it, unless a lasting hook was there before. Raises the errors of
    `install`, except for a missing coverage.py: a session brings one for each Python.
    """
    # Block signals: a handler that raises must wait until the clean-up below is registered.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    try:
        path, descriptor = _install(_locked, temporary=True)
    except BaseException:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        raise
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        yield path
    finally:
        try:
            with alone_in(path.parent):
                if _is_temporary(path) or not os.path.lexists(path):
                    # Fails while another run holds its share; that run removes the hook later.
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    _remove_files(path)
        except OSError:
            pass
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def announced(hook: Path, session: Path, data_directory: Path) -> Iterator[None]:
    """Announce this process's session to children that have an empty environment.

    Args:
        hook: The hook, as `held` yields it.
        session: The session's startup directory.
        data_directory: The session's data directory, for systems that show no ancestors of a
            process (no /proc).
    """
    directory = _sessions_beside(hook)
    own = _identity(str(os.getpid()))
    if own is None:
        yield
        return
    text = str(session) if _PROC.exists() else f"{session}\0{data_directory}"
    with alone_in(hook.parent):
        directory.mkdir(exist_ok=True)
        directory.chmod(0o755)  # for children of other users, whatever the umask
        for left in directory.iterdir():
            # Left by a killed session: its process is gone, or another process has its pid now.
            if left.name != _identity(left.name.partition("-")[0]):
                left.unlink(missing_ok=True)
        write_atomically(directory / own, text)
    try:
        yield
    finally:
        with alone_in(hook.parent):
            (directory / own).unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # other sessions still run
                directory.rmdir()


def kind_of(path: Path, text: str) -> str:
    """Return what kind of hook a `.pth` file is.

    Args:
        path: The file.
        text: Its content.

    Returns:
        `ours`, `ours for a run`, `coverage.py's` or `other`; empty if it is no hook at all.
    """
    if _OURS in text:
        return "ours for a run" if _TEMPORARY in text else "ours"
    if path.name == f"{NAME}.pth":
        documented = documented_hook.has_documented_line(text.encode())
        return "coverage.py's" if documented else "other"
    if "process_startup" not in text:
        return ""
    return "coverage.py's" if path.name == _COVERAGES_OWN else "other"


def is_held(directory: Path) -> bool:
    """Return whether a running session holds a hook in a directory, as far as that can be seen.

    Call it within `alone_in`: otherwise a run may begin or end a moment later.
    """
    try:
        with (directory / f"{NAME}.pth").open("rb") as hook:
            fcntl.flock(hook, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    except OSError:  # a file system without locks
        return _has_sessions(directory)
    return False


def _has_sessions(directory: Path) -> bool:
    try:
        sessions = list(_sessions_beside(directory / f"{NAME}.pth").iterdir())
    except OSError:
        return False
    return any(session.name == _identity(session.name.partition("-")[0]) for session in sessions)


@contextlib.contextmanager
def alone_in(directory: Path) -> Iterator[None]:
    """Keep other runs from writing or removing a hook in a directory, for a `with` block.

    A hook is several files and a share of a lock. Without this, a run that ends could remove half
    of what another one has just written, or a run could replace the file that another has locked.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):  # a file system without locks: no more can be done
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _sessions_beside(hook: Path) -> Path:
    return hook.with_name(f"{NAME}.sessions")


def _identity(pid: str) -> str | None:
    """Return the hook's name for a process, which no other process ever has; None if it is gone.

    Without /proc a later process may get the same name.
    """
    if not _PROC.exists():
        return f"{pid}-" if _is_there(int(pid)) else None
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return f"{pid}-{fields[19].decode()}"


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:  # another user's
        return True
    except OSError:
        return False
    return True


def _source() -> str:
    text = Path(startup.__file__).read_text(encoding="utf-8")
    return text[text.index("def start(") :]


def _directories() -> list[Path]:
    """List where this Python looks for `.pth` files, the user's own directory last.

    A child started with `-I` or `-s`, or with another HOME, does not read the user's directory.
    """
    user = [site.getusersitepackages()] if site.ENABLE_USER_SITE else []
    return [Path(directory) for directory in (*site.getsitepackages(), *user)]


def require_coverage() -> None:
    # A fresh Python is asked, since the hook runs in one: this process may have coverage.py from a
    # sys.path that its children do not share.
    check = [sys.executable, "-c", "import coverage"]
    unmeasured = {k: v for k, v in os.environ.items() if not k.startswith("COVERAGE_")}
    done = subprocess.run(
        check, env=unmeasured, capture_output=True, text=True, check=False, cwd="/"
    )
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1:] or ["no reason given"]
        raise MissingCoverageError(
            f"{sys.executable} cannot import coverage.py ({reason[0]}): "
            f"install it with `{shlex.quote(sys.executable)} -m pip install coverage`"
        )


def _install_into(directory: Path, *, temporary: bool) -> Path:
    path = directory / f"{NAME}.pth"
    start = path.with_suffix(".start")
    has_start = sys.version_info >= _START_FILE_SINCE or (
        sys.version_info >= _START_FILE_COUNTS_SINCE and start.exists()
    )
    for place in (path, *([start] if has_start else [])):
        _require_ours_to_write(place)
    is_lasting = _is_ours(path) and not _is_temporary(path)
    sessions = _sessions_beside(path)
    text = _installed_pth_text(sessions)
    if temporary and not is_lasting:
        text = f"{_TEMPORARY}\n{text}"
    hook = f"{_OURS}\n{_source()}\n\ndef hook():\n    start({str(sessions)!r})\n"
    _write(directory / f"{_MODULE}.py", hook.encode())
    if has_start:
        _put(start, f"{_OURS}\n{_MODULE}:hook\n")
    _put(path, text)
    return path


def _require_ours_to_write(path: Path) -> None:
    if path.exists() and not (_is_ours(path) or documented_hook.is_documented(path)):
        raise ForeignHookError(
            f"{path} was not written by hcoverage: "
            "remove it, if nothing else needs it, and try again"
        )


def _put(path: Path, text: str) -> None:
    """Write a file of the hook; keep the file that it replaces, and that file's other lines."""
    if os.path.lexists(path) and not _is_ours(path):
        documented_hook.keep(path)
    _write(path, documented_hook.among_kept_lines(path, text))


def _write(path: Path, content: bytes) -> None:
    with contextlib.suppress(OSError):
        if path.read_bytes() == content:
            return
    write_atomically(path, content)


def _is_ours(path: Path) -> bool:
    return _holds(path, _OURS)


def _is_temporary(path: Path) -> bool:
    return _holds(path, _TEMPORARY)


def _holds(path: Path, line: str) -> bool:
    try:
        return line.encode() in path.read_bytes()
    except OSError:
        return False


def _remove_files(path: Path) -> None:
    module = path.with_name(f"{_MODULE}.py")
    for file in (path, path.with_suffix(".start")):
        if _is_ours(file) or not os.path.lexists(file):
            documented_hook.put_back(file)
        else:  # somebody else has written it since
            documented_hook.forget(file)
    if _is_ours(module):
        module.unlink(missing_ok=True)
    compiled = Path(importlib.util.cache_from_source(str(module)))
    compiled.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # other users' compiled files are in it
        compiled.parent.rmdir()


def _locked(path: Path) -> tuple[Path, int]:
    """Take a share of the lock on the hook."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
    except OSError:
        os.close(descriptor)
        raise
    return path, descriptor
