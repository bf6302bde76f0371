"""Data of a released project's test suite, merged by us and by coverage.py: the same report.

The suite of cachetools runs under xdist, each test in a process (pytest-forked) and with a context
of its own, so that there are hundreds of data files that no test of ours made up.
"""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from tests.sampling import FULL
from tests.unmeasured import run_unmeasured

import hcoverage

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import NewVenv, UnpackRelease

pytestmark = [pytest.mark.index, pytest.mark.timeout(3600)]

PROJECT: Final = "cachetools"
VERSION: Final = "8.0.2"
# pytest-forked does not work with pytest 9.
PACKAGES: Final = (
    f"coverage=={metadata.version('coverage')}",
    "pytest==8.4.2",
    "pytest-forked==1.7.5",
    "pytest-xdist==3.8.0",
)
# In CI one of its files, of six alike; all of them by HCOVERAGE_CORPUS=full.
SUITES: Final = ("ttl", *(("fifo", "lfu", "lru", "rr", "tlru") if FULL else ()))
LEAST_DATA_FILES: Final = 30 * len(SUITES)
LEAST_CONTEXTS: Final = 15 * len(SUITES)
RCFILE: Final = """\
[run]
parallel = True
branch = True
dynamic_context = test_function
patch = subprocess, fork, _exit
source =
    src
    tests
"""


@pytest.fixture
def python(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    new_venv: NewVenv,
    unpack_release: UnpackRelease,
) -> str:
    """The Python of an environment for the suite; the project is the current directory."""
    made = new_venv(tmp_path / "venv", *PACKAGES)
    monkeypatch.chdir(unpack_release(PROJECT, VERSION, tmp_path))
    return str(made.python)


def report(python: str, data_file: str) -> dict[str, Any]:
    """What `coverage json --show-contexts` says, but for when it did."""
    options = ["--show-contexts", f"--data-file={data_file}", "-o", f"{data_file}.json"]
    run_unmeasured([python, "-m", "coverage", "json", *options])
    said: dict[str, Any] = json.loads(Path(f"{data_file}.json").read_bytes())
    del said["meta"]["timestamp"]
    return said


def in_order(said: object) -> object:
    """Sort the contexts of each line: coverage.py lists them in the arbitrary order of a set."""
    if not isinstance(said, dict):
        return said
    return {
        key: {line: sorted(names) for line, names in value.items()}
        if key == "contexts"
        else in_order(value)
        for key, value in said.items()
    }


def test_the_same_report_from_data_of_a_real_suite(
    python: str, tell: Callable[[str], None]
) -> None:
    Path(".coveragerc").write_text(RCFILE)
    pytest_ = ["pytest", "-n", "2", "--forked", "-p", "no:cacheprovider"]
    suites = [f"tests/test_{name}.py" for name in SUITES]
    directory = str(Path("data").absolute())
    measured = [python, "-m", "coverage", "run", f"--data-file={directory}/.coverage", "-m"]
    run_unmeasured(
        [*measured, *pytest_, *suites], PYTHONPATH="src", COVERAGE_FILE=f"{directory}/.coverage"
    )
    result = hcoverage.combine(["data"], data_file="ours", keep=True)
    Path("merged").mkdir()
    combine = [python, "-m", "coverage", "combine", "--keep", "--quiet"]
    run_unmeasured([*combine, "--data-file=merged/.coverage", "data"])

    ours, theirs = in_order(report(python, "ours")), in_order(report(python, "merged/.coverage"))
    distinct = len(result.merged) - len(result.duplicates)
    contexts = _contexts(ours)
    tell(
        f"{PROJECT} {VERSION}: {len(result.merged)} data files, {distinct} of them distinct, "
        f"{len(contexts)} contexts: the same report"
    )
    assert result.set_aside == ()
    assert distinct >= LEAST_DATA_FILES
    assert len(contexts) >= LEAST_CONTEXTS
    assert ours == theirs


def _contexts(said: Any) -> set[str]:  # noqa: ANN401 - JSON
    lines = [file["contexts"] for file in said["files"].values()]
    return {name for each in lines for names in each.values() for name in names}
