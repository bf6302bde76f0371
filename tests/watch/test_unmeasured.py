"""What ran and was not measured is told at the end of the run: which process, why, what to do."""

from __future__ import annotations

import os
import re
import select
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from tests.forks import hcov

import hcoverage
from hcoverage._watch.command_line import command_line
from hcoverage._watch.packaging import builds, installs
from hcoverage._watch.unmeasured import Reason

if TYPE_CHECKING:
    from tests.conftest import MakeVenv

pytestmark = [
    pytest.mark.usefixtures("clean_environment"),
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are seen in /proc"),
]

PYTHON: Final = sys.executable
RCFILE: Final = "[run]\nparallel = True\nsource = .\n"
# Starts a command, its environment with one change or empty, and keeps it waiting until hcov has
# looked: it waits between two looks, which the kernel counts. Prints the pid of the command.
STARTS: Final = """\
import os, re, subprocess, sys, time

def waits():
    text = open(f"/proc/{os.getppid()}/status").read()
    return int(re.search(r"\\nvoluntary_ctxt_switches:\\t([0-9]+)", text)[1])

changed = dict([sys.argv[1].split("=", 1)]) if "=" in sys.argv[1] else {}
environment = {} if sys.argv[1] == "none" else {**os.environ, **changed}
with subprocess.Popen(sys.argv[2:], stdin=subprocess.PIPE, env=environment) as child:
    enough = waits() + 4
    while waits() < enough:
        time.sleep(0.01)
    print("pid", child.pid, flush=True)
"""
WAIT: Final = "input()"
SI_SIGIO: Final = -5  # sigaction(2)
WAITS: Final = "try:\n    input()\nexcept EOFError:\n    pass\n"


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with an rcfile, and programs that wait and that start others; we are in it."""
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    Path(".coveragerc").write_text(RCFILE)
    Path("waits.py").write_text(WAITS)
    Path("starts.py").write_text(STARTS)
    return project


def run(*command: str, core: str = "auto") -> subprocess.CompletedProcess[str]:
    return hcov("run", f"--core={core}", "--", *command)


def told(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in done.stderr.splitlines() if "not measured" in line]


def of_child(*command: str, env: str = "") -> str:
    """What is told of a command that a measured program starts; that it is told of nothing else."""
    done = run(PYTHON, "starts.py", env, *command)
    assert done.returncode == 0, done.stderr
    (line,) = told(done)
    (pid,) = re.findall(r"^pid ([0-9]+)$", done.stdout, re.MULTILINE)
    assert line.startswith(f"hcov: not measured: process {pid}, `{shlex.join(command)}`: "), line
    return line


# A test that starts a Python that no hook reaches, and keeps it until it has been looked at.
TEST: Final = """\
import os, re, subprocess, sys, time
from pathlib import Path

import pytest

def watcher():
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = {*(process / "cmdline").read_bytes().split(b"\\0")}
        except OSError:
            continue
        if {b"-I", b"-S", b"%d" % os.getpid()} <= words:
            return process

def looks():
    text = (watcher() / "status").read_text()
    return int(re.search(r"\\nvoluntary_ctxt_switches:\\t([0-9]+)", text)[1])

