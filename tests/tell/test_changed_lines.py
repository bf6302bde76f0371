"""`hcov report --since`: the coverage of the lines that a change touched, as git tells them."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
from click.testing import CliRunner, Result
from coverage import Coverage
from tests.forks import hcov

import hcoverage
from hcov._cli.main import main

pytestmark = pytest.mark.usefixtures("clean_environment")

APP: Final = """\
def old(x):
    if x:
        return 1
    return 2

def kept():
    return 3

print(old(1))
"""
CHANGED: Final = """\
def old(x):
    if x:
        return 10
    return 20

def kept():
    return 3

def new(
    x,
):
    return x

print(
    old(1),
)
"""
GIT: Final = ("git", "-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "gc.auto=0")


def git(*arguments: str) -> None:
    subprocess.run([*GIT, *arguments], check=True, capture_output=True)


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project on a branch that began at `main`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".coveragerc").write_text("[run]\nsource = .\n")
    (tmp_path / ".gitignore").write_text(".coverage\n")
    (tmp_path / "app.py").write_text(APP)
    git("init", "--quiet", "--initial-branch=main")
    git("add", "--all")
    git("commit", "--quiet", "--message=first")
    git("checkout", "--quiet", "-b", "branch")
    return tmp_path


def measure() -> None:
    """Have the data of a run of the project: whose it is makes no difference."""
    coverage = Coverage()
    coverage.start()
    runpy.run_path("app.py")
    coverage.stop()
    coverage.save()


def report(*options: str, since: str = "main") -> Result:
    return CliRunner().invoke(main, ["report", f"--since={since}", *options])


def table(*options: str) -> dict[str, list[str]]:
    """Give the cells of each row, by its first one."""
    done = report(*options)
    assert done.exit_code == 0, done.output
    rows = (line.split(maxsplit=4) for line in done.stdout.splitlines()[2:])
    return {row[0]: row[1:] for row in rows}


def summary_of_a_run(path: Path) -> str:
    """Give what `hcov run` adds to the summary of a pull request."""
    environment = {**os.environ, "GITHUB_STEP_SUMMARY": str(path), "GITHUB_BASE_REF": "main"}
    done = hcov("run", "-q", "--", sys.executable, "app.py", env=environment)
    assert done.returncode == 0, done.stderr
    return path.read_text()


@pytest.mark.parametrize("commit", [True, False])
def test_only_statements_of_changed_lines_count(commit: bool) -> None:  # noqa: FBT001
    """Also where the line is not the statement's first one, and what is not committed."""
    Path("app.py").write_text(CHANGED)
    if commit:
        git("commit", "--quiet", "--all", "--message=second")
    measure()
    # return 10 and 20, def new, return x, print
    assert table() == {"app.py": ["5", "2", "60%", "4, 12"], "TOTAL": ["5", "2", "60%"]}


def test_what_the_other_branch_has_changed_since_is_not_ours() -> None:
    git("checkout", "--quiet", "main")
    Path("app.py").write_text(APP.replace("return 3", "return 30"))
    git("commit", "--quiet", "--all", "--message=theirs")
    git("checkout", "--quiet", "branch")
    measure()
    assert report().stdout == "no statement has changed since main\n"


def test_a_renamed_file_has_only_its_new_lines() -> None:
    Path("kept.py").write_text("".join(f"x{n} = {n}\n" for n in range(30)))
    git("add", "kept.py")
    git("commit", "--quiet", "--message=second")
    git("branch", "--force", "main")
    git("mv", "kept.py", "moved.py")
    with Path("moved.py").open("a") as file:
        file.write("y = 1\n")
    measure()
    assert table()["moved.py"] == ["1", "1", "0%", "31"]


@pytest.mark.parametrize("name", ["new.py", "a b.py", "ä.py", "sub/new.py"])
@pytest.mark.parametrize("is_added", [True, False])
def test_a_new_file_is_new_whatever_it_is_called(name: str, is_added: bool) -> None:  # noqa: FBT001
    Path(name).parent.mkdir(exist_ok=True)
    (Path(name).parent / "__init__.py").touch()
    Path(name).write_text("a = 1\n++ 2\nb = 3\n")  # its diff has a line like a file's name
    if is_added:
        git("add", "--all")
    measure()
    assert name in report().stdout
    assert table()["TOTAL"] == ["3", "3", "0%"]


def test_a_deleted_file_is_no_part() -> None:
    Path("gone.py").write_text("a = 1\n")
    git("add", "--all")
    git("commit", "--quiet", "--message=second")
    git("branch", "--force", "main")
    git("rm", "--quiet", "gone.py")
    measure()
    assert report().stdout == "no statement has changed since main\n"


@pytest.mark.parametrize(("percent", "status"), [("60", 0), ("60.1", 2), ("0", 0), ("100", 2)])
def test_too_little_is_status_2(percent: str, status: int) -> None:
    Path("app.py").write_text(CHANGED)
    measure()
    done = report("--fail-under-changed", percent)
    assert done.exit_code == status
    assert ("Coverage failure" in done.stdout) == bool(status)


def test_nothing_that_has_changed_is_enough() -> None:
    measure()
    done = report("--fail-under-changed", "100")
    assert done.exit_code == 0


@pytest.mark.parametrize("revision", ["nowhere", "--output=x"])
def test_a_revision_that_is_not_known_is_told(revision: str) -> None:
    measure()
    done = report(since=revision)
    assert done.exit_code == 1
    assert "[revision]" in done.stderr
    assert not Path("x").exists()


def test_the_configuration_of_git_changes_nothing() -> None:
    Path("app.py").write_text(CHANGED)
    for setting in ("diff.noprefix", "diff.mnemonicPrefix", "color.ui"):
        git("config", setting, "always" if setting == "color.ui" else "true")
    git("config", "diff.external", "false")
    git("config", "diff.context", "9")
    measure()
    assert table()["TOTAL"] == ["5", "2", "60%"]


def test_the_summary_of_a_pull_request_has_it(tmp_path: Path) -> None:
    git("update-ref", "refs/remotes/origin/main", "main")
    Path("app.py").write_text(CHANGED)
    text = summary_of_a_run(tmp_path.parent / f"{tmp_path.name}.md")
    assert "### Changed lines: 60 %, of 5 statements" in text
    assert "| app.py | 5 | 2 | 60% | 4, 12 |" in text


def test_the_summary_tells_where_the_base_is_not_there(tmp_path: Path) -> None:
    summary = summary_of_a_run(tmp_path.parent / f"{tmp_path.name}.md")
    assert "It is not known which lines have changed" in summary


def test_a_source_that_was_edited_after_it_was_measured_is_told() -> None:
    Path("app.py").write_text(CHANGED)
    measure()
    later = Path(".coverage").stat().st_mtime + 10
    os.utime("app.py", (later, later))
    assert "app.py was written to after it was measured" in report().stdout
    assert hcoverage.changed_lines(Path.cwd(), "main")
