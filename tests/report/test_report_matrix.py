"""The report is coverage.py's, whole: over layouts, rcfiles and ways to measure.

A cell is one project under one rcfile, measured by one of our ways. What is reported of it
afterwards, `coverage report` and all of `coverage json`, is compared with what coverage.py reports
of the same project that it measured itself, in one process or by its own `patch = subprocess`.

The cells are shared out so that there is one of each rcfile: those that change how it is measured
meet all ways, and what only the merge and the report see is measured by the recorder, which is the
quickest. All of them, and rcfiles by chance:

    HCOVERAGE_CORPUS=full python -m pytest tests/report

These are many: HCOVERAGE_CELLS=500 takes as many of them by chance.
"""

from __future__ import annotations

import collections
import itertools
import os
import random
import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import pytest
from tests.report.layouts import ODD_LAYOUTS, ORDINARY_LAYOUTS, Layout
from tests.report.measuring import (
    STEPS,
    Environment,
    Project,
    Result,
    lay_out,
    measure,
    measure_alone,
)
from tests.report.rcfiles import RCFILES, Rcfile, generated
from tests.sampling import FULL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

# Its environment, and the processes that fork for it, are made once.
pytestmark = pytest.mark.xdist_group("report matrix")

_File: TypeAlias = "Mapping[str, Any]"
LAYOUTS: Final = (*ORDINARY_LAYOUTS, *ODD_LAYOUTS)
SAMPLE: Final = int(os.environ.get("HCOVERAGE_CELLS", "0"))
RECORDS: Final = sys.version_info >= (3, 12)
BY_CHANCE: Final = 100
QUICK: Final = 17  # each so-manieth is tried after each edit, too
SINGLE: Final = 3  # layouts of one process that each way meets
HCOV: Final = ("-m", "hcov", "run")
PYTEST: Final = ("-m", "pytest", "-q", "-p", "no:cacheprovider")
# What hcov tells of an ordinary run. Anything else is noise.
ORDINARY: Final = re.compile(
    r"merged: .*|  (recorder|coverage\.py): .*|core: .*|.*; `hcov init` writes one \[no-rcfile\]"
)
_COMBINED: Final = re.compile(r"Combined \d+ files?").fullmatch  # coverage.py's own word
# A source of which nothing ran; coverage.py warns in each process.
_NOT_IMPORTED: Final = re.compile(r"\[module-not-imported\]|was never imported").search
_TABLE: Final = re.compile(r"^hcov: who ran what:\n(?:  .*\n)*", re.MULTILINE)


@dataclass(frozen=True)
class Way:
    """How a project is measured, and what by coverage.py is to give the same.

    Attributes:
        name: What to call it.
        command: What Python is given, for a project.
        alone: What Python is given for coverage.py alone.
        status_under: The exit status where the total is too little.
        status_without: The exit status where there is nothing to report.
        prints_report: Whether it prints what `coverage report` does.
    """

    name: str
    command: Callable[[Project], tuple[str, ...]]
    alone: Callable[[Layout], tuple[str, ...]]
    status_under: int = 2
    status_without: int = 3
    prints_report: bool = True


def _script(layout: Layout) -> tuple[str, ...]:
    return ("-m", "coverage", "run", *layout.script)


def _script_in_parallel(layout: Layout) -> tuple[str, ...]:
    # To combine what has no arcs at all makes coverage.py forget that it measured branches.
    return ("-m", "coverage", "run", "--parallel-mode", *layout.script)


def _pytest(layout: Layout) -> tuple[str, ...]:
    return ("-m", "coverage", "run", *PYTEST, *layout.pytest)


def _pytest_cov(layout: Layout) -> tuple[str, ...]:
    return (*PYTEST, "--cov", "--cov-report=", *layout.pytest)


def _by_hcov_run(project: Project) -> tuple[str, ...]:
    return (*HCOV, "--", project.python.python, *project.layout.script)


def _pytest_by_hcov_run(project: Project) -> tuple[str, ...]:
    return (*HCOV, "--", project.python.python, *PYTEST, *project.layout.pytest)


def _by_coverage_core(project: Project) -> tuple[str, ...]:
    return (*HCOV, "--core=coverage", "--", project.python.python, *project.layout.script)


def _by_plugin(project: Project) -> tuple[str, ...]:
    return (*PYTEST, "--hcov", *project.layout.pytest)


def _beside_pytest_cov(project: Project) -> tuple[str, ...]:
    return (*PYTEST, "--cov", "--hcov", "--cov-report=", *project.layout.pytest)


def _around_coverage_run(project: Project) -> tuple[str, ...]:
    command = ("-m", "coverage", "run", *project.layout.script)
    return (*HCOV, "--", project.python.python, *command)


def _step_by_step(project: Project) -> tuple[str, ...]:
    return ("-c", STEPS, project.rcfile.file, *project.layout.script)


