"""How long what people type takes to start: `hcov` and its commands, and `import hdocker`.

All take turns with `python -c 'import click'`, of which each command is promised to take at most
1.5 times, and importing a library 1.1 times. Give the number of rounds as argument.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from typing import Final

from hcov._cli.main import main as hcov

ROUNDS: Final = 15
MEASURE: Final = "import click"
LIBRARIES: Final = {"import hcoverage": 1.1, "import hdocker": 1.1}
COMMAND: Final = 1.5


def seconds(arguments: tuple[str, ...], environment: dict[str, str]) -> float:
    """Time a Python to its end."""
    before = time.perf_counter()
    subprocess.run(
        [sys.executable, *arguments],
        env=environment,
        check=False,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return time.perf_counter() - before


def main() -> None:
    """Print medians; exit with 1 where a promise does not hold."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    environment = dict(os.environ)
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    promises = dict.fromkeys([MEASURE], 1.0) | LIBRARIES
    starts: dict[str, tuple[str, ...]] = {name: ("-c", name) for name in promises}
    for name in ["", *hcov.list_commands(hcov.make_context("hcov", ["init"]))]:
        shown = f"hcov {name}".strip()
        promises[shown] = COMMAND
        starts[shown] = ("-m", "hcov", *name.split(), "--help")
    times: dict[str, list[float]] = {name: [] for name in starts}
    for turn in range(rounds + 1):
        for name, arguments in starts.items():
            took = seconds(arguments, environment)
            if turn:  # the first one compiles
                times[name].append(took)
    medians = {name: statistics.median(took) for name, took in times.items()}
    kept = True
    for name, promise in promises.items():
        ratio = medians[name] / medians[MEASURE]
        kept = kept and ratio <= promise
        print(f"{name:20} {medians[name] * 1000:6.1f} ms, {ratio:.2f} times (promised {promise})")
    print(f"the promises {'hold' if kept else 'FAIL'}")
    sys.exit(0 if kept else 1)


if __name__ == "__main__":
    main()
