"""The setup and merge steps as shell commands, run as CI scripts run them: one by one, sh -e."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import hcoverage

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
        assert hcoverage.combine_commands() == [
            "cp coverage_data/.coverage.* .",
            "coverage combine",
            "coverage report",
            "coverage html",
        ]

    def test_takes_a_directory_an_rcfile_and_reports(self) -> None:
        commands = hcoverage.combine_commands("a b", "rc's", reports=["xml"])
        assert commands == [
            "cp 'a b'/.coverage.* .",
            """coverage combine '--rcfile=rc'"'"'s'""",
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