def test_it():
    with pytest.raises(ChildProcessError):
        os.wait()
    command = [sys.executable, "-S", "-c", "input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as child:
        enough = looks() + 4
        while looks() < enough:
            time.sleep(0.01)
        child.communicate(b"\\n")
    Path("watcher").write_text(watcher().name)
    if os.environ.get("WATCHER_KILLED"):
        os.kill(int(watcher().name), 9)
    if os.environ.get("KILLED"):
        os.kill(os.getpid(), 9)
"""


@pytest.fixture
def inside() -> None:
    """There is a test for a pytest that watches itself."""
    Path("test_it.py").write_text(TEST)


def words_of(process: Path) -> set[bytes]:
    """Give the words of a process's command line, by its directory in /proc."""
    try:
        return {*(process / "cmdline").read_bytes().split(b"\0")}
    except OSError:
        return set()


def wait_for_the_end_of(process: int) -> None:
    """Wait for a process to be gone."""
    try:
        descriptor = os.pidfd_open(process)
    except ProcessLookupError:
        return
    try:
        select.select([descriptor], [], [])
    finally:
        os.close(descriptor)


@pytest.mark.any_python
@pytest.mark.thorough
@pytest.mark.usefixtures("inside")
class TestInsideOfPytest:
    @pytest.mark.parametrize("options", [["--hcov"], ["--hcov", "--cov=."]])
    def test_it_is_told_the_same(self, options: list[str]) -> None:
        command = [PYTHON, "-m", "pytest", *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
        (line,) = [line for line in done.stdout.splitlines() if "not measured: " in line]
        command_line = f"{shlex.quote(PYTHON)} -S -c 'input()'"
        assert f"`{command_line}`: -S keeps Python from reading any start-up hook" in line
        wait_for_the_end_of(int(Path("watcher").read_text()))

    @pytest.mark.parametrize("options", [["--hcov"], ["--hcov", "--cov=."]])
    def test_the_workers_of_pytest_xdist_are_measured(self, options: list[str]) -> None:
        Path("test_it.py").write_text("def test_it():\n    pass\n")
        command = [PYTHON, "-m", "pytest", "-n2", *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
        assert "not measured" not in done.stdout

    def test_that_who_watches_was_killed_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WATCHER_KILLED", "1")
        command = [PYTHON, "-m", "pytest", "--hcov"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
        assert "not measured: which Pythons started is not known" in done.stdout

    def test_who_watches_ends_with_a_pytest_that_is_killed(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("KILLED", "1")
        command = [PYTHON, "-m", "pytest", "--hcov"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == -signal.SIGKILL, done.stdout
        wait_for_the_end_of(int(Path("watcher").read_text()))


class TestCauses:
    def test_python_without_site(self) -> None:
        line = of_child(PYTHON, "-BSu", "waits.py")
        assert "-S keeps Python from reading any start-up hook; start it without" in line

    @pytest.mark.parametrize("option", ["-I", pytest.param("-E", marks=pytest.mark.thorough)])
    def test_another_environments_python_that_ignores_the_environment(
        self, make_venv: MakeVenv, option: str
    ) -> None:
        other = make_venv("other")
        line = of_child(str(other.python), option, "waits.py")
        assert "ignores PYTHONPATH, by -E or -I" in line
        # The command that it gives is the one that helps; hcoverage is installed there already.
        fix = re.search(r"&& (.* inject)`", line)
        assert fix is not None
        subprocess.run(["sh", "-c", fix[1]], check=True, capture_output=True)
        assert told(run(PYTHON, "starts.py", "", str(other.python), option)) == []

    def test_another_environments_python_with_an_empty_environment(
        self, make_venv: MakeVenv
    ) -> None:
        other = make_venv("other")
        line = of_child(str(other.python), "waits.py", env="none")
        assert "without the variables of the run; pass HCOVERAGE_SESSION" in line

    def test_another_environments_python_with_another_python_path(
        self, make_venv: MakeVenv
    ) -> None:
        other = make_venv("other")
        line = of_child(str(other.python), "waits.py", env="PYTHONPATH=/elsewhere")
        assert "extend PYTHONPATH instead of replacing it" in line

    def test_the_command_itself_however_short(self) -> None:
        done = run(PYTHON, "-S", "-c", "pass")
        assert done.returncode == 3
        (line,) = told(done)
        assert f"`{shlex.quote(PYTHON)} -S -c pass`: -S keeps" in line

    def test_a_note_of_the_process_itself_is_word_enough(self, project: Path) -> None:
        # Whatever goes wrong in the hook is noted by it; here a module that coverage.py imports.
        (project / "broken").mkdir()
        (project / "broken" / "sqlite3.py").write_text("raise ImportError('broken')")
        environment = f"PYTHONPATH={project / 'broken'}"
        command = [PYTHON, "starts.py", environment, PYTHON, "waits.py"]
        (line,) = told(run(*command, core="coverage"))
        assert "ImportError: broken" in line

    def test_those_alike_are_told_in_one_line(self) -> None:
        Path("twice.py").write_text(
            "import subprocess, sys\n"
            "command = [sys.executable, 'starts.py', '', sys.executable, '-S', 'waits.py']\n"
            "sys.argv[1:] = command[2:]\n"
            "exec(open('starts.py').read())\n"
            "exec(open('starts.py').read())\n"
        )
        (line,) = told(run(PYTHON, "twice.py"))
        assert " and 1 like it, `" in line


@pytest.mark.thorough
class TestNothingIsToldOf:
    @pytest.mark.parametrize(("core", "options"), [("auto", ["-I"]), ("coverage", [])])
    def test_a_measured_child(self, core: str, options: list[str]) -> None:
        command = [PYTHON, "starts.py", "", PYTHON, *options, "waits.py"]
        done = run(*command, core=core)
        assert done.returncode == 0, done.stderr
        assert told(done) == []

    def test_a_child_with_an_empty_environment(self) -> None:
        command = [PYTHON, "starts.py", "none", PYTHON, "waits.py"]
        assert told(run(*command)) == []

    def test_a_child_that_is_excluded_on_purpose(self, make_venv: MakeVenv) -> None:
        other = make_venv("other")
        command = [PYTHON, "starts.py", "HCOVERAGE_SESSION=", str(other.python), "waits.py"]
        assert told(run(*command)) == []

    def test_a_run_inside_of_this_one(self) -> None:
        inner = [PYTHON, "-m", "hcov", "run", "--data-dir=inner", "--"]
        command = [PYTHON, "starts.py", "", *inner, PYTHON, "waits.py"]
        done = run(*command)
        assert done.returncode == 0, done.stderr
        assert told(done) == []

    def test_a_fork_under_a_name_of_its_own(self) -> None:
        # Its lines are in its parent's recording. Some servers rename their workers.
        Path("forks.py").write_text(
            "import os, sys\n"
            "if os.fork() == 0:\n"
            "    with open('/proc/self/comm', 'w') as name:\n"
            "        name.write('python3: worker')\n"
            "    sys.stdin.read()\n"
            "    os._exit(0)\n"
            "os.wait()\n"
        )
        command = [PYTHON, "starts.py", "", PYTHON, "forks.py"]
        assert told(run(*command)) == []

    def test_what_stands_in_for_docker(self, engine: str, image_without_python: str) -> None:
        # It looks into the image first, in a Python that has to start quickly.
        command = [engine, "run", "--rm", image_without_python, "true"]
        Path("containers.py").write_text(f"import subprocess\nsubprocess.run({command})\n")
        done = run(PYTHON, "containers.py")
        assert done.returncode == 0, done.stderr
        assert [line for line in told(done) if "process" in line] == []

    @pytest.mark.any_python
    def test_other_programs(self) -> None:
        assert told(run(PYTHON, "starts.py", "", "cat")) == []


@pytest.mark.parametrize(
    ("argv", "letters"),
    [
        (["python"], ""),
        (["python", "-S", "x.py"], "S"),
        (["python", "-ISu", "x.py", "-E"], "ISu"),
        (["python", "x.py", "-S"], ""),
        (["python", "-c", "pass", "-S"], "c"),
        (["python", "-Im", "pip", "-S"], "Im"),
        (["python", "-W", "error", "-S", "x.py"], "WS"),
        (["python", "-Werror", "-X", "dev", "-I"], "WXI"),
        (["python", "-", "-S"], ""),
        (["python", "--check-hash-based-pycs", "always", "-S"], "S"),
        (["python", "--", "-S"], ""),
        ([], ""),
    ],
)
@pytest.mark.any_python
def test_the_options_of_python_itself_are_told_from_a_programs(
    argv: list[str], letters: str
) -> None:
    assert command_line(argv).options == frozenset(letters)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel tells of starts")
@pytest.mark.any_python
class TestOfEachStart:
    COMMAND: Final = (PYTHON, "-I", "-S", "-c", "pass")

    def test_the_kernel_tells_however_short_it_is(self) -> None:
        with hcoverage.PythonWatch() as watch:
            subprocess.run(self.COMMAND, check=True)
            assert select.select(watch.descriptors, [], [], 0)[0]

    def test_it_tells_as_the_interpreters_file_is_opened(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # By `exec`, long before it is a Python.
        interpreter = tmp_path / "bin" / "python3.11"
        interpreter.parent.mkdir()
        interpreter.touch()
        monkeypatch.setattr(sys, "executable", str(interpreter))
        monkeypatch.setenv("PATH", "")
        with hcoverage.PythonWatch() as watch:
            interpreter.read_bytes()
            assert select.select(watch.descriptors, [], [], 0)[0]
            # What it is told of is not there yet: it looks again soon, but not for ever.
            pauses = [watch.look(os.getpid()) for _ in range(8)]
        assert pauses[:5] == sorted(pauses[:5])
        assert max(pauses[:5]) < min(pauses[5:])

    def test_a_signal_comes_also_to_who_looks_late(self) -> None:
        # In a process without threads: any thread that does not wait for the signal may get it.
        Path("late.py").write_text(
            "import hcoverage, signal, subprocess\n"
            "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})\n"
            "with hcoverage.PythonWatch() as watch:\n"
            "    watch.signal_with(signal.SIGCHLD)\n"
            f"    subprocess.run({self.COMMAND}, check=True)\n"
            "    print(signal.sigwaitinfo({signal.SIGCHLD}).si_code)\n"
        )
        told = subprocess.check_output([PYTHON, "late.py"], text=True)
        assert int(told) == SI_SIGIO  # not of the end of the child

    def test_a_look_answers_for_what_was_before_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # An interpreter that nobody else on this machine starts meanwhile.
        encodings = tmp_path / "lib" / "python3.11" / "encodings"
        encodings.mkdir(parents=True)
        monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python3.11"))
        monkeypatch.setenv("PATH", "")
        with hcoverage.PythonWatch() as watch:
            assert list(encodings.iterdir()) == []
            assert select.select(watch.descriptors, [], [], 0)[0]
            watch.look(os.getpid())
            assert not select.select(watch.descriptors, [], [], 0)[0]


def test_what_runs_already_is_seen_by_who_comes_later() -> None:
    with subprocess.Popen([PYTHON, "-S", "-c", WAIT], stdin=subprocess.PIPE) as process:
        with hcoverage.DetachedWatch() as watch:
            seen = watch.seen()
        process.communicate(b"\n")
    assert (process.pid,) in [python.pids for python in seen]


def test_a_watch_that_was_killed_has_seen_nothing() -> None:
    with hcoverage.DetachedWatch() as watch:
        (watcher,) = [
            int(process.name)
            for process in Path("/proc").glob("[0-9]*")
            if {b"-I", b"-S", str(os.getpid()).encode()} <= words_of(process)
        ]
        os.kill(watcher, signal.SIGKILL)
        wait_for_the_end_of(watcher)
        assert watch.seen() == []
        assert watch.is_lost


@pytest.mark.any_python
def test_it_is_exported_for_other_runners_than_ours() -> None:
    with (
        hcoverage.PythonWatch() as watch,
        subprocess.Popen([sys.executable, "-c", WAIT], stdin=subprocess.PIPE) as process,
    ):
        while not watch.seen():
            assert watch.look(process.pid) > 0
        (seen,) = watch.seen()
        assert seen.pids == (process.pid,)
        assert seen.is_running
        assert seen.argv == (sys.executable, "-c", WAIT)
        assert seen.environment is not None
        assert seen.environment["PATH"] == os.environ["PATH"]
        process.kill()
        process.wait()
        watch.look(process.pid)
        assert not watch.seen()[0].is_running


def test_the_page_lists_each_reason_and_no_other() -> None:
    page = Path(__file__).parents[2] / "docs" / "messages" / "not-measured.md"
    rows = {line for line in page.read_text(encoding="utf-8").splitlines() if line[:1] == "|"}
    told = {f"| {reason.cause} | {reason.remedy('PYTHON')} |" for reason in Reason}
    assert rows - {"| cause | what to do |", "|---|---|"} == told


PIP_BY_VIRTUALENV: Final = "import runpy; runpy.run_module('pip', run_name='__main__')"
UV: Final = "import sys; from python.get_interpreter_info import main; main()"


@pytest.mark.any_python
@pytest.mark.parametrize(
    ("argv", "is_of_a_tool"),
    [
        (["python", "-I", "-m", "pip", "install", "."], True),
        (["python", "-Im", "ensurepip", "--upgrade"], True),
        (["python", "/venv/bin/pip3.13", "install", "."], True),
        (["python", "/venv/lib/pip/__pip-runner__.py", "install"], True),
        (["python", "-W", "ignore", "-c", PIP_BY_VIRTUALENV], True),
        (["python", "-I", "-B", "-c", UV], True),
        (["python", "-I", "-W", "ignore", "-c", "import json"], True),
        (["python", "-EsS", "/lib/pdm/models/in_process/env_spec.py"], True),
        (["python", "-I", "/lib/virtualenv/discovery/py_info.py"], True),
        (["python", "-m", "pipeline"], False),
        (["python", "-m", "pytest", "pip"], False),
        (["python", "pip/tests.py"], False),
        (["python", "-I", "-c", "import shop"], False),
        (["python", "setup.py", "develop"], False),
        (["python"], False),
    ],
)
def test_what_installs_packages_runs_no_code_of_a_project(
    argv: list[str],
    is_of_a_tool: bool,  # noqa: FBT001
) -> None:
    assert installs(argv) is is_of_a_tool
    assert not builds(argv)


@pytest.mark.any_python
class TestABuild:
    """A build in an environment of its own runs code of the project where that has a script."""

    SCRIPT: Final = "pyproject_hooks/_in_process/_in_process.py"

    @pytest.fixture
    def built(self, make_venv: MakeVenv) -> list[str]:
        """The call of a build backend, in an environment of its own."""
        script = Path("lib", self.SCRIPT)
        script.parent.mkdir(parents=True)
        script.write_text(WAITS)
        return [PYTHON, "starts.py", "none", str(make_venv("other").python), f"./{script}", "build"]

    def test_is_not_told_where_it_runs_none_that_counts(self, built: list[str]) -> None:
        assert told(run(*built)) == []
        Path("setup.py").touch()
        Path(".coveragerc").write_text(f"{RCFILE}omit = setup.py\n")
        assert told(run(*built)) == []

    def test_is_told_with_what_to_do_where_setup_py_counts(self, built: list[str]) -> None:
        Path("setup.py").touch()
        (line,) = told(run(*built))
        assert "setup.py counts; build with `--no-build-isolation`" in line
