"""Released projects' own suites, each configured as it is: the whole report is coverage.py's.

Installed from wheels, so that `[paths]` has to find the sources here. In CI one runs; all by

    HCOVERAGE_CORPUS=full python -m pytest tests/real/test_released_suites.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from tests.sampling import FULL
from tests.unmeasured import run_unmeasured

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import MakeVenv, UnpackRelease

pytestmark = [pytest.mark.index, pytest.mark.thorough, pytest.mark.timeout(3600)]

# What their suites need beside pytest, by project and version. All have branches, and their sources
# in src.
PROJECTS: Final[dict[tuple[str, str], tuple[str, ...]]] = {
    ("itsdangerous", "2.2.0"): ("freezegun==1.5.5",),
    ("attrs", "25.3.0"): ("cloudpickle", "hypothesis"),
    ("jinja2", "3.1.6"): ("trio",),
    ("pluggy", "1.6.0"): (),
    ("structlog", "25.4.0"): (
        *("freezegun", "pretend", "pytest-asyncio<1.1", "simplejson"),
        *("rich", "twisted"),
    ),
}
# pytest has imported it before `--hcov` can begin, which is told.
IMPORTED_BEFORE: Final = ("pluggy",)
PYTEST: Final = ("-q", "-p", "no:cacheprovider")


def report() -> dict[str, Any]:
    """Take the report that was written, but for when that was, and what it was made of."""
    said: dict[str, Any] = json.loads(Path("coverage.json").read_bytes())
    del said["meta"]["timestamp"]
    Path("coverage.json").unlink()
    Path(".coverage").unlink()
    return said


def statements(said: dict[str, Any]) -> dict[str, int]:
    return {name: file["summary"]["num_statements"] for name, file in said["files"].items()}


@pytest.fixture
def in_project(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make_venv: MakeVenv,
    unpack_release: UnpackRelease,
) -> Callable[[str, str], str]:
    """Make a project's directory the current one, and return a Python that has it and us."""

    def enter(name: str, version: str) -> str:
        requirements = (f"{name}=={version}", *PROJECTS[name, version])
        python = make_venv("venv", *requirements, with_pytest=True).python
        monkeypatch.chdir(unpack_release(name, version, tmp_path))
        return str(python)

    return enter


@pytest.mark.parametrize(
    ("name", "version"), [*PROJECTS] if FULL else [*PROJECTS][:1], ids=lambda text: text
)
def test_the_whole_report_is_coverages(
    name: str,
    version: str,
    *,
    in_project: Callable[[str, str], str],
    tell: Callable[[str], None],
) -> None:
    python = in_project(name, version)
    run_unmeasured([python, "-m", "coverage", "run", "-m", "pytest", *PYTEST])
    if not Path(".coverage").exists():  # its configuration has `parallel`
        run_unmeasured([python, "-m", "coverage", "combine", "-q"])
    run_unmeasured([python, "-m", "coverage", "json", "-q", "--fail-under=0"])
    expected = report()

    hcov = ["-m", "hcov", "run", "--no-containers", "--fail-under=0", "--json", "--"]
    run_unmeasured([python, *hcov, python, "-m", "pytest", *PYTEST])
    of_the_command = report()
    plugin = ("--hcov", "--hcov-report=json", "--hcov-fail-under=0")
    run_unmeasured([python, "-m", "pytest", *PYTEST, *plugin])
    of_the_plugin = report()

    totals = expected["totals"]
    ways = "two" if name in IMPORTED_BEFORE else "three"
    tell(
        f"{name} {version}: {len(expected['files'])} files, {totals['covered_lines']} lines and "
        f"{totals['covered_branches']} branches covered: the same report {ways} ways"
    )
    assert totals["covered_branches"] > 0
    assert of_the_command == expected
    if name in IMPORTED_BEFORE:
        assert statements(of_the_plugin) == statements(expected)
    else:
        assert of_the_plugin == expected
