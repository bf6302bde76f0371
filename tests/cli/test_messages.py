"""Whatever hcov says of a problem has a slug, which it shows, and a page; no page is of nothing."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest
from tests.forks import hcov

import hcoverage

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = {path.stem: path for path in (ROOT / "docs" / "messages").glob("*.md")}
# In a process of its own, not measured: importing a module says nothing of how well it is tested.
# Left out is what is run by its interpreter, or as a copy.
PROGRAM: Final = """\
import importlib, inspect, json, pickle, pkgutil
import hcov, hcoverage, hdocker

ARGUMENTS = {"argv": ("a", "b"), "returncode": 1, "output": "o", "exit_status": 127}

def kinds(base):
    for kind in base.__subclasses__():
        yield kind
        yield from kinds(kind)

def make(kind):
    names = inspect.signature(kind.__init__).parameters
    return kind("nothing", *(ARGUMENTS[name] for name in names if name in ARGUMENTS))

def state(error):
    return type(error).__name__, error.slug, str(error), vars(error)

left_out = {"hcov.__main__", "hcoverage._inside.sitecustomize", "hdocker._inside.look_inside"}
for package in (hcoverage, hdocker, hcov):
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if module.name not in left_out and ".recorder" not in module.name:
            importlib.import_module(module.name)
found = [*{*kinds(hcoverage.HcoverageError)}, *{*kinds(hcoverage.HcoverageWarning)}]
print(json.dumps([
    {
        "name": kind.__name__,
        "slug": kind.slug,
        "is_pickled": state(pickle.loads(pickle.dumps(make(kind)))) == state(make(kind)),
    }
    for kind in found
]))
"""
# They run in processes that are measured, and never reach a person as an exception.
INSIDE: Final = {
    "autosave.py",
    "recorder_requests.py",
    "recorder_writer.py",
    "sitecustomize.py",
    "startup_directory.py",
}


@pytest.fixture(scope="module")
def kinds() -> list[dict[str, Any]]:
    """All kinds that there are, in all modules."""
    environment = hcoverage.unmeasured_environment(os.environ)
    command = [sys.executable, "-c", PROGRAM]
    found = json.loads(subprocess.check_output(command, text=True, env=environment))
    assert isinstance(found, list)
    assert found
    return found


def test_each_has_a_page_and_each_page_is_of_one(kinds: list[dict[str, Any]]) -> None:
    assert PAGES.keys() == {*(kind["slug"] for kind in kinds), *hcoverage.Page, "index"}


def test_no_two_kinds_of_errors_or_of_warnings_share_one(kinds: list[dict[str, Any]]) -> None:
    for end in ("Error", "Warning"):
        slugs = [kind["slug"] for kind in kinds if kind["name"].endswith(end)]
        assert len(slugs) == len(set(slugs)) > 0


def test_each_page_says_what_to_do() -> None:
    for slug in PAGES.keys() - {"index"}:
        text = PAGES[slug].read_text(encoding="utf-8")
        assert text.startswith(f"# {slug}\n\n")
        assert "\nWhat to do: " in text, slug


def test_each_page_is_used() -> None:
    sources = [file.read_text(encoding="utf-8") for file in (ROOT / "src").rglob("*.py")]
    for page in hcoverage.Page:
        assert any(f"Page.{page.name}" in source for source in sources), page


def test_none_is_raised_that_has_no_page_of_its_own() -> None:
    without = (
        r"raise (\w+\.)?(HcoverageError|\w*OSError|ImportError|File\w+Error|PermissionError)\("
    )
    for file in (ROOT / "src").rglob("*.py"):
        raised = re.search(without, file.read_text(encoding="utf-8"))
        assert not raised or file.name in INSIDE, f"{file}: {raised[0]}"


def test_all_are_in_the_index() -> None:
    index = PAGES["index"].read_text(encoding="utf-8").splitlines()
    assert {slug for slug in PAGES if slug in index} == PAGES.keys() - {"index"}


@pytest.mark.usefixtures("clean_environment")
def test_hcov_shows_it_at_the_end_of_the_first_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = hcov("combine")
    assert done.returncode == 1
    assert done.stderr.splitlines()[0].startswith("hcov: error: ")
    assert done.stderr.splitlines()[0].endswith(" [no-data]")


@pytest.mark.usefixtures("clean_environment")
@pytest.mark.parametrize(
    ("arguments", "slug"),
    [
        (["--nothing"], "usage"),
        (["nothing"], "usage"),
        (["run"], "usage"),
        (["docker", "build"], "usage"),
        (["run", "--fail-under", "101", "--", "true"], "usage"),
        (["combine", "nothing"], "no-input"),
        (["inject"], "no-rcfile"),
        (["run", "--rcfile", "nothing", "--", "true"], "no-rcfile"),
        (["run", "--", "no-such-command"], "not-started"),
        (["diff", "nothing", "nothing"], "set-algebra"),
        (["combine", "--data-file", "/dev/null/x", "."], "system"),
    ],
)
def test_so_does_what_is_wrong_with_a_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], slug: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = hcov(*arguments)
    assert done.returncode != 0
    (line,) = [line for line in done.stderr.splitlines() if "rror: " in line]
    assert line.endswith(f" [{slug}]")


@pytest.mark.usefixtures("clean_environment")
def test_help_is_no_error() -> None:
    done = hcov("docker")
    assert "Usage: " in done.stdout + done.stderr
    assert "[usage]" not in done.stdout + done.stderr


@pytest.mark.usefixtures("clean_environment")
def test_what_is_not_whole_says_how_to_make_it_so(tmp_path: Path) -> None:
    (tmp_path / "coverage.py").write_text("raise ImportError('No module named _x')\n")
    done = subprocess.run(
        [sys.executable, "-m", "hcov", "combine", "coverage.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == (
        "hcov: error: No module named _x: install hcoverage again, with what it depends on "
        "[missing-module]\n"
    )


def test_an_error_of_the_system_or_of_an_import_has_one_too() -> None:
    assert hcoverage.slug_of(PermissionError(13, "Permission denied", "x")) == "system"
    assert hcoverage.slug_of(ModuleNotFoundError("No module named 'x'")) == "missing-module"


def test_it_comes_with_the_error_from_another_process(kinds: list[dict[str, Any]]) -> None:
    assert [kind["name"] for kind in kinds if not kind["is_pickled"]] == []
