"""`pytest --hcov` is `hcov run -- pytest` from inside, and adds to `pytest --cov`."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from coverage import CoverageData
from tests.forks import forked

from hcov._pytest import options
from hcov._tell import formats
from hcoverage import Core

if TYPE_CHECKING:
    from tests.conftest import KeepPackages

pytestmark = pytest.mark.usefixtures("clean_environment")

PYTEST: Final = ("-m", "pytest")
HCOV_RUN: Final = ("hcov", "run", "--", sys.executable, "-m")
LIB: Final = """\
def in_this_process():
    return 1
def in_a_subprocess():
    return 2
def nowhere():
    return 3
if __name__ == "__main__":
    in_a_subprocess()
"""
CONFTEST: Final = """\
import subprocess
import sys
import pytest
@pytest.fixture
def run_lib():
    return lambda: subprocess.run([sys.executable, "lib.py"], check=True)
def pytest_sessionfinish():
    ended = True
def pytest_terminal_summary():
    told = True
"""
TESTS: Final = """\
import lib
def test_this_process():
    assert lib.in_this_process() == 1
def test_subprocess(run_lib):
    run_lib()
"""
REMOVES_THE_CURRENT_DIRECTORY: Final = """\
import os, lib
def test_goes_away(tmp_path, run_lib):
    run_lib()
    assert lib.in_this_process() == 1
    os.chdir(tmp_path)
    tmp_path.rmdir()
"""
# pytest-forked hands on reports in a form that has no place for what pytest 9.2 has in them.
FORKED_WITH_PYTEST_9_2: Final = """\
import pytest_forked
real = pytest_forked.serialize_report
def serialize_report(report):
    return {**real(report), "nodeid": report.nodeid, "_id": None}
pytest_forked.serialize_report = serialize_report
"""


@pytest.fixture(autouse=True)
def project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A project whose tests run one function here and one in a subprocess; we are in it."""
    write_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    # Where they all have one, each pytest that begins removes what those before it left.
    monkeypatch.setenv("PYTEST_DEBUG_TEMPROOT", str(tmp_path_factory.mktemp("inner")))
    return tmp_path


def write_project(directory: Path) -> None:
    (directory / ".coveragerc").write_text("[run]\nparallel = True\n")
    (directory / "lib.py").write_text(LIB)
    (directory / "conftest.py").write_text(CONFTEST)
    (directory / "test_lib.py").write_text(TESTS)


def run(*command: str, status: int = 0) -> str:
    """Run pytest or hcov to its end, and give what it wrote to stdout; its status is checked."""
    return _out(forked(*command), status)


def run_python(*words: str, status: int = 0) -> str:
    """As `run`, from the interpreter's start on."""
    command = [sys.executable, *words]
    return _out(subprocess.run(command, capture_output=True, text=True, check=False), status)


def _out(done: subprocess.CompletedProcess[str], status: int) -> str:
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


def refused(*options: str) -> str:
    """Run pytest with options that it refuses before any test, and give what it says."""
    done = forked("pytest", *options)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR, done.stdout + done.stderr
    assert "passed" not in done.stdout
    return done.stderr


def measured() -> dict[str, list[int]]:
    """Give the lines of each file of the project that are in `.coverage`, and remove that."""
    data = CoverageData()
    data.read()
    files = {Path(file) for file in data.measured_files()}
    here = {file for file in files if file.is_relative_to(Path.cwd().resolve())}
    lines = {file.name: sorted(data.lines(str(file)) or ()) for file in here}
    data.close(force=True)
    Path(".coverage").unlink()
    return lines


@pytest.fixture
def expected(of_hcov_run: dict[str, list[int]]) -> dict[str, list[int]]:
    """What `hcov run -- pytest` measures."""
    return {name: list(lines) for name, lines in of_hcov_run.items()}


@pytest.fixture(scope="module")
def of_hcov_run(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[int]]:
    directory = tmp_path_factory.mktemp("hcov-run")
    write_project(directory)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HCOVERAGE_SESSION", "")
        patch.chdir(directory)
        run(*HCOV_RUN, "pytest")
        lines = measured()
    assert lines["lib.py"] == [1, 2, 3, 4, 5, 7, 8]
    return lines