WAYS: Final = {
    way.name: way
    for way in (
        Way("recorder", _by_hcov_run, _script),
        Way("recorder-pytest", _pytest_by_hcov_run, _pytest),
        Way("coverage-core", _by_coverage_core, _script),
        Way("plugin", _by_plugin, _pytest, status_under=1, status_without=1),
        Way("pytest-cov", _beside_pytest_cov, _pytest_cov, prints_report=False),
        Way("coverage-run", _around_coverage_run, _script),
        Way("steps", _step_by_step, _script_in_parallel, status_without=1),
    )
}


@dataclass(frozen=True)
class Cell:
    """One combination."""

    layout: Layout
    rcfile: Rcfile
    way: Way

    @property
    def name(self) -> str:
        """What to call it."""
        return f"{self.layout.name}-{self.rcfile.name}-{self.way.name}"

    @property
    def place(self) -> tuple[str, str]:
        """Where an rcfile is met."""
        return self.layout.name, self.way.name


def is_possible(cell: Cell) -> bool:
    """Leave out what there is not, and where coverage.py loses lines that we do not."""
    if cell.way.name == "steps" and cell.rcfile.text is None and not cell.rcfile.by_init:
        return False  # `inject` needs an rcfile
    if cell.way.name == "steps" and cell.rcfile.has_plugin:
        return False  # coverage.py's own hook starts where the project is on no path yet
    if cell.way.name == "coverage-run" and cell.rcfile.has_plugin:
        return False  # coverage.py loads it before it measures, and we measure that, too
    return not (cell.layout.threads and cell.rcfile.loses_threads)


def all_cells() -> Iterator[Cell]:
    rcfiles = (*RCFILES, *generated(BY_CHANCE))
    cells = (Cell(*parts) for parts in itertools.product(LAYOUTS, rcfiles, WAYS.values()))
    return filter(is_possible, cells)


def shared_out() -> Iterator[Cell]:
    """Choose one cell for each rcfile."""
    by_recorder, *others = WAYS.values()
    left = [*_places(others)]
    used: collections.Counter[str] = collections.Counter()
    for rcfile in RCFILES:
        places = left if rcfile.changes_measuring else []
        cells = [Cell(layout, rcfile, way) for layout, way in places]
        cell = next(filter(is_possible, cells), None)
        if cell:
            left.remove((cell.layout, cell.way))
        else:
            cells = [Cell(layout, rcfile, by_recorder) for layout in LAYOUTS]
            cell = min(filter(is_possible, cells), key=lambda cell: used[cell.layout.name])
            used[cell.layout.name] += 1
        yield cell


def _places(ways: Sequence[Way]) -> Iterator[tuple[Layout, Way]]:
    """Have each way meet the layouts with more processes than one, and a few of the others."""
    several = [layout for layout in ORDINARY_LAYOUTS if layout.children]
    single = itertools.cycle(layout for layout in ORDINARY_LAYOUTS if not layout.children)
    layouts = [[*several, *itertools.islice(single, SINGLE)] for _ in ways]
    for row in zip(*layouts, strict=True):
        yield from zip(row, ways, strict=True)


def chosen() -> list[Cell]:
    """Choose the cells of this run."""
    if FULL:
        cells = [*all_cells()]
        return random.Random(16).sample(cells, SAMPLE) if SAMPLE else cells  # noqa: S311
    cells = [*shared_out()]
    return cells if RECORDS else cells[::4]  # CI has them all on another Python


CELLS: Final = chosen()


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """The environment that all projects run in."""
    return Environment.make(tmp_path_factory.mktemp("environment") / "venv", LAYOUTS)


@pytest.fixture(scope="module")
def expected(
    tmp_path_factory: pytest.TempPathFactory, python: Environment
) -> Callable[[Cell], Result]:
    """Give what coverage.py alone reports; of each project, rcfile and command it is asked once."""
    known: dict[object, Result] = {}

    def get(cell: Cell) -> Result:
        command = cell.way.alone(cell.layout)
        key = (cell.layout.name, cell.rcfile.name, command)
        if key not in known:
            parent = tmp_path_factory.mktemp("alone")
            project = lay_out(parent / "in", cell.layout, cell.rcfile, python, alone=True)
            known[key] = measure_alone(project, *command)
        return known[key]

    return get


@pytest.mark.parametrize(
    "cell",
    [
        pytest.param(cell, marks=[pytest.mark.thorough] if number % QUICK else [], id=cell.name)
        for number, cell in enumerate(CELLS)
    ],
)
def test_report_is_that_of_coverage_py(
    cell: Cell, tmp_path: Path, python: Environment, expected: Callable[[Cell], Result]
) -> None:
    right = expected(cell)
    project = lay_out(tmp_path / "in", cell.layout, cell.rcfile, python, alone=False)
    ours = measure(project, *cell.way.command(project))
    if wrong := [*differences(cell, ours, right)]:
        told = "\n".join([*wrong, "It printed:", ours.out, "It told:", ours.err])
        pytest.fail(told, pytrace=False)


