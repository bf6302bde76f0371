"""Each kind of error and warning has a slug, which hcov shows, and a page; no page has none."""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

import hcoverage

ROOT: Final = Path(__file__).parents[1]
PAGES: Final = {path.stem: path for path in (ROOT / "docs" / "messages").glob("*.md")}
SUMMARY: Final = ROOT / "src" / "hcov" / "_summary.py"
# In a process of its own, not measured: importing a module says nothing of how well it is tested.
# Left out is what is run by its interpreter, or as a copy.
PROGRAM: Final = """\
import importlib, pkgutil
import hcov, hcoverage, hdocker

def kinds(base):
    for kind in base.__subclasses__():
        yield kind
        yield from kinds(kind)

left_out = {"hcov.__main__", "hcoverage._sitecustomize", "hdocker._look_inside"}
for package in (hcoverage, hdocker, hcov):
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        if module.name not in left_out and "_recorder" not in module.name:
            importlib.import_module(module.name)
found = {*kinds(hcoverage.HcoverageError), *kinds(hcoverage.HcoverageWarning)}
print(*(kind.slug for kind in found))
"""


@pytest.fixture(scope="module")
def slugs() -> list[str]:
    """The slugs of all kinds that there are, in all modules."""
    environment = hcoverage.unmeasured_environment(os.environ)
    command = [sys.executable, "-c", PROGRAM]
    return subprocess.check_output(command, text=True, env=environment).split()


def test_each_kind_has_a_slug_of_its_own_and_a_page(slugs: list[str]) -> None:
    assert len(slugs) == len(set(slugs)) > 0
    assert set(slugs) <= PAGES.keys()


def test_each_page_is_of_a_kind_or_of_words_that_are_told_at_the_end_of_a_run(
    slugs: list[str],
) -> None:
    source = re.sub(r'"\s*\n\s*f?"', "", SUMMARY.read_text(encoding="utf-8"))
    for slug in PAGES.keys() - {*slugs, "index"}:
        (words,) = re.findall("^`([^`]+)`$", PAGES[slug].read_text(encoding="utf-8"), re.MULTILINE)
        for part in filter(None, map(str.strip, words.split("…"))):
            assert part in source, slug


def test_none_is_raised_as_the_base_which_has_no_page() -> None:
    for file in (ROOT / "src").rglob("*.py"):
        raised = re.search(r"raise (\w+\.)?HcoverageError\(", file.read_text(encoding="utf-8"))
        assert not raised, file


def test_all_are_in_the_index() -> None:
    index = PAGES["index"].read_text(encoding="utf-8").splitlines()
    assert {slug for slug in PAGES if slug in index} == PAGES.keys() - {"index"}


@pytest.mark.usefixtures("clean_environment")
def test_hcov_shows_it_at_the_end_of_the_first_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hcov", "combine"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[0].startswith("hcov: error: ")
    assert done.stderr.splitlines()[0].endswith(" [no-data]")


def test_it_comes_with_the_error_from_another_process() -> None:
    error = pickle.loads(pickle.dumps(hcoverage.NoDataError("nothing")))  # noqa: S301
    assert (error.slug, str(error)) == ("no-data", "nothing")
