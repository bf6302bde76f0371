"""The result goes where `data_file` says, whose directory need not be there; else no test runs."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

import pytest
from coverage import CoverageData
from tests.forks import forked

PYTEST: Final = ("pytest", "-q", "-p", "no:cacheprovider")
RCFILE: Final = "[run]\nparallel = True\ndata_file = {}\n"
PROGRAM: Final = """\
import subprocess, sys
def test():
    print("RAN")
    subprocess.run([sys.executable, "child.py"], check=True)
if __name__ == "__main__":
    test()
"""
WAYS: Final = {
    "hcov run": ("hcov", "run", "--", sys.executable, "test_it.py"),
    "hcov run, coverage core": (
        *("hcov", "run", "--core=coverage", "--"),
        *(sys.executable, "test_it.py"),
    ),
    "pytest --hcov": (*PYTEST, "--hcov"),
    "pytest --cov --hcov": (*PYTEST, "--cov=.", "--hcov"),
}
pytestmark = pytest.mark.usefixtures("clean_environment")


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a test that starts a subprocess; the current directory."""
    (tmp_path / "test_it.py").write_text(PROGRAM)
    (tmp_path / "child.py").write_text("a = 1\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    return tmp_path


@pytest.mark.thorough
@pytest.mark.sampled
@pytest.mark.parametrize("data_file", ["build/cov/.coverage", "{here}/a b/x.cov", "../out/x"])
@pytest.mark.parametrize("way", WAYS)
def test_a_directory_that_is_not_there_is_made(project: Path, way: str, data_file: str) -> None:
    name = data_file.format(here=project)
    (project / ".coveragerc").write_text(RCFILE.format(name))
    done = forked(*WAYS[way])
    assert done.returncode == 0, done.stdout + done.stderr
    data = CoverageData(str(project / name))
    data.read()
    assert {Path(file).name for file in data.measured_files()} == {"test_it.py", "child.py"}
    assert os.listdir((project / name).parent) == [Path(name).name]  # noqa: PTH208


def test_combine_makes_it_too(project: Path) -> None:
    data = CoverageData(str(project / ".coverage.h.pid1.Xa"))
    data.add_lines({str(project / "child.py"): [1]})
    data.close(force=True)
    forked("hcov", "combine", "--data-file", "build/cov/.coverage").check_returncode()
    assert (project / "build/cov/.coverage").is_file()


@pytest.mark.sampled
@pytest.mark.parametrize("data_file", ["file/cov/.coverage", "/proc/cov/.coverage", "directory"])
@pytest.mark.parametrize("way", WAYS)
def test_what_cannot_be_written_is_told_before_a_test_runs(
    project: Path, way: str, data_file: str
) -> None:
    (project / ".coveragerc").write_text(RCFILE.format(data_file))
    (project / "file").touch()
    (project / "directory").mkdir()
    before = sorted(project.rglob("*"))
    done = forked(*WAYS[way])
    assert done.returncode == (125 if "hcov run" in way else 4)
    assert f"cannot write the result, {project / data_file}" in done.stderr
    assert "data_file" in done.stderr
    assert "RAN" not in done.stdout
    assert sorted(project.rglob("*")) == before
