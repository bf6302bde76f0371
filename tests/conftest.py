"""What tests of all three packages share: an engine and images, virtual environments, clean state.

The engine and the base images are made by `dev/engine` and `dev/base-image`, as for everybody else;
here is only what makes them fixtures.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import uuid
import venv
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol
from unittest import mock

import pytest

import hcoverage

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

_DEV: Final = Path(__file__).parents[1] / "dev"
# Read at once: tests change the environment.
_ENGINE_REQUIRED: Final = (
    os.environ.get("CI") == "true" or os.environ.get("HCOVERAGE_REQUIRE_ENGINE") == "1"
)
_SKIPPED_FOR: Final = pytest.StashKey[list[str]]()
_ANSWER_LIMIT: Final = 30.0  # seconds
_SLOW: Final = ("index", "engine")  # the slower ones first
# Taken out of the base image, so that nothing has to be fetched for it.
_NO_PYTHON: Final = """\
FROM {base} AS base
RUN mkdir /bare && for tool in sh cat chmod chown cp ls mkdir rm sleep true; do \\
        cp --parents --dereference "/bin/$tool" /bare \\
        && ldd "/bin/$tool" | grep -o '/[^ ]*' \\
           | xargs -I '{{}}' cp --parents --dereference '{{}}' /bare || exit 1; \\
    done
FROM scratch
LABEL {label}
COPY --from=base /bare /
CMD ["/bin/sh"]
"""


# The engine --------------------------------------------------------------------------------------


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_SKIPPED_FOR] = []


@pytest.hookimpl(tryfirst=True)  # before `-m` selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Hold the marker and the fixture `engine` together, and put the quick tests first."""
    for item in items:
        if not isinstance(item, pytest.Function):
            continue
        if "engine" in item.fixturenames:
            item.add_marker(pytest.mark.engine)
        elif item.get_closest_marker("engine"):
            item.fixturenames.insert(0, "engine")
    items.sort(key=lambda item: [bool(item.get_closest_marker(name)) for name in _SLOW])


@pytest.fixture(scope="session")
def engine(pytestconfig: pytest.Config, container_label: str) -> Iterator[str]:
    """The engine's command, `docker`; it finds the engine by the environment. No engine, no test.

    Containers that carry `container_label` have to be gone by the end of the session.
    """
    with pytest.MonkeyPatch.context() as patch:
        reason = _engine_environment(patch)
        if reason:
            _do_without(pytestconfig, reason)
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


def _do_without(config: pytest.Config, reason: str) -> None:
    if _ENGINE_REQUIRED:
        pytest.fail(f"no container engine, and it is required here: {reason}; make engine")
    config.stash[_SKIPPED_FOR].append(reason)
    pytest.skip(f"no container engine: {reason}")


@pytest.hookimpl(wrapper=True, tryfirst=True)  # the last line but pytest's own
def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> Generator[None]:
    yield
    if not config.stash[_SKIPPED_FOR]:
        return
    skipped = [
        report
        for report in terminalreporter.getreports("skipped")
        if "no container engine" in str(report.longrepr)
    ]
    terminalreporter.write_line(
        f"NOT TESTED: {len(skipped)} tests need a container engine "
        f"({config.stash[_SKIPPED_FOR][0]}). Get one with: make engine",
        red=True,
        bold=True,
    )


