"""A source that says what it said when it ran keeps its lines, whatever was done to its file."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from coverage import CoverageData
from tests.forks import forked

import hcoverage

if TYPE_CHECKING:
    from collections.abc import Mapping

needs_recorder = pytest.mark.skipif(
    sys.version_info < (3, 12), reason="coverage.py's data does not tell what the source was"
)

LIBRARY: Final = "def f():\n    return 1\n\nf()\n"
# What is done to a source after it ran.
SAME: Final = {
    "touched": "os.utime(path)",
    "dated back": "os.utime(path, (1, 1))",
    "written again": "open(path, 'w').write(text)",
    "replaced": "open('new', 'w').write(text); os.replace('new', path)",
    "removed and written again": "os.unlink(path); open(path, 'w').write(text)",
    "other text for a while": "open(path, 'w').write('x = 1'); open(path, 'w').write(text)",
}
OTHER: Final = {
    "a line more": "open(path, 'a').write('x = 1')",
    "another letter": "open(path, 'w').write(text.replace('1', '2'))",
}
# What a template engine compiles, and scripts, have names of their own.
NAMES: Final = ("lib{}.py", "lib{}.html", "lib{}")
PROGRAM: Final = """
import importlib, os
def test_it():
    for name, what in {!r}:
        path = os.path.abspath(name)
        text = open(path).read()
        if path.endswith(".py"):
            importlib.import_module(name[:-3])
        else:
            exec(compile(text, path, "exec"), {{"__name__": "lib"}})
        exec(what)
test_it() if __name__ == "__main__" else None
"""
WAYS: Final = {
    "hcov run": ("hcov", "run", "--", sys.executable, "test_it.py"),
    "pytest --hcov": ("pytest", "--hcov", "-p", "no:cacheprovider", "test_it.py"),
}


def name_of(what: str, name: str) -> str:
    """Give each thing that is done a source of its own."""
    return name.format([*SAME, *OTHER].index(what))


@pytest.fixture(scope="module", params=WAYS)
def said_and_lines(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Mapping[str, list[int]]]:
    """A run in which all of it is done to sources that nobody had touched for an hour."""
    project = tmp_path_factory.mktemp("project")
    done_to = {
        name_of(what, name): script for what, script in (SAME | OTHER).items() for name in NAMES
    }
    for name in done_to:
        source = project / name
        source.write_text(LIBRARY)
        an_hour_ago = source.stat().st_mtime - 3600
        os.utime(source, (an_hour_ago, an_hour_ago))
    (project / "test_it.py").write_text(PROGRAM.format([*done_to.items()]))
    environment = {**hcoverage.unmeasured_environment(os.environ), "PYTHONPATH": "."}
    done = forked(*WAYS[request.param], env=environment, directory=project)
    assert done.returncode == 0, done
    data = CoverageData(str(project / ".coverage"))
    data.read()
    return done.stdout + done.stderr, {
        Path(file).name: sorted(data.lines(file) or []) for file in data.measured_files()
    }


@needs_recorder
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("what", SAME)
def test_the_same_text_keeps_its_lines(
    said_and_lines: tuple[str, Mapping[str, list[int]]], what: str, name: str
) -> None:
    said, lines = said_and_lines
    assert lines[name_of(what, name)] == [1, 2, 4]
    assert f"left out: {name_of(what, name)} " not in said


@needs_recorder
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("what", OTHER)
def test_another_text_is_told(
    said_and_lines: tuple[str, Mapping[str, list[int]]], what: str, name: str
) -> None:
    said, lines = said_and_lines
    assert not lines.get(name_of(what, name))
    assert f"left out: {name_of(what, name)} has changed since it ran" in said
