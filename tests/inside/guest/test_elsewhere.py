"""Without what Linux alone has, as on macOS, the promises hold, but for those that the docs except.

`dev/elsewhere.py` takes it away from each Python of an environment; here /proc is hidden as well.
`dev/test-elsewhere` runs any other tests like that.
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import coverage
import pytest
from tests.sampling import FULL

if TYPE_CHECKING:
    from tests.conftest import MakeVenv, Venv

HIDES_PROC: Final = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /proc; exec "$0" "$@"')
ELSEWHERE: Final = Path(__file__).parents[3] / "dev" / "elsewhere.py"
CORES: Final = ["recorder", "coverage"] if sys.version_info >= (3, 12) else ["coverage"]

# Run once for each way, under a name of its own, with the way and the interpreter's options.
APP: Final = """\
import multiprocessing, os, signal, subprocess, sys, threading
def child():
    subprocess.run([sys.executable, *sys.argv[2:], sys.argv[0], "end"], check=True)
def emptied():
    subprocess.run([sys.executable, *sys.argv[2:], sys.argv[0], "child"], check=True, env={})
def replaced():
    os.execve(sys.executable, [sys.executable, sys.argv[0], "end"], {})
def end():
    print("ended", flush=True)
def forks():
    if not os.fork():
        in_fork()
        os._exit(3)
    os.wait()
def in_fork():
    print("forked", flush=True)
def kills():
    subprocess.run([sys.executable, sys.argv[0], "killed"])
def killed():
    os.kill(os.getpid(), signal.SIGKILL)
def pool():
    with multiprocessing.Pool(2) as pool:
        print(pool.map(in_pool, [1, 2]), multiprocessing.get_start_method(), flush=True)
def in_pool(n):
    return n + 1
def thread():
    thread = threading.Thread(target=in_thread)
    thread.start()
    thread.join()
def in_thread():
    print("threaded", flush=True)
if __name__ == "__main__":
    globals()[sys.argv[1]]()
"""
# What is run, and the functions that run by then to their ends.
WAYS: Final[dict[str, tuple[str, set[str]]]] = {
    "itself.py": ("end", {"end"}),
    "child.py": ("child", {"child", "end"}),
    "isolated.py": ("child -I", {"child", "end"}),
    "ignoring.py": ("child -E", {"child", "end"}),
    "emptied.py": ("emptied", {"emptied", "child", "end"}),
    "emptied_isolated.py": ("emptied -I", {"emptied", "child", "end"}),
    "replaced.py": ("replaced", {"replaced", "end"}),
    "forks.py": ("forks", {"forks", "in_fork"}),
    "kills.py": ("kills", {"kills", "killed"}),
    "pool.py": ("pool", {"pool", "in_pool"}),
    "thread.py": ("thread", {"thread", "in_thread"}),
}
# A process costs the coverage core four times as much: for it, the ways that have others in them.
FEWER: Final = ("emptied_isolated.py", "replaced.py", "forks.py", "kills.py", "pool.py")
DRIVER: Final = """\
import subprocess, sys
for command in sys.argv[1:]:
    print(command, subprocess.run([sys.executable, *command.split()]).returncode, flush=True)
"""


@pytest.fixture
def elsewhere(make_venv: MakeVenv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Venv:
    """An environment whose Pythons are elsewhere; we are in a project."""
    if subprocess.run([*HIDES_PROC, "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs root, for a mount")
    venv = make_venv("elsewhere", with_pytest=True)
    shutil.copy(ELSEWHERE, venv.site_packages / "elsewhere.py")
    (venv.site_packages / "0_elsewhere.pth").write_text("import elsewhere\n")
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    Path(".coveragerc").write_text("[run]\nparallel = True\nsource = .\n")
    for name in WAYS:
        Path(name).write_text(APP)
    Path("driver.py").write_text(DRIVER)
    return venv


def run(venv: Venv, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:  # noqa: ANN401
    return subprocess.run(
        [*HIDES_PROC, str(venv.python), *arguments],
        capture_output=True,
        text=True,
        check=False,
        **options,
    )


def functions_that_ran() -> dict[str, set[str]]:
    """Give the functions of each file of which the last line ran."""
    functions = [node for node in ast.parse(APP).body if isinstance(node, ast.FunctionDef)]
    with contextlib.closing(coverage.CoverageData(".coverage")) as data:
        data.read()
        ran = {Path(name).name: set(data.lines(name) or ()) for name in data.measured_files()}
    return {
        name: {each.name for each in functions if each.end_lineno in lines}
        for name, lines in ran.items()
    }


@pytest.mark.thorough
@pytest.mark.parametrize("core", CORES)
def test_each_process_is_measured(elsewhere: Venv, core: str) -> None:
    names = WAYS if FULL or core == "recorder" else FEWER
    ways = {name: WAYS[name] for name in names}
    command = ["driver.py", *(f"{name} {arguments}" for name, (arguments, _) in ways.items())]
    bare = run(elsewhere, *command)
    hcov = ["-m", "hcov", "run", f"--core={core}", "--no-containers", "--"]
    measured = run(elsewhere, *hcov, str(elsewhere.python), *command)
    assert measured.returncode == bare.returncode == 0, measured.stderr
    assert measured.stdout.startswith(bare.stdout)
    assert "not measured" not in measured.stderr
    ran = functions_that_ran()
    assert {name: ran[name] for name in ways} == {name: ended for name, (_, ended) in ways.items()}


@pytest.mark.thorough
@pytest.mark.usefixtures("clean_environment")
@pytest.mark.parametrize("options", [["--hcov"], ["--hcov", "--hcov-context=test"]])
def test_pytest_measures_itself_and_its_children(elsewhere: Venv, options: list[str]) -> None:
    Path("test_it.py").write_text(
        "import subprocess, sys\n"
        "def test_it():\n"
        "    subprocess.run([sys.executable, 'child.py', 'child'], check=True)\n"
    )
    done = run(elsewhere, "-m", "pytest", "-p", "no:cacheprovider", *options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert functions_that_ran()["child.py"] == {"child", "end"}


def test_a_command_gets_the_signals_that_its_runner_gets(elsewhere: Venv) -> None:
    Path("waits.py").write_text(
        "import signal, sys\n"
        "def end(*_):\n"
        "    sys.exit(7)\n"
        "signal.signal(signal.SIGINT, end)\n"
        "print('up', flush=True)\n"
        "signal.pause()\n"
    )
    hcov = [str(elsewhere.python), "-m", "hcov", "run", "--no-containers", "--"]
    with subprocess.Popen(
        [*HIDES_PROC, *hcov, str(elsewhere.python), "waits.py"],
        stdout=subprocess.PIPE,
        preexec_fn=lambda: os.close(0),  # noqa: PLW1509 - one thread here
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        process.send_signal(signal.SIGINT)
        process.stdout.read()
    assert process.returncode == 7


@pytest.mark.thorough
def test_the_doctor_proves_each_way(elsewhere: Venv) -> None:
    done = run(elsewhere, "-m", "hcov", "doctor", "--json")
    findings = json.loads(done.stdout)["findings"]
    (subject,) = {each["subject"] for each in findings if str(elsewhere.python) in each["subject"]}
    ways = {"subprocess", "python -I", "empty environment", "killed"}
    proven = {each["check"]: each for each in findings if each["subject"] == subject}
    assert {proven[way]["status"] for way in ways} == {"ok"}, proven
