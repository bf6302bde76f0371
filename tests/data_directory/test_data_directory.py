"""A run's data is outside the project while its command runs, and is never lost from there."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from coverage import CoverageData
from tests.forks import forked, hcov

import hcoverage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RCFILE: Final = "[run]\nparallel = True\n"
HCOV: Final = (sys.executable, "-m", "hcov")
WAITS: Final = "print('up', flush=True)\ninput()\nafter = 1\n"
MEMORY: Final = Path("/dev/shm")  # noqa: S108
pytestmark = pytest.mark.usefixtures("clean_environment")


@pytest.fixture(autouse=True)
def project(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    temporary: Path,  # noqa: ARG001 - before a session is opened
) -> Path:
    """A project with an rcfile and a program; the current directory."""
    directory = tmp_path / "project"
    directory.mkdir()
    (directory / ".coveragerc").write_text(RCFILE)
    (directory / "one.py").write_text("a = 1\n")
    (directory / "waits.py").write_text(WAITS)
    monkeypatch.chdir(directory)
    return directory


@pytest.fixture(params=["one file system", "two"])
def _file_systems(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """TMPDIR on the file system of the project, or on another."""
    if request.param != "two":
        yield
        return
    if not MEMORY.is_dir() or MEMORY.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is one file system only")
    with tempfile.TemporaryDirectory(dir=MEMORY) as directory:
        monkeypatch.setenv("TMPDIR", directory)
        yield


def measured(data_file: str | Path = ".coverage") -> dict[str, list[int]]:
    data = CoverageData(str(data_file))
    data.read()
    return {Path(name).name: sorted(data.lines(name) or ()) for name in data.measured_files()}


@contextlib.contextmanager
def started(*options: str, program: str = "waits.py") -> Iterator[subprocess.Popen[str]]:
    """A run whose program is up and waits for its input, or for the end of it."""
    with subprocess.Popen(
        [*HCOV, "run", "-q", *options, "--", sys.executable, program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        yield process
        process.communicate()  # after hcov was killed its program reads to the end


def run_what_is_told(said: str) -> None:
    """Type the command that a message gives."""
    (command,) = set(re.findall(r"`(hcov combine [^`]*)`", said))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(["sh", "-ec", command], env={**os.environ, "PATH": path}, check=True)


LISTS: Final = "import os, sys\nprint('SEES', sorted(os.listdir()), file=sys.__stderr__)\n"


@pytest.mark.parametrize(
    "command",
    [
        ["hcov", "run", "--core=auto", "--", sys.executable, "lists.py"],
        ["hcov", "run", "--core=coverage", "--", sys.executable, "lists.py"],
        ["pytest", "-sq", "--hcov", "-pno:cacheprovider", "lists.py"],
        ["pytest", "-sq", "--cov", "--hcov", "-pno:cacheprovider", "lists.py"],
    ],
    ids=["recorder", "coverage core", "pytest --hcov", "pytest --cov --hcov"],
)
def test_nothing_is_in_the_project_while_the_command_runs(
    project: Path, temporary: Path, command: list[str]
) -> None:
    (project / "lists.py").write_text(f"{LISTS}def test() -> None:\n    pass\n")
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    bare = sorted(path.name for path in project.iterdir())
    done = forked(*command, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"SEES {bare}" in done.stderr
    assert "lists.py" in measured()
    assert list(temporary.iterdir()) == []


@pytest.mark.usefixtures("_file_systems")
class TestWhatCannotBeMerged:
    SPOILS: Final = (
        "import os\n"
        "open(os.environ['HCOVERAGE_DATA_DIR'] + '/.coverage.h.pid1.Xbad', 'w').write('bad')\n"
    )

    def test_is_in_the_project_afterwards_as_is_told(self, project: Path) -> None:
        (project / "spoil.py").write_text(self.SPOILS)
        done = hcov("run", "--", sys.executable, "spoil.py")
        assert done.returncode == 3
        assert "not merged: coverage_data/.coverage.h.pid1.Xbad" in done.stderr
        assert (project / "coverage_data/.coverage.h.pid1.Xbad").read_text() == "bad"
        assert measured()["spoil.py"] == [1, 2]
        assert list(Path(os.environ["TMPDIR"]).iterdir()) == []

    def test_where_nothing_can_be_merged_either(self, project: Path) -> None:
        (project / "starts.sh").write_text(
            'printf bad >"$HCOVERAGE_DATA_DIR/.coverage.h.pid1.Xbad"\n'
        )
        done = hcov("run", "--", "sh", "starts.sh")
        assert done.returncode == 3
        told = re.findall(r"^  (\S+): ", done.stderr, re.MULTILINE)
        assert told == [str(project / "coverage_data/.coverage.h.pid1.Xbad")]
        assert Path(told[0]).read_text() == "bad"

    def test_is_told_once_by_the_next_run_and_does_not_get_in_the_way_of_it(
        self, project: Path
    ) -> None:
        (project / "spoil.py").write_text(self.SPOILS)
        hcov("run", "--", sys.executable, "spoil.py")
        done = hcov("run", "--", sys.executable, "one.py")
        assert done.returncode == 0, done.stderr
        (kept,) = project.glob("coverage_data/previous/run-*")
        assert f"it is in {kept.relative_to(project)}" in done.stderr
        again = hcov("run", "--", sys.executable, "one.py")
        assert "earlier run" not in again.stderr
        assert (kept / ".coverage.h.pid1.Xbad").read_text() == "bad"
        # Whoever takes care of it is rid of it.
        (kept / ".coverage.h.pid1.Xbad").unlink()
        hcov("run", "--", sys.executable, "one.py")
        assert not (project / "coverage_data").exists()

    def test_is_not_written_over_what_is_there(self, project: Path) -> None:
        (project / "spoil.py").write_text(
            self.SPOILS + "os.makedirs('coverage_data', exist_ok=True)\n"
            "open('coverage_data/.coverage.h.pid1.Xbad', 'w').write('other')\n"
        )
        done = hcov("run", "--", sys.executable, "spoil.py")
        (told,) = re.findall(r"not merged: (\S+):", done.stderr)
        assert told != "coverage_data/.coverage.h.pid1.Xbad"
        assert (project / told).read_text() == "bad"
        assert (project / "coverage_data/.coverage.h.pid1.Xbad").read_text() == "other"


def test_data_that_cannot_be_moved_stays_where_it_is_told_to_be(
    project: Path, temporary: Path
) -> None:
    # Something else has the place by then.
    (project / "spoil.py").write_text(
        TestWhatCannotBeMerged.SPOILS + "open('coverage_data', 'w').close()\n"
    )
    done = hcov("run", "--", sys.executable, "spoil.py")
    assert done.returncode == 3
    (told,) = re.findall(r"not merged: (\S+):", done.stderr)
    assert Path(told).is_relative_to(temporary)
    assert Path(told).read_text() == "bad"
    assert {path.name for path in Path(told).parents[1].iterdir()} == {"data", "project"}
    (project / "coverage_data").unlink()
    assert f"it is in {Path(told).parent}" in hcov("run", "--", sys.executable, "one.py").stderr


class TestAKilledRun:
    @pytest.fixture
    def killed(self, temporary: Path) -> Path:
        """The data directory of a run that was killed."""
        with started() as run:
            run.kill()
        (data,) = temporary.glob("hcov-*/data")
        assert hcoverage.data_of_killed_sessions(Path.cwd()) == [data]
        return data

    def test_is_told_by_the_next_and_merged_by_what_that_says(
        self, killed: Path, temporary: Path
    ) -> None:
        done = hcov("run", "--", sys.executable, "one.py")
        assert done.returncode == 0, done.stderr
        assert measured() == {"one.py": [1]}
        assert f"it is in {killed}" in done.stderr
        run_what_is_told(done.stderr)
        assert set(measured()) == {"one.py", "waits.py"}
        assert "earlier run" not in hcov("run", "--", sys.executable, "one.py").stderr
        assert list(temporary.iterdir()) == []

    def test_is_merged_by_a_combine_without_paths(self, killed: Path) -> None:
        assert killed.is_dir()
        assert hcov("combine").returncode == 0
        assert measured()["waits.py"][:2] == [1, 2]

    @pytest.mark.thorough
    def test_is_found_by_the_doctor_who_changes_nothing(self, killed: Path) -> None:
        before = sorted(killed.iterdir())
        done = hcov("doctor", "--no-proof")
        assert f"{killed} holds data of an earlier run" in " ".join(done.stdout.split())
        assert sorted(killed.iterdir()) == before

    def test_of_another_project_is_left_alone(
        self, killed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        Path("one.py").write_text("a = 1\n")
        assert "earlier run" not in hcov("run", "--", sys.executable, "one.py").stderr
        assert killed.is_dir()

    def test_that_left_no_data_leaves_nothing(self, killed: Path, temporary: Path) -> None:
        for file in killed.iterdir():
            file.unlink()
        assert "earlier run" not in hcov("run", "--", sys.executable, "one.py").stderr
        assert list(temporary.iterdir()) == []


def open_to_others(directory: Path, _: Path) -> None:
    directory.chmod(0o777)


def a_link(directory: Path, elsewhere: Path) -> None:
    directory.rename(elsewhere)
    directory.symlink_to(elsewhere)


def whose_note_is_a_link(directory: Path, elsewhere: Path) -> None:
    (directory / "project").rename(elsewhere)
    (directory / "project").symlink_to(elsewhere)


def anothers(directory: Path, _: Path) -> None:
    if os.geteuid():
        pytest.skip("only root can make another's")
    os.chown(directory, 65534, 65534)


@pytest.mark.parametrize("forged", [open_to_others, a_link, whose_note_is_a_link, anothers])
def test_a_directory_that_others_may_have_made_is_not_looked_at(
    forged: Callable[[Path, Path], None], project: Path, temporary: Path, tmp_path: Path
) -> None:
    directory = temporary / "hcov-forged"
    (directory / "data").mkdir(parents=True, mode=0o755)
    (directory / "data" / ".coverage.h.pid1.Xa").write_text("data")
    (directory / "project").write_text(str(project))
    assert hcoverage.data_of_killed_sessions(project) == [directory / "data"]
    forged(directory, tmp_path / "elsewhere")
    assert hcoverage.data_of_killed_sessions(project) == []
    assert "earlier run" not in hcov("run", "--", sys.executable, "one.py").stderr
    assert (directory / "data" / ".coverage.h.pid1.Xa").read_text() == "data"


def test_what_was_set_aside_is_believed_no_more_than_before(project: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.py"
    secret.write_text("x = 1\n")
    forged = CoverageData(str(tmp_path / ".coverage.h.pid1.Xa"))
    forged.add_lines({str(secret): [1]})
    forged.write()
    (project / "coverage_data").mkdir(mode=0o755)
    Path(forged.data_filename()).rename(project / "coverage_data" / ".coverage.h.pid1.Xa")
    said = hcov("run", "--", sys.executable, "one.py").stderr
    run_what_is_told(said)
    assert measured() == {"one.py": [1]}


@pytest.mark.thorough
def test_two_runs_at_once_in_one_project_measure_their_own(project: Path, temporary: Path) -> None:
    for name in ("first", "second"):
        (project / f"{name}.py").write_text(WAITS)
        (project / f"{name}.rc").write_text(f"{RCFILE}data_file = {name}.cov\n")
    with (
        started("--rcfile", "first.rc", program="first.py") as first,
        started("--rcfile", "second.rc", program="second.py") as second,
    ):
        assert len(hcoverage.data_of_running_sessions(project)) == 2
        live = hcov("report", "--live").stdout
        assert "first.py" in live
        assert "second.py" in live
        for name, run in {"first": first, "second": second}.items():
            _, said = run.communicate("\n")
            assert (run.returncode, said) == (0, "")
            assert measured(f"{name}.cov") == {f"{name}.py": [1, 2, 3]}
    assert list(temporary.iterdir()) == []


class TestADirectoryThatIsInTheProjectAlready:
    """As a compose file may have it mounted."""

    WRITES: Final = (
        "import os, subprocess, sys\n"
        "assert os.environ['HCOVERAGE_DATA_DIR'] == os.path.abspath('coverage_data')\n"
        "assert os.path.exists('coverage_data/.coveragerc')\n"
    )

    @pytest.mark.parametrize("way", ["empty", "with an rcfile", "with a file of the user's"])
    def test_is_where_data_goes_and_stays(self, project: Path, way: str) -> None:
        directory = project / "coverage_data"
        directory.mkdir()
        if way != "empty":
            name = ".coveragerc" if way == "with an rcfile" else ".gitkeep"
            (directory / name).write_text(RCFILE)
        (project / "writes.py").write_text(self.WRITES)
        for _ in range(2):
            done = hcov("run", "--", sys.executable, "writes.py")
            assert done.returncode == 0, done.stderr
            assert measured()["writes.py"] == [1, 2, 3]
        assert directory.stat().st_mode & 0o777 == 0o777
        assert (directory / ".coveragerc").exists()

    def test_that_is_named_is_the_data_directory_of_one_run_at_a_time(self, project: Path) -> None:
        (project / "coverage_data").mkdir()
        (project / "other.rc").write_text(f"{RCFILE}data_file = other\n")
        with started() as run:
            refused = hcov(
                *("run", "--rcfile=other.rc", "--data-dir=coverage_data"),
                *("--", sys.executable, "one.py"),
            )
            assert refused.returncode == 125
            assert "another run" in refused.stderr
        assert run.returncode == 1  # of its program, which had no input
