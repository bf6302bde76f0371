"""Every Python that an image may have, and every way that its containers end.

Images with Pythons of this machine and of Debian sid, which never heard of coverage. Each container
runs twice, as it is and measured, all of them in one session: looking into an image, and what an
older coverage.py needs, is paid for once.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import itertools
import os
import re
import socket
import sqlite3
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from coverage import CoverageData
from coverage.numbits import numbits_to_nums
from tests.inside.recorder.branch_programs import construct_programs
from tests.sampling import FULL, sample

import hcoverage
import hdocker
from hdocker._engine.engine import Engine
from hdocker._inject.injection import prepared_image

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from tests.conftest import MakeImage

pytestmark = [
    pytest.mark.engine,
    pytest.mark.index,
    pytest.mark.xdist_group("image-pythons"),  # all containers of the matrix run in one session
]

COPIED: Final = ("3.8", "3.9", "3.10", "3.11", "3.12", "3.13")
DEBIAN: Final = ("3.14", "3.15")
BRANCHING: Final[tuple[str, ...]] = ("3.12", "3.13")
RECORDING: Final = (*BRANCHING, *DEBIAN)
IN_CI: Final = os.environ.get("CI") == "true"

RCFILE: Final = "[run]\nparallel = True\nbranch = {branch}\n[paths]\ncode =\n    .\n    /code\n"
# Says when it is up; then waits for what ends it.
APP: Final = """\
import signal
import sys

if "handler" in sys.argv:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
if len(sys.argv) > 1:
    marked = sys.version_info[:2]
    print("up", *marked, flush=True)
    signal.pause()
print("down", file=sys.stderr)
"""
MARKED: Final = 7
ENDS: Final = ("exit", "stop", "stop with a handler", "kill")
EVERY: Final = [*itertools.product((*COPIED, *DEBIAN), ENDS)]
# Each version, and each end where the recorder measures and where coverage.py does.
CELLS: Final = (
    EVERY
    if FULL
    else sample(((cell, (cell[0], (cell[0] in RECORDING, cell[1]))) for cell in EVERY), 1)
)


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a container ended; 137 where docker had to kill it."""

    status: int
    stdout: str
    stderr: str


@dataclasses.dataclass(frozen=True)
class Cell:
    """A container as it is, the same container measured, and the lines that are in the report."""

    plain: Ended
    ours: Ended
    lines: set[int]


def copied_pythons() -> dict[str, Path]:
    """The builds that pyenv has here, the newest of each version."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found = {}
    for version in COPIED:
        builds = sorted(
            root.glob(f"versions/{version}.*/bin/python{version}"),
            key=lambda path: int(path.parents[1].name.rpartition(".")[2]),
        )
        if builds:
            found[version] = builds[-1]
    return found


@pytest.fixture(scope="module")
def images(make_image: MakeImage) -> dict[str, str]:
    """By version, an image that has that Python; what cannot be had here is left out."""
    found = copied_pythons()
    copied = make_image("python-image", *map(str, reversed(found.values()))) if found else ""
    images = dict.fromkeys(found, copied)
    if os.getuid() == 0 and Path("/etc/debian_version").exists():
        images.update(dict.fromkeys(DEBIAN, make_image("newest-image")))
    return images


@pytest.fixture
def has_python(images: dict[str, str], version: str) -> None:
    if version in images:
        return
    if IN_CI and version in DEBIAN:
        pytest.fail(f"Python {version} is missing: dev/newest-image makes it, on Debian as root")
    pytest.skip(f"NOT TESTED: no Python {version} to make an image of: pyenv install {version}")


@dataclasses.dataclass(frozen=True)
class Run:
    """A session, and how containers are started in it."""

    session: hcoverage.Session
    base: Mapping[str, Sequence[str]]
    label: str

    def cell(self, image: str, version: str, end: str) -> tuple[Ended, Ended]:
        options = [] if end == "stop with a handler" else ["--init"]
        if end == "exit":
            # There is a directory that coverage.py could be taken for.
            options += ["--env", "PYTHONPATH=/code"]
        words = {"exit": [], "stop with a handler": ["handler"]}.get(end, ["wait"])
        file = app_name(version, end)
        command = [*options, *in_project(Path.cwd()), image]
        command += [f"python{version}", file, *words]
        plain = self._run(["docker", "run", "--rm"], command, end, None)
        base = [word for word in self.base[image] if word != "--init"]
        saved = None if version in RECORDING else file
        return plain, self._run(base, command, end, saved)

    def _run(
        self, base: Sequence[str], command: Sequence[str], end: str, saved: str | None
    ) -> Ended:
        name = f"hcoverage-test-{uuid.uuid4().hex[:12]}"
        said = ""
        with subprocess.Popen(
            [*base, "--label", self.label, "--name", name, *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            if end != "exit":
                assert process.stdout is not None
                said = process.stdout.readline()
                if saved and end != "stop with a handler":
                    self._wait_until_saved(saved, process)
                docker(end.partition(" ")[0], name)
            rest, errors = process.communicate()
        return Ended(process.returncode, said + rest, errors)

    def _wait_until_saved(self, name: str, process: subprocess.Popen[str]) -> None:
        """Wait for what is not on record at once, as where coverage.py has no C tracer."""
        data = self.session.data_dir
        while process.poll() is None:
            if any(name.encode() in file.read_bytes() for file in data.glob("*.hcrec")):
                return
            if any(MARKED in lines_of(file, name) for file in data.glob(".coverage.*")):
                return
            time.sleep(0.05)


def lines_of(data_file: Path, name: str) -> set[int]:
    """The lines of a file, by its name, in a data file that may go at any moment."""
    query = "SELECT numbits FROM line_bits JOIN file ON file_id = file.id WHERE path = ?"
    try:
        # Not by coverage.py, which would make a file anew that has just been removed.
        with contextlib.closing(sqlite3.connect(f"file:{data_file}?mode=ro", uri=True)) as database:
            rows = database.execute(query, [f"/code/{name}"]).fetchall()
    except sqlite3.Error:
        return set()
    return {line for (numbits,) in rows for line in numbits_to_nums(numbits)}


def in_project(project: Path) -> list[str]:
    """The options of a container that has a project; to make a network for it takes longest."""
    return ["--network", "host", "--volume", f"{project}:/code:ro", "--workdir", "/code"]


def app_name(version: str, end: str) -> str:
    return f"app_{version}_{end}.py".replace(" ", "_")


def docker(*arguments: str) -> str:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The current directory, in an environment that knows nothing of a session around the tests."""
    directory = tmp_path_factory.mktemp("project")
    directory.chmod(0o755)
    clean = hcoverage.unmeasured_environment(os.environ)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        for name in {*os.environ} - {*clean}:
            patch.delenv(name)
        yield directory