def _docker(*arguments: str, stdin: str | None = None) -> str:
    done = subprocess.run(
        ["docker", *arguments], input=stdin, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        pytest.fail(f"docker {' '.join(arguments)}: {done.stderr}")
    return done.stdout.strip()


@pytest.fixture(scope="session")
def _docker_plugins(engine: str, pytestconfig: pytest.Config) -> str:  # noqa: ARG001 - DOCKER_HOST
    """The DOCKER_CONFIG with which docker has compose and buildx. No compose, no test."""
    done = subprocess.run(
        [_DEV / "docker-plugins"], stdout=subprocess.PIPE, stderr=None, text=True, check=False
    )
    if done.returncode != 0:
        _do_without(pytestconfig, "no compose; run dev/docker-plugins to see why")
    return done.stdout.splitlines()[-1]


@pytest.fixture
def compose(_docker_plugins: str, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """The command of docker's compose, which finds its plugin by the environment."""
    monkeypatch.setenv("DOCKER_CONFIG", _docker_plugins)
    return ("docker", "compose")


@pytest.fixture(scope="session")
def _podman_environment(engine: str, pytestconfig: pytest.Config) -> dict[str, str]:  # noqa: ARG001
    """The variables with which podman has storage of its own. No podman, no test."""
    if subprocess.run([_DEV / "podman", "up"], check=False).returncode != 0:
        _do_without(pytestconfig, "no podman; run `dev/podman up` to see why")
    said = subprocess.run([_DEV / "podman", "env"], capture_output=True, text=True, check=True)
    words = shlex.split(said.stdout)
    return dict(word.split("=", 1) for word in words if word != "export")


@pytest.fixture
def podman(_podman_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The command of a second engine, beside `engine`; no container of it may be left."""
    for name, value in _podman_environment.items():
        monkeypatch.setenv(name, value)
    yield "podman"
    left = subprocess.check_output(["podman", "ps", "--all", "--quiet"], text=True).split()
    if left:
        subprocess.run(["podman", "rm", "--force", "--time", "0", *left], check=True)
        pytest.fail(f"the test left {len(left)} of podman's containers behind")


# Images and containers ---------------------------------------------------------------------------


@pytest.fixture(scope="session")
def base_image(engine: str) -> str:  # noqa: ARG001 - DOCKER_HOST
    """The name of an image with Python, pip, venv, a shell and this machine's certificates."""
    done = subprocess.run(
        [_DEV / "base-image"], stdout=subprocess.PIPE, stderr=None, text=True, check=False
    )
    if done.returncode != 0:
        pytest.fail("dev/base-image could not get a base image; run it to see why")
    return done.stdout.splitlines()[-1]


@pytest.fixture(scope="session")
def python_image(engine: str) -> str:  # noqa: ARG001 - DOCKER_HOST
    """The name of an image with the Python that the tests run on, and without coverage.py."""
    done = subprocess.run(
        [_DEV / "python-image", sys.executable], stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode != 0:
        pytest.fail("dev/python-image could not make an image; run it to see why")
    return done.stdout.splitlines()[-1]


@pytest.fixture(scope="session")
def image_without_python(base_image: str) -> str:
    """The name of an image that has a shell and a few commands, and no Python."""
    name = "hcoverage-no-python:latest"
    text = _NO_PYTHON.format(base=base_image, label="hcoverage.no-python=1")
    _docker("build", "--quiet", "--tag", name, "-", stdin=text)
    return name


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
    """A name for an image; the images that have it afterwards, under any tag, are removed."""
    name = f"hcoverage-test-{uuid.uuid4().hex[:12]}"
    yield name
    tagged = _docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}", name).split()
    if tagged:
        _docker("image", "rm", "--force", *tagged)


# Processes ---------------------------------------------------------------------------------------


@pytest.fixture(autouse=True, scope="session")
def _usual_signals() -> None:
    """What tests start can be interrupted, also where `nohup` or a shell's `&` has us ignore it.

    A signal that is ignored here is so in each program that is started; one with a handler is not.
    """
    for signum in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(signum) is signal.SIG_IGN:
            signal.signal(signum, lambda *_: None)


@pytest.fixture(autouse=True)
def _restored_environment() -> Iterator[None]:
    """Whatever a test does to the environment, as `inject` does, ends with it.

    A pytest that a test starts does not load Hypothesis, which takes it a second and more.
    """
    with mock.patch.dict(os.environ, PYTEST_ADDOPTS="-p no:hypothesispytest"):
        yield


@pytest.fixture
def clean_environment() -> None:
    """For a test of a session of its own: what it starts knows nothing of the one around the tests.

    Other tests go without it, so that `hcov run` around the tests measures what they start.
    """
    wanted = hcoverage.unmeasured_environment(os.environ)
    os.environ.clear()
    os.environ.update(wanted)


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


class MakeVenv(Protocol):
    """The fixture `make_venv`."""

    def __call__(self, name: str = "venv", *, coverage_hook: bool = False) -> Venv:
        """Make a virtual environment with coverage.py and this project in it, without pip.

        Args:
            name: Its directory's name, below `tmp_path`.
            coverage_hook: Whether coverage.py's own hook, `a1_coverage.pth`, is in it as well.
        """


@pytest.fixture
def make_venv(tmp_path: Path) -> MakeVenv:
    """Make virtual environments, so that no test puts a hook into the one it runs in."""

    def make(name: str = "venv", *, coverage_hook: bool = False) -> Venv:
        path = tmp_path / name
        venv.create(path, symlinks=True)
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        made = Venv(path, path / "bin" / "python", path / "lib" / version / "site-packages")
        for distribution in ("coverage", "click", "dockerfile-parse", "hcoverage"):
            _copy_distribution(distribution, made.site_packages)
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


def _copy_distribution(name: str, site_packages: Path) -> None:
    """Copy what is installed here; a link would lead coverage.py out of site-packages."""
    distribution = metadata.distribution(name)
    tops = {file.parts[0] for file in distribution.files or () if file.parts[0] != ".."}
    for top in tops:
        source = Path(str(distribution.locate_file(top)))
        if source.is_dir():
            with contextlib.suppress(FileExistsError):  # __pycache__ of single modules
                shutil.copytree(source, site_packages / top)
        else:
            shutil.copy2(source, site_packages / top)
