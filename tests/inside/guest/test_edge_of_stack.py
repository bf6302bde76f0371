"""A program that runs out of stack gets its own RecursionError, and nothing of ours with it.

Where there is no room for a frame more, no callback can be entered: the interpreter then raises the
error itself, one frame further out. Nothing else may differ.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Final, TypeAlias

import pytest

import hcoverage

pytestmark = [
    pytest.mark.skipif(sys.version_info < (3, 12), reason="needs sys.monitoring"),
    pytest.mark.usefixtures("clean_environment"),
]

# Each function ends in a RecursionError, at a depth that its way of calling decides.
PROGRAM: Final = """\
import contextlib, json, sys, threading
sys.setrecursionlimit(200)

def plain():
    plain()

def one(): other()
def other(): one()

def with_file():
    with open("/dev/null"):
        with_file()

@contextlib.contextmanager
def manager():
    yield

def with_manager():
    with manager():
        with_manager()

def endless():
    yield from endless()

def generator():
    list(endless())

def comprehension():
    [comprehension() for _ in range(1)]

class Deeper:
    def __getattr__(self, name):
        return getattr(self, name + "x")
    def __len__(self):
        return len(self)

def attribute():
    Deeper().x

def length():
    len(Deeper())

def in_a_branch(number=0):
    if number >= 0:
        return in_a_branch(number + 1)
    return number

def in_a_thread():
    caught = []
    def run():
        try:
            plain()
        except RecursionError as error:
            caught.append(error)
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    raise caught[0]

def frames(error):
    trace = error.__traceback__
    while trace is not None:
        yield trace.tb_frame.f_code.co_filename
        trace = trace.tb_next

def chain(error):
    while error is not None:
        files = list(frames(error))
        ours = any("/_hcoverage" in file for file in files)
        yield type(error).__name__, str(error), len(files), ours
        error = error.__cause__ or error.__context__

WAYS = (plain, one, with_file, with_manager, generator, comprehension)
WAYS += (attribute, length, in_a_branch, in_a_thread)
told = {}
for way in (*WAYS, *WAYS):
    try:
        way()
    except RecursionError as error:
        told.setdefault(way.__name__, []).extend(chain(error))
print("told", json.dumps(told))
"""
Told: TypeAlias = dict[str, list[tuple[str, str, int, bool]]]


def told_by(*command: str) -> Told:
    done = subprocess.run(
        [*command, sys.executable, "program.py"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    line = next(line for line in done.stdout.splitlines() if line.startswith("told "))
    found: Told = json.loads(line.removeprefix("told "))
    return found


@pytest.mark.parametrize("branch", [False, True])
@pytest.mark.parametrize("context", ["", "someone"])
def test_its_error_is_alone_and_of_its_own_frames(
    branch: bool,  # noqa: FBT001 - one of several values
    context: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("program.py").write_text(PROGRAM)
    Path(".coveragerc").write_text(f"[run]\nbranch = {branch}\ncontext = {context}\n")
    os.environ.update(hcoverage.unmeasured_environment(os.environ))
    bare = told_by()
    measured = told_by(sys.executable, "-m", "hcov", "run", "--quiet", "--")
    assert {way: len(errors) for way, errors in bare.items()} == dict.fromkeys(bare, 2)
    for way, errors in bare.items():
        found = measured[way]
        assert [error[:2] for error in found] == [error[:2] for error in errors], way
        assert not any(ours for *_, ours in found), way
        # One frame for the callback that has no room, two where its code is being made.
        deficits = [error[2] - other[2] for error, other in zip(errors, found, strict=True)]
        assert all(0 <= missing <= 2 for missing in deficits), (way, deficits)
