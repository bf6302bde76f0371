"""A test that builds an image of its project, `COPY . .`, builds the same one measured and bare."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import pytest

import hcoverage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

# Whatever is in the project changes what this makes; there is nothing that ignores anything.
DOCKERFILE: Final = "FROM {base}\nCOPY . /app\nRUN ls -A /app >/found\n"
BUILDS: Final = """\
import subprocess
import sys

def test() -> None:
    subprocess.run(sys.argv[1:] if __name__ == "__main__" else {command!r}, check=True)

if __name__ == "__main__":
    test()
"""
pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("clean_environment")]


@pytest.fixture(params=["classic", "buildx"])
def build(
    request: pytest.FixtureRequest, engine: str, image_name: str, monkeypatch: pytest.MonkeyPatch
) -> tuple[str, ...]:
    """The command that builds the current directory, by each of docker's builders."""
    if request.param == "buildx":
        monkeypatch.setenv("DOCKER_CONFIG", request.getfixturevalue("_docker_plugins"))
        return (engine, "buildx", "build", "--load", "--tag", image_name, ".")
    monkeypatch.setenv("DOCKER_BUILDKIT", "0")
    return (engine, "build", "--tag", image_name, ".")


@pytest.fixture
def project(
    image_without_python: str,
    build: Sequence[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A project whose test builds an image of all of it; the result goes elsewhere."""
    directory = tmp_path / "project"
    directory.mkdir()
    (directory / "Dockerfile").write_text(DOCKERFILE.format(base=image_without_python))
    (directory / "test_builds.py").write_text(BUILDS.format(command=list(build)))
    (directory / ".coveragerc").write_text(
        f"[run]\nparallel = True\ndata_file = {tmp_path}/.coverage\n"
    )
    monkeypatch.chdir(directory)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    return directory


def script(build: Sequence[str]) -> list[str]:
    return [sys.executable, "test_builds.py", *build]


def bare(build: Sequence[str]) -> list[str]:
    return script(build)


def by_hcov_run(build: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "hcov", "run", "-q", "--", *script(build)]


def by_hcov_run_with_the_coverage_core(build: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "hcov", "run", "-q", "--core=coverage", "--", *script(build)]


def by_pytest(_: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--hcov"]


@pytest.mark.sampled
@pytest.mark.parametrize(
    "ways",
    [
        (bare, by_hcov_run),
        (by_hcov_run, bare),
        (bare, by_hcov_run_with_the_coverage_core),
        (bare, by_pytest, by_pytest),
    ],
    ids=lambda ways: ", ".join(way.__name__ for way in ways),
)
def test_builds_hit_one_cache_and_the_image_has_nothing_of_ours(
    project: Path,
    build: Sequence[str],
    image_name: str,
    ways: Sequence[Callable[[Sequence[str]], list[str]]],
) -> None:
    built = []
    for way in ways:
        done = subprocess.run(way(build), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        built.append(inspected(image_name))
    assert len(set(built)) == 1
    command = [build[0], "run", "--rm", image_name, "cat", "/found"]
    found = subprocess.check_output(command, env=hcoverage.unmeasured_environment(os.environ))
    assert found.decode().split() == sorted(path.name for path in project.iterdir())
    assert found.decode().split() == [".coveragerc", "Dockerfile", "test_builds.py"]


def inspected(image: str) -> str:
    """Give the id of an image, which another build of it has only by the cache."""
    command = ["docker", "image", "inspect", "--format", "{{.Id}} {{.Created}}", image]
    return subprocess.check_output(command, text=True)
