"""Tasks that a library switches between are measured whole, ended or killed: greenlets, coroutines.

The report is coverage.py's of a program that ends by itself, with the `concurrency` that it needs.
CI takes so many rows that each two values meet; all of them with HCOVERAGE_CORPUS=full.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from tests.forks import forked, hcov

if TYPE_CHECKING:
    from tests.conftest import KeepPackages

pytestmark = pytest.mark.index

# In each, tasks are switched between in the middle of a loop, an exception goes out of one, and the
# last one ends the process where it is to be killed.
BEGIN: Final = """\
import os, signal
def end():
    "killed" in __file__ and os.kill(os.getpid(), signal.SIGKILL)
def shared(n):
    return n if n % 2 else -n
"""
GREENLETS: Final = """\
def count(n):
    total = 0
    for each in range(n):
        if each % 3:
            pause(0)
        total += shared(each)
    return total
def fails():
    try:
        pause(0)
        raise KeyError(1)
    finally:
        count(2)
def never():
    return shared(2)
def main():
    tasks = [spawn(count, n) for n in (1, 4, 9)]
    failing = spawn(fails)
    print([wait(each) for each in tasks])
    try:
        wait(failing)
    except KeyError as error:
        print(repr(error))
    wait(spawn(end))
main()
"""
COROUTINES: Final = """\
async def numbers(n):
    for each in range(n):
        await pause()
        yield each
async def count(n, totals):
    total = 0
    async for each in numbers(n):
        if each % 3:
            await pause()
        total += shared(each)
    totals.append(total)
async def fails():
    try:
        await pause()
        raise KeyError(1)
    finally:
        await pause()
async def main():
    totals = []
    try:
        async with group() as tasks:
            for n in (1, 4, 9):
                start(tasks, count, n, totals)
            start(tasks, in_thread)
        async with group() as tasks:
            start(tasks, fails)
            start(tasks, count, 2000, totals)
    except* KeyError as error:
        print(error.exceptions)
    print(totals)
    async with group() as tasks:
        start(tasks, ends)
async def ends():
    await pause()
    end()
async def in_thread():
    print(await thread(shared, 3))
"""
OF_A_LIBRARY: Final = """\
def start(tasks, function, *arguments):
    tasks.start_soon(function, *arguments)
"""
PROGRAMS: Final[dict[str, dict[str, str]]] = {
    "gevent": {
        "gevent": "import gevent.monkey\ngevent.monkey.patch_all()\n"
        "from gevent import sleep as pause, spawn\ndef wait(task):\n    return task.get()\n"
        + GREENLETS,
    },
    "eventlet": {
        "eventlet": "import eventlet\neventlet.monkey_patch()\n"
        "from eventlet import sleep as pause, spawn\ndef wait(task):\n    return task.wait()\n"
        + GREENLETS,
    },
    "thread": {
        "trio": "import trio\npause = trio.lowlevel.checkpoint\ngroup = trio.open_nursery\n"
        f"thread = trio.to_thread.run_sync\n{OF_A_LIBRARY}{COROUTINES}trio.run(main)\n",
        "anyio": "import anyio, anyio.to_thread\npause = anyio.lowlevel.checkpoint\n"
        "group = anyio.create_task_group\nthread = anyio.to_thread.run_sync\n"
        f"{OF_A_LIBRARY}{COROUTINES}anyio.run(main)\n",
        "uvloop": "import asyncio, uvloop\ngroup, thread = asyncio.TaskGroup, asyncio.to_thread\n"
        "def pause():\n    return asyncio.sleep(0)\n"
        "def start(tasks, function, *arguments):\n    tasks.create_task(function(*arguments))\n"
        f"{COROUTINES}uvloop.run(main())\n",
    },
}
REQUIREMENTS: Final = (
    "gevent==26.9.0",
    "eventlet==0.41.3",
    "trio==0.35.0",
    "anyio==4.16.0",
    "uvloop==0.23.0",
)
DRIVER: Final = """\
import subprocess, sys
for name in sys.argv[1:]:
    print(name, subprocess.run([sys.executable, "-uWignore", name]).returncode, flush=True)
"""


@pytest.fixture
def project(
    keep_packages: KeepPackages,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    clean_environment: None,  # noqa: ARG001
) -> Path:
    """An empty project whose Pythons have the libraries; we are in it."""
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    monkeypatch.setenv("PYTHONPATH", str(keep_packages(*REQUIREMENTS)))
    return project


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-uWignore", *command], capture_output=True, text=True, check=False
    )


def report() -> dict[str, Any]:
    files: dict[str, Any] = json.loads(forked("coverage", "json", "-q", "-o", "-").stdout)
    return files["files"]  # type: ignore[no-any-return]


@pytest.mark.sampled(2)
@pytest.mark.parametrize("branch", [False, True], ids=["lines", "branches"])
@pytest.mark.parametrize("concurrency", PROGRAMS)
@pytest.mark.parametrize("core", ["auto", "coverage"])
@pytest.mark.usefixtures("project")
def test_tasks_are_measured_whole(core: str, concurrency: str, branch: bool) -> None:  # noqa: FBT001
    programs = PROGRAMS[concurrency]
    Path("driver.py").write_text(DRIVER)
    for name, text in programs.items():
        for how in ("ended", "killed"):
            Path(f"{name}_{how}.py").write_text(BEGIN + text)
    Path(".coveragerc").write_text(
        f"[run]\nbranch = {branch}\nconcurrency = {concurrency}\ninclude = *_ended.py,*_killed.py\n"
    )
    out = {}
    for name in programs:
        done = run("-m", "coverage", "run", "--append", f"{name}_ended.py")
        assert done.returncode == 0, done.stderr
        out[name] = done.stdout
    expected = report()
    Path(".coverage").unlink()

    endings = [f"{name}_{how}.py" for how in ("ended", "killed") for name in programs]
    options = ["run", f"--core={core}", "--no-containers", "--format=total", "--"]
    measured = hcov(*options, sys.executable, "driver.py", *endings)
    assert measured.returncode == 0, measured.stderr
    assert measured.stdout.startswith(
        "".join(f"{out[name]}{name}_ended.py 0\n" for name in programs)
        + "".join(f"{out[name]}{name}_killed.py -9\n" for name in programs)
    )
    reported = report()
    for name in programs:
        assert reported[f"{name}_ended.py"] == expected[f"{name}_ended.py"]
        assert reported[f"{name}_killed.py"] == expected[f"{name}_ended.py"]
    assert len(reported) == 2 * len(expected) == 2 * len(programs)
