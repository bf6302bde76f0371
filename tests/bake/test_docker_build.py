"""Images built with coverage baked in: what they measure, what they keep, and what cannot be built.

Every image is real. What all of them need from the package index is in `kit`.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import socket
import subprocess
import uuid
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from coverage import CoverageData

import hcoverage
import hdocker

if TYPE_CHECKING:
    from collections.abc import Iterator

RCFILE = """\
[run]
parallel = True
concurrency = multiprocessing
sigterm = True
# "quotes", $dollars, back\\slashes and `ticks` are nobody's business

[paths]
app =
    .
    /app
"""
APP = """\
#!/usr/bin/env python3
import os
import sys


def marked():
    return "marked"


print(sys.executable, os.getuid(), marked(), flush=True)
if "wait" in sys.argv:
    import signal

    signal.pause()
"""
MARKED_LINE = 7
# Of images and containers; another run may use the same engine.
NAME = f"hcoverage-test-{uuid.uuid4().hex[:12]}"
TAGGED = f"registry.example:5000/shop/{NAME}:test"
KEPT = ("User", "Entrypoint", "Cmd", "WorkingDir", "Shell", "Volumes", "OnBuild")


def docker(*arguments: str) -> str:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def config_of(image: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(docker("image", "inspect", image))[0]["Config"]
    return found


@pytest.fixture(scope="module")
def kit(kit_image: str) -> Iterator[str]:
    """An image with the packages to install, a user, and environments with and without pip."""
    yield kit_image
    for name in (NAME, TAGGED):
        label = f"label=hdocker.image={name}"
        for image in docker("images", "--quiet", "--filter", label).split():
            docker("image", "rm", "--force", image)


@dataclass(frozen=True)
class Project:
    """A directory with an application, and a data directory for its containers."""

    path: Path
    data_dir: Path

    def build(self, dockerfile: str, **options: Any) -> str:  # noqa: ANN401
        (self.path / "Dockerfile").write_text(dockerfile)
        options.setdefault("output", io.StringIO())
        return hdocker.build_container_image(
            NAME, self.path / "Dockerfile", rcfile=self.path / ".coveragerc", **options
        )

    def command(self, *options: str) -> list[str]:
        return hdocker.get_docker_base_cmd(data_dir=self.data_dir, options=options)

    def run(self, image: str) -> tuple[str, str]:
        """Run the image's own command; return the container's id and what it wrote."""
        id_file = self.path.parent / "container"
        command = [*self.command("--cidfile", str(id_file)), image]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        return id_file.read_text(), done.stdout

    def marked_lines(self, container: str) -> set[int]:
        [file] = self.data_dir.glob(f".coverage.*{container[:12]}.*")
        data = CoverageData(basename=str(file))
        data.read()
        return set(data.lines("/app/app.py") or ())


@pytest.fixture
def project(tmp_path: Path, kit: str) -> Project:  # noqa: ARG001
    path = tmp_path / "a project"
    path.mkdir()
    (path / "app.py").write_text(APP)
    (path / "app.py").chmod(0o755)
    (path / ".coveragerc").write_text(RCFILE)
    data_dir = tmp_path / "coverage_data"
    data_dir.mkdir()
    data_dir.chmod(0o777)
    (data_dir / ".coveragerc").write_text(RCFILE)
    return Project(path, data_dir)


pytestmark = [
    pytest.mark.engine,
    pytest.mark.index,
    pytest.mark.xdist_group(
        "docker-build"
    ),  # they tell what images there are, by a name they share
]

SHAPES = {
    "debian, python3 only": """
        FROM hcoverage-test-kit
        COPY . /app
        CMD ["python3", "/app/app.py"]
    """,
    "another user": """
        FROM hcoverage-test-kit
        COPY . /app
        USER app
        WORKDIR /app
        ENTRYPOINT ["python3"]
        CMD ["app.py"]
    """,
    "a user that an ARG of an earlier stage names": f"""
        ARG BASE=hcoverage-test
        FROM ${{BASE}}-kit AS builder
        RUN touch /built
        # By which it is found and removed: the classic builder keeps it, nameless.
        LABEL hdocker.image={NAME}
        FROM ${{BASE:-x}}-kit AS runtime
        ARG USER_NAME=app
        USER ${{USER_NAME}}
        FROM runtime
        COPY --from=builder /built /built
        COPY . /app
        CMD python3 /app/app.py
    """,
    "a virtual environment on PATH": """
        FROM hcoverage-test-kit
        ENV PATH=/venv/bin:$PATH
        COPY . /app
        CMD exec python /app/app.py
    """,
    "an interpreter named by ENTRYPOINT, in an environment without pip": """
        FROM hcoverage-test-kit
        COPY . /app
        ENTRYPOINT ["/bare/bin/python", "/app/app.py"]
    """,
    "a script that names its interpreter": """
        FROM hcoverage-test-kit
        COPY . /app
        USER 1234:1234
        CMD ["sh", "-c", "exec /venv/bin/serve"]
    """,
    "a shell that runs nothing": """
        FROM hcoverage-test-kit
        COPY . /app
        SHELL ["/bin/false"]
        ENTRYPOINT ["/app/app.py"]
    """,
    "another escape character and an unfinished last line": """# escape=`
        FROM hcoverage-test-kit
        COPY . `
            # a comment between
            /app
        CMD ["python3", `
             "/app/app.py"] `""",
    "triggers of an earlier stage": """
        FROM hcoverage-test-kit AS base
        ONBUILD COPY . /app
        ONBUILD USER app
        FROM base
        VOLUME /app
        CMD ["/venv/bin/python", "/app/app.py"]
    """,
}
PYTHON = {
    "a virtual environment on PATH": "/venv/bin/python",
    "an interpreter named by ENTRYPOINT, in an environment without pip": "/bare/bin/python",
    "a script that names its interpreter": "/venv/bin/python",
    "triggers of an earlier stage": "/venv/bin/python",
}


@pytest.mark.parametrize("shape", SHAPES)
def test_measures_and_stays_as_the_dockerfile_has_it(project: Project, shape: str) -> None:
    image = project.build(SHAPES[shape])
    docker("build", "--quiet", "--tag", f"{NAME}-plain", str(project.path))
    ours, theirs = config_of(image), config_of(f"{NAME}-plain")
    docker("image", "rm", f"{NAME}-plain")
    assert {key: ours.get(key) for key in KEPT} == {key: theirs.get(key) for key in KEPT}
    assert {line for line in ours["Env"] if not line.startswith("HCOVERAGE_USER=")} == set(
        theirs["Env"]
    )

    container, said = project.run(image)

    python, uid, *_ = said.split()
    assert python == PYTHON.get(shape, "/usr/bin/python3")
    assert uid == ("0" if theirs["User"] in {"", "root"} else "1234")
    assert MARKED_LINE in project.marked_lines(container)


def test_installs_from_the_index_with_the_hook_and_the_rcfile(
    project: Project, base_image: str
) -> None:
    (project.path / ".dockerignore").write_text("*\n!app.py\n")
    image = project.build(
        f'FROM {base_image}\nCOPY . /app\nCMD ["python3", "/app/app.py"]\n',
        options=["--network", "host"],
    )

    command = (
        "import coverage, os, pathlib, pytest_cov;"
        "home = pathlib.Path(coverage.__file__).parents[1];"
        "print(coverage.__version__, 'Written by' in (home / 'coverage.pth').read_text());"
        "print(oct(os.stat('/app/coverage_data').st_mode)[-3:]);"
        "rcfile = pathlib.Path('/app/coverage_data/.coveragerc');"
        "print(oct(rcfile.stat().st_mode)[-3:], rcfile.read_text())"
    )
    said = docker("run", "--rm", image, "python3", "-c", command)
    versions, directory, rcfile = said.split("\n", 2)
    assert versions == f"{metadata.version('coverage')} True"
    assert directory == "777"
    assert rcfile.startswith(f"644 {hcoverage.MADE_BY_US}\n")
    assert "parallel = True" in rcfile
    assert MARKED_LINE in project.marked_lines(project.run(image)[0])


def test_the_recipe_written_by_hand_measures_too(project: Project) -> None:
    recipe = Path(__file__).parents[2] / "Dockerfile.test"
    docker(
        *("build", "--quiet", "--file", str(recipe), "--tag", f"{NAME}-recipe"),
        *("--build-arg", "BASE_IMAGE=hcoverage-test-kit", str(project.path)),
    )
    try:
        command = [
            *project.command("--name", f"{NAME}-recipe"),
            f"{NAME}-recipe",
            "/app/app.py",
            "wait",
        ]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "/usr/bin/python3 1000 marked\n"
            container = docker("inspect", "--format", "{{.Id}}", f"{NAME}-recipe")
            docker("stop", f"{NAME}-recipe")
            assert process.wait() == 128 + signal.SIGTERM
        assert MARKED_LINE in project.marked_lines(container)
    finally:
        docker("image", "rm", f"{NAME}-recipe")


SIMPLE = SHAPES["debian, python3 only"]


def test_builds_nothing_when_nothing_changed(project: Project) -> None:
    first = project.build(SIMPLE)
    # The engine notes also a build that changes nothing.
    built = ("image", "inspect", "--format", "{{.Id}} {{.Metadata.LastTagTime}}", first)
    before = docker(*built)
    (project.path / "__pycache__").mkdir()
    (project.path / "coverage_data").mkdir()
    (project.path / "coverage_data" / ".coverage.a.1").touch()
    (project.path / ".hcov-lock.coverage").touch()

    shown = io.StringIO()
    assert project.build(SIMPLE, output=shown) == first
    assert shown.getvalue() == ""
    assert docker(*built) == before
    name, _, tag = first.partition(":")
    assert (name, tag.partition("-")[0]) == (NAME, architecture())


def architecture() -> str:
    return docker("version", "--format", "{{.Server.Arch}}").strip()


def test_builds_anew_what_changed_and_what_is_forced(project: Project) -> None:
    first = project.build(SIMPLE)
    (project.path / "app.py").write_text(APP + "# changed\n")
    assert project.build(SIMPLE) != first

    (project.path / "app.py").write_text(APP)
    identity = docker("image", "inspect", "--format", "{{.Id}}", first).strip()
    shown = io.StringIO()
    assert project.build(SIMPLE, force_rebuild=True, use_cache=False, output=shown) == first
    assert "RUN" in shown.getvalue()
    assert "Using cache" not in shown.getvalue()
    assert docker("image", "inspect", "--format", "{{.Id}}", first).strip() != identity
    assert identity not in docker("images", "--quiet", "--no-trunc", "--all")


def test_builds_anew_when_the_base_image_changed(project: Project, tmp_path: Path) -> None:
    dockerfile = SIMPLE.replace("hcoverage-test-kit", f"{NAME}-base")
    docker("tag", "hcoverage-test-kit", f"{NAME}-base")
    try:
        image = project.build(dockerfile)
        identity = docker("image", "inspect", "--format", "{{.Id}}", image)
        (tmp_path / "Dockerfile").write_text("FROM hcoverage-test-kit\nENV CHANGED=1\n")
        docker(
            "build", "--quiet", "--tag", f"{NAME}-base", "--file", f"{tmp_path}/Dockerfile", ".ci"
        )
        assert project.build(dockerfile) == image
        assert docker("image", "inspect", "--format", "{{.Id}}", image) != identity
    finally:
        docker("image", "rm", "--force", f"{NAME}-base")


def test_keeps_the_user_and_finds_the_python_of_the_base_image(
    project: Project, tmp_path: Path
) -> None:
    base = 'FROM hcoverage-test-kit\nUSER app\nENTRYPOINT ["/venv/bin/python"]\n'
    (tmp_path / "Dockerfile").write_text(base)
    docker("build", "--quiet", "--tag", f"{NAME}-base", "--file", f"{tmp_path}/Dockerfile", ".ci")
    try:
        image = project.build(f'FROM {NAME}-base\nCOPY . /app\nCMD ["/app/app.py"]\n')
        assert config_of(image)["User"] == "app"
        container, said = project.run(image)
        assert said.split()[:2] == ["/venv/bin/python", "1234"]
        assert MARKED_LINE in project.marked_lines(container)
    finally:
        docker("image", "rm", "--force", f"{NAME}-base")


@pytest.mark.parametrize(
    "asked",
    [{"target": "app"}, {"options": ["--pull=0", "--target", "app"]}],
    ids=["argument", "option"],
)
def test_builds_the_stage_that_is_asked_for(project: Project, asked: dict[str, Any]) -> None:
    image = project.build(
        SIMPLE.replace("hcoverage-test-kit", "hcoverage-test-kit AS app")
        + "FROM scratch AS last\n",
        **asked,
    )
    assert MARKED_LINE in project.marked_lines(project.run(image)[0])


def test_docker_stop_needs_no_kill_and_the_data_is_saved(project: Project) -> None:
    image = project.build(SIMPLE)
    command = [
        *project.command("--name", f"{NAME}-stopped"),
        image,
        "python3",
        "/app/app.py",
        "wait",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "marked" in process.stdout.readline()
        container = docker("inspect", "--format", "{{.Id}}", f"{NAME}-stopped")
        docker("stop", f"{NAME}-stopped")
        assert process.wait() == 128 + signal.SIGTERM
    assert MARKED_LINE in project.marked_lines(container)


def test_buildkit_builds_it_too(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_BUILDKIT", "1")
    clients = [entry for entry in os.get_exec_path() if shutil.which("docker", path=entry)]
    for client in clients:
        monkeypatch.setenv("PATH", f"{client}:{os.environ['PATH']}")
        try:
            image = project.build(SHAPES["another user"], force_rebuild=True)
        except hdocker.BuildError as error:
            if "buildx" not in str(error):
                raise
            continue
        assert MARKED_LINE in project.marked_lines(project.run(image)[0])
        with pytest.raises(hdocker.BuildError, match="no-such-command: not found"):
            project.build("FROM hcoverage-test-kit\nRUN no-such-command\n")
        return
    pytest.skip("no docker client here has BuildKit: install docker-buildx")


UNBUILT = f"{NAME}-unbuilt"
FAILING = f"FROM hcoverage-test-kit\nLABEL {UNBUILT}=1\n"


@pytest.fixture
def nothing_left(project: Project) -> Iterator[None]:  # noqa: ARG001 - for the engine
    yield
    label = ("--all", "--quiet", "--filter", f"label={UNBUILT}")
    assert docker("images", *label) == docker("ps", *label) == ""


@pytest.mark.usefixtures("nothing_left")
class TestWhatCannotBeBuilt:
    def test_an_image_without_python(self, project: Project, image_without_python: str) -> None:
        with pytest.raises(hdocker.NoPythonError, match=r"no Python 3.8 or newer.*`python`"):
            project.build(f"FROM {image_without_python}\nLABEL {UNBUILT}=1\n")

    def test_a_python_that_is_not_there(self, project: Project) -> None:
        with pytest.raises(hdocker.NoPythonError, match="of: /opt/python") as caught:
            project.build(FAILING, python="/opt/python")
        # Not the program that was looking for it, which builders show in full.
        assert len(str(caught.value).splitlines()) < 10

    def test_a_step_that_fails(self, project: Project) -> None:
        dockerfile = FAILING + "RUN echo one\nRUN echo two && echo why >&2 && exit 3\n"
        shown = io.StringIO()
        with pytest.raises(hdocker.BuildError) as caught:
            project.build(dockerfile, output=shown)
        message = str(caught.value)
        assert "exit 3" in message
        assert "why" in message
        assert "echo one" not in message
        assert "why" in shown.getvalue()
        assert caught.value.argv[:2] == ("docker", "build")
        assert caught.value.returncode

    def test_an_rcfile_whose_plugin_the_image_lacks(self, project: Project) -> None:
        rcfile = RCFILE.replace("[run]", "[run]\nplugins = no_such_plugin")
        (project.path / ".coveragerc").write_text(rcfile)
        with pytest.raises(hdocker.BuildError, match=r"no_such_plugin.*`packages="):
            project.build(FAILING)

    def test_a_package_that_the_index_lacks(self, project: Project) -> None:
        with pytest.raises(hdocker.BuildError, match=r"pip could not install .*no-such-package"):
            project.build(FAILING, packages=["no-such-package"])

    def test_a_base_image_that_is_nowhere(self, project: Project) -> None:
        with pytest.raises(
            hdocker.BuildError, match="localhost:1/no-such-image is not here and cannot be pulled"
        ):
            project.build("FROM localhost:1/no-such-image\n")

    def test_a_dockerfile_that_is_empty_missing_or_without_from(self, project: Project) -> None:
        with pytest.raises(hdocker.DockerfileError, match="is empty"):
            project.build("")
        with pytest.raises(hdocker.DockerfileError, match="no FROM"):
            project.build("RUN true\n")
        with pytest.raises(hdocker.DockerfileError, match="No such file"):
            hdocker.build_container_image(NAME, project.path / "none")

    @pytest.mark.parametrize(
        "name", ["", "Shop", "a b", "-a", "a//b", "a:", "a:b:c", "a@sha256:0", "a" * 256, "é"]
    )
    def test_an_image_name_that_is_none(self, project: Project, name: str) -> None:
        (project.path / "Dockerfile").write_text(SIMPLE)
        with pytest.raises(hdocker.ImageNameError, match="is no image name"):
            hdocker.build_container_image(name, project.path / "Dockerfile")


