"""What tests of all three packages share: an engine and images, virtual environments, clean state.

The engine and the base images are made by `dev/engine` and `dev/base-image`, as for everybody else;
here is only what makes them fixtures.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time
import uuid
import venv
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol
from unittest import mock

import pytest
from hypothesis import settings
from tests.command_log import (
    forget_commands,
    note_commands,
    told_commands,
    told_data_directories,
)
from tests.forks import forks_ended
from tests.sampling import FULL, sample
from tests.unmeasured import run_unmeasured

import hcoverage

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

_DEV: Final = Path(__file__).parents[1] / "dev"
_RELEASES: Final = Path(__file__).parents[1] / ".cache" / "releases"
# Read at once: tests change the environment.
_KEPT: Final = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hcoverage"
_ENGINE_REQUIRED: Final = (
    os.environ.get("CI") == "true" or os.environ.get("HCOVERAGE_REQUIRE_ENGINE") == "1"
)
_WITHOUT_ENGINE: Final = "no container engine: "
_ANSWER_LIMIT: Final = 30.0  # seconds
_SLOW: Final = ("index", "engine")  # the slower ones first
# What is copied into virtual environments.
_OURS: Final = ("coverage", "click", "dockerfile-parse", "hcoverage")
_PYTEST: Final = ("pytest", "iniconfig", "packaging", "pluggy", "pygments")
_BINARIES: Final = sysconfig.get_config_var("SOABI")


# The run -----------------------------------------------------------------------------------------


# Everywhere as in CI: the same examples each time, and no bound on time, for a busy machine.
settings.load_profile("ci")


def pytest_configure(config: pytest.Config) -> None:
    # A pytest that a test starts is no worker of the run that the test is of.
    for name in [name for name in os.environ if name.startswith("PYTEST_XDIST_")]:
        del os.environ[name]
    if not hasattr(config, "workerinput"):
        _have_temporary_directory(config)
    note_commands()
    sys.addaudithook(_note_databases)


def _have_temporary_directory(config: pytest.Config) -> None:
    """Have what killed programs leave in TMPDIR go when the tests end, all but pytest's own."""
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
    directory = Path(tempfile.mkdtemp(prefix="hcov-tests-"))
    directory.chmod(0o1777)
    os.environ["TMPDIR"] = tempfile.tempdir = str(directory)
    config.add_cleanup(lambda: shutil.rmtree(directory, ignore_errors=True))


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Tell what `-n auto` is: most tests wait more than they compute. `logical` is half of it."""
    affinity = getattr(os, "sched_getaffinity", None)  # macOS has none
    processors = len(affinity(0)) if affinity else os.cpu_count() or 1
    return processors * (2 if config.option.numprocesses == "auto" else 1)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_logstart() -> None:
    forget_commands()


_databases: Final[list[sqlite3.Connection]] = []


def _note_databases(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "sqlite3.connect/handle":
        _databases.append(arguments[0])


@pytest.fixture(autouse=True)
def _databases_closed() -> Iterator[None]:
    """Tell who left a database open: the collector warns of it during any later test."""
    _databases.clear()
    yield
    left = [each for each in _databases if _is_open(each)]
    _databases.clear()
    for each in left:
        each.close()
    assert not left, "the test left a database open"


def _is_open(database: sqlite3.Connection) -> bool:
    try:
        _ = database.in_transaction  # which any thread may ask for
    except sqlite3.ProgrammingError:
        return False
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure is understood from the log alone."""
    report = yield
    if report.failed:
        places = [Path.cwd()] if Path("/proc/self/cwd").exists() else []
        tmp_path = item.funcargs.get("tmp_path") if isinstance(item, pytest.Function) else None
        if isinstance(tmp_path, Path):
            places += [tmp_path, *(each for each in tmp_path.iterdir() if each.is_dir())]
        report.sections += [
            ("commands of the test", told_commands()),
            ("data directories", told_data_directories(places)),
        ]
    return report


