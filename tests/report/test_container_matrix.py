"""The report of what ran in a container is that of the same program here: whole, in each cell.

A cell is one container: an rcfile, a place where the container has the code, a way to measure it.
Whatever these are, the report has to be what coverage.py reports of the same program under the same
rcfile, run here in one process; and nothing is told but what is to be told of any run.

The cells are shared out so that each way and each place is there, and each core meets each kind of
place and each rcfile. All of them:

    HCOVERAGE_CORPUS=full python -m pytest tests/report/test_container_matrix.py

HCOVERAGE_CELLS=100 takes as many of them by chance.
"""

from __future__ import annotations

import itertools
import random
import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from tests.report.containers import (
    ORDINARY_UMASK,
    PLACEMENTS,
    RCFILES,
    SAYS,
    WAYS,
    Container,
    Images,
    Placement,
    Result,
    Sessions,
    Way,
    lay_out,
    measure,
    measure_alone,
)
from tests.report.measuring import Environment
from tests.report.test_report_matrix import SAMPLE, differences_of_json
from tests.sampling import FULL, sample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.conftest import MakeImage

pytestmark = [
    pytest.mark.engine,
    pytest.mark.index,
    pytest.mark.thorough,
    pytest.mark.usefixtures("clean_environment"),
    pytest.mark.skipif(sys.version_info < (3, 12), reason="its Python is the image's"),
]


@dataclass(frozen=True)
class Cell:
    """One combination."""

    way: Way
    rcfile: str
    placement: Placement

    @property
    def is_alone(self) -> bool:
        """Whether it takes a whole `hcov run` of its own."""
        return bool(self.way.script) or self.placement.umask != ORDINARY_UMASK

    @property
    def is_installed_in_a_baked_image(self) -> bool:
        """Whether what is measured is installed in an image with coverage.py in it."""
        return self.way.image == "baked" and self.placement.kind in {"installed", "venv"}

    @property
    def meetings(self) -> tuple[object, ...]:
        """What has to meet in one cell at least."""
        core, place = self.way.core, self.placement
        return (core, place.kind), (core, self.rcfile), self.way.name, place.name

    @property
    def name(self) -> str:
        """What to call it."""
        return f"{self.way.name}-{self.rcfile}-{self.placement.name}"


def all_cells() -> Iterator[Cell]:
    for way, rcfile, placement in itertools.product(WAYS, RCFILES, PLACEMENTS):
        yield Cell(way, rcfile, placement)


def shared_out() -> Iterator[Cell]:
    """Choose so many that each core meets all that there is."""
    # Where there is a choice, one that shares its session with others, and an image that it takes
    # nothing more to build, and in which pip has installed the project.
    cells = sorted(
        all_cells(), key=lambda cell: (cell.is_alone, cell.is_installed_in_a_baked_image)
    )
    return iter(sample(((cell, cell.meetings) for cell in cells), 1))


def parameters() -> list[object]:
    """The cells of this run; those of a way are on one worker, which opens each session once."""
    cells = [*(all_cells() if FULL else shared_out())]
    if FULL and SAMPLE:
        cells = random.Random(16).sample(cells, SAMPLE)  # noqa: S311
    # Those of a session together.
    cells.sort(key=lambda cell: (cell.is_alone, WAYS.index(cell.way), cell.rcfile))
    return [
        pytest.param(
            cell, id=cell.name, marks=pytest.mark.xdist_group(f"containers-{cell.way.name}")
        )
        for cell in cells
    ]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """The environment that hcov is installed in."""
    return Environment.make(tmp_path_factory.mktemp("environment") / "venv", ())


@pytest.fixture(scope="module")
def sessions() -> Iterator[Sessions]:
    """The one session that is open."""
    sessions = Sessions()
    yield sessions
    sessions.close()


@pytest.fixture(scope="module")
def images(make_image: MakeImage, tmp_path_factory: pytest.TempPathFactory) -> Images:
    pythons = {
        "newer": lambda: make_image("python-image", "--prefix", "/usr/local", sys.executable),
        "older": lambda: make_image("base-image"),
    }
    return Images(tmp_path_factory.mktemp("images"), pythons)


