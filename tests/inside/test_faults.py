"""Whatever ends a process, what it ran is kept: all of it, or all but a second.

Each fault is a program of real processes. Its lines that count carry the comment `# kept`, and have
to be in the merged data. Where a program is ended from outside, it first says `ready`, and the test
waits until the lines are in the data directory: that they get there while it runs is the promise.

HCOVERAGE_FAULTS=plain runs the same programs with nothing but coverage.py at its best settings,
for the table in docs/faults.md.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, cast

import coverage
import pytest
from coverage.exceptions import CoverageException
from tests.sampling import FULL

import hcoverage
from hcoverage._read.recording_files import read_files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

PLAIN: Final = os.environ.get("HCOVERAGE_FAULTS") == "plain"
# The recorder is here twice, without and with branches. The second and third have only some faults
# unless HCOVERAGE_CORPUS is `full`: on the oldest Python the coverage core is the first, with all.
CORES: Final = (
    ("coverage",) if PLAIN or sys.version_info < (3, 12) else ("recorder", "branches", "coverage")
)
RCFILE: Final = "[run]\nparallel = True\n"
PLAIN_RCFILE: Final = RCFILE + "patch = subprocess, _exit, execv\n"
# Of coverage.py alone, which does not save while a program runs: seconds.
PLAIN_DEADLINE: Final = 2.0

WAIT: Final = """\
import sys
def ready():
    print("ready", flush=True)
    sys.stdin.readline()
"""
INNER: Final = """\
import sys
x = len(sys.argv)  # kept
"""
LATE: Final = """\
import sys
sys.stdin.readline()
x = 1  # kept afterwards
"""
IMPORTS: Final = """\
import asyncio, atexit, ctypes, multiprocessing, os, shlex, signal
import subprocess, sys, threading, time
from concurrent.futures import ProcessPoolExecutor
from wait import ready
python = sys.executable
"""
WORK: Final = """\
def work(n=0):
    return n + 1  # kept
"""
HANG: Final = """\
def hang():
    print("ready", flush=True)  # kept
    signal.pause()