# The engine --------------------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True, tryfirst=True)  # before `-m` selects
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> Generator[None]:
    """Hold the marker and the fixture `engine` together, and put the quick tests first.

    On several processes those come first that one of them has to run one after the other, and other
    people's suites: begun last, they would run alone at the end. Those with an engine come after
    those without: on a new machine its images are made meanwhile. Then what else takes long.
    """
    _mark(items)
    if not FULL:
        _leave_out_rows(config, items)
    items.sort(key=lambda item: [bool(item.get_closest_marker(name)) for name in _SLOW])
    if hasattr(config, "workerinput"):
        items.sort(key=_place_beside_others)
    yield
    for item in items:
        # pytest-xdist tells a test's group by its id, and 3.8 writes that where pytest 9.2 does not
        # read it any more: all tests would be without a group (pytest-dev/pytest-xdist#1386).
        written = getattr(item, "_nodeid", item.nodeid)
        if written != item.nodeid:
            item._id = type(item.id).parse(written)


def _place_beside_others(item: pytest.Item) -> list[bool]:
    names = ("xdist_group", "index", "engine", "thorough")
    group, index, engine, thorough = (bool(item.get_closest_marker(name)) for name in names)
    return [not (group or index or engine), engine, not group, not index, not thorough]


def _mark(items: list[pytest.Item]) -> None:
    by_auto = {item.function for item in items if _core_of(item) == "auto"}  # type: ignore[attr-defined]
    for item in items:
        if not isinstance(item, pytest.Function):
            continue
        if "engine" in item.fixturenames:
            item.add_marker(pytest.mark.engine)
        elif item.get_closest_marker("engine"):
            item.fixturenames.insert(0, "engine")
        # All it promises runs on the oldest Python as well, where it is what measures.
        if _core_of(item) == "coverage":
            item.add_marker(pytest.mark.thorough)
            if sys.version_info < (3, 12) and item.function in by_auto:
                item.add_marker(pytest.mark.any_python)  # it is what `auto` takes there


