"""`hcov run`: set up, run, merge, report, clean up; and the command never notices."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.forks import hcov

import hcoverage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Venv

RCFILE = "[run]\nparallel = True\nsigterm = True\n"
PROGRAM = """\
import subprocess, sys
def only_in_child():
    return "child"
if sys.argv[1:] == ["child"]:
    print(only_in_child())
else:
    subprocess.run([sys.executable, __file__, "child"], check=True, cwd="/")
"""
CATCH = """\
import signal, sys
signals = {int(sys.argv[1])}
signal.pthread_sigmask(signal.SIG_BLOCK, signals)
print("ready", flush=True)
signal.sigwait(signals)
again = signal.sigtimedwait(signals, 0.2)
sys.exit(42 if again else 41)
"""
JAILED = """\
import os, sys
child = os.fork()
if not child:
    os.chroot(sys.argv[1])
    os.chdir("/")
    sys.path.insert(0, "/")
    import late
    late.run()
    os._exit(0)
os.waitpid(child, 0)
"""
ASKS_FOR_BRANCHES = """\
from coverage import CoveragePlugin

class Asks(CoveragePlugin):
    def configure(self, config):
        config.set_option("run:branch", True)

def coverage_init(registry, options):
    registry.add_configurer(Asks())
"""
HCOV = (sys.executable, "-m", "hcov")


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with an rcfile and a program that starts itself elsewhere; we are in it."""
    (tmp_path / ".coveragerc").write_text(RCFILE)
    (tmp_path / "program.py").write_text(PROGRAM)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return hcov("run", *arguments)


def executed(name: str = "program.py") -> list[int]:
    command = [sys.executable, "-m", "coverage", "json", "-q", "-o", "-"]
    environment = hcoverage.unmeasured_environment(os.environ)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    lines: list[int] = json.loads(done.stdout)["files"][name]["executed_lines"]
    return lines


