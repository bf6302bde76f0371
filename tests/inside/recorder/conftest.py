"""What the recorder's tests share: a data directory and programs that run measured.

The programs have an environment of their own, so that it makes no difference whether these tests
are measured themselves.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

import coverage
import pytest
from coverage import CoverageData
from coverage.config import read_coverage_config
from hypothesis.configuration import set_hypothesis_home_dir
from tests.inside.recorder.one_by_one import add_to_data

from hcoverage._read.recording_files import DataDirectory, Recording, read_files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Set as AbstractSet

    from hcoverage._combine.recorded_part import Selected

    What: TypeAlias = Mapping[str, AbstractSet[int | tuple[int, int]]]

_SOURCES: Final = Path(__file__).parents[3] / "src" / "hcoverage" / "_inside"
# Of a test that hangs; the machine may be busy.
_RUN_LIMIT: Final = 120.0  # seconds

# Hypothesis writes also where nothing runs, while tests are collected.
set_hypothesis_home_dir(Path(__file__).parents[3] / ".cache" / "hypothesis")


@dataclasses.dataclass(frozen=True)
class Measured:
    """What coverage.py data says ran.

    Attributes:
        what: The lines of each file, or its arcs where there are branches.
        contexts: The contexts.
    """

    what: What
    contexts: AbstractSet[str]


def _take(data: CoverageData) -> Measured:
    """Take everything out of coverage.py data, and close it."""
    files = data.measured_files()
    what: What = (
        {name: set(data.arcs(name) or ()) for name in files}
        if data.has_arcs()
        else {name: set(data.lines(name) or ()) for name in files}
    )
    contexts = data.measured_contexts()
    data.close(force=True)
    return Measured(what, contexts)


@dataclasses.dataclass
class Bench:
    """A directory with a program, an interpreter that records, and a data directory.

    Attributes:
        root: Where programs are written and run.
        data: The data directory.
        site: A directory on the programs' ``PYTHONPATH`` whose ``sitecustomize`` records.
        env: The programs' environment.
        plain_env: The same for programs that do not record.
    """

    root: Path
    data: Path
    site: Path
    env: dict[str, str]
    plain_env: dict[str, str]

    def write(self, source: str, name: str = "app.py") -> Path:
        """Write a program and return its path."""
        file = self.root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(source, encoding="utf-8")
        return file

    def customize(self, source: str) -> None:
        """Have the programs begin with this instead of starting the recorder."""
        (self.site / "sitecustomize.py").write_text(source, encoding="utf-8")

    def start(
        self,
        *arguments: str | Path,
        **options: Any,  # noqa: ANN401 - those of Popen
    ) -> subprocess.Popen[str]:
        """Start a measured interpreter."""
        options = {"env": self.env, "cwd": self.root, **options}
        command = [sys.executable, *map(str, arguments)]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, **options)

    def run(
        self,
        *arguments: str | Path,
        returncode: int = 0,
        stderr: str | None = "",
        **options: Any,  # noqa: ANN401 - those of Popen
    ) -> str:
        """Run a measured interpreter to its end, check how it ended, and return what it printed."""
        process = self.start(*arguments, **options)
        out, err = process.communicate(timeout=_RUN_LIMIT)
        assert process.returncode == returncode, err
        if stderr is not None:
            assert err == stderr
        return out

    def read(self) -> DataDirectory:
        """Read all recordings; none may be unreadable."""
        found = read_files(self.data.iterdir())
        assert found.unreadable == ()
        return found

    def only(self) -> Recording:
        """The one recording there is."""
        (recording,) = self.read().recordings
        return recording

    def measured(self, rcfile: Path | None = None) -> tuple[Selected, Measured]:
        """Turn the recordings into coverage.py data."""
        config = read_coverage_config(str(rcfile) if rcfile else False, warn=pytest.fail)
        data = CoverageData(no_disk=True)
        try:
            return add_to_data(self.read().recordings, data, config), _take(data)
        finally:
            data.close(force=True)

    def measured_by_coverage(self) -> Measured:
        """Read the data file that a program in `coverage_env` left, and remove it."""
        data = CoverageData(basename=self.coverage_env["COVERAGE_FILE"])
        data.read()
        measured = _take(data)
        Path(data.data_filename()).unlink()
        return measured

    @property
    def coverage_env(self) -> dict[str, str]:
        """The environment of programs that coverage.py measures instead."""
        return {
            **self.plain_env,
            "PYTHONPATH": str(Path(coverage.__file__).parents[1]),
            "COVERAGE_FILE": str(self.data / ".coverage"),
        }

    def lines(
        self, name: str = "app.py", recordings: Iterable[Recording] | None = None
    ) -> set[int]:
        """The lines of a program that ran, in all processes."""
        recordings = self.read().recordings if recordings is None else recordings
        path = os.path.realpath(self.root / name)
        return {
            line
            for recording in recordings
            for source in recording.sources
            if source.path == path
            for line in source.lines
        }


class MakeBench(Protocol):
    """The fixture `make_bench`."""

    def __call__(self, directory: Path) -> Bench:
        """Lay out a bench in an empty directory."""


@pytest.fixture(scope="session")
def make_bench() -> MakeBench:
    """Lay out benches, for tests that need one of another scope or several."""

    def make(directory: Path) -> Bench:
        root, data, site = (directory / name for name in ("root", "data", "site"))
        for each in (root, data, site):
            each.mkdir()
        data.chmod(0o777)
        for part in (
            "recorder",
            "recorder_arcs",
            "recorder_branch_contexts",
            "recorder_branches",
            "recorder_contexts",
            "recorder_flow",
            "recorder_long_code",
            "recorder_requests",
            "recorder_seldom",
            "recorder_sources",
            "recorder_test_functions",
            "recorder_writer",
            "context_reader",
        ):
            shutil.copy(_SOURCES / f"{part}.py", site / f"hc{part}.py")
        # A session around these tests has its hook in this interpreter, and finds the programs even
        # without its variables. This is a session that leaves them alone.
        (site / "_hcoverage_process.py").write_text("def start():\n    pass\n")
        measuring = ("COVERAGE", "COV_", "HCOVERAGE", "PYTHON")
        plain = {key: value for key, value in os.environ.items() if not key.startswith(measuring)}
        plain["HCOVERAGE_SESSION"] = str(site)
        recording = {
            "PYTHONPATH": str(site),
            "HCOVERAGE_RECORD": str(data),
            "HCOVERAGE_RECORD_SKIP": os.pathsep.join(("stdlib", "site-packages", str(site))),
        }
        bench = Bench(root, data, site, env=plain | recording, plain_env=plain)
        bench.customize("import hcrecorder\nhcrecorder.start()\n")
        return bench

    return make


@pytest.fixture
def bench(make_bench: MakeBench, tmp_path: Path) -> Bench:
    """A place to run measured programs."""
    return make_bench(tmp_path)


@pytest.fixture
def wait_line() -> Callable[[subprocess.Popen[str]], str]:
    """Waits for a program's next line of output: the event instead of a sleep."""

    def wait(process: subprocess.Popen[str]) -> str:
        assert process.stdout is not None
        return process.stdout.readline().strip()

    return wait
