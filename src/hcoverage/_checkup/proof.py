"""Proves that processes are measured: starts some, and checks that their lines came back.

It does so in a session in a temporary directory, so that nothing in the user's project is touched;
the hook is held as in any run. `hdocker` proves containers in the same session.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shlex
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hcoverage._checkup.check_interpreter import OLDEST
from hcoverage._checkup.finding import Finding, Status
from hcoverage._combine.combine import combine
from hcoverage._data_directory import directory as _data_directory
from hcoverage._data_directory.names import pids_of
from hcoverage._errors import CombineError, NoDataError
from hcoverage._page import Page
from hcoverage._session.session import open_session
from hcoverage._settings.rcfile import read_rcfile
from hcoverage._watch.seen_python import SeenPython

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from hcoverage._checkup.interpreters import Interpreter
    from hcoverage._checkup.project import RcfileFacts
    from hcoverage._session.session import Session

_CONTAINER_DIRECTORY: Final = "/hcov-doctor"
_PROBES: Final = "probes"

_PROBE: Final = "print('up', flush=True)\ninput()\n"
_RAN: Final = frozenset({1, 2})
_RAN_IF_KILLED: Final = frozenset({1})  # it may not have reached the next line
_PATIENCE: Final = 5.0  # seconds: for coverage.py's first save, and for a slow machine
_INTERVAL: Final = 0.02
_ENDING: Final = frozenset({signal.SIGINT, signal.SIGTERM})
_NOT_MEASURED: Final = "not measured: "
_RCFILE: Final = """\
[run]
parallel = True
sigterm = True
branch = {branch}
[paths]
probes =
    {directory}
    {container}
"""


@dataclasses.dataclass(frozen=True)
class Way:
    """A way to start a Python, and to end it.

    Attributes:
        check: Its name.
        options: Options of the interpreter.
        is_emptied: Whether its environment is empty.
        is_killed: Whether it is killed.
    """

    check: str
    options: tuple[str, ...] = ()
    is_emptied: bool = False
    is_killed: bool = False

    @property
    def lines(self) -> frozenset[int]:
        """The lines that surely ran."""
        return _RAN_IF_KILLED if self.is_killed else _RAN


WAYS: Final = (
    Way("subprocess"),
    Way("python -I", options=("-I",)),
    Way("empty environment", is_emptied=True),
    Way("killed", is_killed=True),
)


@dataclasses.dataclass(frozen=True)
class CameBack:
    """The lines that came back.

    Attributes:
        lines: The lines that ran, by the name of the file.
        recorded: The names of the files whose processes the recorder measured.
    """

    lines: Mapping[str, frozenset[int]]
    recorded: frozenset[str]

    def tells(self, name: str, lines: frozenset[int]) -> str:
        """Return which core brought a file's lines; empty if they did not come back."""
        if not lines <= self.lines.get(name, frozenset()):
            return ""
        return "the recorder" if name in self.recorded else "coverage.py"


@dataclasses.dataclass(frozen=True)
class _Started:
    """A process that was started for the proof."""

    interpreter: Interpreter
    way: Way
    probe: Path
    process: SeenPython


