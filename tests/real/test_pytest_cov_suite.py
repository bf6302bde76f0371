"""pytest-cov's own suite, with `--hcov` added to each pytest that its tests start.

Each of them still finds in pytest-cov's report, data and status what it looks for. In CI every few
tests run; all of them by

    HCOVERAGE_CORPUS=full python -m pytest tests/real/test_pytest_cov_suite.py
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree as ET

import pytest
from tests.sampling import FULL
from tests.unmeasured import run_unmeasured

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import MakeVenv, UnpackRelease

pytestmark = [pytest.mark.index, pytest.mark.thorough, pytest.mark.timeout(3600)]

PROJECT: Final = "pytest_cov"
VERSION: Final = "7.1.0"
# And what its tests need, of pytest before 9.1.
PACKAGES: Final = (
    f"{PROJECT}=={VERSION}",
    "process-tests==3.0.0",
    "pytest==9.0.3",
    "pytest-xdist==3.8.0",
)
# It starts containers of redis, with celery; pytest's header, which names our plugin, must not have
# the word "coverage".
NOT_OURS: Final = ("test_celery", "test_disabled_output")
ONE_OF: Final = 80
ALWAYS: Final = (
    *("borken_cwd[nodist]", "no_cover_marker", "no_cover_fixture", "cov_and_no_cov"),
    "coverage_file",
)
PLUGIN: Final = f"""\
import pytest

def pytest_collection_modifyitems(items):
    items[:] = [item for item in items if item.name not in {NOT_OURS!r}]
    if not {FULL!r}:
        named = {tuple(f"test_{name}" for name in ALWAYS)!r}
        items[:] = [
            item for number, item in enumerate(items)
            if number % {ONE_OF} == 0 or item.name in named
        ]

@pytest.fixture(autouse=True)
def _hcov_added(request, monkeypatch):
    if "pytester" in request.fixturenames or "testdir" in request.fixturenames:
        request.getfixturevalue("pytester")  # it deletes the variable
        monkeypatch.setenv("PYTEST_ADDOPTS", "--hcov")
"""


def test_passes_as_it_does_without_us(
    tmp_path: Path,
    make_venv: MakeVenv,
    unpack_release: UnpackRelease,
    tell: Callable[[str], None],
) -> None:
    python = make_venv("venv", *PACKAGES, coverage_hook=True).python
    suite = unpack_release(PROJECT, VERSION, tmp_path)
    (tmp_path / "hcov_added.py").write_text(PLUGIN)
    results = tmp_path / "results.xml"
    run_unmeasured(
        [
            *(str(python), "-m", "pytest", "-q", "-p", "hcov_added", "-p", "no:cacheprovider"),
            *(f"--basetemp={tmp_path / 'inner'}", f"--junitxml={results}", "tests"),
        ],
        suite,
        PYTHONPATH=f"{tmp_path}{os.pathsep}{suite / 'tests'}",
        PATH=f"{python.parent}{os.pathsep}{os.environ['PATH']}",
    )
    cases = list(ET.parse(results).iter("testcase"))  # noqa: S314 - pytest wrote it just now
    passed = sum(not len(case) for case in cases)
    tell(f"{PROJECT} {VERSION}: {passed} of its tests pass with --hcov in each run")
    assert passed >= len(ALWAYS) + 3
