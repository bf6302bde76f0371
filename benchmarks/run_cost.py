"""What a run costs beside what it measures: one test of one line, as people run it all day.

The ways to run it take turns, so that whatever else the machine does falls on all of them. What
counts is processor time beyond pytest alone, of all processes that a run starts, those that outlive
it too. Promised is at most 1.3 times what `pytest --cov` takes for `pytest --hcov`, and 2.5 times
for `hcov run`. Give the number of rounds as argument.
"""

from __future__ import annotations

import ctypes
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

ROUNDS: Final = 15
PROMISED: Final = {"pytest --hcov": 1.3, "hcov run": 2.5}
_PR_SET_CHILD_SUBREAPER: Final = 36  # prctl.h

PYTEST: Final = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider")
WAYS: Final = {
    "pytest": PYTEST,
    "pytest --cov": (*PYTEST, "-p", "pytest_cov", "--cov"),
    "pytest --hcov": (*PYTEST, "-p", "hcov._pytest.plugin", "--hcov"),
    "hcov run": (sys.executable, "-m", "hcov", "run", "--", *PYTEST),
}


def cost(command: tuple[str, ...], environment: dict[str, str]) -> tuple[float, float]:
    """Run a command and all that comes of it to the end.

    Returns:
        The processor time of all of it, and how long the command itself took, in seconds.
    """
    began = time.perf_counter()
    pid = os.fork()
    if not pid:
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in range(3):
            os.dup2(nowhere, stream)
        os.execve(command[0], command, environment)  # noqa: S606 - its own processor time counts
    _, status, usage = os.wait4(pid, 0)
    took = time.perf_counter() - began
    if status:
        sys.exit(f"{command}: status {status}")
    used = usage.ru_utime + usage.ru_stime
    while True:
        try:
            _, _, usage = os.wait4(-1, 0)
        except ChildProcessError:
            return used, took
        used += usage.ru_utime + usage.ru_stime


def main() -> None:
    """Print medians; exit with 1 where a promise does not hold."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    if sys.platform == "linux":  # elsewhere those that outlive it are not counted
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    # It would have each run compile what pytest rewrites, and us.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    with tempfile.TemporaryDirectory() as project:
        os.chdir(project)
        Path("shop.py").write_text("def price():\n    return 1\n", encoding="utf-8")
        test = "import shop\n\ndef test_price():\n    assert shop.price() == 1\n"
        Path("test_shop.py").write_text(test, encoding="utf-8")
        for command in WAYS.values():
            cost(command, environment)  # what is made once is made
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in WAYS}
        for _ in range(rounds):
            for name, command in WAYS.items():
                times[name].append(cost(command, environment))
        os.chdir("/")
    used = {name: statistics.median(used for used, _ in found) for name, found in times.items()}
    took = {name: statistics.median(took for _, took in found) for name, found in times.items()}
    plain = used["pytest --cov"] - used["pytest"]
    kept = True
    for name in WAYS:
        more = used[name] - used["pytest"]
        promise = PROMISED.get(name)
        kept = kept and (promise is None or more <= plain * promise)
        promised = f", promised {promise}" if promise else ""
        print(
            f"{name:14} {used[name]:.3f} s of processor time, {took[name]:.3f} s; "
            f"{more:.3f} s more than pytest, {more / plain:.2f} times `--cov`{promised}"
        )
    print(f"the promises {'hold' if kept else 'FAIL'}")
    sys.exit(0 if kept else 1)


if __name__ == "__main__":
    main()