class TestWhole:
    @pytest.mark.parametrize("core", ["auto", "coverage"])
    def test_parent_and_child_are_in_one_report(self, project: Path, core: str) -> None:
        done = run(f"--core={core}", "--", sys.executable, "program.py")
        assert done.returncode == 0, done.stderr
        assert executed() == [1, 2, 3, 4, 5, 7]
        assert "program.py" in done.stdout
        recorded = core == "auto" and sys.version_info >= (3, 12)
        measured = "recorded processes" if recorded else "data files of coverage.py"
        assert f"merged: 2 {measured}, into .coverage" in done.stderr
        assert (
            f"{'recorder' if recorded else 'coverage.py'}: 2 processes on this host" in done.stderr
        )
        assert f"core: {'recorder' if recorded else 'coverage'}, since" in done.stderr
        assert {path.name for path in project.iterdir()} == {
            ".coverage",
            ".coveragerc",
            "program.py",
        }

    @pytest.mark.thorough
    def test_the_numbers_are_those_of_the_steps_by_hand(
        self, project: Path, fresh_venv: Venv
    ) -> None:
        run("--", sys.executable, "program.py")
        whole = executed()
        (project / ".coverage").unlink()
        by_hand = """
            set -e
            eval "$(hcov inject 2>/dev/null)"
            hcov commands setup > setup.sh; . ./setup.sh
            coverage run --parallel-mode program.py
            coverage combine -q
            hcov remove >/dev/null
        """
        path = f"{fresh_venv.python.parent}{os.pathsep}{os.environ['PATH']}"
        environment = {**hcoverage.unmeasured_environment(os.environ), "PATH": path}
        subprocess.run(["sh", "-c", by_hand], env=environment, check=True, capture_output=True)
        assert executed() == whole

    def test_its_state_is_that_of_the_setup_steps(self, project: Path) -> None:
        code = (
            "import os, stat, pathlib; d = pathlib.Path(os.environ['HCOVERAGE_DATA_DIR']); "
            "print(d, *(oct(p.stat().st_mode & 0o777) for p in (d, d / '.coveragerc')),"
            " os.path.isabs(os.environ['COVERAGE_PROCESS_START']))"
        )
        done = run("-q", "--core=coverage", "--", sys.executable, "-c", code)
        directory, *state = done.stdout.split()
        assert state == ["0o777", "0o644", "True"]
        assert not Path(directory).is_relative_to(project)

    @pytest.mark.thorough
    @pytest.mark.parametrize("kind", ["html", "xml", "json", "lcov"])
    @pytest.mark.any_python
    def test_writes_the_reports_asked_for(self, project: Path, kind: str) -> None:
        assert run(f"--{kind}", "--", sys.executable, "program.py").returncode == 0
        name = "htmlcov/index.html" if kind == "html" else f"coverage.{kind}"
        assert (project / name).exists()

    @pytest.mark.any_python
    def test_works_without_an_rcfile_and_says_so(self, project: Path) -> None:
        (project / ".coveragerc").unlink()
        done = run("--", sys.executable, "program.py")
        assert "hcov init" in done.stderr
        assert executed() == [1, 2, 3, 4, 5, 7]

    @pytest.mark.any_python
    def test_settings_in_pyproject_serve(self, project: Path) -> None:
        (project / ".coveragerc").unlink()
        (project / "pyproject.toml").write_text("[tool.coverage.run]\nparallel = true\n")
        assert run("--", sys.executable, "program.py").returncode == 0
        assert executed() == [1, 2, 3, 4, 5, 7]

    @pytest.mark.thorough
    def test_multiprocessing_children_that_move_away_strand_nothing(self, project: Path) -> None:
        (project / ".coveragerc").write_text(RCFILE + "concurrency = multiprocessing\n")
        elsewhere = project / "elsewhere"
        elsewhere.mkdir()
        (project / "pool.py").write_text(
            "import multiprocessing, os\n"
            "def work():\n"
            "    return 1\n"
            "if __name__ == '__main__':\n"
            "    os.chdir('elsewhere')\n"
            "    process = multiprocessing.get_context('spawn').Process(target=work)\n"
            "    process.start()\n"
            "    process.join()\n"
        )
        done = run("--", sys.executable, "pool.py")
        assert done.returncode == 0, done.stderr
        assert 3 in executed("pool.py")
        assert list(elsewhere.iterdir()) == []

    @pytest.mark.thorough
    @pytest.mark.any_python
    @pytest.mark.skipif(os.getuid() != 0, reason="chroot needs root")
    @pytest.mark.parametrize("core", ["auto", "coverage"])
    @pytest.mark.parametrize("jail", [".", "jails/one"])
    def test_what_ran_after_chroot_into_the_project_counts(
        self, project: Path, core: str, jail: str
    ) -> None:
        (project / "program.py").write_text(JAILED)
        late = project / jail / "late.py"
        late.parent.mkdir(parents=True, exist_ok=True)
        late.write_text("def run():\n    return 1\nif __name__ == 'x':\n    run()\n")
        # coverage.py leaves out what is not below its `source`, whatever the root is.
        if core == "auto" and sys.version_info >= (3, 12):
            (project / ".coveragerc").write_text(f"{RCFILE}source = .\n")
        done = run(f"--core={core}", "--", sys.executable, "program.py", jail)
        assert done.returncode == 0, done.stderr
        assert executed(str(late.relative_to(project))) == [1, 2, 3]

    def test_append_adds_to_the_run_before(self) -> None:
        run("--", sys.executable, "program.py", "child")
        assert executed() == [1, 2, 3, 4, 5]
        run("--append", "--", sys.executable, "program.py")
        assert executed() == [1, 2, 3, 4, 5, 7]

    @pytest.mark.thorough
    @pytest.mark.any_python
    @pytest.mark.parametrize("core", ["auto", "coverage"])
    def test_what_runs_in_the_command_measure_is_in_it(self, project: Path, core: str) -> None:
        """As where a Makefile or tox measures by itself; the last of them has the data file.

        One of them has an rcfile of its own, by which what it runs outside of it does not count.
        """
        names = ("first", "between", "part/deep", "lib", "last")
        (project / "part").mkdir()
        (project / "part" / ".coveragerc").write_text(
            "[run]\nsource = .\nrelative_files = True\nbranch = True\n"
        )
        for name in names:
            (project / f"{name}.py").write_text("x = 1\n")
        (project / "part/deep.py").write_text("import lib\n")
        python, inner = f"'{sys.executable}'", f"'{sys.executable}' -m hcov run --no-containers --"
        deep = f"(cd part && PYTHONPATH=.. {inner} {python} deep.py)"
        commands = [f"{inner} {python} first.py", f"{python} between.py", deep]
        commands.append(f"{inner} {python} last.py")
        done = run(f"--core={core}", "--", "sh", "-ec", "; ".join(commands))
        assert done.returncode == 0, done.stderr
        assert [executed(f"{name}.py") for name in names] == [[1]] * len(names)

    def test_somebody_elses_measuring_of_hcov_itself_does_not_replace_it(
        self, project: Path
    ) -> None:
        (project / ".coveragerc").write_text("[run]\nsource = .\n")
        subprocess.run(
            [*HCOV, "run", "--no-containers", "--", sys.executable, "program.py"],
            env={**os.environ, "COVERAGE_PROCESS_START": ".coveragerc"},
            check=True,
        )
        assert executed() == [1, 2, 3, 4, 5, 7]

    def test_a_plugin_of_the_rcfile_can_ask_for_branches(self, project: Path) -> None:
        (project / ".coveragerc").write_text("[run]\nsource = .\nplugins = asks\n")
        (project / "asks.py").write_text(ASKS_FOR_BRANCHES)
        done = run("--", sys.executable, "program.py")
        assert done.returncode == 0, done.stderr
        assert re.search(r"^program\.py +6 +0 +2 +0 +100%$", done.stdout, re.MULTILINE)

    def test_data_of_an_unmerged_run_is_kept_apart_and_told(self, project: Path) -> None:
        data = project / "coverage_data"
        data.mkdir()
        (data / ".coverage.h.pid1.Xa").write_bytes(b"old")
        done = run("--", sys.executable, "program.py")
        assert done.returncode == 0, done.stderr
        assert "earlier run" in done.stderr
        (kept,) = data.glob("previous/*/.coverage.*")
        assert kept.read_bytes() == b"old"


