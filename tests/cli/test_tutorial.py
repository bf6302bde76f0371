"""The tutorial: typed as it stands, in an empty environment, each step shows what it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

import hcoverage

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.index,
    pytest.mark.xdist_group("tutorial"),  # one newcomer walks from step to step
]

ROOT: Final = Path(__file__).parents[2]
CONTAINER: Final = "## A container"
# Of any index, and only on the one of those who read it.
IMAGE: Final = "python:3.13-slim"


@dataclass(frozen=True)
class Step:
    """What is typed, and what the tutorial shows of what is said."""

    typed: str
    shown: tuple[str, ...]


def steps(part: str) -> Iterator[Step]:
    """The steps of a part of the tutorial."""
    blocks = re.findall(r"```(sh|text)\n(.*?)```", part, re.DOTALL)
    typed, shown = "", []
    for language, text in blocks:
        if language == "text":
            shown.append(text)
            continue
        if typed:
            yield Step(typed, tuple(shown))
        typed, shown = text, []
    yield Step(typed, tuple(shown))


def parts() -> tuple[str, str]:
    """The tutorial up to the container, and from there on."""
    text = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    first, heading, second = text.partition(CONTAINER)
    assert heading
    return first, second


@dataclass(frozen=True)
class Newcomer:
    """Somebody in a directory, who has nothing but Python and pip."""

    directory: Path
    environment: dict[str, str]

    def types(self, step: Step) -> str:
        """Type a step, in the environment that is active from the second on; give what is said."""
        activated = self.directory / ".venv" / "bin" / "activate"
        before = f". {activated}\n" if activated.exists() else ""
        done = subprocess.run(
            ["bash", "-ec", before + step.typed],
            cwd=self.directory,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{step.typed}\n{done.stdout}"
        for text in step.shown:
            assert text in done.stdout, f"{step.typed}\n{done.stdout}"
        return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What users get from the index, made of this clone."""
    directory = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--no-deps", "--wheel-dir", directory, ROOT], check=True)
    (made,) = directory.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def newcomer(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Newcomer:
    """A newcomer for whom `pip install hcoverage` installs this clone."""
    directory = tmp_path_factory.mktemp("tutorial")
    constraint = tmp_path_factory.mktemp("pip") / "constraints.txt"
    constraint.write_text(f"hcoverage @ {wheel.as_uri()}\n")
    python = Path(sys._base_executable).parent  # type: ignore[attr-defined]
    environment = {
        **hcoverage.unmeasured_environment(os.environ),
        "PATH": f"{python}{os.pathsep}{os.environ['PATH']}",
        "PIP_CONSTRAINT": str(constraint),
    }
    for ours in ("PYTEST_ADDOPTS", "VIRTUAL_ENV"):
        environment.pop(ours, None)
    return Newcomer(directory, environment)


@pytest.fixture(scope="module")
def walked(newcomer: Newcomer) -> Newcomer:
    """The newcomer, after all steps up to the container."""
    for step in steps(parts()[0]):
        newcomer.types(step)
    return newcomer


needs_recorder = pytest.mark.skipif(
    sys.version_info < (3, 12), reason="its tables are of the recorder, as it says"
)


@needs_recorder
def test_each_step_works_and_shows_what_it_says(walked: Newcomer) -> None:
    assert '"test_greet.py::test_program"' in (walked.directory / "contexts.json").read_text()
    kept = {".coverage", ".coveragerc", ".hcov_cache", ".venv"}
    kept |= {"contexts.json", "greet.py", "htmlcov"}
    found = {path.name for path in walked.directory.iterdir()}
    assert found - {"__pycache__", ".pytest_cache", ".gitignore"} - kept == {"test_greet.py"}


@needs_recorder
@pytest.mark.engine
def test_a_container_is_measured_too(
    walked: Newcomer, python_image: str, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert engine
    monkeypatch.setitem(walked.environment, "DOCKER_HOST", os.environ.get("DOCKER_HOST", ""))
    (step,) = steps(parts()[1])
    said = walked.types(Step(step.typed.replace(IMAGE, python_image), step.shown))
    assert re.search(r"^  image \S+ +1 +1 +8 ", said, re.MULTILINE), said