def differences(cell: Cell, ours: Result, right: Result) -> Iterator[str]:
    """Give each difference in a line, the gravest first."""
    status = _status(cell.way, right)
    if ours.status != status:
        yield f"exit status {ours.status}, not {status}"
    yield from differences_of_json(ours.json[1], right.json[1])
    if ours.json[0] != right.json[0] or ours.report[0] != right.report[0]:
        yield (
            f"status of reports {ours.json[0], ours.report[0]}, "
            f"not {right.json[0], right.report[0]}"
        )
    if ours.report[1] != right.report[1]:
        yield "`coverage report` prints another text"
    if cell.way.prints_report and not _has_lines(ours.out, ours.report[1]):
        yield "printed is not what `coverage report` prints"
    if left := sorted(ours.new - right.new):
        yield f"left in the project: {left}"
    tells, wanted = (bool(_NOT_IMPORTED(each.out + each.err)) for each in (ours, right))
    if tells > wanted or (tells < wanted and not cell.layout.children):
        yield f"told that nothing ran of a source: {tells}, not {wanted}"
    for line in _told(ours, right)[:1]:
        yield f"told: {line}"


def _status(way: Way, right: Result) -> int:
    if way.name == "pytest-cov":
        return right.status
    return {1: way.status_without, 2: way.status_under}.get(right.report[0], right.report[0])


def differences_of_json(ours: object, right: object) -> Iterator[str]:
    """Give each difference of two of coverage.py's JSON reports in a line."""
    if not (isinstance(ours, dict) and isinstance(right, dict)):
        if ours != right:
            yield f"json: {str(ours)[:60]!r}, not {str(right)[:60]!r}"
        return
    yield from _differences_of_files(ours["files"], right["files"])
    for kind in ("meta", "totals"):
        if ours[kind] != right[kind]:
            yield f"{kind} differ"


def _differences_of_files(ours: Mapping[str, _File], right: Mapping[str, _File]) -> Iterator[str]:
    missing = sorted(right.keys() - ours.keys())
    if ran := [name for name in missing if right[name]["executed_lines"]]:
        yield f"files that ran are absent: {ran}"
    elif missing:
        yield f"files that nothing ran are absent: {missing}"
    if more := sorted(ours.keys() - right.keys()):
        yield f"files too many: {more}"
    for name in sorted(ours.keys() & right.keys()):
        kinds = [kind for kind in right[name] if ours[name].get(kind) != right[name][kind]]
        for kind in kinds[:1]:
            yield f"{name}: {kind} {str(ours[name].get(kind))[:80]}, not {right[name][kind]}"[:300]


def _has_lines(text: str, wanted: str) -> bool:
    return f"\n{wanted}" in f"\n{text}"


def _told(ours: Result, right: Result) -> list[str]:
    """Give what was told that nobody has to know, by hcov or in its wake."""
    rest = _without_addresses(_TABLE.sub("", ours.err)).splitlines()
    printed = _TABLE.sub("", ours.out).splitlines()  # pytest's plugin tells there
    told = [line for line in printed if line.startswith("hcov: ")]
    told += [line for line in rest if line.startswith("hcov: ")]
    told = [line for line in told if not _NOT_IMPORTED(line)]
    others = [line for line in rest if not line.startswith("hcov: ")]
    expected = _without_addresses(right.err).splitlines()
    return [
        *(line for line in told if not ORDINARY.fullmatch(line.removeprefix("hcov: "))),
        *(line for line in others if line not in expected and not _COMBINED(line)),
    ]


def _without_addresses(text: str) -> str:
    return re.sub(r"0x[0-9a-f]+", "0x", text)


def test_the_cells_meet_each_layout_and_each_way() -> None:
    cells = [*shared_out()]
    met = {cell.place for cell in cells}
    assert len(cells) == len(RCFILES)
    assert {name for name, way in met if way == "recorder"} == {layout.name for layout in LAYOUTS}
    for way in WAYS:
        names = {name for name, by in met if by == way}
        assert names >= {"children", "workers"}
        assert len(names) >= 2 + SINGLE
    for layout in ORDINARY_LAYOUTS:
        assert len({way for name, way in met if name == layout.name}) >= SINGLE


@pytest.mark.thorough
@pytest.mark.parametrize(
    "layout", LAYOUTS if FULL else LAYOUTS[::4], ids=lambda layout: layout.name
)
def test_what_is_compared_with_is_worth_it(
    layout: Layout, tmp_path: Path, python: Environment
) -> None:
    rcfile = Rcfile("both", "[run]\nsource = <package>, <testdir>\n")
    project = lay_out(tmp_path / "in", layout, rcfile, python, alone=True)
    result = measure_alone(project, *_script(layout))
    assert (result.status, result.err) == (0, "")
    ran = {name for name, file in result.json[1]["files"].items() if file["executed_lines"]}
    assert any(name.endswith("never.py") for name in result.json[1]["files"].keys() - ran)
    if layout.children:
        assert "app/sub/deep.py" in ran
    assert 0 < result.json[1]["totals"]["percent_covered"] < 100