@contextlib.contextmanager
def open_session(project: Path, *, branch: bool = False) -> Iterator[hcoverage.Session]:
    """A session that this process is a part of."""
    (project / ".coveragerc").write_text(RCFILE.format(branch=branch))
    with hcoverage.open_session() as session, pytest.MonkeyPatch.context() as patch:
        for name, value in session.environment.items():
            patch.setenv(name, value)
        yield session


def fetch_what_they_need(project: Path, images: Iterable[str]) -> None:
    """Have a coverage.py here for each Python, as `hcov doctor IMAGE` has, whoever runs it."""
    with open_session(project) as session:
        startup = Path(session.environment["HCOVERAGE_SESSION"])
        for image in images:
            prepared_image(image, Engine("docker"), startup, session.data_dir, fetch_all=True)


@pytest.fixture(scope="module")
def cells(
    images: dict[str, str], project: Path, container_label: str
) -> dict[tuple[str, str], Cell]:
    """All containers of the matrix, run a few at a time, and one report over them."""
    wanted = [cell for cell in CELLS if cell[0] in images]
    for version, end in wanted:
        (project / app_name(version, end)).write_text(APP)
    (project / "coverage").mkdir()
    fetch_what_they_need(project, {*images.values()})
    with open_session(project) as session:
        base = {name: hdocker.get_docker_base_cmd(image=name) for name in {*images.values()}}
        run = Run(session, base, container_label)
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            ended = pool.map(lambda cell: run.cell(images[cell[0]], *cell), wanted)
            pairs = dict(zip(wanted, ended, strict=True))
        assert session.problems() == []
        result = hcoverage.combine(session.data_paths(), coveragerc=session.rcfile.path)
        data = CoverageData(basename=str(result.data_file))
        data.read()
    return {
        cell: Cell(*pair, {*(data.lines(str(project / app_name(*cell))) or ())})
        for cell, pair in pairs.items()
    }


@pytest.mark.usefixtures("has_python")
@pytest.mark.parametrize(("version", "end"), CELLS)
def test_ends_as_it_would_and_loses_no_line(
    cells: dict[tuple[str, str], Cell], version: str, end: str
) -> None:
    cell = cells[version, end]
    assert cell.ours == cell.plain
    up = "up {} {}\n".format(*version.split("."))
    status = {"exit": 0, "stop": 143, "stop with a handler": 7, "kill": 137}[end]
    expected = ("", "down\n") if end == "exit" else (up, "")
    assert (cell.ours.status, cell.ours.stdout, cell.ours.stderr) == (status, *expected)
    ran = {1, 2, 4, 6} | ({10} if end == "exit" else {MARKED, 8})
    # Whether it got as far as to wait, after it said that it is up, is anybody's guess.
    assert cell.lines - {9} == (ran | {5} if end == "stop with a handler" else ran)


