"""A module that Cython compiled with line tracing runs measured as it runs bare.

Cython tells of code that is not the interpreter's, of which no frame runs, in ways that differ from
version to version of Cython and of Python. Built once and kept; that takes a C compiler. CI has
each version, and lines and branches, once; all rows by HCOVERAGE_CORPUS=full.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from tests.forks import forked

if TYPE_CHECKING:
    from tests.conftest import KeepPackages

COMPILER: Final = shutil.which("cc")
pytestmark = [
    pytest.mark.index,
    pytest.mark.thorough,
    pytest.mark.skipif(COMPILER is None, reason="needs a C compiler"),
]

VERSIONS: Final = ("3.1.1", "3.3.1")  # the first refuses to be instrumented, the second accepts it
FAST: Final = """\
# cython: linetrace=True, profile=True, language_level=3
def total(numbers):
    result = 0
    for number in numbers:
        if number > 2:
            result += number
        else:
            result -= 1
    return result

cdef int twice(int n) noexcept nogil:
    if n > 100:
        return 0
    return n * 2

def doubled(int n):
    cdef int found
    with nogil:
        found = twice(n)
    return found

class Kept:
    def __init__(self, n):
        self.n = n

    def get(self):
        try:
            return self.n.missing
        except AttributeError:
            return 1

def count(n):
    for i in range(n):
        yield i

def unused():
    return 3
"""
IN_PYTHON: Final = (
    FAST.replace("cdef int twice(int n) noexcept nogil:", "def twice(n):")
    .replace("int n", "n")
    .replace("cdef int found", "pass")
    .replace("with nogil:", "if n:")
)
# Its third line never runs, and that of `FAST` does.
PLAIN: Final = """\
def largest(fast):
    if fast.total([]):
        return None
    return max([3, 1], key=fast.doubled)
"""
APP: Final = """\
import os, sys, threading
from pkg import fast, plain
def work():
    print(fast.total([1, 2, 3, 4]), fast.doubled(4), fast.Kept(2).get(), [*fast.count(3)])
    print(plain.largest(fast), flush=True)
if __name__ == "__main__":
    work()
    pid = os.fork()
    if not pid:  # pragma: no cover
        work()
        os._exit(3)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    sys.exit(4)
