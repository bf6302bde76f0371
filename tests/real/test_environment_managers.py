"""What makes an environment for each run is measured like any other program, and told of no Python.

tox clears the environment; virtualenv and `python -m venv` start Pythons that ignore it. nox,
hatch, poetry, pdm, uv, pipenv and build were tried by hand.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from tests.forks import hcov

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.conftest import NewVenv

pytestmark = [
    pytest.mark.index,
    pytest.mark.usefixtures("clean_environment"),
]

TOX: Final = "tox==4.67.15"
PROGRAM: Final = """\
import subprocess, sys

def called():
    return 1

if sys.argv[1:]:
    called()
else:
    subprocess.run([sys.executable, __file__, "child"], check=True)
"""
TOX_INI: Final = "[testenv]\nskip_install = true\ncommands = python program.py\n"
TOX_TOML: Final = 'skip_install = true\ncommands = [["python", "program.py"]]\n'
MAKES: Final = """\
import subprocess, sys

subprocess.run([sys.executable, "-m", "venv", "made"], check=True)
subprocess.run(["made/bin/pip", "--version"], check=True)
subprocess.run(["made/bin/python", "-Im", "pip", "--version"], check=True)
subprocess.run(["made/bin/python", "program.py"], check=True)
"""
PROJECTS: Final[Mapping[str, tuple[str, Mapping[str, str]]]] = {
    "tox.ini": ("tox", {"tox.ini": TOX_INI}),
    "pyproject.toml": ("tox", {"pyproject.toml": f"[tool.tox.env_run_base]\n{TOX_TOML}"}),
    "venv": ("python", {"makes.py": MAKES}),
}


@pytest.fixture
def tools(tmp_path: Path, new_venv: NewVenv) -> Path:
    """The directory of the program `tox`."""
    return new_venv(tmp_path / "tools", TOX).path / "bin"


@pytest.mark.parametrize("project", PROJECTS)
def test_what_runs_in_it_is_measured_and_no_python_is_missed(
    project: str, tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    tool, files = PROJECTS[project]
    for name, text in {**files, "program.py": PROGRAM}.items():
        Path(name).write_text(text)
    Path(".coveragerc").write_text("[run]\nbranch = True\nsource = .\n")
    command = [sys.executable, "makes.py"] if tool == "python" else [str(tools / tool)]
    done = hcov("run", "--", *command)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "not measured" not in done.stderr, done.stderr
    subprocess.run([sys.executable, "-m", "coverage", "json", "-q"], check=True)
    totals = json.loads(Path("coverage.json").read_text())["totals"]
    assert totals["percent_covered"] == 100, done.stdout