@pytest.fixture(scope="module")
def expected(
    tmp_path_factory: pytest.TempPathFactory, python: Environment
) -> Callable[[Cell], Result]:
    """Give what coverage.py alone reports; of each rcfile and program it is asked once."""
    known: dict[object, Result] = {}

    def get(cell: Cell) -> Result:
        key = (cell.rcfile, cell.way.branch, cell.placement.is_script)
        if key not in known:
            here = tmp_path_factory.mktemp("alone")
            lay_out(here, python, cell.rcfile, branch=cell.way.branch)
            known[key] = measure_alone(here, python, is_script=cell.placement.is_script)
        return known[key]

    return get


@pytest.mark.parametrize("cell", parameters())
def test_report_of_a_container_is_that_of_the_program_here(  # noqa: PLR0917 - fixtures
    cell: Cell,
    tmp_path: Path,
    python: Environment,
    images: Images,
    sessions: Sessions,
    expected: Callable[[Cell], Result],
    container_label: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    right = expected(cell)
    image = images.get(cell.way, cell.placement)
    container = Container(cell.way, cell.placement, image, container_label)
    if cell.is_alone:
        lay_out(tmp_path, python, cell.rcfile, branch=cell.way.branch)
        ours = measure(tmp_path, python, container)
    else:
        sessions.open(
            (cell.way, cell.rcfile),
            lambda: lay_out(tmp_path, python, cell.rcfile, branch=cell.way.branch),
        )
        ours = sessions.measure(container, capfd)
    wrong = [*differences(ours, right, container)]
    assert not wrong, "\n".join([*wrong, "", ours.out, ours.err])


def differences(ours: Result, right: Result, container: Container) -> Iterator[str]:
    """Give each difference in a line, the gravest first."""
    if ours.status != 0:
        yield f"exit status {ours.status}"
    yield from differences_of_json(ours.json, right.json)
    if not ours.out.startswith(SAYS):
        yield "the application says something else"
    if ours.out.partition("Name ")[2].split("Wrote")[0] != right.out.partition("Name ")[2]:
        yield "another text is printed"
    for line in ours.err.splitlines():
        if not _is_ordinary(line, container):
            yield f"told: {line}"


def _is_ordinary(line: str, container: Container) -> bool:
    """Tell whether a line is to be told of any run of a container."""
    way, image = container.way, re.escape(container.image)
    place = "container [0-9a-f]{12}|container .*" if way.name == "baked" else f"image {image}"
    told = [
        r"merged: (1 recorded process|1 data file of coverage\.py), into \.coverage",
        rf"  recorder: 1 process of ({place}), Python 3\.[0-9.]+",
        rf"  coverage\.py: 1 process of ({place})",
        r"  \S+ of containers is \S+ here: \d sources? alike by (content|names and lines)",
        r"core: .*",
        r"no coverage\.py configuration here, so its defaults are used; .* \[no-rcfile\]",
    ]
    if way.helper:
        # The helper is a Python of this machine, which is measured as well.
        told += [
            r"merged: 2 recorded processes, into \.coverage",
            r"merged: 1 recorded process and 1 data file of coverage\.py, into \.coverage",
            r"  recorder: 1 process on this host, Python 3\.[0-9.]+",
            r"who ran what:",
        ]
        rows = rf"  (origin .*|main +1 +0 +0 +0|{place} +1 +\d+ +\d+ +\d+)"
        if re.fullmatch(rows, line):
            return True
    return re.fullmatch(f"hcov: ({'|'.join(told)})|Wrote JSON report .*", line) is not None


def test_each_core_meets_each_kind_of_place_and_rcfile() -> None:
    cells = [*shared_out()]
    assert {cell.way for cell in cells} == {*WAYS}
    assert {cell.placement for cell in cells} == {*PLACEMENTS}
    kinds = len({placement.kind for placement in PLACEMENTS})
    for pairs, wanted in (
        ({(cell.way.core, cell.rcfile) for cell in cells}, 2 * len(RCFILES)),
        ({(cell.way.core, cell.placement.kind) for cell in cells}, 2 * kinds),
    ):
        assert len(pairs) == wanted


def test_what_is_compared_with_is_worth_it(expected: Callable[[Cell], Result]) -> None:
    complete = set()
    for rcfile in RCFILES:
        right = expected(Cell(WAYS[0], rcfile, PLACEMENTS[0]))
        assert (right.status, right.err) == (0, "")
        assert right.out.startswith(SAYS)
        assert right.json["files"]["src/shop/cart.py"]["missing_lines"]
        if "src/shop/never.py" in right.json["files"]:
            complete.add(rcfile)
    # With `source = .` coverage.py does not look below `src`, which is no package.
    assert complete == {*RCFILES} - {"none", "dot"}
