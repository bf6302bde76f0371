"""Containers of images that never heard of coverage: measured, and none the wiser.

Each container runs twice, once as it is and once with what `get_docker_base_cmd` adds for its
image. It has to say and end the same, and the lines it ran are in the merged report under the paths
that the code has here.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from coverage import CoverageData
from tests.inject.waiting_app import (
    APP,
    OWN,
    RAN,
    RCFILE,
    WAITED,
    Ended,
    ended,
    measured,
    opened,
    said,
    within,
    write_context,
)

import hcoverage
import hdocker

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.engine,
    pytest.mark.usefixtures("clean_environment"),
    pytest.mark.skipif(sys.version_info < (3, 12), reason="its Python is the image's"),
]

# A filesystem without a shell or pip: what runs Python, and nothing else.
DISTROLESS: Final = """\
FROM {image} AS whole
RUN mkdir /libraries && ldd {prefix}/bin/python3 {prefix}/lib/python3*/lib-dynload/*.so \\
    | grep -o '/[^ ]*' | grep -v '^{prefix}/' | sort -u \\
    | xargs cp --parents --dereference -t /libraries
FROM scratch
COPY --from=whole /libraries /
COPY --from=whole {prefix} {prefix}
COPY --from=whole /app /app
ENV PATH={prefix}/bin
WORKDIR /app
ENTRYPOINT ["python3", "app.py"]
"""


@pytest.fixture(scope="module")
def image(python_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An image with an application, a PYTHONPATH and a sitecustomize of its own."""
    directory = tmp_path_factory.mktemp("image")
    name = write_context(directory, python_image)
    said("docker", "build", "--quiet", "--tag", name, str(directory))
    yield name
    said("docker", "image", "rm", "--force", name)


@pytest.fixture(scope="module")
def module_session(
    engine: str,  # noqa: ARG001 - DOCKER_HOST
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[hcoverage.Session]:
    """A session for all tests, as one run is for all of a suite's: an image is looked into once."""
    with opened(tmp_path_factory.mktemp("project")) as session:
        yield session


@pytest.fixture
def session(
    module_session: hcoverage.Session, monkeypatch: pytest.MonkeyPatch
) -> Iterator[hcoverage.Session]:
    """A session that this process is a part of, in a project with the application's source."""
    with within(module_session, monkeypatch):
        yield module_session


PLAIN: Final = ("docker", "run", "--rm")
# Nobody knew of it, and it reads no PYTHONPATH.
MAKES_VENV: Final = "python3 -m venv --without-pip /tmp/v && /tmp/v/bin/python -I app.py"


@pytest.mark.sampled
@pytest.mark.parametrize("init", [(), ("--init",)], ids=["PID 1", "an init process"])
@pytest.mark.parametrize(
    "end", [("stop",), ("kill",), ("rm", "--force")], ids=["stop", "kill", "rm"]
)
def test_what_ended_it_loses_no_line_and_takes_no_longer(
    session: hcoverage.Session,
    image: str,
    container_name: str,
    end: tuple[str, ...],
    init: tuple[str, ...],
) -> None:
    words = [*init, image, "python3", "app.py", "wait"]
    if end == ("stop",):
        end = ("stop", "--time", "1") if not init else ("stop", "--time", "60")
    base = [word for word in hdocker.get_docker_base_cmd(image=image) if word != "--init"]
    ours = ended(base, container_name, words, end)
    assert ours == ended(PLAIN, container_name, words, end)
    assert measured(session) == WAITED


@pytest.mark.parametrize("init", [(), ("--init",)], ids=["PID 1", "an init process"])
def test_a_shell_around_it_stops_as_it_would(
    session: hcoverage.Session, image: str, container_name: str, init: tuple[str, ...]
) -> None:
    # What Dockerfile's shell form of ENTRYPOINT is.
    words = [*init, "--entrypoint", "/bin/sh", image, "-c", "python3 app.py wait; exit $?"]
    end = ("stop", "--time", "60" if init else "1")
    base = [word for word in hdocker.get_docker_base_cmd(image=image) if word != "--init"]
    ours = ended(base, container_name, words, end)
    assert ours == ended(PLAIN, container_name, words, end)
    assert ours.status == (143 if init else 137)
    assert measured(session) == WAITED


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["IMAGE"], id="its own command"),
        pytest.param(["--read-only", "IMAGE"], id="read-only"),
        pytest.param(["--user", "65534", "IMAGE"], id="nobody"),
        pytest.param(["--user", "4711:4711", "IMAGE"], id="a user without a name"),
        pytest.param(["--cap-drop", "ALL", "IMAGE"], id="no capabilities"),
        pytest.param(["--network", "none", "IMAGE"], id="no network"),
        pytest.param(["--security-opt", "no-new-privileges", "IMAGE"], id="no new privileges"),
        pytest.param(["--entrypoint", "python3", "IMAGE", "-I", "app.py"], id="python -I"),
        pytest.param(["--entrypoint", "python3", "IMAGE", "-E", "app.py"], id="python -E"),
        pytest.param(["IMAGE", "env", "-i", "/venv/bin/python", "app.py"], id="env -i"),
        pytest.param(["IMAGE", "python-of-venv", "-I", "app.py"], id="a virtual environment"),
        pytest.param(["IMAGE", "sh", "-c", MAKES_VENV], id="a virtual environment that it makes"),
        pytest.param(["IMAGE", "sh", "-c", "python3 app.py; true"], id="a shell"),
        pytest.param(["-e", "PYTHONPATH=/nowhere", "IMAGE"], id="another PYTHONPATH"),
    ],
)
def test_runs_as_it_would_and_is_measured(
    session: hcoverage.Session, image: str, container_name: str, words: list[str]
) -> None:
    words = [image if word == "IMAGE" else word for word in words]
    ours = ended(hdocker.get_docker_base_cmd(image=image), container_name, words)
    assert ours == ended(PLAIN, container_name, words)
    assert (ours.status, ours.stderr) == (0, "")
    assert measured(session, f"image {image}") == RAN


@pytest.mark.parametrize("python", ["python3", "/usr/bin/python3"], ids=["recorder", "coverage.py"])
def test_the_place_of_the_code_is_found_where_no_paths_are_configured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, image: str, container_name: str, python: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(".coveragerc").write_text("[run]\nparallel = True\nsource = .\n")
    (tmp_path / "backend").mkdir()
    Path("app.py" if python != "python3" else "backend/app.py").write_text(APP)
    with hcoverage.open_session() as session:
        os.environ.update(session.environment)
        words = [image, python, "app.py"]
        ours = ended(hdocker.get_docker_base_cmd(image=image), container_name, words)
        assert ours == ended(PLAIN, container_name, words)
        result = hcoverage.combine(session.data_paths(), coveragerc=session.rcfile.path)
    data = CoverageData(basename=str(result.data_file))
    data.read()
    found = {Path(name): set(data.lines(name) or ()) for name in data.measured_files()}
    (name,) = [path for path in found if path.name == "app.py"]
    assert found[name] == RAN
    assert name.is_relative_to(tmp_path)
    assert [tree.there for tree in result.mapped] == ["/app"]


def test_an_image_without_a_shell(
    session: hcoverage.Session,
    image: str,
    image_name: str,
    container_name: str,
    tmp_path: Path,
) -> None:
    directory = tmp_path / "distroless"
    directory.mkdir()
    text = DISTROLESS.format(image=image, prefix=sys.base_prefix)
    (directory / "Dockerfile").write_text(text)
    said("docker", "build", "--quiet", "--tag", image_name, str(directory))
    ours = ended(hdocker.get_docker_base_cmd(image=image_name), container_name, [image_name])
    assert ours == ended(PLAIN, container_name, [image_name]) == Ended(0, "up\n", "")
    assert measured(session) == RAN


def test_what_docker_exec_starts(
    session: hcoverage.Session, image: str, container_name: str
) -> None:
    base = [*hdocker.get_docker_base_cmd(image=image), "--detach", "--name", container_name]
    subprocess.run([*base, image, "sleep", "600"], check=True, stdout=subprocess.DEVNULL)
    assert said("docker", "exec", container_name, "python3", "app.py") == (OWN + "up\n").strip()
    said("docker", "rm", "--force", container_name)
    assert measured(session) == RAN


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["/usr/bin/python3", "app.py"], id="itself"),
        # It has a `sitecustomize` in its library.
        pytest.param(
            ["sh", "-c", MAKES_VENV.replace("python3", "/usr/bin/python3")],
            id="a virtual environment that it makes",
        ),
    ],
)
def test_the_other_python_of_an_image_is_measured_by_coverage(
    session: hcoverage.Session, image: str, container_name: str, words: list[str]
) -> None:
    ours = ended(hdocker.get_docker_base_cmd(image=image), container_name, [image, *words])
    assert ours == ended(PLAIN, container_name, [image, *words])
    assert (ours.status, ours.stderr) == (0, "")
    assert list(session.data_dir.glob(".coverage.*"))
    assert measured(session) == RAN


def test_the_image_and_its_files_stay_as_they_are(
    session: hcoverage.Session, image: str, container_name: str
) -> None:
    before = said("docker", "image", "inspect", image)
    ended(hdocker.get_docker_base_cmd(image=image), container_name, [image])
    assert said("docker", "image", "inspect", image) == before
    assert measured(session) == RAN


def test_an_image_without_python_runs_as_it_would_and_that_is_told(
    session: hcoverage.Session, image_without_python: str, container_name: str
) -> None:
    words = [image_without_python, "sh", "-c", "echo up"]
    base = hdocker.get_docker_base_cmd(image=image_without_python)
    assert ended(base, container_name, words) == Ended(0, "up\n", "")
    (problem,) = session.problems()
    assert image_without_python in problem
    assert "no Python" in problem


def test_an_image_that_does_not_exist_is_an_error_before_the_run(
    session: hcoverage.Session,
) -> None:
    assert session.data_dir.is_dir()
    with pytest.raises(hdocker.ImageNameError, match="no image 'hcoverage-test-nowhere:1'"):
        hdocker.get_docker_base_cmd(image="hcoverage-test-nowhere:1")


def test_without_a_session_nothing_is_added(
    image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(".coveragerc").write_text(RCFILE)
    for command in hcoverage.coverage_subprocess_commands():
        subprocess.run(["sh", "-ec", command], check=True)
    assert hdocker.get_docker_base_cmd(image=image) == hdocker.get_docker_base_cmd()
