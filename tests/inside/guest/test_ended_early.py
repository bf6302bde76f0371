"""Processes ended as soon as they have worked: what they ran is kept, and the run is green.

CI takes a few of each; all of them, a thousand kills and fifty pools a row, in ten minutes, with

    HCOVERAGE_CORPUS=full python -m pytest tests/inside/guest/test_ended_early.py
"""

from __future__ import annotations

import contextlib
import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Final

import coverage
import pytest
from tests.sampling import FULL

KILLS: Final = 1000 if FULL else 12
POOLS: Final = 50 if FULL else 1
# A thousand of anything take longer than a test that hangs may.
pytestmark = [pytest.mark.timeout(0)] if FULL else []
# Core and branches; before 3.12 there is no recorder.
CORES: Final = [
    (core, branch)
    for core in ("recorder", "coverage")
    for branch in (False, True)
    if core == "coverage" or sys.version_info >= (3, 12)
]

STEPS: Final = 100
FIRST_STEP: Final = 6  # the line of its first write
CHILD: Final = (
    """\
import os, time
def work():
    end = time.perf_counter() + 0.001
    while time.perf_counter() < end:
        pass
os.write(1, b".")
"""
    + 'work(); os.write(1, b".")\n' * (STEPS - 1)
)
# Kills each second one in its first 100 ms, and the others in the first 100 ms of their own code.
KILLER: Final = """\
import random, subprocess, sys, threading, time
random.seed(sys.argv[1])
delays = [random.random() / 10 for _ in range(int(sys.argv[2]))]
told = []
def kill_each(numbers):
    for number in numbers:
        command = [sys.executable, f"child{number}.py"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        begun = process.stdout.read(1) if number % 2 else b""
        time.sleep(delays[number])
        process.kill()
        out, _ = process.communicate()
        told.append(f"{number} {len(begun + out)}")
kept_busy = [threading.Thread(target=kill_each, args=(range(n, len(delays), 4),)) for n in range(4)]
for thread in kept_busy:
    thread.start()
for thread in kept_busy:
    thread.join()
print("\\n".join(told))
"""
POOL: Final = """\
import multiprocessing, sys, time
def work(n):
    end = time.perf_counter() + 0.001
    while time.perf_counter() < end:
        pass
    return later(n)
def later(n):
    first = n
    return first + 1
if __name__ == "__main__":
    with multiprocessing.get_context(sys.argv[1]).Pool(4) as pool:
        pool.map(work, range(4))
"""
POOLER: Final = """\
import subprocess, sys
for name in sys.argv[1:]:
    method = "fork" if name.startswith("fork") else "spawn"
    print("ended", name, subprocess.call([sys.executable, name, method]))
"""
POOL_LINES: Final = frozenset({3, 4, 6, 8, 9})


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a run ended, and what it measured: its status, streams, the lines of each file."""

    status: int
    out: str
    err: str
    lines: dict[str, set[int]]


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clean_environment: None) -> Path:  # noqa: ARG001
    """A project; we are in it."""
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    return project


def run(core: str, branch: bool, *command: str) -> Outcome:  # noqa: FBT001
    Path(".coveragerc").write_text(f"[run]\nparallel = True\nsource = .\nbranch = {branch}\n")
    hcov = [sys.executable, "-m", "hcov", "run", f"--core={core}", "--no-containers", "--"]
    done = subprocess.run(
        [*hcov, sys.executable, *command], capture_output=True, text=True, check=False
    )
    lines: dict[str, set[int]] = {}
    if Path(".coverage").exists():
        with contextlib.closing(coverage.CoverageData(".coverage")) as data:
            data.read()
            lines = {Path(f).name: set(data.lines(f) or ()) for f in data.measured_files()}
    return Outcome(done.returncode, done.stdout, done.stderr, lines)


@pytest.mark.sampled
@pytest.mark.parametrize(("core", "branch"), CORES)
def test_a_kill_in_the_first_100_ms_loses_nothing_and_turns_nothing_red(
    core: str,
    branch: bool,  # noqa: FBT001
) -> None:
    for number in range(KILLS):
        Path(f"child{number}.py").write_text(CHILD)
    Path("killer.py").write_text(KILLER)
    outcome = run(core, branch, "killer.py", f"{core} {branch}", str(KILLS))
    assert (outcome.status, "not merged" in outcome.err) == (0, False), outcome.err
    told = [line.split() for line in outcome.out.splitlines() if line[:1].isdigit()]
    steps = {int(number): int(count) for number, count in told}
    assert len(steps) == KILLS
    lost = {
        number: count
        for number, count in steps.items()
        if not outcome.lines.get(f"child{number}.py", set())
        >= set(range(FIRST_STEP, FIRST_STEP + count))
    }
    assert lost == {}
    print(sum(map(bool, steps.values())), "of", KILLS, "had begun")  # noqa: T201


@pytest.mark.sampled
@pytest.mark.thorough
@pytest.mark.parametrize(("core", "branch"), CORES)
def test_workers_of_a_pool_that_is_ended_after_a_millisecond_lose_nothing(
    core: str,
    branch: bool,  # noqa: FBT001
) -> None:
    names = [f"{method}{number}.py" for number in range(POOLS) for method in ("fork", "spawn")]
    for name in names:
        Path(name).write_text(POOL)
    Path("pooler.py").write_text(POOLER)
    outcome = run(core, branch, "pooler.py", *names)
    assert outcome.status == 0, outcome.err
    lost = {name for name in names if not outcome.lines.get(name, set()) >= POOL_LINES}
    green = {name for name in names if f"ended {name} 0" in outcome.out.splitlines()}
    assert (lost, green) == (set(), set(names))
