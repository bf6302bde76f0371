"""What an installed hook costs a Python start that has nothing to measure; the promise is 1.03.

Three virtual environments, alike but for their hooks, start in turn, so that whatever else the
machine does falls on all of them: none, ours, and the same line without its guard. Give the number
of rounds as argument.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

import coverage

import hcoverage
from hcoverage._hook import pth_text

PROMISE = 1.03
ROUNDS = 200
UNGUARDED = "import coverage; coverage.process_startup()\n"


def make_venv(path: Path, hook: str | None) -> Path:
    """Make an environment with coverage.py in it and one hook, and give its Python."""
    venv.create(path, symlinks=True)
    (site_packages,) = path.glob("lib/python*/site-packages")
    shutil.copytree(Path(coverage.__file__).parent, site_packages / "coverage")
    if hook is not None:
        (site_packages / "coverage.pth").write_text(hook)
    return path / "bin" / "python"


def seconds(python: Path, environment: dict[str, str]) -> float:
    """Time one start that does nothing."""
    before = time.perf_counter()
    subprocess.run([python, "-c", "pass"], env=environment, check=True)
    return time.perf_counter() - before


def main() -> None:
    """Print medians and ratios; exit with 1 where the promise does not hold."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    environment = hcoverage.unmeasured_environment(os.environ)
    # As on a user's machine: bytecode is cached, which PYTHONDONTWRITEBYTECODE would prevent.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    hooks = {"no hook": None, "hook": pth_text(), "unguarded": UNGUARDED}
    with tempfile.TemporaryDirectory() as directory:
        pythons = {
            name: make_venv(Path(directory) / str(number), hook)
            for number, (name, hook) in enumerate(hooks.items())
        }
        times: dict[str, list[float]] = {name: [] for name in hooks}
        for _ in range(rounds):
            for name, python in pythons.items():
                times[name].append(seconds(python, environment))
    bare = statistics.median(times["no hook"])
    for name, measured in times.items():
        median = statistics.median(measured)
        print(f"{name:10} {1000 * median:7.2f} ms  {median / bare:5.3f}x")
    ratio = statistics.median(times["hook"]) / bare
    print(f"idle hook: {ratio:.3f}x, promised at most {PROMISE}x, {rounds} rounds")
    sys.exit(ratio > PROMISE)


if __name__ == "__main__":
    main()
