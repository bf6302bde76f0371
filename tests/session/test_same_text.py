"""A source that says what it said when it ran keeps its lines, whatever was done to its file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
from coverage import CoverageData

import hcoverage

needs_recorder = pytest.mark.skipif(
    sys.version_info < (3, 12), reason="coverage.py's data does not tell what the source was"
)
pytestmark = pytest.mark.usefixtures("clean_environment")

LIBRARY: Final = "def f():\n    return 1\n\nf()\n"
# What is done to lib.py after it ran.
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
PROGRAM: Final = """
import os
path = os.path.abspath({!r})
text = open(path).read()
if path.endswith(".py"):
    import lib
else:
    exec(compile(text, path, "exec"), {{"__name__": "lib"}})
def test_it():
    {}
test_it() if __name__ == "__main__" else None
"""
# What a template engine compiles, and scripts, have names of their own.
NAMES: Final = ("lib.py", "lib.html", "lib")
WAYS: Final = {
    "hcov run": ("-m", "hcov", "run", "--", sys.executable, "test_it.py"),
    "pytest --hcov": ("-m", "pytest", "--hcov", "-p", "no:cacheprovider", "test_it.py"),
}


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A project whose sources nobody has touched for an hour."""
    for name in NAMES:
        source = tmp_path / name
        source.write_text(LIBRARY)
        an_hour_ago = source.stat().st_mtime - 3600
        os.utime(source, (an_hour_ago, an_hour_ago))
    monkeypatch.chdir(tmp_path)


def run(way: str, what: str, name: str) -> subprocess.CompletedProcess[str]:
    Path("test_it.py").write_text(PROGRAM.format(name, what))
    done = subprocess.run(
        [sys.executable, *WAYS[way]],
        capture_output=True,
        text=True,
        check=False,
        env={**hcoverage.unmeasured_environment(os.environ), "PYTHONPATH": "."},
    )
    assert done.returncode == 0, done
    return done


def lines(name: str) -> list[int]:
    data = CoverageData()
    data.read()
    return sorted(data.lines(str(Path(name).resolve())) or [])


@pytest.mark.thorough
@needs_recorder
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("what", SAME)
def test_the_same_text_keeps_its_lines(way: str, what: str, name: str) -> None:
    done = run(way, SAME[what], name)
    assert lines(name) == [1, 2, 4]
    assert "left out" not in done.stdout + done.stderr


@needs_recorder
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("what", OTHER)
def test_another_text_is_told(way: str, what: str, name: str) -> None:
    done = run(way, OTHER[what], name)
    assert lines(name) == []
    assert f"left out: {name} has changed since it ran" in done.stdout + done.stderr
