"""The command line beside `hcov run`: each step on its own, help that teaches, errors that help."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import hcoverage

if TYPE_CHECKING:
    from tests.conftest import Venv

RCFILE = "[run]\nparallel = True\n"
COMMANDS = ["run", "init", "inject", "remove", "combine", "commands", "docker"]


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project; the current directory."""
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    return project


def hcov(*arguments: str, python: Path | str = sys.executable) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, "-m", "hcov", *arguments], capture_output=True, text=True, check=False
    )


class TestHelp:
    def test_names_every_command(self) -> None:
        shown = hcov("--help").stdout
        assert all(f"\n  {command} " in shown for command in COMMANDS)
        assert "hcov run -- python -m pytest" in shown

    @pytest.mark.parametrize("command", COMMANDS)
    def test_every_command_has_its_own(self, command: str) -> None:
        assert hcov(command, "--help").stdout.startswith(f"Usage: hcov {command}")

    def test_of_run_lists_the_exit_statuses(self) -> None:
        shown = hcov("run", "--help").stdout
        assert all(f" {status} " in shown for status in (0, 2, 3, 125, 126, 127))

    def test_an_unknown_command_is_a_usage_error(self) -> None:
        done = hcov("rum")
        assert done.returncode == 2
        assert "No such command 'rum'" in done.stderr

    def test_version(self) -> None:
        assert "0.1" in hcov("--version").stdout


class TestInit:
    def test_writes_an_rcfile_that_serves(self, project: Path) -> None:
        assert hcov("init").returncode == 0
        rcfile = hcoverage.read_rcfile(project / ".coveragerc")
        assert rcfile.settings.sigterm
        assert rcfile.settings.concurrency == ["multiprocessing", "thread"]
        assert "/app" in rcfile.container_sides

    def test_knows_a_src_layout_and_leaves_tests_out(self, project: Path) -> None:
        (project / "src").mkdir()
        (project / "tests").mkdir()
        hcov("init")
        settings = hcoverage.read_rcfile(project / ".coveragerc").settings
        assert settings.paths["src"] == ["src", "/app", "*/site-packages"]
        assert settings.report_omit == ["tests/*"]

    def test_replaces_nothing_unless_forced(self, project: Path) -> None:
        (project / ".coveragerc").write_text("mine")
        done = hcov("init")
        assert done.returncode == 1
        assert "--force" in done.stderr
        assert (project / ".coveragerc").read_text() == "mine"
        assert hcov("init", "--force").returncode == 0
        assert hcoverage.read_rcfile(project / ".coveragerc").settings.parallel


class TestInjectAndRemove:
    def test_a_shell_that_evaluates_it_is_measured_until_it_is_removed(
        self, project: Path, fresh_venv: Venv
    ) -> None:
        (project / ".coveragerc").write_text(RCFILE)
        (project / "one.py").write_text("a = 1\n")
        script = f"""
            set -e
            eval "$({fresh_venv.python} -m hcov inject)"
            {fresh_venv.python} one.py
            eval "$({fresh_venv.python} -m hcov remove)"
            {fresh_venv.python} one.py
        """
        environment = hcoverage.unmeasured_environment(os.environ)
        subprocess.run(["sh", "-c", script], check=True, env=environment, capture_output=True)
        files = [path for path in project.glob(".coverage.*") if _measures(path, "one.py")]
        assert len(files) == 1
        assert not (fresh_venv.site_packages / "coverage.pth").exists()

    def test_without_an_rcfile_says_how_to_make_one(self) -> None:
        done = hcov("inject")
        assert done.returncode == 1
        assert "hcov init" in done.stderr

    def test_a_foreign_hook_is_told_not_removed(self, fresh_venv: Venv) -> None:
        hook = fresh_venv.site_packages / "coverage.pth"
        hook.write_text("# mine\n")
        done = hcov("remove", python=fresh_venv.python)
        assert done.returncode == 0
        assert "hcov: warning:" in done.stderr
        assert hook.read_text() == "# mine\n"


class TestCommands:
    def test_setup_and_combine_are_the_librarys(self) -> None:
        assert hcov("commands", "setup").stdout.splitlines() == (
            hcoverage.coverage_subprocess_commands()
        )
        assert hcov("commands", "combine").stdout.splitlines() == hcoverage.combine_commands()

    def test_take_a_directory_an_rcfile_and_reports(self) -> None:
        done = hcov("commands", "combine", "--data-dir=a b", "--rcfile=rc", "--report=xml")
        assert done.stdout.splitlines() == hcoverage.combine_commands("a b", "rc", ["xml"])


class TestCombine:
    def test_merges_here_and_in_the_data_directory(self, project: Path) -> None:
        (project / "coverage_data").mkdir()
        for place in (".", "coverage_data"):
            _coverage_run(f"{place}/.coverage")
        done = hcov("combine")
        assert done.returncode == 0, done.stderr
        assert "merged 2 data files" in done.stderr
        assert (project / ".coverage").exists()

    def test_3_when_a_file_is_set_aside(self, project: Path) -> None:
        _coverage_run(".coverage")
        bad = project / ".coverage.h.pid1.Xbad"
        bad.touch()
        done = hcov("combine")
        assert done.returncode == 3
        assert f"not merged: {bad.name}: it is empty" in done.stderr
        assert bad.exists()

    def test_1_when_there_is_nothing(self) -> None:
        done = hcov("combine")
        assert done.returncode == 1
        assert "no data to combine" in done.stderr

    def test_1_for_a_path_that_is_not_there(self) -> None:
        assert hcov("combine", "nosuch").returncode == 1


def _coverage_run(data_file: str) -> None:
    Path("one.py").write_text("a = 1\n")
    environment = hcoverage.unmeasured_environment(os.environ)
    subprocess.run(
        [sys.executable, "-m", "coverage", "run", "--parallel-mode", "one.py"],
        env={**environment, "COVERAGE_FILE": data_file},
        check=True,
    )


def _measures(data_file: Path, name: str) -> bool:
    from coverage import CoverageData  # noqa: PLC0415 - only here

    data = CoverageData(basename=str(data_file))
    data.read()
    return any(measured.endswith(name) for measured in data.measured_files())
