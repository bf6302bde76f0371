"""Each kind of error and warning has a slug, which hcov shows, and a page; no page has none."""

from __future__ import annotations

import importlib
import pickle
import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

import hcov
import hcoverage
import hdocker

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parents[1]
PAGES: Final = {path.stem: path for path in (ROOT / "docs" / "messages").glob("*.md")}
SUMMARY: Final = ROOT / "src" / "hcov" / "_summary.py"
# Run by their interpreters, or as copies.
NOT_MODULES: Final = {"hcov.__main__", "hcoverage._sitecustomize", "hdocker._look_inside"}


def kinds(base: type[object]) -> Iterator[type[object]]:
    for kind in base.__subclasses__():
        yield kind
        yield from kinds(kind)


def slugs() -> list[str]:
    """The slugs of all kinds that there are, in all modules."""
    for package in (hcoverage, hdocker, hcov):
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            if module.name not in NOT_MODULES and "_recorder" not in module.name:
                importlib.import_module(module.name)
    found = {*kinds(hcoverage.HcoverageError), *kinds(hcoverage.HcoverageWarning)}
    return sorted(kind.slug for kind in found)  # type: ignore[attr-defined]


def test_each_kind_has_a_slug_of_its_own_and_a_page() -> None:
    found = slugs()
    assert len(found) == len(set(found))
    assert set(found) <= PAGES.keys()


def test_each_page_is_of_a_kind_or_of_words_that_are_told_at_the_end_of_a_run() -> None:
    source = re.sub(r'"\s*\n\s*f?"', "", SUMMARY.read_text(encoding="utf-8"))
    for slug in PAGES.keys() - {*slugs(), "index"}:
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