class TestAsleep:
    def test_a_run_without_it_imports_nothing_but_its_options(self) -> None:
        Path("test_lib.py").write_text(
            "import sys\n"
            "def test():\n"
            "    ours = {name for name in sys.modules if name.startswith(('hcov', 'hdocker'))}\n"
            "    p = 'hcov._pytest'\n"
            "    assert ours == {'hcov', p, f'{p}.options', f'{p}.plugin'}\n"
            "    assert not {'click', 'coverage'} & set(sys.modules)\n"
        )
        run_python(*PYTEST, "-p", "no:pytest_cov", "--hcov-report=html")
        assert not Path(".coverage").exists()

    def test_a_run_with_it_imports_what_it_uses(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none")
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.delenv("CONTAINER_HOST", raising=False)
        Path("test_one.py").write_text("def test(): pass\n")
        Path("conftest.py").write_text(
            "import dataclasses, sys\n"
            "def pytest_unconfigure():\n"
            "    print('loaded', *sys.modules, 'and', *{\n"
            "        name for module in [*sys.modules.values()]\n"
            "        if module.__name__.startswith(('hcov', 'hdocker'))\n"
            "        for name, each in vars(module).items()\n"
            "        if isinstance(each, type) and dataclasses.is_dataclass(each)\n"
            "    }, 'and', *(\n"
            "        name for name, module in sys.modules.items()\n"
            "        if 'AssertionRewritingHook' in str(getattr(module, '__loader__', ''))\n"
            "        and name.startswith(('hcov', 'hdocker', 'test_one'))\n"
            "    ))\n"
        )
        # As pytest marks the files of its plugins that are installed.
        marks = "import pytest\npytest.register_assert_rewrite('hcov', 'hcoverage', 'hdocker')\n"
        Path("marks.py").write_text(marks)
        said = run_python(*PYTEST, "-p", "no:pytest_cov", "-p", "marks", "--hcov", "test_one.py")
        told = said.partition("\nloaded ")[2].splitlines()[0]
        loaded, frozen, rewritten = told.split(" and ")
        modules = set(loaded.split())
        assert "hcoverage._combine.combine" in modules
        assert not modules & {
            *("asyncio", "click", "concurrent.futures"),
            *("hcov._commands.child", "hcov._commands.doctor", "hcov._pytest.affected"),
            *("hcoverage._affected.decision", "hcoverage._affected.earlier_run"),
            *("hcoverage._checkup", "hcoverage._read.worker_pool"),
            *("hcoverage._combine.archives", "hcoverage._combine.remote"),
            *("hcoverage._combine.recorded_arcs", "hcoverage._read.branches"),
            *("hcoverage._session.plugins", "hcoverage._watch.watch"),
            *("hdocker._bake", "hdocker._engine", "hdocker._run"),
            *("hdocker._door.api", "hdocker._door.door", "hdocker._door.proxy"),
        }
        # Each of the others would take a millisecond.
        assert set(frozen.split()) == {"CombineResult", "Session", "SetAside", "Part"}
        # pytest may have to compile each of the others anew.
        p = "hcov._pytest"
        before = {"hcov", p, *(f"{p}.{name}" for name in ("imports", "options", "plugin"))}
        assert set(rewritten.split()) == {*before, "test_one"}

    def test_its_choices_are_those_that_there_are(self) -> None:
        assert set(options.CORES) == set(Core)
        assert set(options.REPORTS) == {"term", "", *formats.FILE_REPORTS}

    @pytest.mark.parametrize("showing", ["--collect-only", "--fixtures", "--help", "--version"])
    def test_showing_something_measures_nothing(self, showing: str) -> None:
        assert "hcov: " not in run("pytest", "--hcov", showing)
        assert not Path(".coverage").exists()

    def test_no_hcov_has_the_last_word(self) -> None:
        Path("pytest.ini").write_text("[pytest]\naddopts = --hcov\n")
        assert "hcov: " not in run("pytest", "--no-hcov")


class TestWholeRun:
    @pytest.mark.parametrize(
        "options",
        [
            (),
            *(
                pytest.param(options, marks=pytest.mark.thorough)
                for options in (
                    ("-n2",),
                    ("--forked",),
                    ("-p", "no:terminal"),
                    ("--hcov-core=coverage",),
                    ("--hcov-core=coverage", "--forked"),
                )
            ),
        ],
        ids=" ".join,
    )
    def test_measures_what_hcov_run_measures(
        self, expected: dict[str, list[int]], options: tuple[str, ...]
    ) -> None:
        if "no:terminal" in options:
            del expected["conftest.py"][-1]  # nobody is to tell anything
        if "--forked" in options:
            Path("forked.py").write_text(FORKED_WITH_PYTEST_9_2)
            options += ("-p", "forked")
        run_python(*PYTEST, "--hcov", *options)
        lines = measured()
        assert {name: lines[name] for name in expected} == expected

    def test_reports_in_the_summary_of_the_terminal(self) -> None:
        out = run("pytest", "--hcov")
        before, report = out.split("= hcov =")
        assert "hcov: merged: 2 " in report
        assert "TOTAL " in report
        assert report.splitlines()[-1].strip("= ").startswith("2 passed")
        assert "TOTAL" not in before

    @pytest.mark.thorough
    def test_leaves_nothing_behind(self, project: Path) -> None:
        Path("conftest.py").write_text(
            CONFTEST + "def pytest_unconfigure():\n"
            "    import os\n"
            "    print(sorted(name for name in os.environ if name.startswith(('HCOV', 'COV'))))\n"
            "    print(os.environ.get('PYTHONPATH'))\n"
        )
        out = run("pytest", "--hcov", "-p", "no:cacheprovider")
        before = sorted(name for name in os.environ if name.startswith(("HCOV", "COV")))
        assert out.splitlines()[-2:] == [str(before), str(os.environ.get("PYTHONPATH"))]
        left = {path.name for path in project.iterdir()} - {"__pycache__"}
        assert left == {".coverage", ".coveragerc", "conftest.py", "lib.py", "test_lib.py"}

    @pytest.mark.thorough
    def test_two_runs_in_one_process_have_a_session_each(
        self, expected: dict[str, list[int]]
    ) -> None:
        Path("both.py").write_text(
            "import os, pytest\n"
            "pytest.main(['--hcov', '-k', 'this_process'])\n"
            "os.rename('.coverage', 'first')\n"
            "pytest.main(['--hcov'])\n"
        )
        run_python("both.py")
        second = measured()
        Path("first").rename(".coverage")
        first = measured()
        # The second run does not import them again.
        assert set(second["lib.py"]) | set(first["lib.py"]) == set(expected["lib.py"])
        assert {2, 4, 8} <= set(second["lib.py"])
        assert 4 not in first["lib.py"]

    @pytest.mark.thorough
    def test_an_interrupted_run_reports_what_it_ran(self) -> None:
        Path("test_lib.py").write_text(
            "import os, signal, lib\n"
            "def test():\n"
            "    lib.in_this_process()\n"
            "    os.kill(os.getpid(), signal.SIGINT)\n"
            "    signal.pause()\n"
        )
        assert signal.getsignal(signal.SIGINT) is not signal.SIG_IGN  # which a child would inherit
        out = run_python(*PYTEST, "--hcov", status=pytest.ExitCode.INTERRUPTED)
        assert "TOTAL " in out
        assert 2 in measured()["lib.py"]


@pytest.mark.any_python
class TestAnotherDirectory:
    """Tests may end where they like: what counts is decided in the project's directory."""

    @pytest.fixture(autouse=True)
    def _test_that_removes_the_current_directory(self) -> None:
        Path("test_lib.py").write_text(REMOVES_THE_CURRENT_DIRECTORY)

    def test_the_report_is_of_the_project(self) -> None:
        out = run("pytest", "--hcov")
        assert re.search(r"^lib\.py +8 +1 +88%", out, re.MULTILINE)
        assert measured()["lib.py"] == [1, 2, 3, 4, 5, 7, 8]

    def test_beside_pytest_cov_too(self) -> None:
        run("pytest", "--cov=lib", "--hcov")
        assert measured() == {"lib.py": [1, 2, 3, 4, 5, 7, 8]}


@pytest.mark.thorough
@pytest.mark.any_python
class TestStatus:
    @pytest.mark.parametrize(
        ("percent", "status", "reports"),
        [
            ("50", 0, []),
            ("99.5", 1, []),
            ("99.5", 1, ["--hcov-report="]),
            ("99.5", 1, ["--hcov-report=json"]),
        ],
    )
    def test_too_little_coverage_fails_the_run(
        self, percent: str, status: int, reports: list[str]
    ) -> None:
        out = run("pytest", "--hcov", f"--hcov-fail-under={percent}", *reports, status=status)
        assert ("fail-under" in out) == bool(status)

    def test_the_rcfiles_threshold_counts(self) -> None:
        with Path(".coveragerc").open("a") as rcfile:
            rcfile.write("[report]\nfail_under = 100\n")
        run("pytest", "--hcov", status=1)

    @pytest.mark.parametrize(("choice", "status"), [("no_such", 5), ("test_no_such.py", 4)])
    def test_pytests_own_status_comes_first(self, choice: str, status: int) -> None:
        option = [choice] if choice.endswith(".py") else ["-k", choice]
        run("pytest", "--hcov", "--hcov-fail-under=100", *option, status=status)

    @pytest.mark.parametrize("reports", [[], ["--hcov-report="]])
    def test_nothing_to_report_fails_the_run(self, reports: list[str]) -> None:
        Path("empty").mkdir()
        Path(".coveragerc").write_text("[run]\nparallel = True\nsource = empty\n")
        assert "No data to report" in run("pytest", "--hcov", *reports, status=1)


@pytest.mark.thorough
@pytest.mark.any_python
class TestOptions:
    def test_reports_are_those_asked_for(self) -> None:
        out = run("pytest", "--hcov", "--hcov-report=json", "--hcov-report=lcov")
        assert "TOTAL" not in out
        assert {Path("coverage.json"), Path("coverage.lcov")} <= set(Path().iterdir())

    def test_no_report_leaves_the_data(self) -> None:
        out = run("pytest", "--hcov", "--hcov-report=")
        assert "TOTAL" not in out
        assert 4 in measured()["lib.py"]

    def test_all_of_them_may_stand_in_pyproject_toml(self) -> None:
        Path(".coveragerc").unlink()
        Path("other.toml").write_text("[tool.coverage.run]\nparallel = true\nomit = ['test_*']\n")
        Path("pyproject.toml").write_text(
            "[tool.pytest.ini_options]\n"
            "hcov = true\n"
            "hcov_core = 'coverage'\n"
            "hcov_fail_under = 99\n"
            "hcov_rcfile = 'other.toml'\n"
            "hcov_data_dir = 'elsewhere'\n"
            "hcov_report = 'term json'\n"
        )
        (Path("sub")).mkdir()
        Path("test_lib.py").write_text(
            TESTS + "import os\n"
            "def test_directory():\n"
            "    assert os.environ['HCOVERAGE_DATA_DIR'].endswith('/elsewhere')\n"
        )
        out = run("pytest", status=1)
        assert "core: coverage, since it was asked for" in out
        assert "less than fail-under=99" in out
        assert Path("coverage.json").exists()
        assert set(measured()) == {"lib.py", "conftest.py"}

    def test_the_command_line_comes_before_pyproject_toml(self) -> None:
        Path("pyproject.toml").write_text(
            "[tool.pytest.ini_options]\nhcov = true\nhcov_fail_under = 99\nhcov_report = 'json'\n"
        )
        assert "TOTAL" in run("pytest", "--hcov-fail-under=50", "--hcov-report=term")
        assert not Path("coverage.json").exists()


@pytest.mark.index
@pytest.mark.any_python
def test_an_older_pytest_loads_it(
    keep_packages: KeepPackages, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = keep_packages("pytest==8.3.5")  # which knows no ini option for numbers
    monkeypatch.setenv("PYTHONPATH", str(older))
    Path("pytest.ini").write_text("[pytest]\nhcov = true\nhcov_fail_under = 100.0\n")
    Path("test_none.py").write_text("def test_none():\n    pass\ndef not_run():\n    pass\n")
    command = [sys.executable, *PYTEST, "-p", "no:cacheprovider", "test_none.py"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "pytest-8.3.5" in done.stdout, done.stderr
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert "fail-under=100" in done.stdout + done.stderr


@pytest.mark.any_python
class TestRefused:
    @pytest.mark.parametrize(
        ("option", "message"),
        [
            ("--hcov-core=none", "invalid choice: 'none'"),
            ("--hcov-report=pdf", "invalid choice: 'pdf'"),
            ("--hcov-fail-under=101", "101 is not between 0 and 100"),
            ("--hcov-fail-under=much", "invalid float value: 'much'"),
            ("--hcov-rcfile=none.ini", "no rcfile at"),
            ("--hcov-data-dir=lib.py", "lib.py as data directory"),
        ],
    )
    def test_bad_options(self, option: str, message: str) -> None:
        assert message in refused("--hcov", option)

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ("hcov = 'perhaps'", "perhaps"),
            ("hcov_fail_under = 'much'", "hcov_fail_under: "),
            ("hcov_report = 'pdf'", "no such report: 'pdf'"),
            ("hcov_core = 'none'", "no such core: 'none'"),
        ],
    )
    def test_bad_values_in_pyproject_toml(self, line: str, message: str) -> None:
        Path("pyproject.toml").write_text(f"[tool.pytest.ini_options]\n{line}\n")
        asked = [] if line.startswith("hcov =") else ["--hcov"]
        assert message in refused(*asked)

    def test_an_rcfile_that_coverage_refuses(self) -> None:
        Path(".coveragerc").write_text("[run]\nbranch = perhaps\n")
        assert "coverage.py cannot use" in refused("--hcov")

    def test_a_process_that_coverage_measures_already(self) -> None:
        done = forked("coverage", "run", "-m", "pytest", "--hcov")
        assert done.returncode == pytest.ExitCode.USAGE_ERROR
        assert "run `pytest --hcov` without `coverage run`" in done.stderr

    def test_reports_of_ours_where_pytest_cov_reports(self) -> None:
        assert "use --cov-report" in refused("--hcov", "--cov", "--hcov-report=html")


@pytest.mark.any_python
@pytest.mark.thorough
class TestInside:
    def test_in_a_session_it_takes_part_and_says_so(self, expected: dict[str, list[int]]) -> None:
        out = run(*HCOV_RUN, "pytest", "--hcov")
        assert out.count("hcov: ") == 1
        assert "hcov: a session is around this run" in out
        assert measured() == expected

    @pytest.mark.parametrize("how", ["inprocess", "subprocess"])
    def test_a_pytest_that_a_test_runs_does_not_end_it(self, how: str) -> None:
        Path("conftest.py").write_text("pytest_plugins = ['pytester']\n")
        Path("test_lib.py").write_text(
            "import lib, sys\n"
            "def test_inner(pytester):\n"
            "    pytester.makepyfile(test_inner='def test(): pass')\n"
            f"    result = pytester.runpytest_{how}('--hcov', '--hcov-fail-under=100')\n"
            "    result.assert_outcomes(passed=1)\n"
            "def test_later():\n"
            "    assert lib.in_this_process() == 1\n"
        )
        out = run("pytest", "--hcov", "-p", "no:randomly")
        assert out.count("hcov: merged: ") == 1
        assert 2 in measured()["lib.py"]

    def test_a_subprocess_of_a_pytest_that_a_test_runs_is_measured(self) -> None:
        Path("conftest.py").write_text("pytest_plugins = ['pytester']\n")
        program = Path("lib.py").resolve()
        command = f"[sys.executable, {str(program)!r}]"
        inner = f"import subprocess, sys\ndef test(): subprocess.run({command})"
        Path("test_lib.py").write_text(
            "def test_inner(pytester):\n"
            f"    pytester.makepyfile(test_inner={inner!r})\n"
            "    pytester.runpytest_subprocess().assert_outcomes(passed=1)\n"
        )
        run("pytest", "--hcov")
        assert measured()["lib.py"] == [1, 3, 4, 5, 7, 8]


@pytest.mark.sampled
@pytest.mark.thorough
class TestBesidePytestCov:
    """The same command twice, with the plugin and without: pytest-cov's report has more."""

    COMMAND: Final = ("pytest", "--cov=lib", "--cov-report=term", "--cov-fail-under=85")

    @pytest.fixture(params=["auto", "coverage"])
    def core(self, request: pytest.FixtureRequest) -> str:
        return f"--hcov-core={request.param}"

    @pytest.mark.any_python
    @pytest.mark.parametrize("distributed", [(), ("-n2",)], ids=["alone", "-n2"])
    def test_its_threshold_counts_subprocesses(
        self, core: str, distributed: tuple[str, ...]
    ) -> None:
        run(*self.COMMAND, *distributed, status=1)
        out = run(*self.COMMAND, *distributed, "--hcov", core)
        assert "Required test coverage of 85% reached. Total coverage: 87.50%" in out
        assert measured() == {"lib.py": [1, 2, 3, 4, 5, 7, 8]}

    def test_the_data_is_said_to_go_into_its_data_and_none_of_ours_is_left(
        self, project: Path
    ) -> None:
        out = run(*self.COMMAND, "--hcov")
        assert re.search(r"^hcov: merged: 1 .*, into pytest-cov's data$", out, re.MULTILINE)
        left = {path.name for path in project.glob(".*cov*")}
        assert left == {".coverage", ".coveragerc"}

    def test_branches_are_what_its_option_says(self) -> None:
        run(*self.COMMAND, "--cov-branch", "--hcov")
        data = CoverageData()
        data.read()
        assert data.has_arcs()
        assert (7, 8) in (data.arcs(str(Path("lib.py").resolve())) or ())
        data.close(force=True)

    def test_a_run_without_subprocesses_is_its_own_alone(self) -> None:
        out = run("pytest", "--cov=lib", "--hcov", "-k", "this_process")
        assert "hcov" not in out.partition("collected")[2]
        assert measured() == {"lib.py": [1, 2, 3, 5, 7]}

    @pytest.mark.parametrize("distributed", [(), ("-n2",)], ids=["alone", "-n2"])
    @pytest.mark.parametrize(
        ("decorator", "argument"),
        [("@pytest.mark.no_cover", ""), ("", ", no_cover")],
        ids=["marker", "fixture"],
    )
    def test_what_a_no_cover_test_starts_is_left_out(
        self, core: str, distributed: tuple[str, ...], decorator: str, argument: str
    ) -> None:
        Path("test_lib.py").write_text(
            f"import pytest, lib\n{decorator}\ndef test(run_lib{argument}):\n    run_lib()\n"
        )
        out = run("pytest", "--cov=lib", "--hcov", core, *distributed)
        assert "not measured" not in out
        assert "nothing ran of" not in out  # with -n2 the start of a worker is recorded
        assert measured() == {"lib.py": [1, 3, 5, 7]}

    @pytest.mark.any_python
    @pytest.mark.parametrize("distributed", [(), ("-n2",)], ids=["alone", "-n2"])
    def test_all_data_goes_where_its_variable_says(
        self, core: str, distributed: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("COVERAGE_FILE", "elsewhere")
        run(*self.COMMAND, *distributed, "--hcov", core)
        assert not Path(".coverage").exists()
        assert not list(Path().glob("elsewhere.*"))
        Path("elsewhere").rename(".coverage")
        assert measured() == {"lib.py": [1, 2, 3, 4, 5, 7, 8]}

    def test_that_there_is_no_rcfile_is_its_own_business(self) -> None:
        Path(".coveragerc").unlink()
        out = run(*self.COMMAND, "--hcov")
        assert "hcov: merged" in out
        assert "no-rcfile" not in out


class TestImportedBefore:
    """What pytest imports before a plugin can measure lacks what its import ran."""

    TOLD: Final = "hcov: not measured: pytest imported lib.py before --hcov could begin"

    @pytest.mark.sampled
    @pytest.mark.parametrize("core", ["auto", "coverage"])
    @pytest.mark.parametrize("way", ["-p", "PYTEST_PLUGINS", "addopts"])
    def test_it_is_told(self, way: str, core: str, monkeypatch: pytest.MonkeyPatch) -> None:
        options = ["-p", "lib"] if way == "-p" else []
        if way == "PYTEST_PLUGINS":
            monkeypatch.setenv(way, "lib")
        if way == "addopts":
            Path("pytest.ini").write_text("[pytest]\naddopts = -p lib\n")
        monkeypatch.setenv("PYTHONPATH", ".")
        said = run("pytest", "--hcov", f"--hcov-core={core}", *options, "-k", "this_process")
        assert f"{self.TOLD}, so the lines of that import are missing: measure with `hcov" in said

    @pytest.mark.parametrize(
        "options",
        [
            pytest.param(["-k", "this_process"], id="only tests import it"),
            pytest.param(["-p", "lib", "-k", "test_subprocess"], id="a subprocess has it whole"),
            pytest.param(
                ["-p", "lib", "-n", "1", "-k", "this_process"],
                id="a worker has it whole",
                marks=pytest.mark.thorough,
            ),
        ],
    )
    def test_where_nothing_is_missing_nothing_is_told(
        self, options: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PYTHONPATH", ".")
        assert "not measured" not in run("pytest", "--hcov", *options)

    def test_what_only_that_import_ran_is_in_the_total(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        Path("plugged").mkdir()
        Path("plugged/only_here.py").write_text("x = 1\ny = 2\n")
        Path(".coveragerc").write_text("[run]\ninclude = plugged/*\n")
        monkeypatch.setenv("PYTHONPATH", "plugged")
        said = run("pytest", "--hcov", "-p", "only_here", "-k", "this_process")
        assert re.search(r"^plugged/only_here\.py +2 +2 +0%", said, re.MULTILINE)

    def test_what_it_tells_to_type_has_all(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PYTHONPATH", ".")
        said = run(*HCOV_RUN, "pytest", "-p", "lib", "-q")
        assert "not measured" not in said
        assert 1 in measured()["lib.py"]
