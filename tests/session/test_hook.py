"""The hook: written whole, found by every Python start, silent and free, and gone on request."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import hcoverage
from hcoverage._session import hook

if TYPE_CHECKING:
    from tests.conftest import MakeVenv, Venv

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


def system(*words: str | Path) -> str:
    """Code that has a shell run a command."""
    return f"os.system({shlex.join(map(str, words))!r})"


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
        call(venv, f"hcoverage.inject(); {system(venv.python, program)}")
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
        run = system(venv.python, venv.path / "pkg" / "it.py")
        call(venv, f"hcoverage.inject(); os.chdir({str(elsewhere)!r}); {run}")
        assert list(elsewhere.iterdir()) == []
        result = hcoverage.combine([venv.path], data_file=tmp_path / ".coverage")
        assert len(result.merged) == 1
        assert measured_files(result.data_file) == {str(venv.path / "pkg" / "it.py")}

    @pytest.mark.thorough
    def test_again_changes_nothing(self, venv: Venv) -> None:
        call(venv, "hcoverage.inject()")
        before = hook_of(venv).stat()
        call(venv, "hcoverage.inject(); hcoverage.inject()")
        after = hook_of(venv).stat()
        assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)

    @pytest.mark.any_python
    @pytest.mark.thorough
    def test_many_at_once_leave_one_whole_hook(self, venv: Venv) -> None:
        code = "import hcoverage; hcoverage.inject()"
        processes = [
            subprocess.Popen([venv.python, "-c", code], cwd=venv.path, env=clean())
            for _ in range(8)
        ]
        assert [process.wait() for process in processes] == [0] * 8
        sessions = hook_of(venv).with_suffix(".sessions")
        assert hook_of(venv).read_text() == hook._installed_pth_text(sessions)
        assert [p.name for p in venv.site_packages.glob("*coverage.pth.*")] == []

    def test_it_is_held_from_when_it_is_there_until_it_is_not(self, venv: Venv) -> None:
        call(
            venv,
            "from pathlib import Path\n"
            "from hcoverage._session import hook as _hook\n"
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
        call(venv, f"hcoverage.inject(); {system(venv.python, program)}")
        assert len(list(venv.path.glob(".coverage.*.pid*"))) == 1

    def test_site_packages_come_before_the_users_own_and_so_a_child_with_i_is_measured(
        self, venv: Venv, program: Path, tmp_path: Path
    ) -> None:
        user = with_user_site(venv, tmp_path)
        run = system(venv.python, "-I", program)
        call(
            venv,
            f"assert hcoverage.inject().parent.samefile({str(venv.site_packages)!r}); {run}",
            **user,
        )
        assert len(list(venv.path.glob(".coverage.*.pid*"))) == 1

    def test_the_users_own_is_used_where_no_other_can_be_written(
        self, venv: Venv, tmp_path: Path
    ) -> None:
        user = with_user_site(venv, tmp_path)
        no_other = "import site; site.getsitepackages = lambda: ['/proc/none']"
        printed = call(venv, f"{no_other}; print(hcoverage.inject()); hcoverage.remove()", **user)
        assert printed.startswith(user["PYTHONUSERBASE"])
        assert not list(Path(user["PYTHONUSERBASE"]).rglob("*.pth"))


def with_user_site(venv: Venv, tmp_path: Path) -> dict[str, str]:
    """Let an environment read the user's own site-packages as well; give the variables."""
    settings = venv.path / "pyvenv.cfg"
    text = settings.read_text().replace("packages = false", "packages = true")
    assert "= true" in text
    settings.write_text(text)
    return {"PYTHONUSERBASE": str(tmp_path / "user")}


def inject_except(caught: str) -> str:
    """A program that injects, and ends with the name and text of the error if that is caught."""
    return (
        "import hcoverage, sys\ntry:\n    hcoverage.inject()\n"
        f"except {caught} as error:\n    sys.exit(f'{{type(error).__name__}}: {{error}}')"
    )


