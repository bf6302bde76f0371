"""What nothing imported: it is in the report, or told.

coverage.py warns of a source of which nothing ran in one process, so for a run it can be wrong;
where both say the same is in the report matrix.
"""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import pytest
from tests.forks import hcov

if TYPE_CHECKING:
    from pathlib import Path

FILES: Final = {
    "package/__init__.py": "",
    "package/module.py": "x = 1\n",
    "package/idle.py": "x = 1\n",
    "space/part/module.py": "x = 1\n",
    "child/__init__.py": "",
    "child/module.py": "x = 1\n",
    "code/below/__init__.py": "",
    "idle/__init__.py": "x = 1\n",
    "single.py": "x = 1\n",
    "program.py": (
        "import subprocess, sys\n"
        "import package.module, single, space.part.module\n"
        "subprocess.run([sys.executable, '-c', 'import child.module'], check=True)\n"
    ),
}
COVERAGE_RUN: Final = (sys.executable, "-m", "coverage", "run")
RAN: Final = ("package", "package.module", "space", "space.part", "child", "single", "program")
DID_NOT: Final = ("package.idle", "idle", "nowhere", "packag", "below", "package.module.x")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def told(text: str) -> list[str]:
    line = r"^hcov: nothing ran of (.*), named as .*\[module-not-imported\]$"
    found = re.findall(line, text, re.MULTILINE)
    return [name for names in found for name in names.split(", ")]


@pytest.mark.parametrize("core", ["auto", "coverage"])
@pytest.mark.parametrize("setting", ["source_pkgs", "source"])
def test_what_ran_is_not_told_and_what_did_not_is(project: Path, setting: str, core: str) -> None:
    names = [*RAN, *DID_NOT, "code"]
    if setting == "source":  # a name that is a directory here is one
        names = [name for name in names if not (project / name).is_dir()]
    else:
        names.remove("code")
    (project / ".coveragerc").write_text(f"[run]\n{setting} = {', '.join(names)}\n")
    done = hcov("run", f"--core={core}", "--", sys.executable, "program.py")
    assert done.returncode == 0, done.stderr
    assert told(done.stderr) == [name for name in names if name in DID_NOT]


def test_it_can_be_turned_off_as_coverages_own(project: Path) -> None:
    (project / ".coveragerc").write_text(
        "[run]\nsource = nowhere, single\ndisable_warnings = module-not-imported\n"
    )
    done = hcov("run", "--", sys.executable, "program.py")
    assert "nowhere" not in done.stderr


def test_what_ran_in_the_data_that_is_added_to_counts(project: Path) -> None:
    (project / ".coveragerc").write_text("[run]\nsource = single, package, nowhere\n")
    hcov("run", "--", sys.executable, "-c", "import single")
    done = hcov("run", "--append", "--", sys.executable, "-c", "import package.module")
    assert told(done.stderr) == ["nowhere"]


@pytest.mark.parametrize("core", ["auto", "coverage"])
def test_a_package_in_a_directory_with_another_name_is_searched(
    project: Path, core: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an editable install can map it; here it is a link."""
    (project / "links").mkdir()
    (project / "links/known").symlink_to("../package")
    monkeypatch.setenv("PYTHONPATH", "links")
    (project / ".coveragerc").write_text("[run]\nsource_pkgs = known\n")
    command = [sys.executable, "-m", "hcov", "run", f"--core={core}", "--no-containers", "--"]
    program = [sys.executable, "-c", "import known.module"]
    done = subprocess.run([*command, *program], capture_output=True, text=True, check=False)
    assert not told(done.stderr)
    rows = dict(re.findall(r"^package/(\w+)\.py .* (\d+%)$", done.stdout, re.MULTILINE))
    assert rows == {"__init__": "100%", "module": "100%", "idle": "0%"}


class TestOptionsOfTheCommandsOwn:
    """What `coverage run` is told to measure, and the rcfile does not name, is told.

    Under the coverage core the data of such a command is in the result, with all that it names.
    """

    BRANCHES: Final = ("--source=package", "--branch", "-m", "package.module")

    def run(self, core: str, *command: str) -> tuple[str, list[str]]:
        done = hcov("run", f"--core={core}", "--", *COVERAGE_RUN, *command)
        assert done.returncode == 0, done.stderr
        line = r"^hcov: not in this report: (.*), which the command .*\[own-options\]$"
        return done.stdout, re.findall(line, done.stderr, re.MULTILINE)

    def test_it_is_told_and_what_it_tells_to_do_helps(self, project: Path) -> None:
        _, told = self.run("recorder", *self.BRANCHES)
        assert told == ["branches and package/idle.py"]
        (project / ".coveragerc").write_text("[run]\nsource = package\nbranch = True\n")
        assert not self.run("auto", *self.BRANCHES)[1]

    @pytest.mark.usefixtures("project")
    def test_under_the_coverage_core_it_counts(self) -> None:
        report, told = self.run("coverage", *self.BRANCHES)
        assert re.search(r"^package/idle\.py .* 0%$", report, re.MULTILINE)
        assert not told

    @pytest.mark.parametrize("core", ["auto", "coverage"])
    def test_where_nothing_is_missing_nothing_is_told(self, project: Path, core: str) -> None:
        (project / ".coveragerc").write_text("[run]\nsource = package\n")
        assert not self.run(core, "--parallel-mode", "program.py")[1]