BRANCHES: Final = """\
def sign(number):
    if number < 0:
        return "-"
    return "+"

print(sign(1))
"""
EVERY_CONSTRUCT: Final = "\n".join(construct_programs().values())


def run_once(project: Path, base: Sequence[str], *words: str) -> subprocess.CompletedProcess[str]:
    command = [*base, *in_project(project), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_branches_are_measured_and_recorded_as_on_the_host(
    images: dict[str, str], project: Path, container_label: str
) -> None:
    versions = [version for version in (*BRANCHING, "3.8", DEBIAN[-1]) if version in images]
    for version in versions:
        (project / f"branches_{version}.py").write_text(BRANCHES)
    # The same Python on this machine; the image has a copy.
    pythons = {version: path for version, path in copied_pythons().items() if version in BRANCHING}
    for version in pythons:
        (project / f"branches_{version}.py").write_text(BRANCHES + "\n" + EVERY_CONSTRUCT)
        (project / f"outside_{version}.py").write_text(BRANCHES + "\n" + EVERY_CONSTRUCT)
    with open_session(project, branch=True) as session:
        for version, python in pythons.items():
            subprocess.run([python, f"outside_{version}.py"], check=True, capture_output=True)
        for version in versions:
            base = hdocker.get_docker_base_cmd(image=images[version])
            words = [images[version], f"python{version}", f"branches_{version}.py"]
            done = run_once(project, [*base, "--label", container_label], *words)
            assert (done.returncode, done.stdout, done.stderr) == (0, "+\n", "")
            is_recorded = not any(session.data_dir.glob(".coverage.*"))
            assert is_recorded or version not in BRANCHING, version
        assert session.problems() == []
        result = hcoverage.combine(session.data_paths(), coveragerc=session.rcfile.path)
        data = CoverageData(basename=str(result.data_file))
        data.read()
    for version in versions:
        arcs = {*(data.arcs(str(project / f"branches_{version}.py")) or ())}
        assert {(2, 4), (4, -1)} <= arcs, version
        assert (2, 3) not in arcs, version
        if version in pythons:
            assert arcs == {*(data.arcs(str(project / f"outside_{version}.py")) or ())}, version
            assert len(arcs) > EVERY_CONSTRUCT.count("def f("), version


def test_without_an_index_they_are_measured_slowly_or_not_and_that_is_told(
    images: dict[str, str],
    project: Path,
    container_label: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not {"3.8", "3.11"} <= images.keys():
        pytest.skip("NOT TESTED: no Pythons 3.8 and 3.11 to make an image of: pyenv install 3.8")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    for version in ("3.8", "3.11"):
        (project / f"slow_{version}.py").write_text(BRANCHES)
    with open_session(project) as session:
        for version in ("3.8", "3.11"):
            base = hdocker.get_docker_base_cmd(image=images[version])
            words = [images[version], f"python{version}", f"slow_{version}.py"]
            done = run_once(project, [*base, "--label", container_label], *words)
            assert (done.returncode, done.stdout, done.stderr) == (0, "+\n", "")
        problems = "\n".join(session.problems())
        result = hcoverage.combine(session.data_paths(), coveragerc=session.rcfile.path)
        data = CoverageData(basename=str(result.data_file))
        data.read()
    assert data.lines(str(project / "slow_3.11.py")) == [1, 2, 4, 6]
    assert data.lines(str(project / "slow_3.8.py")) is None
    # Those of the image that nobody ran are nobody's problem.
    assert len(problems.splitlines()) == 2
    assert "python3.8 cannot be measured: pip could not fetch coverage==" in problems
    assert "python3.11 is measured, but slowly, by this machine's coverage.py" in problems


@pytest.fixture
def silent_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A package index that never answers, which is all that pip knows; and nothing is kept."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.getsockname()[1]}/simple")
        yield server


@pytest.mark.skipif(sys.version_info < (3, 12), reason="its Python is the image's first one")
def test_nobody_waits_for_what_a_python_needs_that_never_starts(
    project: Path, container_label: str, silent_index: socket.socket, python_image: str
) -> None:
    image = python_image  # whose second one is Debian's
    (project / "second.py").write_text(BRANCHES)
    with open_session(project) as session:
        base = [*hdocker.get_docker_base_cmd(image=image), "--label", container_label]
        assert run_once(project, base, image, "python3", "second.py").stderr == ""
        with pytest.raises(BlockingIOError):
            silent_index.accept()  # nobody asked it
        assert session.problems() == []
        # Where it starts all the same it is measured, and told.
        assert run_once(project, base, image, "/usr/bin/python3", "second.py").stderr == ""
        (problem,) = session.problems()
        result = hcoverage.combine(session.data_paths(), coveragerc=session.rcfile.path)
    assert re.search(r"python3\.\d+ is measured, but slowly", problem)
    assert "`hcov doctor`" in problem
    assert len(result.recorded) == len(result.data_files) == 1