@pytest.mark.thorough
@pytest.mark.any_python
class TestWhatItRaises:
    """OSError or ImportError and nothing else: who calls `inject` has an `except` for these."""

    # Each setting of coverage.py with a value of each type, both spellings of a file, and files
    # that are none. In one process, which leaves no hook behind.
    PROGRAM = """
import os, pathlib, sys, warnings
from coverage.config import CoverageConfig
import hcoverage
from hcoverage._session import hook as _hook
_hook.require_coverage = lambda: None
warnings.simplefilter("ignore")  # of regular expressions
tried = refused = 0
def attempt(name, content=None):
    global tried, refused
    if content is not None:
        pathlib.Path(name).write_bytes(content)
    tried += 1
    try:
        hcoverage.inject(name)
    except (OSError, ImportError):
        refused += 1
        assert not (pathlib.Path(sys.argv[1]) / "coverage.pth").exists()
    hcoverage.remove()
values = ("3", '"x"', "[1]", '["("]', "{a=1}", "1979-05-27", "true", "[[1]]", '"\\u0000"')
for option in [option[1] for option in CoverageConfig.CONFIG_FILE_OPTIONS]:
    section, _, name = option.partition(":")
    for value in values:
        attempt("c.toml", f"[tool.coverage.{section}]\\n{name} = {value}\\n".encode())
        attempt("c.rc", f"[{section}]\\n{name} = {value}\\n".encode())
for value in values:
    for text in ("[tool.coverage]\\nrun = @", "[tool]\\ncoverage = @", "tool = @",
                 "[tool.coverage.paths]\\nx = @", "[tool.hcoverage]\\ncore = @",
                 "[tool]\\nhcoverage = @",
                 "[tool.coverage.run]\\nplugins = ['p']\\n[tool.coverage.p]\\nx = @"):
        attempt("c.toml", text.replace("@", value).encode())
for content in (b"\\xff\\xfe", b"\\0", b"[run", b"[run]\\nx", b"[run]\\nsource = ${NONE?}\\n",
                b"[hcoverage]\\n[hcoverage]\\n", b"[run]\\ndata_file = a\\0b\\n", b"x = 1"):
    attempt("c.rc", content)
    attempt("c.toml", content)
for name in ("", ".", "none", "c.rc/below", "n" * 5000, "a\\0b"):
    attempt(name)
print(tried, refused)
"""

    def test_whatever_is_wrong_with_the_rcfile(self, venv: Venv) -> None:
        program = self.PROGRAM.replace("\\\\", "\\")
        done = python(venv, "-c", program, str(venv.site_packages))
        assert done.returncode == 0, done.stderr
        tried, refused = map(int, done.stdout.split())
        assert tried > refused > 100

    @pytest.mark.parametrize(
        "spoil",
        [
            "shutil.rmtree(site + '/coverage')",
            "os.unlink('.coveragerc')",
            "os.unlink('.coveragerc'); os.mkdir('.coveragerc')",
            "open(site + '/coverage.pth', 'w').write('# mine')",
            "os.mkdir(site + '/coverage.pth')",
            "import site as s; s.getsitepackages = lambda: []; s.ENABLE_USER_SITE = False",
            "import site as s; s.getsitepackages = lambda: ['/proc/none', '/dev/null/none']",
            "os.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone')",
            "sys.executable = ''",
            "sys.executable = '/none/python'",
            "os.environ['COVERAGE_FILE'] = '/dev/null/x'; os.unlink('.coveragerc')",
        ],
    )
    def test_whatever_else_is_missing(self, venv: Venv, spoil: str) -> None:
        prepare = f"import os, shutil, sys\nsite = {str(venv.site_packages)!r}\n{spoil}\n"
        done = python(venv, "-c", prepare + inject_except("(OSError, ImportError)"))
        assert done.returncode == 1
        assert ": " in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.thorough
@pytest.mark.any_python
class TestRefusing:
    def test_without_coverage_says_how_to_install_it(self, make_venv: MakeVenv) -> None:
        venv = make_venv("an environment")
        (venv.path / ".coveragerc").write_text(RCFILE)
        shutil.rmtree(venv.site_packages / "coverage")
        done = python(venv, "-c", inject_except("ImportError"))
        assert done.stderr.startswith("MissingCoverageError: ")
        assert f"{venv.word} -m pip install coverage" in done.stderr
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


