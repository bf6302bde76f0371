"""A session reaches each process by some door, with the core that fits, and mixes with none."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import hcoverage
from hcoverage import Core

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import MakeVenv, Venv

RCFILE = "[run]\nparallel = True\n"
RECORDS = sys.version_info >= (3, 12)
pytestmark = pytest.mark.usefixtures("clean_environment")

needs_recorder = pytest.mark.skipif(not RECORDS, reason="the recorder needs Python 3.12")


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with an rcfile and a program; the current directory."""
    project = tmp_path / "project"
    project.mkdir()
    (project / ".coveragerc").write_text(RCFILE)
    (project / "one.py").write_text("a = 1\nb = 2\n")
    monkeypatch.chdir(project)
    return project


@pytest.fixture
def venv(make_venv: MakeVenv) -> Venv:
    """A virtual environment with hcoverage in it, where sessions are opened."""
    return make_venv("home", coverage_hook=True)


def session(venv: Venv, program: str, **env: str) -> dict[str, list[int]]:
    """Run shell text in a session of an environment's own; give the executed lines by file name."""
    code = (
        "import sys, subprocess, hcoverage, json, pathlib\n"
        "from coverage import CoverageData\n"
        "with hcoverage.open_session() as session:\n"
        "    subprocess.run(['sh', '-ec', sys.argv[1]], env=session.environment, check=True)\n"
        "    hcoverage.combine(session.data_paths(), coveragerc=session.rcfile.path)\n"
        "data = CoverageData()\n"
        "data.read()\n"
        "print(json.dumps({pathlib.Path(f).name: sorted(data.lines(f)) for f in"
        " data.measured_files()}))\n"
    )
    done = subprocess.run(
        [venv.python, "-c", code, program],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines: dict[str, list[int]] = json.loads(done.stdout.splitlines()[-1])
    return lines


class TestDoors:
    def test_the_hook_reaches_children_with_an_empty_environment(self, venv: Venv) -> None:
        assert session(venv, f"env -i {venv.word} one.py")["one.py"] == [1, 2]

    @pytest.mark.parametrize("options", ["-I", "-E", "-I -E", "-s", "-P"])
    def test_the_hook_reaches_children_that_ignore_the_environment(
        self, venv: Venv, options: str
    ) -> None:
        if options == "-P" and sys.version_info < (3, 11):
            pytest.skip("no -P yet")
        assert session(venv, f"env -i {venv.word} {options} one.py")["one.py"] == [1, 2]

    @needs_recorder
    def test_the_startup_directory_reaches_an_environment_without_a_hook(
        self, venv: Venv, make_venv: MakeVenv
    ) -> None:
        bare = make_venv("bare")
        assert session(venv, f"{bare.word} one.py")["one.py"] == [1, 2]

    def test_the_sitecustomize_that_it_hides_runs(
        self, venv: Venv, make_venv: MakeVenv, project: Path
    ) -> None:
        bare = make_venv("bare")
        # Not in its site-packages: before those comes the one that Debian has among the libraries.
        theirs = project / "theirs"
        theirs.mkdir()
        (theirs / "sitecustomize.py").write_text("import os\nos.environ['RAN'] = '1'\n")
        Path("sees.py").write_text(
            "import os, sys, sitecustomize\n"
            "assert os.environ['RAN'] == '1'\n"
            "assert 'theirs' in sitecustomize.__file__\n"
            "assert os.environ['HCOVERAGE_SESSION'] not in sys.path\n"
        )
        session(venv, f"{bare.word} sees.py; {venv.word} one.py", PYTHONPATH=str(theirs))

    def test_without_one_an_import_of_it_does_no_harm(
        self, venv: Venv, make_venv: MakeVenv
    ) -> None:
        bare = make_venv("bare")
        session(venv, f"{bare.word} -c pass; {venv.word} one.py")

    @pytest.mark.thorough
    def test_a_python_path_of_the_childs_own_works(self, venv: Venv, project: Path) -> None:
        (project / "lib").mkdir()
        (project / "lib" / "mine.py").write_text("x = 1\n")
        Path("uses.py").write_text("import mine\n")
        for python_path in ("lib", "lib:$PYTHONPATH"):
            lines = session(venv, f"PYTHONPATH={python_path} {venv.word} uses.py")
            assert lines == {"uses.py": [1], "mine.py": [1]}

    def test_a_sitecustomize_before_ours_hides_nothing(self, venv: Venv, project: Path) -> None:
        (project / "lib").mkdir()
        (project / "lib" / "sitecustomize.py").write_text("x = 1\n")
        lines = session(venv, f"PYTHONPATH=lib:$PYTHONPATH {venv.word} one.py")
        assert lines["one.py"] == [1, 2]

    def test_the_python_path_around_the_session_is_kept(self, venv: Venv, project: Path) -> None:
        (project / "lib").mkdir()
        (project / "lib" / "mine.py").write_text("x = 1\n")
        Path("uses.py").write_text("import mine\n")
        lines = session(venv, f"{venv.word} uses.py", PYTHONPATH=str(project / "lib"))
        assert lines == {"uses.py": [1], "mine.py": [1]}

    def test_a_python_of_long_ago_is_left_in_peace(self, venv: Venv) -> None:
        old = next(Path.home().glob(".pyenv/versions/[23].[67].*/bin/python"), None)
        if old is None:
            pytest.skip("no Python before 3.8 here")
        session(venv, f"{shlex.quote(str(old))} -c 'import sys; sys.exit(0)'; {venv.word} one.py")

    def test_a_python_that_needs_an_older_coverage_is_told_how_to_get_it(
        self, make_venv: MakeVenv
    ) -> None:
        other = make_venv("other")
        (other.site_packages / "coverage").rename(other.path / "coverage")
        with hcoverage.open_session(core="coverage") as session:
            # What runs here, in a grammar that the other does not know.
            ours = Path(session.environment["HCOVERAGE_SESSION"], "lib", "coverage")
            ours.unlink()
            ours.mkdir()
            (ours / "__init__.py").write_text("import later than = now\n")
            environment = dict(session.environment)
            done = subprocess.run(
                [other.python, "one.py"], env=environment, capture_output=True, check=False
            )
            (problem,) = session.problems()
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
        assert problem.endswith(
            "(SyntaxError: invalid syntax (__init__.py, line 1)): "
            f"`{other.python} -m pip install coverage` installs one that does"
        )

    def test_all_doors_are_closed_afterwards(self, venv: Venv) -> None:
        before = {path.name for path in venv.site_packages.iterdir()}
        session(venv, f"{venv.word} one.py")
        assert {path.name for path in venv.site_packages.iterdir()} == before

    @pytest.mark.thorough
    def test_a_killed_sessions_door_is_closed_by_the_next(self, venv: Venv) -> None:
        code = "import hcoverage, os\nwith hcoverage.open_session():\n    os.kill(os.getpid(), 9)\n"
        subprocess.run([venv.python, "-c", code], check=False)
        assert (venv.site_packages / "coverage.pth").exists()
        before = {path.name for path in venv.site_packages.iterdir()}
        session(venv, f"{venv.word} one.py")
        after = {path.name for path in venv.site_packages.iterdir()}
        assert before - after == {"coverage.pth", "coverage.sessions", "_coverage_hook.py"}


def test_a_session_in_a_session_has_only_its_own_doors(
    venv: Venv, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    code = (
        "import hcoverage, os\n"
        "with hcoverage.open_session(data_dir='outer') as outer:\n"
        "    os.environ.update(outer.environment)\n"
        "    with hcoverage.open_session(data_dir='inner') as inner:\n"
        "        print(inner.environment['PYTHONPATH'] == inner.environment['HCOVERAGE_SESSION'])\n"
    )
    done = subprocess.run([venv.python, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


@pytest.mark.thorough
class TestTwoSessionsInOneEnvironment:
    OPEN = (
        "import hcoverage, subprocess, sys, os\n"
        "os.environ['COVERAGE_FILE'] = sys.argv[1] + '.merged'\n"
        "with hcoverage.open_session(data_dir=sys.argv[1]) as session:\n"
        "    print('open', flush=True)\n"
        "    sys.stdin.readline()\n"
        "    subprocess.run(sys.argv[2:], env={}, check=True)\n"
        "    session.combine(session.data_file)\n"
    )

    @pytest.fixture
    def two(self, venv: Venv) -> Iterator[list[subprocess.Popen[str]]]:
        """Two sessions that are both open."""
        processes = []
        for name in ("first", "second"):
            Path(f"{name}.py").write_text("x = 1\n")
            processes.append(
                subprocess.Popen(
                    [venv.python, "-c", self.OPEN, f"{name}_data", venv.python, f"{name}.py"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "open\n"
        yield processes
        for process in processes:
            process.kill()
            process.communicate()

    def test_children_with_an_empty_environment_find_their_own(
        self, two: list[subprocess.Popen[str]]
    ) -> None:
        for process in two:
            process.communicate("\n")
            assert process.returncode == 0
        for name in ("first", "second"):
            assert _measured(Path(f"{name}_data.merged")) == {f"{name}.py"}

    @pytest.mark.any_python
    def test_that_start_and_end_at_once_lose_no_child(self, venv: Venv) -> None:
        sessions = []
        for number in range(12):
            Path(f"child{number}.py").write_text("x = 1\n")
            child = [str(venv.python), f"child{number}.py"]
            sessions.append(
                subprocess.Popen(
                    [venv.python, "-c", self.OPEN, f"data{number}", *child],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
        said = [session.communicate()[1] for session in sessions]
        assert ([session.returncode for session in sessions], said) == ([0] * 12, [""] * 12)
        for number in range(12):
            assert _measured(Path(f"data{number}.merged")) == {f"child{number}.py"}
        assert not list(venv.site_packages.glob("coverage.*"))

    def test_a_python_that_is_nobodys_is_not_measured(
        self, venv: Venv, two: list[subprocess.Popen[str]]
    ) -> None:
        subprocess.run([venv.python, "one.py"], check=True)
        for process in two:
            process.communicate("\n")
        assert "one.py" not in _measured(Path("first_data.merged"))
        assert "one.py" not in _measured(Path("second_data.merged"))


class TestChoosingTheCore:
    def choice(self, rcfile: str = "", core: str | None = None) -> hcoverage.CoreChoice:
        Path(".coveragerc").write_text(RCFILE + rcfile)
        with hcoverage.open_session(core=core) as session:
            return session.core

    @needs_recorder
    def test_auto_takes_the_recorder_where_it_is_exact(self) -> None:
        assert self.choice() == hcoverage.CoreChoice(
            Core.RECORDER, "it is exact for this rcfile", (3, 12)
        )

    @needs_recorder
    def test_auto_takes_the_recorder_for_branches(self) -> None:
        assert self.choice("branch = True\n").core is Core.RECORDER

    @needs_recorder
    def test_auto_takes_the_recorder_for_contexts_of_test_functions(self) -> None:
        wanted = "dynamic_context = test_function\n"
        assert self.choice(wanted).core is Core.RECORDER
        core = Core.RECORDER if sys.version_info < (3, 14) else Core.COVERAGE
        assert self.choice(f"{wanted}branch = True\n").core is core

    @needs_recorder
    @pytest.mark.parametrize(
        ("registered", "core"),
        [
            ("file_tracer", Core.COVERAGE),
            ("dynamic_context", Core.COVERAGE),
            ("configurer", Core.RECORDER),
            ("noop", Core.RECORDER),
        ],
    )
    def test_plugins_that_measure_are_coverages_business(
        self, project: Path, registered: str, core: Core
    ) -> None:
        (project / "plug.py").write_text(
            "import coverage\nprint('loaded')\nclass Plug(coverage.CoveragePlugin):\n"
            "    def configure(self, config):\n        config.set_option('run:branch', True)\n"
            f"def coverage_init(reg, options):\n    reg.add_{registered}(Plug())\n"
        )
        choice = self.choice("plugins = plug\n")
        assert choice.core is core
        if core is Core.COVERAGE:
            assert "plug" in choice.reason
        else:
            assert choice.settings is not None
            assert choice.settings.branch is (registered == "configurer")

    def test_a_plugin_that_fails_is_coverages_to_tell(self, project: Path) -> None:
        (project / "plug.py").write_text("def coverage_init(reg, options):\n    1 // 0\n")
        choice = self.choice("plugins = plug\n")
        assert choice.core is Core.COVERAGE

    def test_a_plugin_of_the_project_is_not_imported_by_who_may_be_measured(
        self, project: Path
    ) -> None:
        (project / "plug.py").write_text("def coverage_init(reg, options):\n    pass\n")
        self.choice("plugins = plug\n")
        assert "plug" not in sys.modules

    @pytest.mark.skipif(RECORDS, reason="records")
    def test_an_older_python_says_so(self) -> None:
        assert "3.12" in self.choice().reason

    def test_the_option_comes_before_the_variable_before_the_rcfile(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked = "[hcoverage]\ncore = coverage\n"
        assert self.choice(asked).core is Core.COVERAGE
        monkeypatch.setenv("HCOVERAGE_CORE", "auto")
        assert self.choice(asked).core is (Core.RECORDER if RECORDS else Core.COVERAGE)
        assert self.choice(asked, core="coverage").core is Core.COVERAGE

    def test_toml_has_a_section_of_its_own_for_it(self) -> None:
        Path(".coveragerc").unlink()
        Path("pyproject.toml").write_text(
            "[tool.coverage.run]\nparallel = true\n[tool.hcoverage]\ncore = 'coverage'\n"
        )
        with hcoverage.open_session() as session:
            assert session.core.core is Core.COVERAGE

    def test_an_unknown_core_names_those_there_are(self) -> None:
        with pytest.raises(hcoverage.CoreError, match="auto, recorder, coverage"):
            self.choice("[hcoverage]\ncore = magic\n")

    def test_a_recorder_that_cannot_do_it_is_an_error_not_a_surprise(self, project: Path) -> None:
        (project / "plug.py").write_text("def coverage_init(reg, options):\n    1 // 0\n")
        with pytest.raises(hcoverage.CoreError, match="cannot measure this"):
            self.choice("plugins = plug\n", core="recorder")


@needs_recorder
class TestRecordings:
    def test_a_source_that_changed_since_is_told_not_mis_drawn(self, project: Path) -> None:
        with hcoverage.open_session(core="recorder") as session:
            environment = dict(session.environment)
            (project / "two.py").write_text("import one\n")
            subprocess.run([sys.executable, "two.py"], env=environment, check=True)
            (project / "one.py").write_text("# new\na = 1\nb = 2\n")
            result = hcoverage.combine(session.data_paths())
        assert result.stale == (str(project / "one.py"),)
        assert _measured(result.data_file) == {"two.py"}

    def test_a_damaged_recording_is_kept_and_told(self) -> None:
        with hcoverage.open_session(core="recorder") as session:
            for _ in range(2):
                subprocess.run(
                    [sys.executable, "one.py"], env=dict(session.environment), check=True
                )
            damaged, _ = session.data_dir.glob("*.hcrec")
            damaged.write_bytes(damaged.read_bytes()[:40])
            result = hcoverage.combine(session.data_paths())
            assert [item.path for item in result.set_aside] == [damaged]
            assert damaged.exists()
        assert _measured(result.data_file) == {"one.py"}

    def test_recordings_and_data_files_are_one_result(self, project: Path) -> None:
        (project / "two.py").write_text("x = 1\n")
        with hcoverage.open_session(core="recorder") as session:
            subprocess.run([sys.executable, "one.py"], env=dict(session.environment), check=True)
            subprocess.run(
                [sys.executable, "-m", "coverage", "run", "--parallel-mode", "two.py"],
                env={**os.environ, "COVERAGE_FILE": str(session.data_dir / ".coverage")},
                check=True,
            )
            result = hcoverage.combine(session.data_paths())
        assert _measured(result.data_file) == {"one.py", "two.py"}
        assert len(result.recorded) == len(result.data_files) == 1

    def test_branches_that_were_not_recorded_are_set_aside(self) -> None:
        with hcoverage.open_session(core="recorder") as session:
            subprocess.run([sys.executable, "one.py"], env=dict(session.environment), check=True)
            Path("branch.rc").write_text(RCFILE + "branch = True\n")
            with pytest.raises(hcoverage.CombineError, match="wants branches"):
                hcoverage.combine(session.data_paths(), coveragerc="branch.rc")
            assert len(list(session.data_dir.glob("*.hcrec"))) == 1

    @pytest.mark.parametrize("core", ["recorder", "coverage"])
    def test_what_could_not_be_recorded_is_told_once_and_the_application_goes_on(
        self, core: str
    ) -> None:
        # No file of more than so many times 512 bytes, as a quota would have it: nothing can be
        # recorded, or all of it, but no room is left for a data file.
        for limit, losses in ((0, ["could record nothing: File too large"]), (8, [])):
            with hcoverage.open_session(core=core) as session:
                environment = dict(session.environment)
                subprocess.run([sys.executable, "one.py"], env=environment, check=True)
                Path("two.py").write_text("c = 3\n")
                program = f"ulimit -f {limit}; exec {shlex.quote(sys.executable)} two.py"
                done = subprocess.run(
                    ["sh", "-ec", program], env=environment, check=True, capture_output=True
                )
                problems = session.problems()
                result = hcoverage.combine(session.data_paths())
            assert (done.stdout, done.stderr) == (b"", b"")
            if core == "coverage" and sys.version_info >= (3, 14):
                # Of coverage.py's `sysmon` there is no recording beside a data file.
                assert problems or result.set_aside
                continue
            assert problems == []
            assert [re.sub("^process .* (?=could)", "", loss) for loss in result.losses] == losses
            assert result.set_aside == ()
            assert _measured(result.data_file) == {"one.py"} | (set() if losses else {"two.py"})

    def test_a_note_without_a_word_is_told_as_that(self) -> None:
        # As a process leaves it that may write no byte, and lacks coverage.py.
        with hcoverage.open_session(core="recorder") as session:
            (session.data_dir / "problem.there.7.txt").touch()
            (told,) = session.problems()
        assert told.startswith("process 7 on there: it had no room to write down why")

    def test_who_ran_is_told(self) -> None:
        with hcoverage.open_session(core="recorder") as session:
            subprocess.run(
                [sys.executable, "one.py", "x"], env=dict(session.environment), check=True
            )
            (process,) = hcoverage.combine(session.data_paths()).recorded
        assert process.argv[1:] == ("one.py", "x")
        assert process.python.startswith(f"{sys.version_info[0]}.{sys.version_info[1]}")
        assert process.host == os.uname().nodename


def _measured(data_file: Path) -> set[str]:
    from coverage import CoverageData

    data = CoverageData(basename=str(data_file))
    data.read()
    return {Path(name).name for name in data.measured_files()}