def _leave_out_rows(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep so many rows of a test that is `sampled` that each value is still met."""
    rows: dict[object, list[tuple[pytest.Item, list[str]]]] = {}
    strengths: dict[object, int] = {}
    # Where there is a choice, what each lane runs.
    for item in sorted(items, key=_is_left_out_somewhere):
        marker = item.get_closest_marker("sampled")
        callspec = getattr(item, "callspec", None)
        if callspec and marker and not _repeats(item):
            key = item.parent, getattr(item, "originalname", "")
            strengths[key] = marker.args[0] if marker.args else 1
            rows.setdefault(key, []).append((item, [*map(repr, callspec.params.values())]))
    every = {item for found in rows.values() for item, _ in found}
    kept = {item for key, found in rows.items() for item in sample(found, strengths[key])}
    config.hook.pytest_deselected(items=[item for item in items if item in every - kept])
    items[:] = [item for item in items if item not in every - kept]


def _is_left_out_somewhere(item: pytest.Item) -> bool:
    return any(map(item.get_closest_marker, ("thorough", "any_python")))


def _repeats(item: pytest.Item) -> bool:
    """Tell what no lane runs on this Python, since it is the same as another row."""
    return sys.version_info < (3, 12) and item.get_closest_marker("any_python") is not None


def _core_of(item: pytest.Item) -> object:
    callspec = getattr(item, "callspec", None)
    return callspec.params.get("core") if callspec else None


@pytest.fixture(scope="session")
def engine(container_label: str) -> Iterator[str]:
    """The engine's command, `docker`; it finds the engine by the environment. No engine, no test.

    Containers that carry `container_label` have to be gone by the end of the session; each worker
    of a run has a label of its own.
    """
    with pytest.MonkeyPatch.context() as patch:
        reason = _engine_environment(patch)
        if reason:
            _do_without(reason)
        yield "docker"
        left = _docker("ps", "--all", "--quiet", "--filter", f"label={container_label}").split()
        if left:
            names = _docker("inspect", "--format", "{{.Name}} ({{.Config.Image}})", *left)
            _docker("rm", "--force", "--volumes", *left)
            pytest.fail(f"tests left containers behind: {', '.join(names.split(chr(10)))}")


def _engine_environment(patch: pytest.MonkeyPatch) -> str:
    """Point docker at the engine that `make engine` found or started; tell why there is none."""
    if shutil.which("docker") is None:
        return "there is no docker command on PATH"
    found = subprocess.run(
        [_DEV / "engine", "env"], capture_output=True, text=True, check=False, timeout=_ANSWER_LIMIT
    ).stdout
    host = found.strip().removeprefix("export DOCKER_HOST=")
    if host:
        patch.setenv("DOCKER_HOST", host)
    answer = subprocess.run(
        ["docker", "version", "--format", "{{.Server.Version}}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=_ANSWER_LIMIT,
    )
    return "" if answer.returncode == 0 else answer.stderr.strip().splitlines()[-1]


def _do_without(reason: str) -> None:
    if _ENGINE_REQUIRED:
        pytest.fail(f"no container engine, and it is required here: {reason}; make engine")
    pytest.skip(f"{_WITHOUT_ENGINE}{reason}")


@pytest.hookimpl(wrapper=True, tryfirst=True)  # the last line but pytest's own
def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter,
) -> Generator[None]:
    yield
    # Of the reports alone: the tests may have run in other processes.
    reasons = [
        report.longrepr[2].partition(_WITHOUT_ENGINE)[2]
        for report in terminalreporter.getreports("skipped")
        if isinstance(report.longrepr, tuple) and _WITHOUT_ENGINE in report.longrepr[2]
    ]
    if reasons:
        terminalreporter.write_line(
            f"NOT TESTED: {len(reasons)} tests need a container engine "
            f"({reasons[0]}). Get one with: make engine",
            red=True,
            bold=True,
        )


def _docker(*arguments: str) -> str:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.fail(f"docker {' '.join(arguments)}: {done.stderr}")
    return done.stdout.strip()


@pytest.fixture(scope="session")
def _docker_plugins(engine: str) -> str:  # noqa: ARG001 - DOCKER_HOST
    """The DOCKER_CONFIG with which docker has compose and buildx. No compose, no test."""
    done = subprocess.run(
        [_DEV / "docker-plugins"], stdout=subprocess.PIPE, stderr=None, text=True, check=False
    )
    if done.returncode != 0:
        _do_without("no compose; run dev/docker-plugins to see why")
    return done.stdout.splitlines()[-1]


@pytest.fixture
def compose(_docker_plugins: str, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """The command of docker's compose, which finds its plugin by the environment."""
    monkeypatch.setenv("DOCKER_CONFIG", _docker_plugins)
    return ("docker", "compose")


@pytest.fixture(scope="session")
def _podman_environment(engine: str) -> dict[str, str]:  # noqa: ARG001 - what holds for it
    """The variables with which podman has storage of its own. No podman, no test."""
    if subprocess.run([_DEV / "podman", "up"], check=False).returncode != 0:
        _do_without("no podman; run `dev/podman up` to see why")
    said = subprocess.run([_DEV / "podman", "env"], capture_output=True, text=True, check=True)
    words = shlex.split(said.stdout)
    return dict(word.split("=", 1) for word in words if word != "export")


@pytest.fixture
def podman(_podman_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The command of a second engine, beside `engine`; no container of it may be left."""
    for name, value in _podman_environment.items():
        monkeypatch.setenv(name, value)
    yield "podman"
    while left := _podman_containers():
        kept = [name for name, leaves in left.items() if not leaves]
        if kept:
            subprocess.run(["podman", "rm", "--force", "--time", "0", *kept], check=True)
            pytest.fail(f"the test left {len(kept)} of podman's containers behind")
        time.sleep(0.05)


def _podman_containers() -> dict[str, bool]:
    """Return podman's containers, and whether podman is about to remove each.

    What ends a container with `--rm` does not wait until another process has removed it.
    """
    every = ["podman", "ps", "--all", "--format", "{{.ID}} {{.AutoRemove}} {{.Exited}}"]
    lines = subprocess.check_output(every, text=True).splitlines()
    return {line.split()[0]: line.endswith(" true true") for line in lines}


# Images and containers ---------------------------------------------------------------------------


class MakeImage(Protocol):
    """The fixture `make_image`."""

    def __call__(self, script: str, *arguments: str) -> str:
        """Get an image, which is made once for all tests and kept, and give its name.

        Args:
            script: The program in `dev` that makes it where it is not there yet.
            arguments: Those of the script.
        """


@pytest.fixture(scope="session")
def make_image(engine: str) -> MakeImage:  # noqa: ARG001 - DOCKER_HOST
    """Get the images that stay in the engine, by the scripts that everybody gets them by."""

    def make(script: str, *arguments: str) -> str:
        done = subprocess.run(
            [_DEV / script, *arguments], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            pytest.fail(f"dev/{script} could not make an image:\n{done.stderr}")
        return done.stdout.splitlines()[-1]

    return make


@pytest.fixture(scope="session")
def base_image(make_image: MakeImage) -> str:
    """The name of an image with Python, pip, venv, a shell and this machine's certificates."""
    return make_image("base-image")


@pytest.fixture(scope="session")
def python_image(make_image: MakeImage) -> str:
    """The name of an image with the Python that the tests run on, and without coverage.py."""
    return make_image("python-image", sys.executable)


@pytest.fixture(scope="session")
def image_without_python(make_image: MakeImage) -> str:
    """The name of an image that has a shell and a few commands, and no Python."""
    return make_image("bare-image")


@pytest.fixture(scope="session")
def kit_image(make_image: MakeImage) -> str:
    """The name of an image that has what baking installs: to bake one of it takes no index."""
    return make_image("kit-image")


@pytest.fixture(scope="session")
def container_label() -> str:
    """What a test's container carries (`--label`), so that one left behind is noticed."""
    return f"hcoverage-test={uuid.uuid4().hex}"


@pytest.fixture
def container_name(engine: str) -> Iterator[str]:  # noqa: ARG001
    """A name for a container, which is removed afterwards if it is still there."""
    name = f"hcoverage-test-{uuid.uuid4().hex[:12]}"
    yield name
    if _docker("ps", "--all", "--quiet", "--filter", f"name=^/{name}$"):
        _docker("rm", "--force", "--volumes", name)


@pytest.fixture
def image_name(engine: str) -> Iterator[str]:  # noqa: ARG001
    """A name for an image; those that have it afterwards, of any registry and tag, are removed."""
    name = f"hcoverage-test-{uuid.uuid4().hex[:12]}"
    yield name
    names = _docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}").split()
    tagged = [each for each in names if name in each]
    if tagged:
        _docker("image", "rm", "--force", *tagged)


# Other people's projects -------------------------------------------------------------------------


class UnpackRelease(Protocol):
    """The fixture `unpack_release`."""

    def __call__(self, name: str, version: str, directory: Path) -> Path:
        """Unpack the source of a release, which is fetched from the package index once and kept.

        Args:
            name: The project, as in the name of its source distribution.
            version: The release.
            directory: Where to.

        Returns:
            The top directory of what was unpacked.
        """


@pytest.fixture(scope="session")
def unpack_release() -> UnpackRelease:
    """Get other people's projects; the archives stay in the clone, for all workers and runs."""

    def unpack(name: str, version: str, directory: Path) -> Path:
        _RELEASES.mkdir(parents=True, exist_ok=True)
        archive = _RELEASES / f"{name}-{version}.tar.gz"
        with (_RELEASES / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not archive.exists():
                _download(name, version, archive)
        with tarfile.open(archive) as contents:
            contents.extractall(directory, filter="data")
        return directory / f"{name}-{version}"

    return unpack


def _download(name: str, version: str, archive: Path) -> None:
    with tempfile.TemporaryDirectory(dir=archive.parent) as scratch:
        # Of this project alone: with `:all:` what it is built with would be built first.
        wanted = ["--no-deps", "--no-binary", name, f"{name}=={version}"]
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet"]
        run_unmeasured([*pip, *wanted], scratch)
        Path(scratch, archive.name).rename(archive)


class KeptDirectory(Protocol):
    """The fixture `kept_directory`."""

    def __call__(self, name: str, fill: Callable[[Path], None]) -> Path:
        """Get a directory with something in it that nobody changes.

        Args:
            name: Its name, which tells all that its contents depend on.
            fill: Makes them where they are not there yet.
        """


@pytest.fixture(scope="session")
def kept_directory() -> KeptDirectory:
    """Get what takes long to install; it stays, also for the next clone."""

    def get(name: str, fill: Callable[[Path], None]) -> Path:
        kept = _KEPT / name
        _KEPT.mkdir(parents=True, exist_ok=True)
        with (_KEPT / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not kept.exists():
                with tempfile.TemporaryDirectory(dir=_KEPT) as scratch:
                    made = Path(scratch, name)
                    made.mkdir()
                    fill(made)
                    made.rename(kept)
        return kept

    return get


class KeepPackages(Protocol):
    """The fixture `keep_packages`."""

    def __call__(self, *requirements: str) -> Path:
        """Install packages of the index, which is asked once for all workers, runs and clones.

        Args:
            requirements: Each as `name==version`, since what was got once is kept.

        Returns:
            A directory for PYTHONPATH, which nobody changes.
        """


@pytest.fixture(scope="session")
def keep_packages(kept_directory: KeptDirectory) -> KeepPackages:
    """Get what other people's programs import."""

    def keep(*requirements: str) -> Path:
        def install(directory: Path) -> None:
            pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
            run_unmeasured([*pip, f"--target={directory}", *requirements])

        return kept_directory(f"{'_'.join(requirements)}-{_BINARIES}", install)

    return keep


# Processes ---------------------------------------------------------------------------------------


@pytest.fixture(autouse=True, scope="session")
def _usual_signals() -> None:
    """What tests start can be interrupted, also where `nohup` or a shell's `&` has us ignore it.

    A signal that is ignored here is so in each program that is started; one with a handler is not.
    """
    for signum in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(signum) is signal.SIG_IGN:
            signal.signal(signum, lambda *_: None)


@pytest.fixture(scope="session", autouse=True)
def _forks_ended() -> Iterator[None]:
    with forks_ended():
        yield


@pytest.fixture(scope="session", autouse=True)
def _lean_pytest() -> None:
    """No pytest that a test or a fixture starts loads or does what takes half of its time.

    Hypothesis, of anyio all of trio, and five collections of garbage at its end.
    """
    plugins = ("hypothesispytest", "anyio", "unraisableexception")
    os.environ["PYTEST_ADDOPTS"] = " ".join(f"-p no:{plugin}" for plugin in plugins)


@pytest.fixture(autouse=True)
def _restored_environment() -> Iterator[None]:
    """Whatever a test does to the environment, as `inject` does, ends with it.

    Tests that run beside each other share an engine.
    """
    with mock.patch.dict(os.environ, {"HCOVERAGE_SHARED_ENGINE": "1"}):
        yield


@pytest.fixture
def clean_environment() -> None:
    """For a test of a session of its own: what it starts knows nothing of the one around the tests.

    Other tests go without it, so that `hcov run` around the tests measures what they start.
    """
    wanted = hcoverage.unmeasured_environment(os.environ)
    os.environ.clear()
    os.environ.update(wanted)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A TMPDIR of the test's own, on the file system of the project."""
    directory = tmp_path / "tmp"
    directory.mkdir()
    monkeypatch.setenv("TMPDIR", str(directory))
    monkeypatch.setattr(tempfile, "tempdir", None)  # asked once by a process, and kept
    return directory


@pytest.fixture
def open_tmp_path(tmp_path: Path) -> Path:
    """`tmp_path`, for processes of another user: they may enter what pytest makes for one alone."""
    top = Path(os.environ["PYTEST_DEBUG_TEMPROOT"]).resolve()
    for directory in (tmp_path, *tmp_path.parents):
        if directory == top or not directory.is_relative_to(top):
            break
        directory.chmod(0o755)
    return tmp_path


@dataclass(frozen=True)
class Venv:
    """A virtual environment.

    Attributes:
        path: Its directory.
        python: Its interpreter.
        site_packages: Where its packages are, and where hooks belong.
    """

    path: Path
    python: Path
    site_packages: Path

    @property
    def word(self) -> str:
        """Its interpreter in a command for a shell: temporary files may be where a space is."""
        return shlex.quote(str(self.python))


class NewVenv(Protocol):
    """The fixture `new_venv`."""

    def __call__(self, path: Path, *requirements: str) -> Venv:
        """Make a virtual environment without pip, with packages of the index, see `keep_packages`.

        Args:
            path: Its directory.
            requirements: Each as `name==version`, since what was got once is kept.
        """


@pytest.fixture(scope="session")
def new_venv(keep_packages: KeepPackages) -> NewVenv:
    """Make virtual environments that know nothing of this project."""

    def make(path: Path, *requirements: str) -> Venv:
        venv.create(path, symlinks=True)
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        made = Venv(path, path / "bin" / "python", path / "lib" / version / "site-packages")
        if requirements:
            kept = keep_packages(*requirements)
            shutil.copytree(kept, made.site_packages, dirs_exist_ok=True)
            for distribution in metadata.distributions(path=[str(kept)]):
                _write_programs(distribution, made.python)
        return made

    return make


class MakeVenv(Protocol):
    """The fixture `make_venv`."""

    def __call__(
        self,
        name: str = "venv",
        *requirements: str,
        coverage_hook: bool = False,
        with_pytest: bool = False,
    ) -> Venv:
        """Make a virtual environment with coverage.py and this project in it, without pip.

        Args:
            name: Its directory's name, below `tmp_path`.
            requirements: Packages of the index, see `keep_packages`; theirs come before ours.
            coverage_hook: Whether coverage.py's own hook, `a1_coverage.pth`, is in it as well.
            with_pytest: Whether pytest is in it as well.
        """


@pytest.fixture
def make_venv(tmp_path: Path, new_venv: NewVenv) -> MakeVenv:
    """Make virtual environments, so that no test puts a hook into the one it runs in."""

    def make(
        name: str = "venv",
        *requirements: str,
        coverage_hook: bool = False,
        with_pytest: bool = False,
    ) -> Venv:
        made = new_venv(tmp_path / name, *requirements)
        theirs = {
            each.name.lower() for each in metadata.distributions(path=[str(made.site_packages)])
        }
        for name_of_distribution in (*_OURS, *_PYTEST * with_pytest):
            if name_of_distribution not in theirs:
                distribution = metadata.distribution(name_of_distribution)
                _copy_distribution(distribution, made.site_packages)
                _write_programs(distribution, made.python)
        for path_file in made.site_packages.glob("_editable_impl_*.pth"):
            path_file.rename(made.site_packages / "project.pth")  # its own name looks like a hook's
        if not coverage_hook:
            (made.site_packages / "a1_coverage.pth").unlink(missing_ok=True)
        return made

    return make


@pytest.fixture
def fresh_venv(make_venv: MakeVenv) -> Venv:
    """A virtual environment of the test's own, see `make_venv`."""
    return make_venv()


def _copy_distribution(distribution: metadata.Distribution, site_packages: Path) -> None:
    """Copy what is installed here; a link would lead coverage.py out of site-packages."""
    tops = {file.parts[0] for file in distribution.files or () if file.parts[0] != ".."}
    for top in tops:
        source = Path(str(distribution.locate_file(top)))
        if source.is_dir():
            with contextlib.suppress(FileExistsError):  # __pycache__ of single modules
                shutil.copytree(source, site_packages / top)
        else:
            shutil.copy2(source, site_packages / top)


def _write_programs(distribution: metadata.Distribution, python: Path) -> None:
    """Write a distribution's commands as pip does, which has a path with a space in mind."""
    for entry in distribution.entry_points.select(group="console_scripts"):
        program = python.parent / entry.name
        program.write_text(
            f"#!/bin/sh\n'''exec' \"{python}\" \"$0\" \"$@\"\n' '''\n"
            f"import sys\nfrom {entry.module} import {entry.attr}\nsys.exit({entry.attr}())\n"
        )
        program.chmod(0o755)