"""
TESTS: Final = "import app\ndef test_one():\n    app.work()\ndef test_two():\n    app.work()\n"
HCOV: Final = (sys.executable, "-m", "hcov", "run", "--no-containers", "--format=total")
PLUGIN: Final = "plugins = Cython.Coverage\n"


@pytest.fixture
def project(
    request: pytest.FixtureRequest,
    keep_packages: KeepPackages,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    clean_environment: None,  # noqa: ARG001
) -> Path:
    """A project with a module that a version of Cython compiled; we are in it."""
    cython = keep_packages(f"cython=={request.param}")
    built = compiled(cython)
    project = tmp_path / "project"
    shutil.copytree(built / "pkg", project / "pkg")
    lay_out(project)
    monkeypatch.chdir(project)
    monkeypatch.setenv("PYTHONPATH", str(cython))  # the plugin
    return project


def lay_out(project: Path) -> None:
    (project / "pkg" / "__init__.py").touch()
    (project / "pkg" / "plain.py").write_text(PLAIN)
    (project / "app.py").write_text(APP)
    (project / "test_app.py").write_text(TESTS)


def compiled(cython: Path) -> Path:
    """Give the directory of what a version of Cython compiled."""
    built = cython / "built"
    with Path(f"{cython}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not built.exists():
            with tempfile.TemporaryDirectory(dir=cython) as scratch:
                build(cython, Path(scratch, "built"))
                Path(scratch, "built").rename(built)
    return built


def build(library: Path, directory: Path) -> None:
    source = directory / "pkg" / "fast.pyx"
    source.parent.mkdir(parents=True)
    source.write_text(FAST)
    environment = {**os.environ, "PYTHONPATH": str(library)}
    # Where it is compiled from is where the plugin looks for it.
    cython = [sys.executable, "-m", "cython", "-3", "pkg/fast.pyx"]
    subprocess.run(cython, cwd=directory, env=environment, check=True)
    options = ["-O0", "-shared", "-fPIC", "-DCYTHON_TRACE=1", "-DCYTHON_TRACE_NOGIL=1"]
    include = f"-I{sysconfig.get_path('include')}"
    extension = f"pkg/fast{sysconfig.get_config_var('EXT_SUFFIX')}"
    compiler = [f"{COMPILER}", *options, include, "pkg/fast.c", "-o", extension]
    subprocess.run(compiler, cwd=directory, check=True)


def ended(*before: str) -> tuple[str, str, str]:
    """Run the program, measured by what stands before it; give its status, and both streams."""
    command = shlex.join([sys.executable, "-W", "ignore", "app.py"])
    shell = ["sh", "-c", f"{command} >out 2>err; echo $? >status"]
    done = subprocess.run([*before, *shell], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return Path("status").read_text(), Path("out").read_text(), Path("err").read_text()


def write_rcfile(more: str, branch: bool) -> None:  # noqa: FBT001
    Path(".coveragerc").write_text(
        f"[run]\nsource = .\nbranch = {branch}\n{more}[report]\nignore_errors = True\n"
    )


def report() -> dict[str, Any]:
    """Give the report of each file."""
    done = forked("coverage", "json", "-q", "-o", "-")
    Path(".coverage").unlink()
    files: dict[str, Any] = json.loads(done.stdout)["files"]
    return files


def by_coverage(*command: str) -> dict[str, Any]:
    coverage = [sys.executable, "-W", "ignore", "-m", "coverage", "run", *command]
    subprocess.run(coverage, capture_output=True, check=False)
    return report()


@pytest.fixture(params=[False, True], ids=["lines", "branches"])
def branch(request: pytest.FixtureRequest) -> bool:
    """Whether branches are measured."""
    return bool(request.param)


@pytest.fixture
def in_python(tmp_path: Path, branch: bool) -> dict[str, Any]:  # noqa: FBT001
    """What is reported of the other files where the module is in Python."""
    uncompiled = tmp_path / "uncompiled"
    (uncompiled / "pkg").mkdir(parents=True)
    lay_out(uncompiled)
    (uncompiled / "pkg" / "fast.py").write_text(IN_PYTHON)
    with contextlib.chdir(uncompiled):
        write_rcfile("", branch)
        return without_module(by_coverage("app.py"))


def without_module(files: dict[str, Any]) -> dict[str, Any]:
    return {name: each for name, each in files.items() if not name.startswith("pkg/fast.")}


@pytest.mark.sampled
@pytest.mark.parametrize("project", VERSIONS[-1:], indirect=True)
@pytest.mark.parametrize("plugin", [PLUGIN, ""], ids=["plugin", "alone"])
def test_measured_by_coverage_it_is_reported_as_without_us(
    project: Path,  # noqa: ARG001
    branch: bool,  # noqa: FBT001
    plugin: str,
    in_python: dict[str, Any],
) -> None:
    write_rcfile(plugin, branch)
    expected = by_coverage("app.py")
    # On Python 3.13 coverage.py takes lines of what Cython compiled for the caller's.
    assert sys.version_info >= (3, 13) or without_module(expected) == in_python
    assert ended(*HCOV, "--core=coverage", "--") == ended()
    assert report() == expected


@pytest.mark.sampled
@pytest.mark.skipif(sys.version_info < (3, 12), reason="needs sys.monitoring")
@pytest.mark.parametrize("project", VERSIONS, indirect=True)
def test_recorded_it_is_no_part_of_the_report(
    project: Path,  # noqa: ARG001
    branch: bool,  # noqa: FBT001
    in_python: dict[str, Any],
) -> None:
    write_rcfile("", branch)
    assert ended(*HCOV, "--core=recorder", "--") == ended()
    assert report() == in_python


@pytest.mark.sampled
@pytest.mark.skipif(sys.version_info < (3, 12), reason="needs sys.monitoring")
@pytest.mark.parametrize("project", VERSIONS, indirect=True)
def test_with_contexts_tests_pass_as_without_us(
    project: Path,  # noqa: ARG001
    branch: bool,  # noqa: FBT001
) -> None:
    write_rcfile("", branch)
    done = forked("pytest", "-q", "--hcov", "--hcov-context=test")
    assert done.returncode == 0, done.stdout + done.stderr
    files = report()
    assert files["pkg/plain.py"]["missing_lines"] == [3]
    assert files["test_app.py"]["missing_lines"] == []
    assert "pkg/fast.pyx" not in files
