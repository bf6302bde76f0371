"""A kill at every moment: after each system call of a measured process, what it ran is kept.

The kernel stops the process at each call (ptrace), and the n-th time it is killed, from when its
core begins to write. CI takes some of these points; all of them, in a quarter of an hour, with

    HCOVERAGE_CORPUS=full python -m pytest tests/inside/guest/test_kills.py
"""

from __future__ import annotations

import collections
import contextlib
import ctypes
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import coverage
import pytest
from tests.sampling import FULL

import hcoverage
from hcoverage._data_directory.names import data_files, process_of
from hcoverage._read.recording_files import read_files

if TYPE_CHECKING:
    from tests.inside.guest.conftest import Guests

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.skipif(sys.platform != "linux", reason="ptrace of Linux"),
    *([pytest.mark.timeout(0)] if FULL else []),
]
# Primes: as many points in CI, and others with each change of what we call.
CORES: Final = [
    pytest.param(
        *("guests", 1 if FULL else 23),
        marks=pytest.mark.skipif(sys.version_info < (3, 12), reason="needs sys.monitoring"),
        id="recorder",
    ),
    # Each call stops it twice, and this core makes four times as many.
    pytest.param("covered", 2 if FULL else 307, id="coverage"),
]
TRACE_ME: Final = 0
SYSTEM_CALL: Final = 24
MODULES: Final = 12
LAST_LINE: Final = 3
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


def run_until(point: int, guests: Guests) -> tuple[int, int, int, bool]:
    """Run the program and kill it when it has stopped so many times; each call stops it twice.

    Args:
        point: The number; 0 to kill it once its core has written a file.
        guests: The session that measures it.

    Returns:
        Its pid, how often it had stopped, how many modules it had imported, and whether it came to
        its end before that.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    out, into = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.dup2(into, 1)
            libc.ptrace(TRACE_ME, 0, 0, 0)
            os.execve(sys.executable, [sys.executable, "app.py"], guests.measured)  # noqa: S606
        finally:
            os._exit(127)
    os.close(into)
    stops = 0
    before = len(os.listdir(guests.data))  # noqa: PTH208
    _, status = os.waitpid(pid, 0)
    while os.WIFSTOPPED(status):
        if stops >= point if point else len(os.listdir(guests.data)) > before:  # noqa: PTH208
            os.kill(pid, signal.SIGKILL)
        else:
            stops += 1
            libc.ptrace(SYSTEM_CALL, pid, 0, 0)
        _, status = os.waitpid(pid, 0)
    with os.fdopen(out, "rb") as told:
        return pid, stops, len(told.read()), os.WIFEXITED(status)


def what_ran(guests: Guests) -> dict[int, set[str]]:
    """Return the names of the modules that each process is known to have imported."""
    ran: dict[int, set[str]] = collections.defaultdict(set)
    for each in read_files(guests.data.iterdir()).recordings:
        names = {Path(source.path).name for source in each.sources if LAST_LINE in source.lines}
        ran[each.process.pid] |= names
    for file in data_files(guests.data):
        with contextlib.closing(coverage.CoverageData(str(file))) as data:
            data.read()
            paths = [
                path for path in data.measured_files() if LAST_LINE in (data.lines(path) or ())
            ]
        process = process_of(file.name)
        assert process
        ran[process[1]] |= {Path(path).name for path in paths}
    return ran


@pytest.mark.parametrize(("session", "step"), CORES)
def test_a_kill_at_any_system_call_loses_nothing_that_ran(
    session: str, step: int, request: pytest.FixtureRequest
) -> None:
    guests: Guests = request.getfixturevalue(session)
    imported: dict[int, int] = {}
    point, has_ended = 0, False
    while not has_ended:
        pid, stops, count, has_ended = run_until(point, guests)
        imported[pid] = count
        point = stops + step
    assert max(imported.values()) == MODULES
    ran = what_ran(guests)
    lost = {
        pid: count
        for pid, count in imported.items()
        if not ran[pid] >= {f"m{number}.py" for number in range(count)}
    }
    assert lost == {}
    result = hcoverage.combine(
        [guests.data], coveragerc=guests.project / ".coveragerc", data_file=guests.data / "merged"
    )
    assert (result.set_aside, result.losses) == ((), ())
    print(len(imported), "points")  # noqa: T201
