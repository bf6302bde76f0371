"""The test suite of a released project that lives by subprocesses, measured by `hcov run`.

pyproject_hooks starts a Python for each hook of a build backend that it calls, and half of its code
runs nowhere else. Its suite passes as it does unmeasured, though it turns every warning into an
error, and no line is lost that coverage.py with `patch = subprocess` sees. In CI each third of its
tests runs; all of them by HCOVERAGE_CORPUS=full.

Runs by itself: `pytest tests/real/test_pypi_suite.py`.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from xml.etree import ElementTree as ET

import pytest
from tests.sampling import FULL
from tests.unmeasured import run_unmeasured

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from tests.conftest import MakeVenv, UnpackRelease

pytestmark = [pytest.mark.index, pytest.mark.timeout(3600)]

# Run twice under coverage.py, this release covered the same lines each time; pinned for that.
PROJECT: Final = "pyproject_hooks"
VERSION: Final = "1.3.3"
NEEDED_BY_ITS_TESTS: Final = ("setuptools==84.2.1", "testpath==0.6.0")  # beside pytest
ONE_OF: Final = 1 if FULL else 3
LEAST_SUBPROCESSES: Final = 20 // ONE_OF
PLUGIN: Final = f"""\
def pytest_collection_modifyitems(items):
    items[:] = items[::{ONE_OF}]
"""
RCFILE: Final = """\
[run]
parallel = True
source =
    src
    tests
"""
RCFILE_WITH_PATCH: Final = f"{RCFILE}patch = subprocess\n"


@dataclass(frozen=True)
class Outcome:
    """What a run of the suite came to.

    Attributes:
        tests: What each test came to.
        lines: The lines executed in each file; nothing if the run was not measured.
        seconds: How long it took; merging and reporting, if it was measured, are part of it.
    """

    tests: Mapping[str, str]
    lines: Mapping[str, set[int]]
    seconds: float


@dataclass(frozen=True)
class Suite:
    """An unpacked project, installed in an environment that has this project too.

    Attributes:
        directory: The project's top directory.
        bin: Where the environment's programs are.
        scratch: A directory for what the runs leave.
    """

    directory: Path
    bin: Path
    scratch: Path

    def plain(self) -> Outcome:
        seconds = self._run(self._pytest)
        return Outcome(self._results(), {}, seconds)

    def under_coverage(self) -> tuple[Outcome, int]:
        """Run it the way coverage.py has for subprocesses; tell how many data files there were."""
        rcfile = self._rcfile(RCFILE_WITH_PATCH)
        coverage = [*self._python, "-m", "coverage"]
        option = f"--rcfile={rcfile}"
        seconds = self._run([*coverage, "run", option, "--parallel-mode", *self._pytest[1:]])
        data_files = len(list(self.directory.glob(".coverage.*")))
        for step in ("combine", "report", "json"):
            seconds += self._run([*coverage, step, option])
        return Outcome(self._results(), self._lines(), seconds), data_files

    def under_hcov(self) -> Outcome:
        rcfile = self._rcfile(RCFILE)
        hcov = [str(self.bin / "hcov"), "run", f"--rcfile={rcfile}", "--json", "--"]
        seconds = self._run([*hcov, *self._pytest])
        return Outcome(self._results(), self._lines(), seconds)

    @property
    def _python(self) -> list[str]:
        return [str(self.bin / "python")]

    @property
    def _pytest(self) -> list[str]:
        options = ["-p", "each_so_manieth", "-p", "no:cacheprovider", f"--junitxml={self._xml}"]
        return [*self._python, "-m", "pytest", *options]

    @property
    def _xml(self) -> Path:
        return self.scratch / "results.xml"

    def _rcfile(self, text: str) -> Path:
        rcfile = self.scratch / ".coveragerc"
        rcfile.write_text(text)
        return rcfile

    def _run(self, command: Sequence[str]) -> float:
        start = time.perf_counter()
        run_unmeasured(command, self.directory)
        return time.perf_counter() - start

    def _results(self) -> dict[str, str]:
        cases = ET.parse(self._xml).iter("testcase")  # noqa: S314 - pytest wrote it just now
        # A test that passed has no element of its own: `failure`, `error`, `skipped`.
        results = {
            f"{case.get('classname')}.{case.get('name')}": next((told.tag for told in case), "")
            for case in cases
        }
        self._xml.unlink()
        return results

    def _lines(self) -> dict[str, set[int]]:
        report = self.directory / "coverage.json"
        files: dict[str, Any] = json.loads(report.read_bytes())["files"]
        report.unlink()
        (self.directory / ".coverage").unlink()
        return {name: set(file["executed_lines"]) for name, file in files.items()}


@pytest.fixture
def suite(tmp_path: Path, make_venv: MakeVenv, unpack_release: UnpackRelease) -> Suite:
    environment = make_venv("venv", *NEEDED_BY_ITS_TESTS, coverage_hook=True, with_pytest=True)
    directory = unpack_release(PROJECT, VERSION, tmp_path)
    # As an editable install has it, so that what runs is in a `source` directory; it runs some of
    # its files by path.
    (environment.site_packages / f"{PROJECT}.pth").write_text(str(directory / "src"))
    (environment.site_packages / "each_so_manieth.py").write_text(PLUGIN)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return Suite(directory, environment.python.parent, scratch)


def _count(lines: Mapping[str, set[int]]) -> int:
    return sum(map(len, lines.values()))


def test_passes_as_it_does_unmeasured_and_no_line_is_lost(
    suite: Suite, tell: Callable[[str], None]
) -> None:
    plain = suite.plain()
    coverage, data_files = suite.under_coverage()
    hcov = suite.under_hcov()

    subprocesses = data_files - 1
    tell(
        f"{PROJECT} {VERSION}: {len(plain.tests)} tests, {subprocesses} subprocesses measured; "
        f"plain {plain.seconds:.1f} s; "
        f"coverage.py {coverage.seconds:.1f} s, {_count(coverage.lines)} lines; "
        f"hcov run {hcov.seconds:.1f} s, {_count(hcov.lines)} lines"
    )
    assert subprocesses >= LEAST_SUBPROCESSES
    assert hcov.tests == coverage.tests == plain.tests
    lost = {name: lines - hcov.lines.get(name, set()) for name, lines in coverage.lines.items()}
    assert not {name: lines for name, lines in lost.items() if lines}
