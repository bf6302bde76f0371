"""Anybody names what a run does: `hcov context`, `hcov mark`, `hcoverage.context`."""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from coverage import CoverageData
from tests import forks

import hcoverage
from hcov._commands.contexts import next_phase

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.usefixtures("clean_environment")

HCOV: Final = (sys.executable, "-m", "hcov")
# A service that does what it is asked to, and says when it has.
SERVICE: Final = """\
def login():
    return 1
def checkout():
    return 2
print("up", flush=True)
while True:
    name = input()
    if not name:
        break
    globals()[name]()
    print("done", flush=True)
"""
LOGIN, CHECKOUT = 2, 4
CORES: Final = (
    pytest.param(
        "recorder",
        marks=pytest.mark.skipif(sys.version_info < (3, 12), reason="needs sys.monitoring"),
    ),
    "coverage",
)


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "project"
    directory.mkdir()
    (directory / ".coveragerc").write_text(
        "[run]\nsource = .\n[report]\nfail_under = 100\nshow_missing = True\n"
    )
    (directory / "service.py").write_text(SERVICE)
    monkeypatch.chdir(directory)
    return directory


def hcov(*arguments: str, status: int = 0) -> str:
    """Run hcov beside the run, and give all that it says."""
    done = forks.hcov(*arguments)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


@contextlib.contextmanager
def served(*options: str) -> Iterator[Callable[[str], None]]:
    """A service that runs measured; gives what asks it for something and waits until it is done."""
    command = [*HCOV, "run", "-q", *options, "--", sys.executable, "service.py"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdin
        assert process.stdout
        stdin, stdout = process.stdin, process.stdout

        def ask(name: str) -> None:
            stdin.write(f"{name}\n")
            stdin.flush()
            assert stdout.readline() == "done\n"

        assert stdout.readline() == "up\n"
        try:
            yield ask
        finally:
            process.communicate("\n")


def contexts_of(line: int, file: str = "service.py") -> set[str]:
    data = CoverageData()
    data.read()
    found = set(data.contexts_by_lineno(str(Path(file).resolve())).get(line, []))
    data.close(force=True)
    return found


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("place", ["own", "coverage_data"])
def test_a_process_that_runs_already_follows_what_is_named_beside_it(core: str, place: str) -> None:
    if place == "coverage_data":
        Path(place).mkdir()
    with served("--core", core, "--context", "at the start") as ask:
        ask("login")
        hcov("context", "paying: 1 €")
        ask("checkout")
        hcov("context", "")
        ask("login")
    assert contexts_of(LOGIN) == {"at the start", ""}
    assert contexts_of(CHECKOUT) == {"paying: 1 €"}


@pytest.mark.parametrize("core", CORES)
def test_what_is_started_in_the_run_follows_and_names(core: str) -> None:
    Path("inside.py").write_text(
        "import subprocess, sys, hcoverage\n"
        "def start(name): subprocess.run([sys.executable, name], check=True)\n"
        "start('one.py')\n"
        "with hcoverage.context('two'):\n"
        "    start('two.py')\n"
        "start('three.py')\n"
        "hcoverage.context('four')\n"
        "start('four.py')\n"
    )
    for name in ("one", "two", "three", "four"):
        Path(f"{name}.py").write_text("a = 1\n")
    hcov("run", "--core", core, "--context", "first", "--", sys.executable, "inside.py", status=2)
    found = [contexts_of(1, f"{name}.py") for name in ("one", "two", "three", "four")]
    assert found == [{"first"}, {"two"}, {"first"}, {"four"}]


def test_a_mark_reports_one_phase_alone_and_stops_nothing() -> None:
    with served("--context", "login") as ask:
        ask("login")
        first = hcov("mark", "paying")
        ask("checkout")
        second = hcov("mark")
        ask("login")
    assert "login has ended, paying begins" in first
    assert "paying has ended, paying 2 begins" in second
    assert (LOGIN in missing(first), CHECKOUT in missing(first)) == (False, True)
    assert (LOGIN in missing(second), CHECKOUT in missing(second)) == (True, False)
    assert missing(hcov("report", "--context", "paying")) == missing(second)
    assert contexts_of(LOGIN) == {"login", "paying 2"}


def missing(report: str) -> set[int]:
    """Give the lines that a report has as missing."""
    (line,) = [line for line in report.splitlines() if line.startswith("service.py")]
    ranges = [part.strip(" ,").partition("-") for part in line.split("%")[1].split(",")]
    return {
        number for first, _, last in ranges for number in range(int(first), int(last or first) + 1)
    }


@pytest.mark.parametrize(
    ("name", "following"),
    [("", "phase 1"), ("phase 1", "phase 2"), ("a9", "a10"), ("login", "login 2"), ("1.9", "1.10")],
)
def test_a_phase_without_a_name_has_the_next_number(name: str, following: str) -> None:
    assert next_phase(name) == following


@pytest.mark.any_python
def test_a_run_whose_rcfile_names_contexts_itself_is_refused() -> None:
    Path(".coveragerc").write_text("[run]\ndynamic_context = test_function\n")
    said = hcov("run", "--context", "name", "--", "true", status=125)
    assert "dynamic_context, which sets other contexts: remove it" in said


@pytest.mark.any_python
@pytest.mark.parametrize("none", ["none", ""])
def test_an_rcfile_that_says_that_it_names_none_is_not_in_the_way(none: str) -> None:
    Path(".coveragerc").write_text(f"[run]\ndynamic_context = {none}\n")
    said = hcov("run", "--context", "name", "--", "true", status=3)  # nothing was measured
    assert "dynamic_context" not in said


class TestWhereNobodyFollows:
    """Whichever of the commands is given, and all in one run: none of them changes anything."""

    COMMANDS: Final = (("context", "name"), ("mark",), ("mark", "name"))

    def test_no_run_is_told(self) -> None:
        for command in self.COMMANDS:
            said = hcov(*command, status=1)
            assert "no run is in progress in this directory: start it with `hcov run --con" in said

    def test_a_run_that_follows_nothing_is_told(self) -> None:
        with served():
            for command in self.COMMANDS:
                said = hcov(*command, status=1)
                assert "the run that is in progress follows no context: start it with" in said

    def test_so_it_is_from_inside(self) -> None:
        each = "; ".join(shlex.join([*HCOV, *command]) for command in self.COMMANDS)
        said = hcov("run", "-q", "--", "sh", "-c", each, status=1)
        told = "the run that this process is in follows no context: start it with"
        assert said.count(told) == len(self.COMMANDS)

    @pytest.mark.thorough
    def test_two_runs_are_not_told_apart(self) -> None:
        with contextlib.ExitStack() as stack:
            for name in ("one", "two"):
                os.environ["COVERAGE_FILE"] = name
                stack.enter_context(served("--context", name))
            for command in self.COMMANDS:
                said = hcov(*command, status=1)
                assert "2 runs, or processes of one, name what they do" in said


def test_what_a_with_block_leaves_is_an_error_of_nobody_where_the_run_has_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with hcoverage.followed(Path.cwd(), "before") as variables:
        monkeypatch.setenv(hcoverage.SESSION_VARIABLE, "1")
        monkeypatch.setenv(hcoverage.DATA_DIR_VARIABLE, str(Path.cwd()))
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        with hcoverage.context("within"):
            assert hcoverage.read_context(hcoverage.followed_file()) == "within"
            hcoverage.followed_file().unlink()