"""


class Run:
    """One program in one project, measured."""

    def __init__(
        self,
        project: Path,
        environment: Mapping[str, str],
        data_dir: Path,
        *,
        is_hopeless: bool = False,
    ) -> None:
        self.project = project
        self.environment = environment
        self.data_dir = data_dir
        self.is_hopeless = is_hopeless  # to wait for its lines
        self._processes: list[subprocess.Popen[str]] = []

    def start(
        self, *command: str, preexec_fn: Callable[[], None] | None = None
    ) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, *(command or ["app.py"])],
            cwd=self.project,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=preexec_fn,  # noqa: PLW1509 - a cgroup is entered in the child
        )
        self._processes.append(process)
        return process

    def wait_until_saved(self, process: subprocess.Popen[str]) -> None:
        """Wait for `ready`, and then for the lines that count to be in the data directory."""
        assert cast("IO[str]", process.stdout).readline() == "ready\n"
        if self.is_hopeless:
            return
        deadline = time.monotonic() + PLAIN_DEADLINE if PLAIN else float("inf")
        while self.missing() and time.monotonic() < deadline:
            time.sleep(0.05)

    def missing(self, place: Path | None = None) -> set[str]:
        """Tell which of the lines that count are not there, as `file:number`.

        Args:
            place: The merged data file; without one, the data directory, while the program runs.
        """
        marks = ("# kept", "# kept afterwards") if place else ("# kept",)
        wanted = {
            f"{file.name}:{number}"
            for file in self.project.glob("*.py")
            for number, line in enumerate(file.read_text().splitlines(), 1)
            if line.endswith(marks)
        }
        return wanted - _lines(place or self.data_dir)

    def end(self) -> None:
        for process in self._processes:
            with process:
                if process.poll() is None:
                    process.kill()


def _lines(place: Path) -> set[str]:
    return _recorded_lines(place) | _saved_lines(place)


def _recorded_lines(place: Path) -> set[str]:
    if not place.is_dir():
        return set()
    return {
        f"{Path(source.path).name}:{line}"
        for recording in read_files(place.iterdir()).recordings
        for source in recording.sources
        for line in source.lines
    }


def _saved_lines(place: Path) -> set[str]:
    files = place.glob(".coverage.*") if place.is_dir() else [place]
    found = set()
    for file in files:
        data = coverage.CoverageData(str(file))
        try:
            with contextlib.suppress(CoverageException):  # half written, by coverage.py itself
                data.read()
                for name in data.measured_files():
                    found |= {f"{Path(name).name}:{line}" for line in data.lines(name) or ()}
        finally:
            data.close(force=True)
    return found


# How a program is ended ---------------------------------------------------------------------------


def by_itself(run: Run) -> subprocess.Popen[str]:
    return run.start()


def when_told(run: Run) -> subprocess.Popen[str]:
    process = run.start()
    run.wait_until_saved(process)
    _go_on(process)
    return process


def by(signum: signal.Signals) -> Callable[[Run], subprocess.Popen[str]]:
    def end(run: Run) -> subprocess.Popen[str]:
        process = run.start()
        run.wait_until_saved(process)
        process.send_signal(signum)
        return process

    return end


def by_memory_limit(run: Run) -> subprocess.Popen[str]:
    with _memory_cgroup(100 << 20) as enter:
        process = run.start(preexec_fn=enter)
        run.wait_until_saved(process)
        _go_on(process)
        process.wait()
        return process


def by_sigkill_before_its_child(run: Run) -> subprocess.Popen[str]:
    process = run.start()
    run.wait_until_saved(process)
    process.kill()
    process.wait()
    _go_on(process)  # to the child
    process.communicate()
    return process


def not_at_all(run: Run) -> subprocess.Popen[str]:
    process = run.start()
    run.wait_until_saved(process)
    return process


def _go_on(process: subprocess.Popen[str]) -> None:
    stdin = cast("IO[str]", process.stdin)
    stdin.write("\n")
    stdin.flush()


@contextlib.contextmanager
def _memory_cgroup(limit: int) -> Iterator[Callable[[], None]]:
    """Make a control group whose processes the kernel kills when they take more memory."""
    for root, file in (("memory", "memory.limit_in_bytes"), ("", "memory.max")):
        group = Path("/sys/fs/cgroup") / root / f"hcoverage-test-{uuid.uuid4().hex}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            (group / file).write_text(str(limit))
        except OSError:
            group.rmdir()
            continue
        break
    else:
        pytest.skip("no control group for memory can be made here")
    try:
        yield lambda: _enter(group)
    finally:
        deadline = time.monotonic() + 10
        while group.exists() and time.monotonic() < deadline:
            with contextlib.suppress(OSError):  # the process is on its way out
                group.rmdir()


def _enter(group: Path) -> None:
    (group / "cgroup.procs").write_text("0")


# The faults ---------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Fault:
    """A program, how it ends, and with what status.

    Attributes:
        program: What follows the imports, and the functions of above that it names.
        end: How it is ended.
        status: What Popen.returncode has to be.
        stderr: Whether the program itself says something there.
        lost: Why coverage.py cannot keep its lines, where it cannot.
        root: Whether it needs to be root.
        sigterm: What `sigterm` is in the rcfile.
    """

    program: str
    end: Callable[[Run], subprocess.Popen[str]] = by_itself
    status: int = 0
    stderr: bool = False
    lost: str = ""
    root: bool = False
    sigterm: bool = True


DETACH = """\
read, write = os.pipe()
if os.fork():
    os.close(write)
    os.read(read, 1)  # the end of the daemon
    os._exit(0)
os.setsid()
if os.fork():
    os._exit(0)
"""
MP_START = """\
if __name__ == "__main__":
    process = multiprocessing.get_context("{method}").Process(target={target})
    process.start()
    {then}
