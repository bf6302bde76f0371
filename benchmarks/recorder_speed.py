"""What the recorder costs, beside a bare interpreter and beside coverage.py.

    python benchmarks/recorder_speed.py [--runs N] [--package sympy] [startup loop import ...]

Runs are interleaved, so that a busy machine slows all three alike; medians of wall-clock and of
processor time are told with their ratio to bare. The interpreter that runs this runs everything; it
needs coverage.py installed.
"""

from __future__ import annotations

import argparse
import compileall
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

RECORDER = Path(__file__).resolve().parent.parent / "src" / "hcoverage" / "_recorder.py"

LOOP = """\
def work(n):
    total = 0
    for i in range(n):
        if i % 3 == 0:
            total += i
        else:
            total -= 1
    return total
work(3_000_000)
"""

SUITE = """\
import subprocess, sys
for number in range({count}):
    code = f"import module; module.work({{number}})"
    subprocess.run([sys.executable, "-c", code], check=True)
"""

MODULE = "def work(n):\n    if n % 2:\n        return n\n    return 0\n"


class Setup:
    """Programs to run, and the three environments to run them in."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.data = root / "data"
        self.data.mkdir()
        (root / "rcfile").write_text(f"[run]\nparallel = true\ndata_file = {self.data}/.coverage\n")
        # As installed: compiled, so that a read-only file system or `-B` costs nothing more.
        site = root / "site"
        site.mkdir()
        shutil.copy(RECORDER, site / "hcrecorder.py")
        (site / "sitecustomize.py").write_text("import hcrecorder\nhcrecorder.start()\n")
        compileall.compile_dir(site, quiet=1)
        names = ("COVERAGE", "COV_", "HCOVERAGE", "PYTHON")
        bare = {k: v for k, v in os.environ.items() if not k.startswith(names)}
        self.environments = {
            "bare": bare,
            "recorder": {
                **bare,
                "PYTHONPATH": str(site),
                "HCOVERAGE_RECORD": str(self.data),
                "HCOVERAGE_RECORD_SKIP": os.pathsep.join(("stdlib", "site-packages", str(site))),
            },
            "coverage": {**bare, "COVERAGE_PROCESS_START": str(root / "rcfile")},
        }

    def write(self, name: str, source: str) -> Path:
        """Write a program."""
        file = self.root / name
        file.write_text(source)
        return file

    def clear(self) -> None:
        """Empty the data directory."""
        for file in self.data.iterdir():
            file.unlink()


def measure(command: list[str], setup: Setup, runs: int) -> dict[str, tuple[float, float]]:
    """Run a command in the three environments by turns.

    Returns:
        For each environment the median of wall-clock and of processor seconds.
    """
    wall: dict[str, list[float]] = {name: [] for name in setup.environments}
    processor: dict[str, list[float]] = {name: [] for name in setup.environments}
    for number in range(runs + 1):
        for name, environment in setup.environments.items():
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            start = time.perf_counter()
            subprocess.run(command, env=environment, cwd=setup.root, check=True)
            seconds = time.perf_counter() - start
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            setup.clear()
            if number:  # The first one fills caches.
                wall[name].append(seconds)
                processor[name].append(
                    after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
                )
    return {
        name: (statistics.median(wall[name]), statistics.median(processor[name])) for name in wall
    }


def tell(title: str, results: dict[str, tuple[float, float]]) -> None:
    """Print a table."""
    print(title)
    bare = results["bare"]
    for name, (wall, processor) in results.items():
        print(
            f"  {name:10} {wall * 1e3:9.1f} ms {wall / bare[0]:6.3f}x"
            f"   processor {processor * 1e3:9.1f} ms {processor / bare[1]:6.3f}x"
        )


def startup(setup: Setup, arguments: argparse.Namespace) -> None:
    """A process that does next to nothing."""
    setup.write("app.py", "x = 1\n")
    tell("start-up", measure([sys.executable, "app.py"], setup, arguments.runs * 4))


def loop(setup: Setup, arguments: argparse.Namespace) -> None:
    """A hot loop."""
    setup.write("app.py", LOOP)
    tell("hot loop", measure([sys.executable, "app.py"], setup, arguments.runs))


def import_package(setup: Setup, arguments: argparse.Namespace) -> None:
    """Importing a large package, every file of it measured."""
    package = arguments.package
    copy = setup.root / "packages"
    if not copy.exists():
        command = [sys.executable, "-m", "pip", "install", "-q", "--target", str(copy), package]
        subprocess.run(command, check=True)
        compileall.compile_dir(copy, quiet=2)
    setup.write("app.py", f"import sys\nsys.path.insert(0, {str(copy)!r})\nimport {package}\n")
    tell(f"import {package}", measure([sys.executable, "app.py"], setup, arguments.runs))


def suite(setup: Setup, arguments: argparse.Namespace) -> None:
    """A test suite of many short subprocesses."""
    setup.write("module.py", MODULE)
    compileall.compile_dir(setup.root, quiet=1, maxlevels=0)
    setup.write("app.py", SUITE.format(count=arguments.count))
    results = measure([sys.executable, "app.py"], setup, max(1, arguments.runs // 5))
    tell(f"{arguments.count} short subprocesses", results)


def space(setup: Setup, _arguments: argparse.Namespace) -> None:
    """Bytes on disk for a process."""
    setup.write("app.py", MODULE + "work(1)\n")
    print("disk space of a short process")
    for name in ("recorder", "coverage"):
        setup.clear()
        environment = setup.environments[name]
        subprocess.run([sys.executable, "app.py"], env=environment, cwd=setup.root, check=True)
        taken = sum(file.stat().st_blocks * 512 for file in setup.data.iterdir())
        print(f"  {name:10} {taken:7} bytes")


BENCHMARKS: dict[str, Callable[[Setup, argparse.Namespace], None]] = {
    "startup": startup,
    "loop": loop,
    "import": import_package,
    "suite": suite,
    "bytes": space,
}


def main() -> None:
    """Run the benchmarks named on the command line, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--package", default="sympy")
    parser.add_argument("--count", type=int, default=500, help="subprocesses in the suite")
    parser.add_argument("names", nargs="*", choices=[*BENCHMARKS, []], default=[])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        setup = Setup(Path(directory))
        for name in arguments.names or BENCHMARKS:
            BENCHMARKS[name](setup, arguments)


if __name__ == "__main__":
    main()