def test_a_given_tag_begins_the_tag(project: Project) -> None:
    (project.path / "Dockerfile").write_text(SIMPLE)
    name = hdocker.build_container_image(
        TAGGED,
        project.path / "Dockerfile",
        rcfile=project.path / ".coveragerc",
        quiet=True,
    )
    assert name.startswith(f"{TAGGED}-{architecture()}-")
    docker("image", "rm", name)


def test_an_engine_that_does_not_answer(
    project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    with pytest.raises(hdocker.EngineUnreachableError, match="systemctl start docker"):
        project.build(SIMPLE)


def test_an_engine_that_lets_nobody_in(
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    client = shutil.which("docker")
    path = tmp_path_factory.mktemp("engine") / "locked.sock"
    if os.geteuid() == 0:  # whom no mode keeps out
        wrapper = tmp_path / "docker"
        wrapper.write_text(f'#!/bin/sh\nexec setpriv --reuid=65534 --clear-groups {client} "$@"\n')
        wrapper.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        monkeypatch.setenv("HOME", "/")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        path.chmod(0)
        for parent in path.parents[:3]:
            assert parent.stat().st_uid == os.getuid()
        monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
        with pytest.raises(hdocker.EnginePermissionError, match=r"usermod -aG docker \$USER"):
            project.build(SIMPLE)


def test_no_engine_on_path(
    project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(hdocker.EngineNotFoundError, match=r"apt-get install docker\.io"):
        project.build(SIMPLE)
