"""In CI: the summary of a run on GitHub's page of the job, the report's format, shards merged."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
from tests.forks import hcov
from tests.watch.test_unmeasured import STARTS

import hcoverage
from hcov._tell.step_summary import escaped

pytestmark = pytest.mark.usefixtures("clean_environment")

RCFILE: Final = "[run]\nparallel = True\nsource = .\nrelative_files = True\n"
PROGRAM: Final = """\
import subprocess, sys
if sys.argv[1:] == ["child"]:
    child = True
else:
    subprocess.run([sys.executable, __file__, "child"], check=True)
def never():
    return
"""


@pytest.fixture(autouse=True)
def summary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a step, in which something is written already; we are in a project beside it."""
    project = tmp_path / "project"
    project.mkdir()
    (project / ".coveragerc").write_text(RCFILE)
    (project / "program.py").write_text(PROGRAM)
    monkeypatch.chdir(project)
    summary = tmp_path / "summary.md"
    summary.write_text("of an earlier command\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    return summary


def run(*options: str, program: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    return hcov("run", *options, "--", sys.executable, "program.py", *program)


class TestSummary:
    def test_is_appended_with_total_origins_and_files_also_when_quiet(self, summary: Path) -> None:
        done = run("-q")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        text = summary.read_text()
        assert text.startswith("of an earlier command\n\n## Coverage: 83 %\n")
        assert "\n| origin | processes | files | lines | only it ran |\n| --- | ---: |" in text
        assert "\n| main | 1 | 1 | 4 | 1 |\n| subprocesses | 1 | 1 | 4 | 1 |\n\n" in text
        assert re.search(r"^\| program.py +\| +6 \| +1 \| +83% \|$", text, re.MULTILINE)

    @pytest.mark.thorough
    def test_is_appended_by_pytest_with_hcov_as_well(self, summary: Path) -> None:
        Path("test_program.py").write_text(
            "import subprocess, sys\n"
            "def test_child():\n"
            "    subprocess.run([sys.executable, 'program.py', 'child'], check=True)\n"
        )
        inside = [sys.executable, "-m", "pytest", "-q", "--hcov"]
        subprocess.run(inside, capture_output=True, check=True)
        text = summary.read_text()
        assert text.startswith("of an earlier command\n\n## Coverage: ")
        assert "\n| subprocesses | 1 | 1 | 4 | 4 |\n" in text

    @pytest.mark.thorough
    @pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are seen in /proc")
    def test_names_what_was_not_measured_and_nothing_in_it_is_markup(self, summary: Path) -> None:
        Path("starts.py").write_text(STARTS)
        unmeasured = [sys.executable, "-S", "-c", "import sys; sys.stdin.read()", "a|b<i>`"]
        done = hcov("run", "--", sys.executable, "starts.py", "", *unmeasured)
        assert done.returncode == 0
        assert "not measured: process" in done.stderr
        (line,) = [line for line in summary.read_text().splitlines() if "not measured" in line]
        assert line.startswith("- not measured: process ")
        assert r"a\|b\<i\>\`" in line

    @pytest.mark.thorough
    def test_that_cannot_be_written_is_told_in_a_line_and_changes_no_status(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path))
        done = run("-q")
        assert done.returncode == 0
        (line,) = done.stderr.splitlines()
        assert line.startswith(
            "hcov: warning: GITHUB_STEP_SUMMARY: the summary cannot be written: "
        )

    def test_a_file_cannot_put_html_or_images_into_it(self, summary: Path) -> None:
        name = "![x](y) <img>.py"
        Path(name).write_text("pass\n")
        assert hcov("run", "-q", "--", sys.executable, name).returncode == 0
        # Whether coverage.py escapes what is harmless alone is its version's to say.
        assert re.search(r"\\?!\\\[x\\\]\\?\(y\\?\) \\<img\\>\\?\.py", summary.read_text())

    def test_text_from_anywhere_is_itself_and_one_line(self) -> None:
        assert escaped("a|b\n# `c` <d> \\") == r"a\|b\\n\# \`c\` \<d\> \\"


@pytest.mark.thorough
class TestFormat:
    def test_total_is_all_that_is_printed(self) -> None:
        assert run("--format=total").stdout == "83\n"

    def test_markdown_is_coverage_pys_table(self) -> None:
        assert "| Name " in run("--format=markdown").stdout

    def test_another_is_a_usage_error(self) -> None:
        done = run("--format=pdf")
        assert done.returncode == 2
        assert "'markdown'" in done.stderr


@pytest.mark.thorough
def test_shards_are_merged_with_their_origins() -> None:
    for name, program in (("shard-1", ()), ("shard-2", ("child",))):
        assert run("-q", program=program).returncode == 0
        Path("shards", name).mkdir(parents=True)
        shutil.move(".coverage", Path("shards", name, ".coverage"))
    done = hcov("combine", *map(str, sorted(Path("shards").glob("*/.coverage"))))
    assert done.returncode == 0, done.stderr
    assert set(hcoverage.read_origins(".coverage").names) == {"main", "subprocesses"}
    assert "83%" in hcov("report").stdout