class TestTheCommandNeverNotices:
    @pytest.mark.any_python
    @pytest.mark.parametrize("status", [0, 1, 2, 3, 77, 125, 255])
    def test_its_exit_status_is_kept(self, status: int) -> None:
        Path("ends.py").write_text(f"raise SystemExit({status})\n")
        assert run("--", sys.executable, "ends.py").returncode == status

    @pytest.mark.any_python
    @pytest.mark.thorough
    @pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM, signal.SIGABRT])
    def test_a_signal_that_ends_it_is_128_more(self, signum: signal.Signals) -> None:
        code = f"import os; os.kill(os.getpid(), {int(signum)})"
        assert run("--", sys.executable, "-c", code).returncode == 128 + signum

    @pytest.mark.thorough
    @pytest.mark.parametrize(
        "signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGQUIT]
    )
    def test_signals_are_passed_on_once_and_its_answer_is_waited_for(
        self, project: Path, signum: signal.Signals
    ) -> None:
        (project / "catch.py").write_text(CATCH)
        with subprocess.Popen(
            [*HCOV, "run", "-q", "--", sys.executable, "catch.py", str(int(signum))],
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            process.send_signal(signum)
        assert process.returncode == 41
        assert executed("catch.py")[-1] == 7

    @pytest.mark.thorough
    def test_ctrl_c_at_a_terminal_reaches_it_once(self, project: Path) -> None:
        (project / "catch.py").write_text(CATCH)
        catch = [sys.executable, "catch.py", str(int(signal.SIGINT))]
        pid, terminal = pty.fork()
        if pid == 0:  # pragma: no cover - becomes hcov
            os.execv(HCOV[0], [*HCOV, "run", "-q", "--", *catch])  # noqa: S606
        with os.fdopen(terminal, "r+b", buffering=0) as screen:
            shown = b""
            while b"ready" not in shown:
                shown += screen.read(100)
            screen.write(b"\x03")
            _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == 41

    def test_its_output_and_input_are_its_own(self) -> None:
        # The third as of a shell's <(…), or of make's jobserver.
        code = (
            "import os, sys; print(sys.stdin.read(), os.read(int(sys.argv[1]), 9).decode());"
            "print('err', file=sys.stderr)"
        )
        command = [*HCOV, "run", "-q", "--", sys.executable, "-c", code]
        end, beginning = os.pipe()
        os.write(beginning, b"three")
        done = subprocess.run(
            [*command, str(end)],
            input="one\ntwo\n",
            capture_output=True,
            text=True,
            check=False,
            pass_fds=[end],
        )
        os.close(end)
        os.close(beginning)
        assert (done.stdout, done.stderr) == ("one\ntwo\n three\n", "err\n")

    @pytest.mark.thorough
    def test_its_own_coverage_commands_find_their_own_data(self, project: Path) -> None:
        inner = project / "inner"
        inner.mkdir()
        (inner / "x.py").write_text("a = 1\n")
        code = (
            "import subprocess, sys; c = [sys.executable, '-m', 'coverage']; "
            "subprocess.run([*c, 'run', '-p', 'x.py'], cwd='inner', check=True); "
            "subprocess.run([*c, 'combine', '-q'], cwd='inner', check=True)"
        )
        (project / "outer.py").write_text(code)
        done = run("--", sys.executable, "outer.py")
        assert done.returncode == 0, done.stderr
        assert (inner / ".coverage").exists()
        assert executed("outer.py") == [1]


@pytest.mark.thorough
class TestLiveReport:
    @pytest.fixture
    def running(self, project: Path) -> Iterator[subprocess.Popen[str]]:
        """A run whose program has run some of its lines, and waits."""
        (project / "waits.py").write_text(
            "def before():\n    return 1\nbefore()\nprint('ready', flush=True)\ninput()\n"
            "after = 1\n"
        )
        with subprocess.Popen(
            [*HCOV, "run", "-q", "--", sys.executable, "waits.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process

    def test_shows_the_lines_so_far_and_leaves_the_run_alone(
        self, running: subprocess.Popen[str]
    ) -> None:
        shown = hcov("report", "--live")
        assert shown.returncode == 0, shown.stderr
        (line,) = [line for line in shown.stdout.splitlines() if line.startswith("waits.py")]
        assert line.split() == ["waits.py", "6", "1", "83%"]
        assert hcov("report", "--live").stdout == shown.stdout
        running.communicate("\n")
        assert running.returncode == 0
        assert executed("waits.py") == [1, 2, 3, 4, 5, 6]

    def test_of_nothing_says_so(self, project: Path) -> None:
        assert hcov("report", "--live").returncode == 1
        (project / "coverage_data").mkdir()
        assert "no data to combine" in hcov("report", "--live").stderr


@pytest.mark.thorough
@pytest.mark.any_python
def test_report_alone_prints_the_merged_data_again() -> None:
    run("--", sys.executable, "program.py")
    shown = hcov("report")
    assert shown.returncode == 0
    assert "program.py" in shown.stdout


@pytest.mark.thorough
@pytest.mark.any_python
class TestExitStatus:
    def test_2_when_the_total_is_under_the_threshold(self) -> None:
        done = run("--fail-under=99", "--", sys.executable, "program.py", "child")
        assert done.returncode == 2
        assert run("--fail-under=50", "--", sys.executable, "program.py", "child").returncode == 0

    def test_the_commands_own_failure_comes_first(self) -> None:
        code = "raise SystemExit(7)"
        Path("fails.py").write_text(code)
        assert run("--fail-under=100", "--", sys.executable, "fails.py").returncode == 7

    def test_3_when_nothing_was_measured(self) -> None:
        done = run("--", "true")
        assert done.returncode == 3
        assert "nothing was measured" in done.stderr

    def test_3_when_a_data_file_is_set_aside_and_kept(self, project: Path) -> None:
        code = "open('data/.coverage.h.pid1.Xbad', 'w').write('bad')"
        Path("spoil.py").write_text(code)
        done = run("--data-dir", "data", "--", sys.executable, "spoil.py")
        assert done.returncode == 3
        assert "not merged: data/.coverage.h.pid1.Xbad" in done.stderr
        assert (project / "data/.coverage.h.pid1.Xbad").exists()
        assert executed("spoil.py") == [1]

    def test_127_for_no_such_command(self) -> None:
        done = run("--", "nosuchcommand")
        assert done.returncode == 127
        assert "'nosuchcommand'" in done.stderr

    def test_126_for_what_cannot_be_executed(self) -> None:
        assert run("--", "./program.py").returncode == 126


@pytest.mark.thorough
@pytest.mark.any_python
class TestFailingBeforeTheCommandRuns:
    """Status 125, the reason with its fix, and nothing left behind."""

    def refused(self, *arguments: str) -> str:
        done = run(*arguments, "--", sys.executable, "-c", "print('RAN')")
        assert done.returncode == 125, done
        assert "RAN" not in done.stdout
        assert "Traceback" not in done.stderr
        return done.stderr

    def test_a_missing_rcfile(self) -> None:
        assert "hcov init" in self.refused("--rcfile=nosuch")

    def test_an_rcfile_that_coverage_cannot_parse(self) -> None:
        Path(".coveragerc").write_text("[run\n")
        assert ".coveragerc" in self.refused()

    @pytest.mark.parametrize(
        ("setting", "reason"),
        [
            ("branch = perhaps", "coverage.py cannot use"),
            ("source_dirs = nosuch", "no such directory here"),
            ("plugins = nosuch", "pip install"),
            # What it refuses in each process, as data is combined, or in a report.
            ("omit = **.py", "[run] omit: File pattern"),
            ("include = a***b", "[run] include: File pattern"),
            ("core = fast", "Unknown core value: 'fast'"),
            ("patch = nosuch", "Unknown patch 'nosuch'"),
            ("dynamic_context = nosuch", "dynamic_context setting: 'nosuch'"),
            ("[report]\nomit = x/**y", "[report] omit: File pattern"),
            ("[report]\ninclude = ***", "[report] include: File pattern"),
            ("[report]\nfail_under = 101", "fail_under=101.0 is not between"),
            ("[report]\nprecision = -1", "precision=-1 is negative"),
            ("[paths]\napp =", "[paths] app has no path"),
            ("[paths]\napp =\n  src\n  /app/*", "[paths] app: Pattern must not end"),
            ("[paths]\napp =\n  s*c\n  /app", "[paths] app: Result path"),
        ],
    )
    def test_an_rcfile_that_coverage_refuses(
        self, project: Path, setting: str, reason: str
    ) -> None:
        Path(".coveragerc").write_text(f"[run]\n{setting}\n")
        assert reason in self.refused()
        assert not (project / "coverage_data").exists()

    def test_a_file_in_the_place_of_the_data_directory(self) -> None:
        Path("coverage_data").touch()
        assert "remove what is in its place" in self.refused()
        assert Path("coverage_data").is_file()

    def test_a_data_directory_that_cannot_be_made(self) -> None:
        assert "cannot use /proc/nowhere" in self.refused("--data-dir=/proc/nowhere")

    def test_a_data_directory_that_another_run_uses(self) -> None:
        Path("waits.py").write_text("print(1, flush=True)\ninput()\n")
        with subprocess.Popen(
            [*HCOV, "run", "-q", "--data-dir", "data", "--", sys.executable, "waits.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            assert "another run" in self.refused("--data-dir=data")
            assert Path("data/.coveragerc").exists()
            process.communicate("\n")
        assert process.returncode == 0

    @pytest.mark.skipif(sys.platform == "darwin", reason="its file system refuses such names")
    def test_a_directory_whose_name_no_data_can_hold(
        self, project: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        odd = project / os.fsdecode(b"caf\xe9")
        odd.mkdir()
        monkeypatch.chdir(odd)
        assert "caf\\udce9 is no UTF-8" in self.refused()

    def test_a_command_that_is_missing_is_a_usage_error(self) -> None:
        assert hcov("run").returncode == 2


@pytest.mark.parametrize("core", ["auto", "coverage"])
@pytest.mark.parametrize(
    "use",
    ["", "; own.start(); second(); own.stop()", "; own.start(); second(); own.stop(); own.save()"],
    ids=["reads", "measures", "saves"],
)
def test_a_program_that_uses_coverages_own_library_loses_nothing(
    project: Path, use: str, core: str
) -> None:
    (project / "user.py").write_text(
        "import coverage\n"
        "def first():\n"
        "    return 1\n"
        "def second():\n"
        "    return 2\n"
        "first()\n"
        f"own = coverage.Coverage(data_file='own', config_file=False){use}\n"
        "first()\n"
    )
    done = run(f"--core={core}", "--", sys.executable, "user.py")
    assert done.returncode == 0, done.stderr
    records = core == "auto" and sys.version_info >= (3, 12)
    wanted = {*range(1, 9)} if use and records else {1, 2, 3, 4, 6, 7, 8}
    assert {*executed("user.py")} >= wanted


@pytest.mark.skipif(sys.platform == "darwin", reason="its file system refuses such names")
def test_a_file_whose_name_no_data_can_hold_is_left_alone(project: Path) -> None:
    odd = project / os.fsdecode(b"caf\xe9")
    odd.mkdir()
    for place in (odd / "inside.py", project / os.fsdecode(b"\xff.py")):
        place.write_text("x = 1\n")
    done = run("--", sys.executable, "program.py")
    assert done.returncode == 0, done.stderr
    assert executed() == [1, 2, 3, 4, 5, 7]


@pytest.mark.parametrize("core", ["auto", "coverage"])
def test_a_backslash_in_a_name_is_no_separator(
    project: Path, core: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = project / "one\\two"
    odd.mkdir()
    (odd / "program.py").write_text(PROGRAM)
    monkeypatch.chdir(odd)
    done = run(f"--core={core}", "--", sys.executable, "program.py")
    assert done.returncode == 0, done.stderr
    assert executed() == [1, 2, 3, 4, 5, 7]


@pytest.mark.any_python
def test_a_data_directory_with_spaces_and_quotes(project: Path) -> None:
    name = 'it\'s "the" data; $x'
    done = run("--data-dir", name, "--", sys.executable, "program.py")
    assert done.returncode == 0, done.stderr
    assert executed() == [1, 2, 3, 4, 5, 7]
    assert not (project / name).exists()
