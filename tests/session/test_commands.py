"""The setup and merge steps as shell commands, run as CI scripts run them: one by one, sh -e."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from coverage import CoverageData

import hcoverage

if TYPE_CHECKING:
    from collections.abc import Callable

RCFILE = "[run]\nparallel = True\n"
AWKWARD = 'it\'s a "data" $dir; *'


def sh(command: str, directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-ec", command], cwd=directory, capture_output=True, text=True, check=False
    )


def run_all(commands: list[str], directory: Path) -> None:
    for command in commands:
        done = sh(command, directory)
        assert done.returncode == 0, (command, done.stderr)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


class TestSetup:
    def test_reads_as_a_person_would_write_it(self) -> None:
        assert hcoverage.coverage_subprocess_commands() == [
            "mkdir -p coverage_data",
            "chmod 777 coverage_data",
            "rm -f coverage_data/.coverage.* .coverage.*.pid*",
            "cp .coveragerc coverage_data/.coveragerc",
            "chmod 644 coverage_data/.coveragerc",
        ]

    @pytest.mark.parametrize(
        "data_dir", ["coverage_data", AWKWARD, "-dash", "deep/er", "new\nline"]
    )
    @pytest.mark.parametrize("rcfile", [".coveragerc", "odd 'name'.rc", "-rc"])
    def test_any_user_may_write_data_and_read_the_rcfile(
        self, tmp_path: Path, data_dir: str, rcfile: str
    ) -> None:
        (tmp_path / rcfile).write_text(RCFILE)
        (tmp_path / rcfile).chmod(0o600)
        run_all(hcoverage.coverage_subprocess_commands(data_dir, rcfile), tmp_path)
        assert mode(tmp_path / data_dir) == 0o777
        assert mode(tmp_path / data_dir / ".coveragerc") == 0o644
        assert (tmp_path / data_dir / ".coveragerc").read_text() == RCFILE

    def test_may_be_run_again(self, tmp_path: Path) -> None:
        (tmp_path / ".coveragerc").write_text(RCFILE)
        run_all(hcoverage.coverage_subprocess_commands() * 2, tmp_path)

    def test_a_toml_rcfile_arrives_as_ini(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        Path("pyproject.toml").write_text(
            "[tool.coverage.run]\nparallel = true\n"
            '[tool.coverage.report]\nexclude_also = ["it\'s"]\n'
        )
        run_all(hcoverage.coverage_subprocess_commands(coveragerc="pyproject.toml"), tmp_path)
        assert hcoverage.read_rcfile("coverage_data/.coveragerc").settings.parallel

    def test_a_missing_rcfile_fails_where_it_is_copied(self, tmp_path: Path) -> None:
        *_, copy, _ = hcoverage.coverage_subprocess_commands()
        assert "No such file" in sh(f"mkdir coverage_data; {copy}", tmp_path).stderr


@pytest.mark.usefixtures("clean_environment")
class TestCombine:
    def test_reads_as_a_person_would_write_it(self) -> None:
        copy = "cp coverage_data/.coverage.* ."
        assert hcoverage.combine_commands() == [
            f"{copy} 2>/dev/null || ! ls coverage_data/.coverage.* >/dev/null 2>&1 || {copy}",
            "coverage combine",
            "rm -f coverage_data/.coverage.*",
            "coverage report",
            "coverage html",
        ]

    def test_takes_a_directory_an_rcfile_and_reports(self) -> None:
        commands = hcoverage.combine_commands("a b", "rc's", reports=["xml"])
        copy, *others = commands
        assert copy.startswith("cp 'a b'/.coverage.* . ")
        assert others == [
            """coverage combine '--rcfile=rc'"'"'s'""",
            "rm -f 'a b'/.coverage.*",
            """coverage xml '--rcfile=rc'"'"'s'""",
        ]

    def test_an_unknown_report_names_those_there_are(self) -> None:
        with pytest.raises(ValueError, match="report, html, xml, json, lcov"):
            hcoverage.combine_commands(reports=["pdf"])

    def test_merges_what_the_directory_holds(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        (tmp_path / ".coveragerc").write_text(RCFILE)
        (tmp_path / "one.py").write_text("print(1)\n")
        (tmp_path / AWKWARD).mkdir()
        run = [sys.executable, "-m", "coverage", "run", "one.py"]
        env = hcoverage.unmeasured_environment(os.environ)
        env["COVERAGE_FILE"] = str(tmp_path / AWKWARD / ".coverage")
        subprocess.run(run, cwd=tmp_path, env=env, check=True, capture_output=True)
        monkeypatch.delenv("COVERAGE_FILE", raising=False)
        run_all(hcoverage.combine_commands(AWKWARD, reports=["report", "json"]), tmp_path)
        assert (tmp_path / "coverage.json").exists()


# Where coverage.py has its data file, by the rcfile.
DATA_FILES = (".coverage", "build/cov/.coverage", "all of it.cov", "deep/er/x")
DATA_DIRECTORIES = ("coverage_data", AWKWARD, "-dash")
THOROUGH = pytest.mark.thorough
LINES = 9


def write_data(basename: Path, program: Path, line: int) -> None:
    """Write what coverage.py writes for a process that ran one line."""
    basename.parent.mkdir(parents=True, exist_ok=True)
    data = CoverageData(basename=str(basename), suffix=f"host.pid{line}.X{uuid4().hex[:8]}x")
    data.add_lines({str(program): [line]})
    data.write()


def together(commands: list[str], directory: Path) -> None:
    """Run commands as one script."""
    done = sh("\n".join(commands), directory)
    assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("clean_environment")
class TestAgainAndAgain:
    """Only what this run wrote counts: here, in containers, in some of each and in neither."""

    @pytest.fixture
    def program(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.delenv("COVERAGE_FILE", raising=False)
        monkeypatch.chdir(tmp_path)
        program = tmp_path / "program.py"
        program.write_text("".join(f"x{line} = {line}\n" for line in range(1, LINES + 1)))
        return program

    def executed(self, program: Path) -> list[int]:
        report = json.loads((program.parent / "coverage.json").read_text())
        lines: list[int] = report["files"][program.name]["executed_lines"]
        return lines

    @pytest.mark.sampled
    @pytest.mark.parametrize(
        "data_file",
        [*DATA_FILES[:2], *(pytest.param(name, marks=THOROUGH) for name in DATA_FILES[2:])],
    )
    @pytest.mark.parametrize("data_dir", DATA_DIRECTORIES)
    @pytest.mark.parametrize("way", [run_all, together, None])
    def test_with_containers_and_without(
        self,
        program: Path,
        data_file: str,
        data_dir: str,
        way: Callable[[list[str], Path], None] | None,
    ) -> None:
        here = program.parent
        (here / ".coveragerc").write_text(f"[run]\nparallel = True\ndata_file = {data_file}\n")
        # Of each run: lines that ran here, lines that ran in containers.
        for host, containers in (([1], []), ([2], [3, 4]), ([], [5]), ([6, 7], [])):
            if way:
                way(hcoverage.coverage_subprocess_commands(data_dir), here)
            else:
                hcoverage.coverage_commands_subprocess(data_dir)
            for line in host:
                write_data(here / data_file, program, line)
            for line in containers:
                write_data(here / data_dir / ".coverage", program, line)
            if way:
                way(hcoverage.combine_commands(data_dir, reports=["json"]), here)
            else:
                hcoverage.coverage_combine(data_dir, reports=["json"])
            assert self.executed(program) == [*host, *containers]
            # What a run leaves that ends before it is merged.
            write_data(here / data_file, program, 8)
            write_data(here / data_dir / ".coverage", program, 9)

    @pytest.mark.thorough
    def test_combining_again_without_setting_up_again(self, program: Path) -> None:
        here = program.parent
        run_all(hcoverage.coverage_subprocess_commands(), here)
        for line in (1, 2, 3):
            write_data(here / ".coverage", program, line)
            write_data(here / "coverage_data" / ".coverage", program, line + 3)
            run_all(hcoverage.combine_commands(reports=["json"]), here)
            assert self.executed(program) == [line, line + 3]

    def test_what_somebody_put_there_by_another_name_is_counted(self, program: Path) -> None:
        """As coverage.py does: data of another job, say."""
        here = program.parent
        write_data(here / ".coverage", program, 1)
        [data] = here.glob(".coverage.*")
        data.rename(here / ".coverage.unit")
        run_all(hcoverage.coverage_subprocess_commands(), here)
        write_data(here / ".coverage", program, 2)
        run_all(hcoverage.combine_commands(reports=["json"]), here)
        assert self.executed(program) == [1, 2]

    @pytest.mark.parametrize("data_file", [".coverage", "other"])
    @pytest.mark.parametrize("way", [run_all, together])
    def test_a_copy_that_fails_is_told(
        self, program: Path, data_file: str, way: Callable[[list[str], Path], None]
    ) -> None:
        here = program.parent
        (here / ".coveragerc").write_text(f"[run]\nparallel = True\ndata_file = {data_file}\n")
        (here / "coverage_data" / ".coverage.directory").mkdir(parents=True)
        write_data(here / data_file, program, 1)
        with pytest.raises(AssertionError, match="directory"):
            way(hcoverage.combine_commands(), here)

    def test_carried_out_it_tells_what_failed(
        self, program: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        hcoverage.coverage_commands_subprocess()
        with pytest.raises(
            hcoverage.StepError, match=r"`coverage combine` ended with exit status 1"
        ):
            hcoverage.coverage_combine()
        assert "No data to combine" in "".join(capfd.readouterr())
        assert issubclass(hcoverage.StepError, OSError)
        assert program.exists()

    def test_carried_out_it_is_not_measured_and_uses_the_coverage_that_runs_it(
        self, program: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        here = program.parent
        (here / ".coveragerc").write_text(RCFILE)
        monkeypatch.setenv("PATH", "/usr/bin:/bin")
        monkeypatch.setenv("COVERAGE_PROCESS_START", str(here / ".coveragerc"))
        hcoverage.coverage_commands_subprocess()
        write_data(here / ".coverage", program, 1)
        hcoverage.coverage_combine(reports=["json"])
        assert self.executed(program) == [1]
        assert not list(here.glob(".coverage.*"))