@pytest.mark.any_python
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


LITERAL = b"import coverage; coverage.process_startup()"
# What environments have left over of coverage.py's documented hook, in all the ways of writing it.
DOCUMENTED = {
    "as documented": LITERAL + b"\n",
    "without line end": LITERAL,
    "CRLF": LITERAL + b"\r\n",
    "CR": LITERAL + b"\r# another\r",
    "spaces": b"import  coverage ;coverage.process_startup( ) ; \n",
    "tab": b"import\tcoverage;\tcoverage.process_startup()\t\n",
    "indented": b"  " + LITERAL + b"\n\n\n",
    "commented": b"# mine\n" + LITERAL + b"  # for subprocesses\n",
    "byte order mark": b"\xef\xbb\xbf" + LITERAL + b"\n",
    "twice": LITERAL + b"\n" + LITERAL,
    "beside a directory": b"/opt/caf\xe9\n" + LITERAL + b"\n./lib",
    "beside an import": b"import sys; sys.beside = True\r\n" + LITERAL + b"\r\n",
    "our recipe for images": b"import os; os.getenv('COVERAGE_PROCESS_START') and "
    b"exec('import coverage; coverage.process_startup()')\n",
}


@pytest.mark.any_python
class TestTakingOver:
    """coverage.py's documented hook makes way for ours, and is put back byte for byte."""

    # In one process for all: each way to have the hook, and each way to be rid of it.
    WAYS = """
import os, pathlib, signal, stat, sys
from hcoverage._session import documented_hook as _documented_hook, hook as _hook
_hook.require_coverage = lambda: None
path = pathlib.Path(sys.argv[1], sys.argv[2])
content = bytes.fromhex(sys.argv[3])
def put():
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    path.chmod(0o640)
    os.utime(path, (1, 1))
def taken():
    assert _hook._OURS.encode() in path.read_bytes() != content, path.read_bytes()
def back():
    status = path.stat()
    assert path.read_bytes() == content, path.read_bytes()
    assert (stat.S_IMODE(status.st_mode), status.st_mtime) == (0o640, 1)
    left = {each.name for each in path.parent.iterdir()} - before
    assert left <= {"__pycache__", path.name, "coverage.pth"}, left
before = {each.name for each in path.parent.iterdir()}
def killed():
    child = os.fork()
    if not child:
        with _hook.held():
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    taken()
def injected():
    _hook.install()
    _hook.install()
    taken()
    _hook.remove()
def held():
    with _hook.held(), _hook.held():
        taken()
def held_after_a_kill():
    killed()
    held()
def removed_after_a_kill():
    killed()
    _hook.remove()
def injected_after_a_kill():
    killed()
    injected()
def killed_before_it_was_replaced():
    _documented_hook.keep(path)
    injected()
def removed_by_another_meanwhile():
    with _hook.held():
        path.unlink()
def held_while_injected():
    _hook.install()
    held()
    taken()
    _hook.remove()
for way in (injected, held, held_after_a_kill, removed_after_a_kill, injected_after_a_kill,
            killed_before_it_was_replaced, removed_by_another_meanwhile, held_while_injected):
    put()
    way()
    back()
"""

    @pytest.mark.thorough
    @pytest.mark.parametrize("written", DOCUMENTED.values(), ids=DOCUMENTED.keys())
    def test_in_each_way_it_may_be_written(self, venv: Venv, written: bytes) -> None:
        arguments = [str(venv.site_packages), "coverage.pth", written.hex()]
        done = python(venv, "-W", "error", "-c", self.WAYS, *arguments)
        assert (done.returncode, done.stderr) == (0, "")

    @pytest.mark.parametrize(
        "written", [b"coverage:process_startup\n", b"# a\r\n coverage:process_startup"]
    )
    def test_its_start_file_as_well_where_python_reads_those(
        self, venv: Venv, written: bytes
    ) -> None:
        since_now = "_hook._START_FILE_COUNTS_SINCE = (3,)\npath ="
        ways = self.WAYS.replace("path =", since_now, 1)
        done = python(venv, "-c", ways, str(venv.site_packages), "coverage.start", written.hex())
        assert (done.returncode, done.stderr) == (0, "")

    def test_a_start_file_of_somebody_else_is_not_overwritten(self, venv: Venv) -> None:
        theirs = venv.site_packages / "coverage.start"
        theirs.write_text("other:start\n")
        call(venv, "hcoverage.inject(); hcoverage.remove()")  # it does not count yet
        since_now = "from hcoverage._session import hook; hook._START_FILE_COUNTS_SINCE = (3,); "
        done = python(venv, "-c", since_now + inject_except("FileExistsError"))
        assert done.stderr.startswith("ForeignHookError: "), done.stderr
        assert theirs.read_text() == "other:start\n"

    def test_a_link_is_put_back_as_a_link(self, venv: Venv, tmp_path: Path) -> None:
        elsewhere = tmp_path / "elsewhere.pth"
        elsewhere.write_bytes(LITERAL)
        hook_of(venv).symlink_to(elsewhere)
        call(venv, "hcoverage.inject()")
        assert not hook_of(venv).is_symlink()
        call(venv, "hcoverage.remove()")
        assert hook_of(venv).readlink() == elsewhere
        assert elsewhere.read_bytes() == LITERAL

    def test_what_else_is_in_it_is_there_meanwhile(self, venv: Venv, tmp_path: Path) -> None:
        """A directory on sys.path, and another's `import` line, each as often as before."""
        hook_of(venv).write_bytes(
            f"{tmp_path}\n".encode()
            + LITERAL
            + b"\nimport sys; sys.beside = getattr(sys, 'beside', 0) + 1"
        )
        code = "import sys; print(sys.beside, sys.path)"
        before = python(venv, "-c", code).stdout
        assert str(tmp_path) in before
        call(venv, "hcoverage.inject()")
        assert python(venv, "-c", code).stdout == before

    def test_each_process_is_measured_once(self, venv: Venv, program: Path) -> None:
        hook_of(venv).write_bytes(LITERAL)
        call(venv, f"hcoverage.inject(); {system(venv.python, '-I', program)}")
        assert len(list(venv.path.glob(".coverage.*.pid*"))) == 1

    def test_in_several_directories_the_others_are_left_alone_and_not_told(
        self, venv: Venv, tmp_path: Path, program: Path
    ) -> None:
        user = with_user_site(venv, tmp_path)
        code = "import site; print(site.getusersitepackages())"
        own = Path(python(venv, "-c", code, **user).stdout.strip())
        own.mkdir(parents=True)
        for directory in (own, venv.site_packages):
            (directory / "coverage.pth").write_bytes(LITERAL)
        run = system(venv.python, program)
        done = python(
            venv,
            "-W",
            "error",
            "-c",
            f"import hcoverage, os; hcoverage.inject(); {run}; hcoverage.remove()",
            **user,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "hello\n", "")
        assert len(list(venv.path.glob(".coverage.*.pid*"))) == 1
        for directory in (own, venv.site_packages):
            assert (directory / "coverage.pth").read_bytes() == LITERAL

    def test_a_run_puts_it_back(self, venv: Venv, program: Path) -> None:
        hook_of(venv).write_bytes(LITERAL)
        done = python(venv, "-m", "hcov", "run", "--", str(venv.python), "-I", str(program))
        assert done.returncode == 0, done.stderr
        assert "program.py" in done.stdout
        assert "warning" not in done.stderr
        assert hook_of(venv).read_bytes() == LITERAL


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
        comment, line, end = hook.pth_text().split("\n")
        assert comment.startswith("#")
        assert line.startswith("import os; ")
        assert end == ""


@pytest.mark.thorough
class TestWherePthImportLinesAreSilent:
    """Python 3.18 and later (PEP 829): a .start file names what is run, and where it is."""

    SINCE_NOW = "from hcoverage._session import hook as _hook; _hook._START_FILE_SINCE = (3,); "

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


@pytest.mark.any_python
class TestHolding:
    """What `hcov run` does for its own length, alone and beside others."""

    HOLD = (
        "from hcoverage._session.hook import held\n"
        "with held(): print('held', flush=True); input()\n"
    )

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
