"""Two runs at once in one checkout, as `tox -p` and an editor start them: each has its result."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from coverage import CoverageData

import hcoverage

if TYPE_CHECKING:
    from collections.abc import Iterator

RCFILE: Final = "[run]\nparallel = True\nsource = .\nomit = test_*\n"
# Each runs what its COVERAGE_FILE names, here and in a subprocess, and waits for a line in between.
TEST: Final = """\
import os, subprocess, sys
def test_waits():
    print("up", flush=True)
    assert input() == "go"
    name = os.environ["MODULE"]
    __import__(name)
    subprocess.run([sys.executable, "-c", f"import {name}_child"], check=True)
if __name__ == "__main__":
    test_waits()
"""
PYTEST: Final = (sys.executable, "-m", "pytest", "-sq", "-pno:cacheprovider")
PLUGIN: Final = ("-p", "hcov._pytest.plugin", "--hcov")
HCOV_RUN: Final = (sys.executable, "-m", "hcov", "run", "--")
WAYS: Final = {
    "hcov run": (*HCOV_RUN, sys.executable, "test_waits.py"),
    "hcov run pytest": (*HCOV_RUN, *PYTEST),
    "pytest --hcov": (*PYTEST, *PLUGIN),
    "pytest --cov --hcov": (*PYTEST, "-p", "pytest_cov", "--cov", *PLUGIN),
}
CORES: Final = ("auto", "coverage")
REFUSED: Final = {"hcov run": 125, "hcov run pytest": 125}
pytestmark = pytest.mark.usefixtures("clean_environment")


@pytest.fixture(autouse=True)
def project(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    temporary: Path,  # noqa: ARG001 - before a session is opened
) -> Path:
    directory = tmp_path / "project"
    directory.mkdir()
    (directory / ".coveragerc").write_text(RCFILE)
    (directory / "test_waits.py").write_text(TEST)
    for name in ("first", "second"):
        (directory / f"{name}.py").write_text("a = 1\nb = 2\n")
        (directory / f"{name}_child.py").write_text("c = 3\n")
    monkeypatch.chdir(directory)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    return directory


@contextlib.contextmanager
def started(
    way: str, module: str, data_file: str, core: str = "auto"
) -> Iterator[subprocess.Popen[str]]:
    """A run that is up, and waits."""
    environment = {
        **os.environ,
        "MODULE": module,
        "COVERAGE_FILE": data_file,
        "HCOVERAGE_CORE": core,
    }
    with subprocess.Popen(
        WAYS[way],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as run:
        assert run.stdout is not None
        try:
            for line in run.stdout:
                if line == "up\n":
                    break
            else:
                pytest.fail(run.communicate()[1])
            yield run
        finally:
            if run.poll() is None:
                run.communicate("go\n")


def refused(way: str, data_file: str) -> str:
    """What a run says that is turned away before it has begun."""
    environment = {**os.environ, "MODULE": "second", "COVERAGE_FILE": data_file}
    done = subprocess.run(
        WAYS[way], env=environment, input="go\n", capture_output=True, text=True, check=False
    )
    assert done.returncode == REFUSED.get(way, pytest.ExitCode.USAGE_ERROR)
    assert "up\n" not in done.stdout
    return done.stdout + done.stderr


def measured(data_file: str) -> dict[str, list[int]]:
    data = CoverageData(data_file)
    data.read()
    lines = {Path(file).name: sorted(data.lines(file) or ()) for file in data.measured_files()}
    return {name: found for name, found in lines.items() if found}


@pytest.mark.sampled
@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("directory", ["none", "of the user's"])
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("hcov run", "pytest --hcov"),
        pytest.param("hcov run pytest", "pytest --hcov", marks=pytest.mark.thorough),
        pytest.param("pytest --hcov", "pytest --hcov", marks=pytest.mark.thorough),
        pytest.param("pytest --cov --hcov", "hcov run", marks=pytest.mark.thorough),
        pytest.param("pytest --cov --hcov", "pytest --cov --hcov", marks=pytest.mark.thorough),
    ],
)
def test_each_has_the_result_that_it_has_alone(
    first: str, second: str, directory: str, core: str, temporary: Path
) -> None:
    project = Path.cwd()
    if directory != "none":
        (project / "coverage_data").mkdir()
        (project / "coverage_data" / ".gitkeep").touch()
    with (
        started(first, "first", ".coverage.first", core) as one,
        started(second, "second", ".coverage.second", core) as two,
    ):
        for run in (two, one):
            out, said = run.communicate("go\n")
            assert run.returncode == 0, out + said
    for name in ("first", "second"):
        found = measured(f".coverage.{name}")
        assert found == {f"{name}.py": [1, 2], f"{name}_child.py": [1]}
    assert sorted(project.glob("coverage_data/**/*.pid*")) == []
    assert not (project / ".coverage").exists()
    assert list(temporary.iterdir()) == []


@pytest.mark.sampled
@pytest.mark.parametrize("first", ["hcov run", "pytest --hcov"])
@pytest.mark.parametrize(
    "second",
    [
        pytest.param(way, marks=[] if way == "pytest --hcov" else pytest.mark.thorough)
        for way in WAYS
    ],
)
def test_the_second_for_a_data_file_says_so_before_it_starts(
    first: str, second: str, temporary: Path
) -> None:
    with started(first, "first", "result") as run:
        said = refused(second, str(Path("result").absolute()))
        assert f"another run (process {run.pid}) is measuring for " in said
        assert "[data-file-busy]" in said
        out, told = run.communicate("go\n")
        assert run.returncode == 0, out + told
    assert set(measured("result")) == {"first.py", "first_child.py"}
    assert list(temporary.iterdir()) == []


def test_a_run_that_was_killed_is_in_nobodys_way() -> None:
    with started("hcov run", "first", "result") as run:
        run.send_signal(signal.SIGKILL)
        run.wait()
        # Its command lives on, and has the run's streams.
        with started("hcov run", "second", "result") as second:
            out, said = second.communicate("go\n")
            assert second.returncode == 0, out + said
    assert {"second.py", "second_child.py"} <= set(measured("result"))


def test_nor_is_the_run_that_a_run_is_of() -> None:
    inner = (*HCOV_RUN, sys.executable, "-c", "import second")
    subprocess.run([*HCOV_RUN, *inner], check=True)
    assert Path(".coverage").exists()


@pytest.mark.thorough
def test_what_a_command_measures_itself_goes_where_the_user_said() -> None:
    inner = [sys.executable, "-m", "coverage", "run", "-m", "first"]
    environment = {**os.environ, "COVERAGE_FILE": str(Path("named").absolute())}
    for core in CORES:
        subprocess.run(
            [*HCOV_RUN, *inner],
            env={**environment, "HCOVERAGE_CORE": core},
            check=True,
        )
        assert measured("named")["first.py"] == [1, 2]
        assert not Path(".coverage").exists()
        Path("named").unlink()


@pytest.mark.thorough
def test_data_that_the_second_cannot_merge_is_not_the_firsts(project: Path) -> None:
    (project / "coverage_data").mkdir()
    (project / "coverage_data" / ".gitkeep").touch()
    spoils = (
        "import os, pathlib\n"
        "name = '.coverage.host.pid1.Xspoiledx'\n"
        "pathlib.Path(os.environ['HCOVERAGE_DATA_DIR'], name).write_text('no data')\n"
    )
    with started("hcov run", "first", ".coverage.first") as first:
        second = subprocess.run(
            [*HCOV_RUN, sys.executable, "-c", spoils + "import second"],
            env={**os.environ, "COVERAGE_FILE": ".coverage.second"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (second.returncode, "not merged" in second.stderr) == (3, True), second.stderr
        _, said = first.communicate("go\n")
        assert (first.returncode, "not merged" in said) == (0, False), said
    assert [file.name for file in project.glob("coverage_data/previous/*/.cov*")] == [
        ".coverage.host.pid1.Xspoiledx"
    ]
    assert hcoverage.data_of_killed_sessions(project) == []
