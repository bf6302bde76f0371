"""The hook: written whole, found by every Python start, silent and free, and gone on request."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import hcoverage
from hcoverage import _hook

if TYPE_CHECKING:
    from tests.conftest import Venv

RCFILE = "[run]\nparallel = True\n"
ROOT = os.geteuid() == 0


def hook_of(venv: Venv) -> Path:
    return venv.site_packages / "coverage.pth"


def clean() -> dict[str, str]:
    return hcoverage.unmeasured_environment(os.environ)


def python(venv: Venv, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [venv.python, *arguments],
        env={**clean(), **env},
        capture_output=True,
        text=True,
        check=False,
        cwd=venv.path,
    )


def call(venv: Venv, code: str, **env: str) -> str:
    done = python(venv, "-c", f"import hcoverage, os, json; {code}", **env)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def venv(fresh_venv: Venv) -> Venv:
    (fresh_venv.path / ".coveragerc").write_text(RCFILE)
    return fresh_venv


@pytest.fixture
def program(venv: Venv) -> Path:
    program = venv.path / "program.py"
    program.write_text("print('hello')\n")
    return program


class TestInjecting:
    def test_the_next_python_is_measured(self, venv: Venv, program: Path) -> None:
        call(venv, f"hcoverage.inject(); os.system('{venv.python} {program}')")
        assert len(list(venv.path.glob(".coverage.*.pid*"))) == 1

    def test_returns_the_hook_readable_by_all(self, venv: Venv) -> None:
        returned = call(venv, "os.umask(0o077); print(hcoverage.inject())").strip()
        assert returned == str(hook_of(venv))
        assert stat.S_IMODE(hook_of(venv).stat().st_mode) == 0o644

    def test_sets_the_rcfile_by_its_absolute_path(self, venv: Venv) -> None:
        value = call(venv, "hcoverage.inject(); print(os.environ['COVERAGE_PROCESS_START'])")
        assert value.strip() == str(venv.path / ".coveragerc")

    def test_a_process_elsewhere_strands_nothing_and_measures_the_same_source(
        self, venv: Venv, tmp_path: Path
    ) -> None:
        (venv.path / ".coveragerc").write_text(RCFILE + "source = pkg\n")
        (venv.path / "pkg").mkdir()
        (venv.path / "pkg" / "it.py").write_text("x = 1\n")
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        run = f"cd {elsewhere} && {venv.python} {venv.path}/pkg/it.py"
        call(venv, f"hcoverage.inject(); os.system('{run}')")
        assert list(elsewhere.iterdir()) == []
        result = hcoverage.combine([venv.path], data_file=tmp_path / ".coverage")
        assert len(result.merged) == 1
        assert measured_files(result.data_file) == {str(venv.path / "pkg" / "it.py")}

    def test_again_changes_nothing(self, venv: Venv) -> None:
        call(venv, "hcoverage.inject()")
        before = hook_of(venv).stat()
        call(venv, "hcoverage.inject(); hcoverage.inject()")
        after = hook_of(venv).stat()
        assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)

    @pytest.mark.thorough
    def test_many_at_once_leave_one_whole_hook(self, venv: Venv) -> None:
        code = "import hcoverage; hcoverage.inject()"
        processes = [
            subprocess.Popen([venv.python, "-c", code], cwd=venv.path, env=clean())
            for _ in range(8)
        ]
        assert [process.wait() for process in processes] == [0] * 8
        sessions = hook_of(venv).with_suffix(".sessions")
        assert hook_of(venv).read_text() == _hook._installed_pth_text(sessions)
        assert [p.name for p in venv.site_packages.glob("*coverage.pth.*")] == []

    def test_it_is_held_from_when_it_is_there_until_it_is_not(self, venv: Venv) -> None:
        call(
            venv,
            "from pathlib import Path\n"
            "from hcoverage import _hook\n"
            f"directory = Path({str(venv.site_packages)!r})\n"
            "assert not _hook.is_held(directory)\n"
            "with _hook.held() as hook:\n"
            "    assert hook.parent == directory\n"
            "    assert _hook.is_held(directory)\n"
            "assert not _hook.is_held(directory)",
        )

    def test_in_harmony_with_the_hook_that_coverage_brings(self, venv: Venv, program: Path) -> None:
        own = Path(_coverage_site_packages()) / "a1_coverage.pth"
        (venv.site_packages / own.name).write_bytes(own.read_bytes())
        call(venv, f"hcoverage.inject(); os.system('{venv.python} {program}')")
        assert len(list(venv.path.glob(".coverage.*.pid*"))) == 1

    def test_the_user_site_is_used_where_python_reads_it(self, tmp_path: Path) -> None:
        base = Path(sys.base_prefix) / "bin" / "python3"
        user = {"PYTHONUSERBASE": str(tmp_path / "user"), "PYTHONPATH": _import_path()}
        (tmp_path / ".coveragerc").write_text(RCFILE)
        code = "import hcoverage; print(hcoverage.inject()); hcoverage.remove()"
        done = subprocess.run(
            [base, "-c", code],
            env={**clean(), **user},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout.startswith(str(tmp_path / "user")), done.stderr
        assert not list((tmp_path / "user").rglob("*.pth"))


def inject_except(caught: str) -> str:
    """A program that injects, and ends with the name and text of the error if that is caught."""
    return (
        "import hcoverage, sys\ntry:\n    hcoverage.inject()\n"
        f"except {caught} as error:\n    sys.exit(f'{{type(error).__name__}}: {{error}}')"
    )


@pytest.mark.thorough
class TestRefusing:
    def test_without_coverage_says_how_to_install_it(self, venv: Venv) -> None:
        shutil.rmtree(venv.site_packages / "coverage")
        done = python(venv, "-c", inject_except("ImportError"))
        assert done.stderr.startswith("MissingCoverageError: ")
        assert f"{venv.python} -m pip install coverage" in done.stderr
        assert not hook_of(venv).exists()

    def test_a_hook_of_somebody_else_is_not_overwritten(self, venv: Venv) -> None:
        hook_of(venv).write_text("# mine\n")
        done = python(venv, "-c", inject_except("FileExistsError"))
        assert done.stderr.startswith("ForeignHookError: ")
        assert hook_of(venv).read_text() == "# mine\n"

    @pytest.mark.parametrize(
        ("text", "caught", "error"),
        [
            (None, "FileNotFoundError", "NoRcfileError"),
            ("[run]\nbranch = perhaps\n", "hcoverage.RcfileError", "RcfileError"),
            ("[run\n", "hcoverage.HcoverageError", "RcfileError"),
        ],
    )
    def test_an_rcfile_that_cannot_work_leaves_nothing_behind(
        self, venv: Venv, text: str | None, caught: str, error: str
    ) -> None:
        rcfile = venv.path / ".coveragerc"
        rcfile.unlink()
        if text is not None:
            rcfile.write_text(text)
        done = python(venv, "-c", inject_except(caught))
        assert done.stderr.startswith(f"{error}: ")
        assert not hook_of(venv).exists()

    def test_a_site_packages_that_cannot_be_written(self, venv: Venv) -> None:
        # Root writes where it may not, unless that privilege is taken away.
        as_anybody = ["setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override"]
        venv.site_packages.chmod(0o555)
        done = subprocess.run(
            [
                *(as_anybody if ROOT else []),
                venv.python,
                "-c",
                inject_except("PermissionError"),
            ],
            env=clean(),
            cwd=venv.path,
            capture_output=True,
            text=True,
            check=False,
        )
        venv.site_packages.chmod(0o755)
        assert done.stderr.startswith("HookPermissionError: "), done.stderr
        assert "python -m venv" in done.stderr
        assert not hook_of(venv).exists()


class TestRemoving:
    def test_undoes_all_of_it(self, venv: Venv) -> None:
        before = {path.name for path in venv.site_packages.iterdir()}
        code = (
            "os.environ['COVERAGE_PROCESS_START'] = 'mine'; before = dict(os.environ); "
            "hcoverage.inject(); hcoverage.inject(); hcoverage.remove(); "
            "assert dict(os.environ) == before; hcoverage.remove()"
        )
        call(venv, code)
        after = {path.name for path in venv.site_packages.iterdir()}
        assert after - {"__pycache__"} == before - {"__pycache__"}

    def test_a_variable_that_somebody_changed_since_is_theirs(self, venv: Venv) -> None:
        code = (
            "hcoverage.inject(); os.environ['COVERAGE_PROCESS_START'] = 'theirs'; "
            "hcoverage.remove(); print(os.environ['COVERAGE_PROCESS_START'])"
        )
        assert call(venv, code) == "theirs\n"

    def test_a_hook_of_somebody_else_is_left_alone_and_told(self, venv: Venv) -> None:
        hook_of(venv).write_text("# mine\n")
        done = python(venv, "-c", "import hcoverage; hcoverage.remove()")
        assert done.returncode == 0
        assert "ForeignHookWarning" in done.stderr
        assert hook_of(venv).read_text() == "# mine\n"


class TestNobodyNotices:
    @pytest.fixture
    def hooked(self, venv: Venv) -> Venv:
        call(venv, "hcoverage.inject()")
        return venv

    def test_with_nothing_to_measure_nothing_is_imported(self, hooked: Venv) -> None:
        code = "import sys, json; print(json.dumps(sorted(sys.modules)))"
        with_hook = json.loads(python(hooked, "-c", code).stdout)
        hook_of(hooked).unlink()
        assert with_hook == json.loads(python(hooked, "-c", code).stdout)

    def test_a_vanished_rcfile_is_noted_not_shown(self, hooked: Venv, tmp_path: Path) -> None:
        notes = tmp_path / "notes"
        notes.mkdir()
        done = python(
            hooked,
            "-c",
            "print('hello')",
            COVERAGE_PROCESS_START=str(tmp_path / "gone"),
            HCOVERAGE_DATA_DIR=str(notes),
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "hello\n", "")
        assert "gone" in next(notes.glob("problem.*")).read_text()

    def test_without_coverage_it_is_silent(self, hooked: Venv) -> None:
        done = python(hooked, "-I", "-c", "print('hello')", COVERAGE_PROCESS_START="/nowhere")
        assert (done.returncode, done.stdout, done.stderr) == (0, "hello\n", "")

    def test_the_text_is_one_that_python_3_8_reads(self) -> None:
        comment, line, end = _hook.pth_text().split("\n")
        assert comment.startswith("#")
        assert line.startswith("import os; ")
        assert end == ""


@pytest.mark.thorough
class TestWherePthImportLinesAreSilent:
    """Python 3.18 and later (PEP 829): a .start file names what is run, and where it is."""

    SINCE_NOW = "from hcoverage import _hook; _hook._START_FILE_SINCE = (3,); "

    def test_the_hook_has_a_twin_that_measures(self, venv: Venv, program: Path) -> None:
        call(venv, f"{self.SINCE_NOW} hcoverage.inject()")
        entry = (venv.site_packages / "coverage.start").read_text().splitlines()[-1]
        module, _, function = entry.partition(":")
        hook_of(venv).unlink()
        # As `site` does with the entry, where this Python does not do it yet.
        code = f"import {module}, runpy; {module}.{function}(); runpy.run_path('{program}')"
        done = python(venv, "-c", code, COVERAGE_PROCESS_START=str(venv.path / ".coveragerc"))
        assert (done.returncode, done.stdout, done.stderr) == (0, "hello\n", "")
        assert len(list(venv.path.glob(".coverage.*.pid*"))) == 1

    def test_all_of_it_is_removed(self, venv: Venv) -> None:
        before = {path.name for path in venv.site_packages.iterdir()}
        call(venv, f"{self.SINCE_NOW} hcoverage.inject(); hcoverage.remove()")
        after = {path.name for path in venv.site_packages.iterdir()}
        assert after - {"__pycache__"} == before - {"__pycache__"}


class TestHolding:
    """What `hcov run` does for its own length, alone and beside others."""

    HOLD = "from hcoverage import _hook\nwith _hook.held(): print('held', flush=True); input()\n"

    def hold(self, venv: Venv) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [venv.python, "-c", self.HOLD],
            env=clean(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        return process

    def release(self, process: subprocess.Popen[str]) -> None:
        process.communicate("\n")
        assert process.returncode == 0

    def test_the_last_one_out_removes_it(self, venv: Venv) -> None:
        first, second = self.hold(venv), self.hold(venv)
        self.release(first)
        assert hook_of(venv).exists()
        self.release(second)
        assert not hook_of(venv).exists()

    def test_one_that_was_injected_stays(self, venv: Venv) -> None:
        call(venv, "hcoverage.inject()")
        self.release(self.hold(venv))
        assert hook_of(venv).exists()

    def test_one_that_is_injected_meanwhile_stays(self, venv: Venv) -> None:
        holder = self.hold(venv)
        call(venv, "hcoverage.inject()")
        self.release(holder)
        assert hook_of(venv).exists()

    def test_after_a_holder_was_killed_the_next_one_cleans_up(self, venv: Venv) -> None:
        holder = self.hold(venv)
        holder.kill()
        holder.communicate()
        assert hook_of(venv).exists()
        self.release(self.hold(venv))
        assert not hook_of(venv).exists()


def measured_files(data_file: Path) -> set[str]:
    from coverage import CoverageData

    data = CoverageData(basename=str(data_file))
    data.read()
    return data.measured_files()


def _coverage_site_packages() -> str:
    import coverage

    return str(Path(coverage.__file__).parent.parent)


def _import_path() -> str:
    return os.pathsep.join([str(Path(hcoverage.__file__).parent.parent), _coverage_site_packages()])