@dataclasses.dataclass(frozen=True)
class Proof:
    """A session for trying processes.

    Attributes:
        session: The session.
        directory: The directory of the probes, the only files that are measured.
        container_directory: Where containers must have the probes.
        ways: The ways in which each Python is tried.
    """

    session: Session
    directory: Path
    container_directory: str = _CONTAINER_DIRECTORY
    ways: tuple[Way, ...] = WAYS

    def write_probe(self, name: str) -> Path:
        """Write a probe: a program that reports its start, and ends when its input does."""
        probe = self.directory / name
        probe.write_text(_PROBE, encoding="utf-8")
        probe.chmod(0o644)  # containers have other users
        return probe

    def try_interpreter(self, interpreter: Interpreter) -> list[Finding]:
        """Start processes of an interpreter in each way, and see which of them are measured."""
        if interpreter.error or interpreter.version < OLDEST:
            return []
        started = [self._run(interpreter, way) for way in WAYS]
        reasons = [self._why(one) for one in started]
        measured = self.collect()
        found = [
            _finding(one, measured, *reason) for one, reason in zip(started, reasons, strict=True)
        ]
        return found if interpreter.is_target else [_in_one(interpreter, found)]

    def collect(self) -> CameBack:
        """Merge the data that has come back, and remove it from the session."""
        data_file = self.directory.parent / ".coverage"
        paths = self.session.data_paths()
        rcfile = self.session.rcfile.path
        try:
            result = combine(paths, coveragerc=rcfile, data_file=data_file)
        except (NoDataError, CombineError):
            return CameBack({}, frozenset())
        from coverage import CoverageData  # noqa: PLC0415 - with sqlite3, and only for this

        with contextlib.closing(CoverageData(basename=str(data_file))) as data:
            data.read()
            lines = {
                Path(name).name: frozenset(data.lines(name) or ()) for name in data.measured_files()
            }
        words = (word for process in result.recorded if not process.core for word in process.argv)
        return CameBack(lines, frozenset(Path(word).name for word in words if word.endswith(".py")))

    def _run(self, interpreter: Interpreter, way: Way) -> _Started:
        """Run a probe from start to end."""
        probe = self.write_probe(f"{WAYS.index(way)}.py")
        environment = {} if way.is_emptied else dict(self.session.environment)
        # -B: leave nothing in the site-packages of others.
        argv = (interpreter.path, "-B", *way.options, str(probe))
        # Block signals: a handler that raises must wait until something will end this process.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
        try:
            with _start(argv, environment, mask) as process, _killed_if_interrupted(process):
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
                if way.is_killed and process.stdout is not None and process.stdout.readline():
                    self._wait_for_data(process.pid)
                    process.kill()
                process.communicate(b"\n")
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        seen = SeenPython((process.pid,), argv, interpreter.path, interpreter.path, environment)
        return _Started(interpreter, way, probe, seen)

    def _wait_for_data(self, pid: int) -> None:
        """Wait until a process has saved something, with a limit: it may not be measured."""
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end and pid not in pids_of(
            entry.name for entry in self.session.data_dir.iterdir()
        ):
            time.sleep(_INTERVAL)

    def _why(self, started: _Started) -> tuple[str, str]:
        """Return why a process was not measured: by its own note, else by how it was started."""
        (pid,) = started.process.pids
        for note in self.session.problems():
            process, _, text = note.partition(": ")
            if pid in pids_of([f"{process}."]):
                return text, f"{shlex.quote(started.interpreter.path)} -m pip install coverage"
        for unmeasured in self.session.unmeasured([started.process]):
            remedy = unmeasured.remedy
            is_command = remedy.startswith("`") and remedy.find("`", 1) == len(remedy) - 1
            return unmeasured.cause, remedy.strip("`") if is_command else remedy
        return "it left data, but not of the lines that ran", "report this as an error of hcov"


@contextlib.contextmanager
def open_proof(facts: RcfileFacts) -> Iterator[Proof]:
    """Open a session in a temporary directory, with the core that a run here would have.

    Args:
        facts: The rcfile of the project.

    Raises:
        HcoverageError, ImportError, OSError: Like `open_session`: no run would start, either.
    """
    with contextlib.ExitStack() as stack:
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="hcov-doctor-"))
        directory = Path(scratch).resolve()
        directory.chmod(0o755)
        probes = directory / _PROBES
        probes.mkdir()
        probes.chmod(0o755)
        branch = facts.rcfile is not None and facts.rcfile.settings.branch
        text = _RCFILE.format(directory=probes, container=_CONTAINER_DIRECTORY, branch=branch)
        place = directory / _data_directory.RCFILE_NAME
        place.write_text(text, encoding="utf-8")
        # Not the file that COVERAGE_FILE names: a run may be writing it.
        rcfile = read_rcfile(place).changed(data_file=str(directory / ".coverage"))
        stack.enter_context(contextlib.chdir(directory))
        core = facts.choice.core if facts.choice else None
        yield Proof(stack.enter_context(open_session(rcfile, core=core)), probes)


def _start(
    argv: Sequence[str], environment: Mapping[str, str], mask: set[int | signal.Signals]
) -> subprocess.Popen[bytes]:
    """Start a process with the signal mask `mask`; this process may block more signals."""

    def unblock() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    return subprocess.Popen(
        argv,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        preexec_fn=unblock,  # noqa: PLW1509 - one thread here
    )


@contextlib.contextmanager
def _killed_if_interrupted(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Leave no process behind that would still write into the session's directory.

    After a KeyboardInterrupt, `Popen` itself waits only a quarter of a second.
    """
    try:
        yield
    except BaseException:
        process.kill()
        process.wait()
        raise


def _finding(started: _Started, measured: CameBack, detail: str, fix: str) -> Finding:
    subject, check = started.interpreter.name, started.way.check
    core = measured.tells(started.probe.name, started.way.lines)
    if core:
        return Finding(subject, check, Status.OK, f"measured by {core}")
    text = f"{_NOT_MEASURED}{detail}"
    return Finding(subject, check, Status.PROBLEM, text, fix, Page.NOT_MEASURED)


def _in_one(interpreter: Interpreter, found: Sequence[Finding]) -> Finding:
    """Sum up the findings for an interpreter that tests will not run in."""
    shut = [finding for finding in found if finding.status is not Status.OK]
    if not shut:
        return Finding(interpreter.name, "started", Status.OK, f"{found[0].detail}, in every way")
    ways = ", ".join(finding.check for finding in shut)
    reason = shut[0].detail.removeprefix(_NOT_MEASURED)
    return Finding(
        interpreter.name,
        "started",
        Status.NOTE,
        f"not measured if tests start it so: {ways} ({reason})",
        shut[0].fix,
        Page.NOT_MEASURED,
    )
