"""The README: what it tells people to type gives what `hcov run` gives."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import hcoverage

if TYPE_CHECKING:
    from tests.conftest import MakeVenv

ROOT = Path(__file__).parents[2]
SHOP = ROOT / "examples" / "shop"


def block(language: str, starts_with: str) -> str:
    """A code block of the README."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found: list[str] = re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)
    (chosen,) = [block for block in found if block.startswith(starts_with)]
    return chosen


@pytest.fixture
def environment(kit_image: str, image_name: str, make_venv: MakeVenv) -> dict[str, str]:
    """The environment of a person who has activated the virtual environment."""
    programs = make_venv(with_pytest=True).python.parent
    return {
        **hcoverage.unmeasured_environment(os.environ),
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "HCOVERAGE_BASE_IMAGE": kit_image,
        "SHOP_IMAGE": image_name,
        "SHOP_BAKED": "1",  # step by step there is no session to measure other images
    }


def numbers(command: list[str], project: Path, environment: dict[str, str]) -> dict[str, list[int]]:
    """Run a command in a project, and give the executed lines of its merged data, by file."""
    done = subprocess.run(
        command, cwd=project, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not list(project.glob(".coverage.*")), "data is left unmerged"
    report = ["python", "-m", "coverage", "json", "-q", "-o", "-"]
    done = subprocess.run(
        report, cwd=project, env=environment, capture_output=True, text=True, check=True
    )
    files = json.loads(done.stdout)["files"]
    return {name: file["executed_lines"] for name, file in files.items()}


@pytest.mark.engine
@pytest.mark.index
def test_step_by_step_gives_the_numbers_of_hcov_run_three_times_in_a_row(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    """With containers, without, and with them again: what another run ran counts nowhere.

    In Python once: `test_commands.py` has the same steps again and again by the library.
    """
    # Of the tests that start processes the first ones.
    chosen = {
        name: {**environment, "PYTEST_ADDOPTS": f"{os.environ['PYTEST_ADDOPTS']} -k '{tests}'"}
        for name, tests in {
            "with": "pricing or lists or order0",
            "without": "pricing",
        }.items()
    }
    whole = {}
    for name, variables in chosen.items():
        shutil.copytree(SHOP, tmp_path / name)
        command = ["hcov", "run", "-q", "--", "python", "-m", "pytest"]
        whole[name] = numbers(command, tmp_path / name, variables)
    # Lines that only a subprocess, and only the container, ran.
    assert len(whole["with"]["shop/cli.py"]) > 10
    assert len(whole["with"]["shop/service.py"]) > 10
    assert whole["without"] != whole["with"]
    shell = ["sh", "-ec", block("sh", 'eval "$(hcov inject)"')]
    python = ["python", "-c", block("python", "import os\nimport subprocess\nimport hcov")]
    shutil.copytree(SHOP, tmp_path / "shell")
    for name in ("with", "without", "with"):
        assert numbers(shell, tmp_path / "shell", chosen[name]) == whole[name], name
    shutil.copytree(SHOP, tmp_path / "python")
    assert numbers(python, tmp_path / "python", chosen["without"]) == whole["without"]


def test_the_steps_are_what_the_library_says() -> None:
    lines = block("sh", 'eval "$(hcov inject)"').splitlines()
    for command in (*hcoverage.coverage_subprocess_commands(), *hcoverage.combine_commands()):
        assert command in lines


def test_the_docker_recipe_is_that_of_dockerfile_test() -> None:
    recipe = (ROOT / "Dockerfile.test").read_text(encoding="utf-8")
    for line in block("dockerfile", "RUN").splitlines():
        assert line in recipe