"""
SETTRACE = (
    "the application has taken sys.settrace, and coverage.py has no other way in before Python 3.14"
)

FAULTS: Final = {
    "normal exit": Fault("work()  # kept"),
    "uncaught exception": Fault("work()\nraise KeyError  # kept", status=1, stderr=True),
    "os._exit": Fault("work()\nos._exit(3)  # kept", status=3),
    "sys.exit in a SIGTERM handler": Fault(
        "def stop(*_):\n    sys.exit(work())  # kept\nsignal.signal(15, stop)\n"
        "os.kill(os.getpid(), 15)",
        status=1,
    ),
    "os._exit in a SIGTERM handler": Fault(
        "def stop(*_):\n    os._exit(work())  # kept\nsignal.signal(15, stop)\n"
        "os.kill(os.getpid(), 15)",
        status=1,
    ),
    "SIGTERM": Fault("hang()", by(signal.SIGTERM), -15),
    "SIGINT": Fault("hang()", by(signal.SIGINT), -2, stderr=True),
    "SIGHUP": Fault("hang()", by(signal.SIGHUP), -1),
    "SIGKILL while sleeping": Fault("hang()", by(signal.SIGKILL), -9),
    "SIGKILL in a busy loop": Fault(
        "work()\nprint('ready', flush=True)\nwhile True:\n    work()  # kept",
        by(signal.SIGKILL),
        -9,
    ),
    "SIGKILL in a long C call": Fault(
        "work()\nprint('ready', flush=True)\nsum(range(1 << 60))  # kept",
        by(signal.SIGKILL),
        -9,
    ),
    "os.abort": Fault("work()\nready()\nos.abort()", when_told, -6),
    "segmentation fault": Fault("work()\nready()\nctypes.string_at(0)", when_told, -11),
    "out-of-memory kill": Fault(
        "work()\nready()\nx = [bytearray(1 << 20) for _ in range(1 << 20)]", by_memory_limit, -9
    ),
    "execv": Fault("work()\nos.execv(python, [python, 'inner.py'])  # kept"),
    "execve with another environment": Fault(
        "work()\nos.execve(python, [python, 'inner.py'], {'HOME': '/'})  # kept"
    ),
    "exec in a loop": Fault(
        "left = int((sys.argv + ['5'])[1])\nif left:\n"
        "    os.execv(python, [python, 'app.py', str(left - 1)])  # kept\nwork()  # kept"
    ),
    "fork, the child returns": Fault(
        "pid = os.fork()\nif pid:\n    os.waitpid(pid, 0)\nelse:\n    work()  # kept"
    ),
    "fork, the child calls os._exit": Fault(
        "pid = os.fork()\nif pid:\n    os.waitpid(pid, 0)\nelse:\n    work()\n"
        "    os._exit(0)  # kept"
    ),
    "fork, the child is killed": Fault(
        "pid = os.fork()\nif pid:\n    os.waitpid(pid, 0)\nelse:\n    work()  # kept\n    ready()\n"
        "    os.kill(os.getpid(), 9)",
        when_told,
    ),
    "fork in a thread": Fault(
        "def run():\n    pid = os.fork()\n    if pid:\n        os.waitpid(pid, 0)\n    else:\n"
        "        work()  # kept\n        os._exit(0)\n"
        "thread = threading.Thread(target=run)\nthread.start()\nthread.join()",
        stderr=sys.version_info >= (3, 12),
    ),
    "double-forked daemon": Fault(DETACH + "work()  # kept"),
    "daemon that closes every descriptor": Fault(
        DETACH + "os.dup2(write, 1000)\nos.closerange(0, 1000)\nwork()  # kept\nos._exit(0)"
    ),
    **{
        f"multiprocessing {method}": Fault(
            MP_START.format(method=method, target="work", then="process.join()  # kept")
        )
        for method in ("fork", "spawn", "forkserver")
    },
    **{
        f"multiprocessing {how}": Fault(
            MP_START.format(
                method="fork",
                target="hang",
                then=f"sys.stdin.readline()\n    process.{how}()\n    process.join()",
            ),
            when_told,
        )
        for how in ("terminate", "kill")
    },
    # With `sigterm`, a handler in Python, one in ten of such programs hangs, with coverage.py alone
    # as well: a worker that is about to wait for its queue's lock when the signal comes never gets
    # to the handler.
    "multiprocessing Pool without close": Fault(
        "if __name__ == '__main__':\n    pool = multiprocessing.get_context('fork').Pool(2)\n"
        "    pool.map(work, range(4))  # kept\n    ready()",
        when_told,
        sigterm=False,
    ),
    **{
        f"multiprocessing Pool, ended just after it worked: {method}": Fault(
            "if __name__ == '__main__':\n"
            f"    with multiprocessing.get_context('{method}').Pool(2) as pool:\n"
            "        pool.map(work, range(4))  # kept",
            sigterm=False,
        )
        for method in ("fork", "spawn")
    },
    "ProcessPoolExecutor": Fault(
        "if __name__ == '__main__':\n    context = multiprocessing.get_context('fork')\n"
        "    with ProcessPoolExecutor(2, mp_context=context) as pool:\n"
        "        list(pool.map(work, range(4)))  # kept"
    ),
    "threads": Fault(
        "threads = [threading.Thread(target=work) for _ in range(4)]\n"
        "for thread in threads: thread.start()  # kept\nfor thread in threads: thread.join()"
    ),
    "daemon thread at exit": Fault(
        "go = threading.Event()\ndef run():\n    work()\n    go.set()  # kept\n"
        "    threading.Event().wait()\n"
        "threading.Thread(target=run, daemon=True).start()\ngo.wait()"
    ),
    "asyncio subprocess": Fault(
        "async def go():\n    process = await asyncio.create_subprocess_exec(python, 'inner.py')\n"
        "    await process.wait()  # kept\nasyncio.run(go())\nwork()"
    ),
    "posix_spawn": Fault(
        "work()\nos.waitpid(os.posix_spawn(python, [python, 'inner.py'], os.environ), 0)  # kept"
    ),
    "os.system": Fault("work()\nos.system(f'{shlex.quote(python)} inner.py')  # kept"),
    "grandchild of a shell": Fault(
        "work()\ninner = shlex.quote(f'{shlex.quote(python)} inner.py; :')\n"
        "subprocess.run(['sh', '-c', f'sh -c {inner}; :'])  # kept"
    ),
    "another COVERAGE_FILE": Fault(
        "work()\nown = {**os.environ, 'COVERAGE_FILE': 'elsewhere'}\n"
        "subprocess.run([python, 'inner.py'], env=own)  # kept"
    ),
    "empty environment": Fault("work()\nsubprocess.run([python, 'inner.py'], env={})  # kept"),
    "-I": Fault("work()\nsubprocess.run([python, '-I', 'inner.py'])  # kept"),
    "-E": Fault("work()\nsubprocess.run([python, '-E', 'inner.py'])  # kept"),
    "empty environment and -I": Fault(
        "work()\nsubprocess.run([python, '-I', 'inner.py'], env={})  # kept"
    ),
    "working directory elsewhere": Fault(
        "inner = os.path.abspath('inner.py')\nos.chdir('/')\nwork()\n"
        "subprocess.run([python, inner])  # kept"
    ),
    "working directory deleted": Fault(
        "os.mkdir('gone')\nos.chdir('gone')\nos.rmdir('../gone')\nwork()  # kept"
    ),
    "privileges dropped to nobody, umask 077": Fault(
        "os.umask(0o077)\nos.setgid(65534)\nos.setuid(65534)\nwork()  # kept", root=True
    ),
    "python of a fresh virtual environment": Fault(
        "import venv\nvenv.create('fresh', symlinks=True)\nwork()\n"
        "subprocess.run(['fresh/bin/python', 'inner.py'])  # kept"
    ),
    "sys.settrace taken over": Fault(
        "sys.settrace(lambda *_: None)\nsys.setprofile(None)\nwork()",
        lost=SETTRACE if sys.version_info < (3, 14) else "",
    ),
    "atexit cleared": Fault("atexit._clear()\nwork()  # kept"),
    "still running when the run ends": Fault("work()\nready()", not_at_all),
    "main process killed, its child goes on": Fault(
        "subprocess.Popen([python, 'late.py'])\nhang()", by_sigkill_before_its_child, -9
    ),
}


# One of each kind; `make test-quick` leaves the others out.
FIRST: Final = (
    "normal exit",
    "os._exit",
    "SIGTERM",
    "SIGKILL while sleeping",
    "execv",
    "fork, the child is killed",
    "double-forked daemon",
    "multiprocessing spawn",
    "threads",
    "empty environment and -I",
    "still running when the run ends",
)


def _cell(name: str, fault: Fault, core: str) -> object:
    marks = []
    if name not in FIRST:
        marks.append(pytest.mark.thorough)
    if core == "coverage" and fault.lost and not PLAIN:
        marks.append(pytest.mark.xfail(reason=fault.lost))
    if fault.root and os.geteuid() != 0:
        marks.append(pytest.mark.skip(reason="needs root"))
    return pytest.param(core, fault, id=f"{core}-{name}", marks=marks)


@pytest.fixture
def run(
    core: str,
    fault: Fault,
    open_tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    clean_environment: None,  # noqa: ARG001 - before the session is opened
) -> Iterator[Run]:
    """A project, and a run in it: of a session, or of coverage.py alone."""
    project = open_tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    opened = _plain_run(project, fault) if PLAIN else _session_run(project, core, fault)
    with opened as run:
        try:
            yield run
        finally:
            run.end()


@contextlib.contextmanager
def _session_run(project: Path, core: str, fault: Fault) -> Iterator[Run]:
    branch = core == "branches"
    (project / ".coveragerc").write_text(f"{RCFILE}sigterm = {fault.sigterm}\nbranch = {branch}\n")
    with hcoverage.open_session(core="recorder" if branch else core) as session:
        is_hopeless = core == "coverage" and bool(fault.lost)
        yield Run(project, session.environment, session.data_dir, is_hopeless=is_hopeless)


@contextlib.contextmanager
def _plain_run(project: Path, fault: Fault) -> Iterator[Run]:
    data_dir = project / "coverage_data"
    data_dir.mkdir()
    data_dir.chmod(0o777)
    rcfile = project / ".coveragerc"
    rcfile.write_text(
        f"{PLAIN_RCFILE}sigterm = {fault.sigterm}\ndata_file = {data_dir}/.coverage\n"
    )
    yield Run(project, {**os.environ, "COVERAGE_PROCESS_START": str(rcfile)}, data_dir)


@pytest.mark.parametrize(
    ("core", "fault"),
    [
        _cell(name, fault, core)
        for core in CORES
        for name, fault in FAULTS.items()
        if FULL or core == CORES[0] or name in FIRST
    ],
)
def test_what_ran_is_kept(run: Run, fault: Fault) -> None:
    functions = [text for name, text in (("work", WORK), ("hang", HANG)) if name in fault.program]
    (run.project / "app.py").write_text("".join([IMPORTS, *functions, fault.program, "\n"]))
    (run.project / "wait.py").write_text(WAIT)
    for name, text in (("inner", INNER), ("late", LATE)):
        if f"{name}.py" in fault.program:
            (run.project / f"{name}.py").write_text(text)

    process = fault.end(run)
    if fault.end is not not_at_all:
        _, stderr = process.communicate()
        assert process.returncode == fault.status, stderr
        assert PLAIN or fault.stderr or not stderr

    assert run.missing(_merged(run)) == set()


def _merged(run: Run) -> Path:
    if PLAIN:
        return run.data_dir
    target = run.project / ".coverage"
    result = hcoverage.combine([run.data_dir], data_file=target)
    assert result.set_aside == ()
    return target
