"""A kill at every moment: after each system call of a measured process, what it ran is kept.

The kernel stops the process at each call (ptrace), and the n-th time it is killed. CI takes some of
these points; all of them, about a thousand in three minutes, with

    HCOVERAGE_CORPUS=full python -m pytest tests/inside/guest/test_kills.py
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from tests.sampling import FULL

import hcoverage
from hcoverage._read.recording_files import read_files

if TYPE_CHECKING:
    from tests.inside.guest.conftest import Guests

pytestmark = [
    pytest.mark.skipif(sys.version_info < (3, 12), reason="needs sys.monitoring"),
    pytest.mark.skipif(sys.platform != "linux", reason="ptrace of Linux"),
]

# A prime: as many points in CI, and others with each change of what we call.
STEP: Final = 1 if FULL else 23
TRACE_ME: Final = 0
SYSTEM_CALL: Final = 24
MODULES: Final = 12
# Enough lines that the first file has no room for all modules.
MODULE: Final = "def f():\n    return 1\nx = f()\n" + "# as long as lines are\n" * 300
APP: Final = f"""\
import os
for number in range({MODULES}):
    __import__(f"m{{number}}")
    os.write(1, b".")
if os.fork():
    os.wait()
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The program and its modules, older than the run."""
    project = tmp_path / "project"
    project.mkdir()
    (project / "app.py").write_text(APP)
    for number in range(MODULES):
        (project / f"m{number}.py").write_text(MODULE)
    return project


def run_until(point: int, environment: dict[str, str]) -> tuple[int, int, bool]:
    """Run the program and kill it when it has stopped so many times; each call stops it twice.

    Returns:
        Its pid, how many modules it had imported, and whether it came to its end before that.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    out, into = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.dup2(into, 1)
            libc.ptrace(TRACE_ME, 0, 0, 0)
            os.execve(sys.executable, [sys.executable, "app.py"], environment)  # noqa: S606
        finally:
            os._exit(127)
    os.close(into)
    stops = 0
    _, status = os.waitpid(pid, 0)
    while os.WIFSTOPPED(status) and stops < point:
        stops += 1
        libc.ptrace(SYSTEM_CALL, pid, 0, 0)
        _, status = os.waitpid(pid, 0)
    has_ended = not os.WIFSTOPPED(status)
    if not has_ended:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    with os.fdopen(out, "rb") as told:
        return pid, len(told.read()), has_ended


@pytest.mark.thorough
def test_a_kill_at_any_system_call_loses_nothing_that_ran(guests: Guests) -> None:
    imported: dict[int, int] = {}
    point, has_ended = 1, False
    while not has_ended:
        pid, count, has_ended = run_until(point, guests.measured)
        imported[pid] = count
        point += STEP
    assert max(imported.values()) == MODULES
    found = read_files(guests.data.iterdir())
    assert {each.reason for each in found.unreadable} <= {"empty"}
    ran = {
        each.process.pid: {Path(source.path).name for source in each.sources if 3 in source.lines}
        for each in found.recordings
        if not each.process.forked_from
    }
    lost = {
        pid: count
        for pid, count in imported.items()
        if not ran.get(pid, set()) >= {f"m{number}.py" for number in range(count)}
    }
    assert lost == {}
    result = hcoverage.combine(
        [guests.data], coveragerc=guests.project / ".coveragerc", data_file=guests.data / "merged"
    )
    assert result.set_aside == ()
    print(len(imported), "points")  # noqa: T201
