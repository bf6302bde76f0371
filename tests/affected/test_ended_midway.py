"""After a run that did not come to its end, or was one of some tests, it is known what still holds.

The project is measured whole once. Then it is run in a way that leaves some tests without all that
they would have run, and these are needed, with the reason; the others are not.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Final

import pytest
from tests.forks import forked

import hcoverage

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

pytestmark = pytest.mark.xdist_group("affected midway")  # the project is measured once for all

FILES: Final = {
    ".coveragerc": "[run]\nsource = .\n",
    "lib.py": """\
def one():
    return 1

def two():
    return 2

def three():
    return 3

def tool():
    return 4
""",
    "tool.py": """\
import os
import signal

import lib

lib.tool()
os.kill(os.getpid(), signal.SIGKILL)
""",
    # What goes wrong is in the environment, which nobody takes for a change.
    "test_a.py": """\
import os
import signal

import pytest

import lib

WAY = os.environ.get("WAY")

if WAY == "collecting":
    raise ImportError

@pytest.fixture
def ready():
    assert WAY != "setup"
    yield
    assert WAY != "teardown"

def test_one(ready):
    assert WAY != "test"
    if WAY == "interrupt":
        os.kill(os.getpid(), signal.SIGINT)
    if WAY == "exit":
        pytest.exit("enough")
    if WAY == "crash":
        os._exit(7)
    assert lib.one() == 1

def test_two():
    assert lib.two() == 2
""",
    "test_b.py": """\
import subprocess
import sys

import lib

def test_three():
    assert lib.three() == 3

def test_killed():
    assert subprocess.run([sys.executable, "tool.py"]).returncode == -9
""",
}
ONE: Final = "test_a.py::test_one"
TWO: Final = "test_a.py::test_two"
THREE: Final = "test_b.py::test_three"
KILLED: Final = "test_b.py::test_killed"
NOT_RUN: Final = dict.fromkeys((TWO, THREE, KILLED), "not run")
NO_RESTART: Final = ("-n1", "--max-worker-restart=0")
# What goes wrong, with which options; and what each test was, of those that are needed.
WAYS: Final = {
    "a test fails": ("test", (), {ONE: "failed"}),
    "a test fails and is the last": ("test", ("-x",), {ONE: "failed", **NOT_RUN}),
    "a setup fails": ("setup", (), {ONE: "failed"}),
    "a teardown fails": ("teardown", (), {ONE: "failed"}),
    "somebody interrupts it": ("interrupt", (), {ONE: "interrupted", **NOT_RUN}),
    "a test ends it": ("exit", (), {ONE: "interrupted", **NOT_RUN}),
    "a worker crashes": ("crash", NO_RESTART, {ONE: "failed", **NOT_RUN}),
    "a worker crashes and another one goes on": ("crash", ("-n1",), {ONE: "failed"}),
    "a test fails in a worker": ("test", ("-n1", "-x"), {ONE: "failed", **NOT_RUN}),
    # No notes of it: what the run before told still holds.
    "pytest itself is gone": ("crash", (), {}),
    # Nobody wanted the others.
    "one test by name": ("", ("-k", "test_one"), {}),
    "one file": ("", ("test_b.py",), {}),
    "one test": ("", (ONE,), {}),
    "no test": ("", ("--collect-only",), {}),
    "no test is needed": ("", ("--hcov-affected",), {}),
}
QUICK: Final = ("a test fails and is the last", "somebody interrupts it", "one test by name")


def run(directory: Path, way: str = "", *options: str) -> subprocess.CompletedProcess[str]:
    environment = hcoverage.unmeasured_environment(os.environ)
    environment |= {"PYTHONDONTWRITEBYTECODE": "1", "WAY": way}
    del environment[hcoverage.SESSION_VARIABLE]  # a run of its own, whatever is around the tests
    command = ("pytest", "-q", "-p", "no:cacheprovider", *options)
    measured = ("--hcov", "--hcov-context=test", "--hcov-report=")
    return forked(*command, *measured, env=environment, directory=directory)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project, measured whole."""
    directory = tmp_path_factory.mktemp("measured")
    for name, text in FILES.items():
        (directory / name).write_text(text)
    done = run(directory)
    assert done.returncode == 0, done.stdout + done.stderr
    assert needed(directory) == {}
    return directory


@pytest.fixture
def project(measured: Path, tmp_path: Path) -> Path:
    """The project, with what is known of it, to be run once more."""
    return shutil.copytree(measured, tmp_path / "project")


def decide(directory: Path) -> hcoverage.Decision:
    return hcoverage.decide(directory, directory / ".coverage")


def needed(directory: Path) -> dict[str, str]:
    """Give the reasons for which tests are needed."""
    decision = decide(directory)
    found = {test: decision.reasons(test, path) for test, path in decision.known.items()}
    return {test: "; ".join(reasons) for test, reasons in found.items() if reasons}


@pytest.mark.parametrize(
    "way", [pytest.param(way, marks=[] if way in QUICK else pytest.mark.thorough) for way in WAYS]
)
def test_what_did_not_come_to_its_end_is_needed(project: Path, way: str) -> None:
    wrong, options, expected = WAYS[way]
    done = run(project, wrong, *options)
    found = {test: why.partition(" in the run of ")[0] for test, why in needed(project).items()}
    assert found == {test: f"it was {what}" for test, what in expected.items()}, done.stdout
    # What is known of the others still tells whom a change concerns.
    edit(project, "return 3", "return 1 + 2")
    edit(project, "return 1\n", "return 3 - 2\n")
    assert needed(project).keys() == {ONE, THREE, *expected}


def edit(project: Path, old: str, new: str) -> None:
    text = (project / "lib.py").read_text()
    assert old in text
    (project / "lib.py").write_text(text.replace(old, new))


@pytest.mark.parametrize("core", ["recorder", pytest.param("coverage", marks=pytest.mark.thorough)])
def test_what_a_killed_process_ran_is_known(project: Path, core: str) -> None:
    run(project, "", f"--hcov-core={core}")
    edit(project, "return 4", "return 2 + 2")
    assert KILLED in (decide(project).everything and {KILLED}) | needed(project).keys()


def test_a_file_that_could_not_be_collected_is_needed_until_it_is(project: Path) -> None:
    run(project, "collecting")
    decision = decide(project)
    (why,) = decision.files["test_a.py"]
    assert why.startswith("test_a.py could not be collected in the run of ")
    assert decision.needed() == ["test_a.py", KILLED, THREE]  # the rest was not run for it
    run(project)
    assert decide(project).needed() == []


def test_a_test_that_is_gone_keeps_no_other_one_from_being_left_out(project: Path) -> None:
    path = project / "test_a.py"
    path.write_text(path.read_text().replace("test_two", "test_too"))
    edit(project, "return 3", "return 1 + 2")
    assert decide(project).needed() == ["test_a.py", THREE]
    run(project, "", "--hcov-affected")
    decision = decide(project)
    assert decision.needed() == []
    assert set(decision.known) == {ONE, "test_a.py::test_too", THREE, KILLED}
