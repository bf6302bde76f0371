"""Containers of podman, of images that never heard of coverage: measured, and none the wiser.

What `test_injected_containers.py` shows of docker at length is shown here of podman in short: each
container runs twice, once as it is and once with what `get_docker_base_cmd` adds for its image.
"""

from __future__ import annotations

import subprocess
import sys
import uuid
from typing import TYPE_CHECKING, Final

import pytest
from tests.inject.waiting_app import (
    OWN,
    RAN,
    WAITED,
    Ended,
    ended,
    measured,
    opened,
    said,
    within,
    write_context,
)

import hdocker
from hcoverage._read.recording_files import read_files

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import hcoverage

pytestmark = [
    pytest.mark.engine,
    pytest.mark.usefixtures("clean_environment"),
    pytest.mark.xdist_group("podman"),  # no container may be left in the one storage it has here
    pytest.mark.skipif(sys.version_info < (3, 12), reason="its Python is the image's"),
]

PLAIN: Final = ("podman", "run", "--rm")


@pytest.fixture(scope="module")
def image(
    python_image: str, _podman_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """An image in podman's storage with an application and a sitecustomize of its own."""
    directory = tmp_path_factory.mktemp("image")
    name = write_context(directory, python_image)
    said("docker", "build", "--quiet", "--tag", name, str(directory))
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in _podman_environment.items():
            patch.setenv(variable, value)
        with subprocess.Popen(["docker", "save", name], stdout=subprocess.PIPE) as saved:
            subprocess.run(["podman", "load", "--quiet"], stdin=saved.stdout, check=True)
        yield name
        said("podman", "image", "rm", "--force", name)
    said("docker", "image", "rm", "--force", name)


@pytest.fixture(scope="module")
def module_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[hcoverage.Session]:
    """A session for all tests, as one run is for all of a suite's: an image is looked into once."""
    with opened(tmp_path_factory.mktemp("project")) as session:
        yield session


@pytest.fixture
def session(
    podman: str,  # noqa: ARG001 - its environment
    module_session: hcoverage.Session,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[hcoverage.Session]:
    """A session that this process is a part of, in a project with the application's source."""
    with within(module_session, monkeypatch):
        yield module_session


def base(image: str) -> list[str]:
    return hdocker.get_docker_base_cmd(engine="podman", image=image)


def run(start: Sequence[str], words: Sequence[str], end: Sequence[str] | None = None) -> Ended:
    """Run a container; once it is up, end it with a podman command."""
    return ended(start, f"hcoverage-test-{uuid.uuid4().hex[:12]}", words, end)


@pytest.mark.sampled
@pytest.mark.parametrize("init", [(), ("--init",)], ids=["PID 1", "an init process"])
@pytest.mark.parametrize("end", [("stop", "--time", "1"), ("kill",)], ids=["stop", "kill"])
def test_what_ended_it_loses_no_line(
    session: hcoverage.Session, image: str, end: tuple[str, ...], init: tuple[str, ...]
) -> None:
    words = [*init, image, "python3", "app.py", "wait"]
    start = [word for word in base(image) if word != "--init"]
    assert run(start, words, end) == run(PLAIN, words, end)
    assert measured(session) == WAITED


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["IMAGE"], id="its own command"),
        pytest.param(["--read-only", "IMAGE"], id="read-only"),
        pytest.param(["--user", "65534", "IMAGE"], id="nobody"),
        pytest.param(["--entrypoint", "python3", "IMAGE", "-I", "app.py"], id="python -I"),
    ],
)
def test_runs_as_it_would_and_is_measured(
    session: hcoverage.Session, image: str, words: list[str]
) -> None:
    words = [image if word == "IMAGE" else word for word in words]
    ours = run(base(image), words)
    assert ours == run(PLAIN, words)
    assert (ours.status, ours.stderr) == (0, "")
    assert measured(session) == RAN


def test_what_podman_exec_starts_is_measured_and_knows_its_container(
    session: hcoverage.Session, image: str
) -> None:
    container = said(*base(image), "--detach", image, "sleep", "600")
    assert said("podman", "exec", container, "python3", "app.py") == (OWN + "up\n").strip()
    said("podman", "rm", "--force", "--time", "0", container)
    (recording,) = read_files(session.data_dir.iterdir()).recordings
    assert recording.process.container == container
    assert measured(session) == RAN


def test_an_image_that_does_not_exist_is_an_error_before_the_run(
    session: hcoverage.Session,
) -> None:
    assert session.data_dir.is_dir()
    with pytest.raises(hdocker.ImageNameError, match="no image 'localhost/hcoverage-nowhere:1'"):
        base("localhost/hcoverage-nowhere:1")


def test_without_podman_the_error_tells_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(hdocker.EngineNotFoundError, match="no `podman` on PATH: install"):
        base("hcoverage-test-podman")
