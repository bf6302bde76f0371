"""What `--hcov-context=test` costs a suite of quick tests, beside pytest-cov's own contexts.

All ways to run it take turns, so that whatever else the machine does falls on each, and it is their
processor time that counts. Contexts are promised at 1.3 times the run without. Give the number of
rounds as argument.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

ROUNDS: Final = 5
PROMISE: Final = 1.3
TESTS: Final = 1000
FUNCTIONS: Final = 100
PYTEST: Final = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider")
COV: Final = ("--cov=.", "--cov-report=")
HCOV: Final = ("--hcov", "--hcov-report=")
OPTIONS: Final = {
    "plain": (),
    "pytest-cov": COV,
    "pytest-cov, contexts": (*COV, "--cov-context=test"),
    "hcov": HCOV,
    "hcov, contexts": (*HCOV, "--hcov-context=test"),
}


def write_project() -> None:
    """Write a module of many functions, and tests that call a few of them each, here."""
    functions = "def f{0}(x):\n    if x > {0}:\n        return x\n    return {0}\n"
    tests = "def test_{0}():\n    assert lib.f{1}({0}) == max({0}, {1})\n    lib.f{2}({0})\n"
    Path(".coveragerc").write_text("[run]\nparallel = True\n")
    Path("lib.py").write_text("".join(functions.format(n) for n in range(FUNCTIONS)))
    numbers = ((n, n % FUNCTIONS, 7 * n % FUNCTIONS) for n in range(TESTS))
    Path("test_lib.py").write_text("import lib\n" + "".join(tests.format(*n) for n in numbers))


def seconds(options: tuple[str, ...]) -> float:
    """Give the processor time of a run and what it starts."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([*PYTEST, *options], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Print medians; exit with 1 where the promise does not hold."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    with tempfile.TemporaryDirectory() as project:
        os.chdir(project)
        write_project()
        times = [[seconds(options) for options in OPTIONS.values()] for _ in range(rounds)]
        os.chdir("/")
    columns = zip(*times, strict=True)
    medians = dict(zip(OPTIONS, map(statistics.median, columns), strict=True))
    for name, median in medians.items():
        print(f"{name:22} {median:6.2f} s")
    ratio = medians["hcov, contexts"] / medians["hcov"]
    theirs = medians["pytest-cov, contexts"] / medians["pytest-cov"]
    kept = ratio <= PROMISE
    print(
        f"contexts: {ratio:.2f} times, pytest-cov's {theirs:.2f}; "
        f"the promise {'holds' if kept else 'FAILS'}"
    )
    sys.exit(0 if kept else 1)


if __name__ == "__main__":
    main()
