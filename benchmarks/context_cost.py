"""What `--hcov-context=test` costs real suites, beside pytest-cov's contexts and ddtrace's lines.

    python benchmarks/context_cost.py [--rounds N] [--branch] [suite ...]

The suites are of released projects, fetched by pip into a virtual environment of their own, with
this project. All ways to run one take turns, so that whatever else the machine does falls on each.
Told are the medians of wall-clock and processor time, and of the ratios of each round, with their
spread. Contexts are promised at 1.3 times the same run without, by processor time; the exit status
is 1 where that does not hold. Where ddtrace can be installed, its collector of lines runs for each
test as its test visibility has it, with nothing sent anywhere.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROUNDS: Final = 5
PROMISE: Final = 1.3
ROOT: Final = Path(__file__).resolve().parents[1]
NEEDED: Final = ("pytest", "pytest-cov", "pyyaml", "freezegun")
COLLECTOR: Final = "ddlines"
PLUGIN: Final = """\
import os
from pathlib import Path
import pytest
from ddtrace.internal.coverage.code import ModuleCodeCollector

ModuleCodeCollector.install(include_paths=[Path(os.getcwd())])
ModuleCodeCollector.start_coverage()

@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
    with ModuleCodeCollector.CollectInContext() as collected:
        result = yield
        collected.get_covered_lines()
    return result
"""
COV: Final = ("--cov", "--cov-report=", "--cov-config=.benchmarkrc")
HCOV: Final = ("--hcov", "--hcov-report=", "--hcov-rcfile=.benchmarkrc")
WAYS: Final = {
    "bare": (),
    "hcov": HCOV,
    "hcov, contexts": (*HCOV, "--hcov-context=test"),
    "pytest-cov": COV,
    "pytest-cov, contexts": (*COV, "--cov-context=test"),
    "ddtrace's lines": ("-p", COLLECTOR),
}


@dataclass(frozen=True)
class Suite:
    """A released project's tests.

    Attributes:
        requirement: The project and its version.
        tests: Where they are, in the source distribution, and pytest's options.
        path: Where the project is imported from.
    """

    requirement: str
    tests: tuple[str, ...]
    path: str = "."


SUITES: Final = {
    "tomlkit": Suite("tomlkit==0.15.2", ("tests",)),
    "parso": Suite("parso==0.8.7", ("test",)),
    # Nearly all of its tests are parameters of a few functions.
    "humanize": Suite(
        "humanize==4.17.0", ("tests", "--ignore=tests/test_benchmarks.py"), path="src"
    ),
}


@dataclass(frozen=True)
class Cost:
    """What a run took.

    Attributes:
        wall: Seconds by the clock.
        processor: Seconds of processor time, with all that it started.
    """

    wall: float
    processor: float


def make_environment(directory: Path) -> tuple[Path, bool]:
    """Make a virtual environment with all that is compared.

    Returns:
        Its Python, and whether ddtrace is there.
    """
    venv.create(directory, with_pip=True)
    python = directory / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "--quiet"]
    subprocess.run([*install, *NEEDED, str(ROOT)], check=True)
    has_collector = subprocess.run([*install, "ddtrace"], check=False).returncode == 0
    return python, has_collector


def fetch(suite: Suite, python: Path, directory: Path) -> Path:
    """Fetch and unpack a source distribution, and give where it is."""
    directory.mkdir()
    options = ["--quiet", "--no-deps", "--no-binary=:all:", "--dest", str(directory)]
    download = [str(python), "-m", "pip", "download", *options, suite.requirement]
    subprocess.run(download, check=True)
    (archive,) = directory.glob("*.tar.gz")
    subprocess.run(["tar", "xzf", str(archive), "-C", str(directory)], check=True)
    (unpacked,) = filter(Path.is_dir, directory.iterdir())
    return unpacked


def measure(command: list[str], place: Path, path: str) -> Cost:
    """Run a suite, and say what it and all that it started took."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join((path, str(place.parent)))}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, cwd=place, env=env, check=True, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(wall, processor)


def compare(python: Path, place: Path, suite: Suite, ways: list[str], rounds: int) -> float:
    """Run a suite in all ways in turn, and tell what it took.

    Returns:
        The median of what contexts cost, as a ratio of processor time.
    """
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:ddtrace"]
    begin = [str(python), "-m", "pytest", *options, *suite.tests]
    costs: dict[str, list[Cost]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way in ways:
            costs[way].append(measure([*begin, *WAYS[way]], place, suite.path))
    for way in ways:
        wall = statistics.median(cost.wall for cost in costs[way])
        processor = statistics.median(cost.processor for cost in costs[way])
        print(f"  {way:22} {wall:7.2f} s, processor {processor:7.2f} s; ", end="")
        print(_told("of bare", costs[way], costs["bare"]))
    print(_told("  contexts, of hcov without", costs["hcov, contexts"], costs["hcov"]))
    print(_told("  pytest-cov's", costs["pytest-cov, contexts"], costs["pytest-cov"]))
    return statistics.median(_ratios(costs["hcov, contexts"], costs["hcov"]))


def _ratios(costs: list[Cost], others: list[Cost]) -> list[float]:
    pairs = zip(costs, others, strict=True)
    return sorted(cost.processor / other.processor for cost, other in pairs)


def _told(what: str, costs: list[Cost], others: list[Cost]) -> str:
    ratios = _ratios(costs, others)
    median = statistics.median(ratios)
    return f"{what}: {median:.2f} times ({ratios[0]:.2f} to {ratios[-1]:.2f})"


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--branch", action="store_true", help="measure branches")
    parser.add_argument("suites", nargs="*", default=[])
    options = parser.parse_args()
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}")
    kept = True
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        python, has_collector = make_environment(directory / "venv")
        ways = [way for way in WAYS if has_collector or way != "ddtrace's lines"]
        for name_of_suite in options.suites or SUITES:
            suite = SUITES[name_of_suite]
            place = fetch(suite, python, directory / name_of_suite)
            (place.parent / f"{COLLECTOR}.py").write_text(PLUGIN)
            (place / ".benchmarkrc").write_text(f"[run]\nbranch = {options.branch}\n")
            print(f"{suite.requirement}, {options.rounds} rounds:")
            ratio = compare(python, place, suite, ways, options.rounds)
            print(f"  the promise {'holds' if ratio <= PROMISE else 'FAILS'}")
            kept = kept and ratio <= PROMISE
    return int(not kept)


if __name__ == "__main__":
    sys.exit(main())
