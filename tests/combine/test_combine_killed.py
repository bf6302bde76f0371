"""A combine that is killed, or is not alone, costs no data."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import pytest
from coverage import CoverageData

import hcoverage

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("clean_environment")

FILES: Final = 4
LATER: Final = 9  # a line that only a process that ends later runs

# Kills itself at the n-th thing that it has Python do with files; each time in a fork, and then
# combines again. Prints what the result has after each.
KILLED_EVERYWHERE: Final = """\
import json, os, shutil, signal, sys
from coverage import CoverageData
import hcoverage, hcoverage._read.data_file_batch, hcoverage._read.worker_pool
import hcoverage._result.merged

WATCHED = ("open", "os.", "sqlite3.", "shutil.", "tempfile.", "fcntl.")

def combine_until(event_number):
    count = 0
    def hook(event, arguments):
        nonlocal count
        if event.startswith(WATCHED):
            count += 1
            if count == event_number:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)
    hcoverage.combine(["data"])
    os._exit(0)

def lines():
    data = CoverageData(".coverage")
    data.read()
    found = sorted(data.lines("/x/a.py"))
    data.close()
    (origin,) = (origins := hcoverage.read_origins(".coverage")).names
    assert sorted(origins.ran(origin).by_file()["/x/a.py"]) == found
    return found

number, seen = 0, []
while True:
    number += 1
    shutil.rmtree("data", ignore_errors=True)
    shutil.copytree("kept", "data")
    if os.path.exists(".coverage"):
        os.unlink(".coverage")
    shutil.copy("before", ".coverage")
    child = os.fork()
    if child == 0:
        combine_until(number)
    _, status = os.waitpid(child, 0)
    if {twice} and os.WIFSIGNALED(status):
        child = os.fork()
        if child == 0:
            combine_until(number // 2 + 1)
        os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        hcoverage.combine(["data"])
        left = sorted(name for name in os.listdir(".") if name.startswith(".hcov"))
        seen.append([lines(), os.listdir("data"), left])
    else:
        assert status == 0
        break
print(json.dumps(seen))
"""
COMBINE: Final = "import hcoverage; hcoverage.combine(['data'])"


def data_file(path: Path, line: int) -> None:
    data = CoverageData(basename=str(path))
    data.add_lines({"/x/a.py": [line]})
    data.close(force=True)


def lines_in(path: Path) -> list[int]:
    data = CoverageData(basename=str(path))
    data.read()
    lines = sorted(data.lines("/x/a.py") or [])
    data.close(force=True)
    return lines


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.thorough
@pytest.mark.parametrize("twice", [False, True])
def test_killed_at_any_moment_a_second_run_gives_the_full_answer(
    project: Path,
    twice: bool,  # noqa: FBT001
) -> None:
    (project / "kept").mkdir()
    for number in range(FILES):
        data_file(project / "kept" / f".coverage.h.pid{number}.Xabcdefx", number + 1)
    data_file(project / "before", 100)
    program = KILLED_EVERYWHERE.replace("{twice}", str(twice))
    done = subprocess.run(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, check=True, text=True
    )
    seen = json.loads(done.stdout)
    # It has been killed before, between and after the steps that matter.
    assert len(seen) > 3 * FILES
    # What was there before this merge is replaced, as ever.
    assert seen == [[[1, 2, 3, 4], [], []]] * len(seen)


@pytest.mark.thorough
def test_many_at_once_lose_nothing(project: Path) -> None:
    (project / "data").mkdir()
    for number in range(60):
        data_file(project / "data" / f".coverage.h.pid{number}.Xabcdefx", number + 1)
    combines = [
        subprocess.Popen([sys.executable, "-c", COMBINE], stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    errors = [process.communicate()[1] for process in combines]
    # Those that come too late have nothing to do, and say so; nothing else goes wrong.
    told = [error for error in errors if error]
    assert all("NoDataError" in error for error in told)
    assert len(told) < len(combines)
    assert lines_in(project / ".coverage") == list(range(1, 61))
    assert os.listdir("data") == []  # noqa: PTH208
    assert list(project.glob(".hcov*")) == []


def test_what_another_wrote_while_this_one_waited_stays(project: Path) -> None:
    for name in ("data", "other"):
        (project / name).mkdir()
    data_file(project / "other" / ".coverage.h.pid1.Xabcdefx", 1)
    data_file(project / "data" / ".coverage.h.pid2.Xabcdefx", 2)
    from hcoverage._result.target import held

    with held(project / ".coverage") as target:
        waiting = subprocess.Popen(
            [sys.executable, "-c", f"print(flush=True); {COMBINE}"], stdout=subprocess.PIPE
        )
        assert waiting.stdout is not None
        waiting.stdout.readline()
        _wait_until_blocked(waiting.pid)
        data_file(target.result, 1)
        target.put_in_place()
    assert waiting.wait() == 0
    waiting.stdout.close()
    assert lines_in(project / ".coverage") == [1, 2]


def _wait_until_blocked(pid: int) -> None:
    """Wait until a process waits for a lock: the kernel lists it, with an arrow."""
    waiting = f"-> FLOCK  ADVISORY  WRITE {pid} "
    while True:
        with open("/proc/locks", encoding="ascii") as locks:  # noqa: PTH123
            if waiting in locks.read():
                return
        os.sched_yield()


def test_what_is_written_to_while_it_is_merged_stays(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "data").mkdir()
    file = project / "data" / ".coverage.h.pid1.Xabcdefx"
    data_file(file, 1)
    from hcoverage._result.merged import Merged

    write = Merged.write

    def write_late(self: Merged, path: Path) -> None:
        write(self, path)
        file.unlink()
        data_file(file, LATER)

    monkeypatch.setattr(Merged, "write", write_late)
    (item,) = hcoverage.combine(["data"]).set_aside
    assert item.path == file
    assert "--append" in item.reason
    monkeypatch.undo()
    hcoverage.combine([project / "data"], data_file=project / ".coverage", append=True)
    assert lines_in(project / ".coverage") == [1, LATER]


def test_appending_to_what_cannot_be_read_changes_nothing(project: Path) -> None:
    (project / "data").mkdir()
    file = project / "data" / ".coverage.h.pid1.Xabcdefx"
    data_file(file, 1)
    (project / ".coverage").write_text("precious")
    with pytest.raises(hcoverage.CombineError, match=r"cannot append to .*nothing was changed"):
        hcoverage.combine(["data"], append=True)
    assert file.exists()
    assert (project / ".coverage").read_text() == "precious"
