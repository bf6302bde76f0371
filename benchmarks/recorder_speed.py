"""What the recorder costs a process, as a session of `hcov run` has it, against what is promised.

    python benchmarks/recorder_speed.py [--quick] [--branch] [--rounds N] [startup loop import ...]

Each program runs in turn in two virtual environments that differ by our hook alone: bare, measured
by the recorder, by coverage.py as its manual says (with branches its C tracer), and by SlipCover.
Whatever else the machine does falls on all of them. The Python that runs this is the one measured.
Told are the medians of wall-clock and of processor time, and of the ratios to bare in the same
round, with an interval that holds the true median with 95 %. The exit status is 1 where a promise
does not hold. Both ratios have to keep it: on a busy machine wall-clock time is mostly waiting,
which hides what is measured.
"""

from __future__ import annotations

import argparse
import compileall
import math
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import coverage

import hcoverage
from hcoverage._session.hook import _installed_pth_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import TypeAlias

    Measure: TypeAlias = Callable[["Laboratory"], bool]
    # Of each way, one for each round.
    Costs: TypeAlias = Mapping[str, Sequence["Cost"]]

PROMISED_RATIOS: Final = {
    "startup": 1.12,
    "loop": 1.05,
    "import": 1.15,
    "suite": 1.20,
    "true": 1.05,
    "kernels": 1.05,
    "pluggy": 1.1,
    "tomlkit": 1.1,
    "toolz": 1.1,
}
PROMISED_WITH_BRANCHES: Final = {
    **PROMISED_RATIOS,
    "startup": 1.20,
    "import": 1.30,
    "suite": 1.25,
    "true": 2.3,
    "kernels": 1.15,
}
PROMISED_BYTES: Final = 16 << 10  # of disk space; coverage.py takes 53 KB
# Large, and all of it pure Python: 1,400 files.
PACKAGE: Final = "sympy==1.14.0"
SLIPCOVER: Final = "slipcover==1.1.0"

IN_A_ROW: Final = 10
# A project's files are older than a run of its tests, and the recorder takes no longer over them.
SETTLING: Final = 3  # seconds
# Each time that so many objects more are there, Python collects garbage of its middle generation;
# that takes 1 % of a large import. A hundred objects must not decide whether it does so once more.
OBJECTS_OF_A_COLLECTION: Final = 22_000
IMPORT: Final = """\
import sys
sys.path.insert(0, {packages!r})
objects = [[] for _ in range(int(sys.argv[1]))]
import {name}
"""

LOOP: Final = """\
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
# A branch that always goes one way: its event is kept until the other way was gone.
ALWAYS: Final = """\
def work(n):
    total = 0
    for i in range(n):
        if i >= 0:
            total += i
        total -= 1
    return total
work(3_000_000)
"""
# Those of `kernels.py`.
KERNELS: Final = (
    *("sieve", "fibonacci", "collatz", "insertion_sort", "matrix", "words"),
    *("parse", "objects", "generators", "exceptions", "comprehension", "queens"),
)
# Released projects: where their sources are, in the source distribution, and their tests.
SUITES: Final = {
    "pluggy": ("pluggy==1.7.0", "src", "testing"),
    "tomlkit": ("tomlkit==0.15.2", ".", "tests"),
    "toolz": ("toolz==1.2.0", ".", "toolz"),
}
TESTS: Final = """\
import os, sys
os.chdir({place!r})
sys.path.insert(0, os.path.join({place!r}, {source!r}))
import pytest
# SlipCover is imported before pytest could rewrite it.
quiet = ["-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
sys.exit(pytest.main([*quiet, {tests!r}]))
"""
SUITE: Final = """\
import subprocess, sys
for number in range({processes}):
    code = f"import module; module.work({{number}})"
    subprocess.run([sys.executable, "-c", code], check=True)
"""
MODULE: Final = "def work(n):\n    if n % 2:\n        return n\n    return 0\n"


@dataclass(frozen=True)
class Way:
    """How a program is run.

    Attributes:
        name: Bare, or what measures it.
        python: The interpreter.
        environment: Its environment.
        begin: What comes before the program.
    """

    name: str
    python: Path
    environment: Mapping[str, str]
    begin: Sequence[str] = ()

    def run(self, program: Path, arguments: Sequence[str] = (), in_a_row: int = 1) -> Cost:
        """Run a program some times and give what one cost, its children included."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        start = time.perf_counter()
        for _ in range(in_a_row):
            command = [str(self.python), *self.begin, str(program), *arguments]
            subprocess.run(
                command,
                cwd=program.parent,
                env=self.environment,
                check=True,
                stdout=subprocess.DEVNULL,
            )
        wall = time.perf_counter() - start
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        processor = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
        return Cost(wall / in_a_row, processor / in_a_row)


@dataclass(frozen=True)
class Cost:
    """What running a program took.

    Attributes:
        wall: Seconds from start to end.
        processor: Seconds of processor time.
    """

    wall: float
    processor: float


@dataclass(frozen=True)
class Ratio:
    """How many times as long as bare something takes.

    Attributes:
        median: Of the rounds.
        low: The true median is not below this, with 97.5 %.
        high: Nor above this.
    """

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, times: Sequence[float], bare: Sequence[float]) -> Ratio:
        """Compare what was measured in the same rounds."""
        found = sorted(time / other for time, other in zip(times, bare, strict=True))
        # The ranks that the median of as many is between, by the binomial distribution.
        margin = 0.98 * math.sqrt(len(found))
        low = max(0, math.floor(len(found) / 2 - margin))
        high = min(len(found) - 1, math.ceil(len(found) / 2 + margin))
        return cls(statistics.median(found), found[low], found[high])

    def __str__(self) -> str:
        return f"{self.median:6.3f}x ({self.low:.3f}-{self.high:.3f})"


@dataclass(frozen=True)
class Laboratory:
    """Where programs are run.

    Attributes:
        data: The directory that data files and recordings go to.
        ways: Bare first.
        rounds: How often each way is gone.
        promised: The ratios to bare that the recorder must not exceed.
    """

    data: Path
    ways: Sequence[Way]
    rounds: int
    promised: Mapping[str, float]

    def tell(self, promise: str, title: str, costs: Costs) -> bool:
        """Print a table, and tell whether the promise holds."""
        return tell(self.promised[promise], title, costs)

    def compare(
        self,
        program: Path,
        rounds: int,
        in_a_row: int = 1,
        arguments: Callable[[], Sequence[str]] = tuple,
    ) -> Costs:
        """Run a program all ways in turn, and give what each cost in each round.

        Args:
            program: The program.
            rounds: How often each way is gone.
            in_a_row: How many times the program is run each time; the cost is that of one. What is
                short is otherwise mostly the cost of what ran before, which left the caches cold.
            arguments: Gives those of the program, anew for each round.
        """
        costs: dict[str, list[Cost]] = {way.name: [] for way in self.ways}
        for number in range(rounds + 1):
            given = arguments()
            # In another order each time: what comes and goes on the machine has a beat of its own.
            for way in random.sample(self.ways, len(self.ways)):
                cost = way.run(program, given, in_a_row)
                self.clear()
                if number:  # the first fills caches
                    costs[way.name].append(cost)
        return costs

    def clear(self) -> None:
        """Remove the data files and recordings."""
        for file in self.data.iterdir():
            if file.name != ".coveragerc":
                file.unlink()

    def disk_space(self, way: Way, program: Path) -> int:
        """Give the bytes of disk space that measuring a program takes."""
        self.clear()
        way.run(program)
        files = [file for file in self.data.iterdir() if file.name != ".coveragerc"]
        return sum(file.stat().st_blocks * 512 for file in files)


def startup(programs: Path) -> Measure:
    """Compare processes that do next to nothing, one after the other as in a test suite."""
    program = write(programs / "startup.py", "x = 1\n")
    return lambda laboratory: laboratory.tell(
        "startup", "start-up", laboratory.compare(program, laboratory.rounds, IN_A_ROW)
    )


def loop(programs: Path) -> Measure:
    """Compare a hot loop."""
    program = write(programs / "loop.py", LOOP)
    return lambda laboratory: laboratory.tell(
        "loop", "hot loop", laboratory.compare(program, laboratory.rounds)
    )


def always_true(programs: Path) -> Measure:
    """Compare a hot loop with an `if` that is always true."""
    program = write(programs / "always.py", ALWAYS)
    return lambda laboratory: laboratory.tell(
        "true", "an if that is always true", laboratory.compare(program, laboratory.rounds)
    )


def kernels(programs: Path) -> Measure:
    """Compare small programs, by the geometric mean of their ratios."""
    program = write(programs / "kernels.py", Path(__file__).with_name("kernels.py").read_text())

    def measure(laboratory: Laboratory) -> bool:
        found = {
            name: laboratory.compare(program, laboratory.rounds, arguments=[name].copy)
            for name in KERNELS
        }
        for name, costs in found.items():
            bare = [cost.processor for cost in costs["bare"]]
            ratios = (
                f"{way} {Ratio.of([cost.processor for cost in each], bare).median:.3f}"
                for way, each in costs.items()
            )
            print(f"  {name:14} processor: {', '.join(ratios)}")
        return laboratory.tell(
            "kernels", f"{len(found)} kernels, geometric mean", _mean(list(found.values()))
        )

    return measure


def _mean(found: Sequence[Costs]) -> Costs:
    """Give the geometric mean of what several programs cost, round by round."""

    def mean(costs: Sequence[Cost]) -> Cost:
        return Cost(
            statistics.geometric_mean(cost.wall for cost in costs),
            statistics.geometric_mean(cost.processor for cost in costs),
        )

    return {
        way: [mean(each) for each in zip(*(costs[way] for costs in found), strict=True)]
        for way in found[0]
    }


def released(name: str) -> Callable[[Path], Measure]:
    """Compare a released project's own test suite."""
    requirement, source, tests = SUITES[name]

    def prepare(programs: Path) -> Measure:
        directory = programs / name
        options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--no-binary=:all:"]
        pip = [sys.executable, "-m", "pip", "download", *options, "--dest", str(directory)]
        subprocess.run([*pip, requirement], check=True)
        (archive,) = directory.glob("*.tar.gz")
        subprocess.run(["tar", "xzf", str(archive), "-C", str(directory)], check=True)
        (place,) = filter(Path.is_dir, directory.iterdir())
        text = TESTS.format(place=str(place), source=source, tests=tests)
        program = write(programs / f"suite_{name}.py", text)
        return lambda laboratory: laboratory.tell(
            name, f"{requirement}'s suite", laboratory.compare(program, laboratory.rounds)
        )

    return prepare


def import_package(programs: Path) -> Measure:
    """Compare importing a large package, every file of it measured."""
    packages = programs / "packages"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--target", packages, PACKAGE], check=True)
    compileall.compile_dir(packages, quiet=2)
    name = PACKAGE.partition("==")[0]
    program = write(programs / "import.py", IMPORT.format(packages=str(packages), name=name))

    def objects() -> list[str]:
        return [str(random.randrange(OBJECTS_OF_A_COLLECTION))]  # noqa: S311

    return lambda laboratory: laboratory.tell(
        "import",
        f"import {name}",
        laboratory.compare(program, laboratory.rounds, arguments=objects),
    )


def suite(programs: Path) -> Measure:
    """Compare a test suite of many short subprocesses."""
    write(programs / "module.py", MODULE)

    def measure(laboratory: Laboratory) -> bool:
        processes = 33 * laboratory.rounds
        program = write(programs / "suite.py", SUITE.format(processes=processes))
        costs = laboratory.compare(program, max(3, laboratory.rounds // 5))
        return laboratory.tell("suite", f"{processes} short subprocesses", costs)

    return measure


def space(programs: Path) -> Measure:
    """Compare the disk space that a short process takes."""
    program = write(programs / "short.py", MODULE + "work(1)\n")

    def measure(laboratory: Laboratory) -> bool:
        taken = {way.name: laboratory.disk_space(way, program) for way in laboratory.ways[1:3]}
        keeps = taken["recorder"] <= PROMISED_BYTES
        print(f"disk space of a short process  {_verdict(keeps, f'{PROMISED_BYTES} bytes')}")
        for name, count in taken.items():
            print(f"  {name:10} {count:9} bytes")
        return keeps

    return measure


# What writes the programs of a benchmark, and gives what measures them then.
BENCHMARKS: Final[Mapping[str, Callable[[Path], Measure]]] = {
    "startup": startup,
    "loop": loop,
    "true": always_true,
    "kernels": kernels,
    "import": import_package,
    **{name: released(name) for name in SUITES},
    "suite": suite,
    "bytes": space,
}


def write(file: Path, source: str) -> Path:
    """Write a program."""
    file.write_text(source)
    return file


def tell(promised: float, title: str, costs: Costs) -> bool:
    """Print a table, and tell whether the promise holds."""
    walls = {name: [cost.wall for cost in each] for name, each in costs.items()}
    processors = {name: [cost.processor for cost in each] for name, each in costs.items()}
    both = [Ratio.of(times["recorder"], times["bare"]) for times in (walls, processors)]
    keeps = all(ratio.median <= promised for ratio in both)
    surely = all(ratio.low > promised for ratio in both if ratio.median > promised)
    print(f"{title}  {_verdict(keeps, f'{promised:.2f}x', surely=surely)}")
    for name in costs:
        wall, processor = (
            f"{statistics.median(times[name]) * 1e3:9.1f} ms {Ratio.of(times[name], times['bare'])}"
            for times in (walls, processors)
        )
        print(f"  {name:10} {wall}   processor {processor}")
    sys.stdout.flush()
    return keeps


def _verdict(keeps: bool, promised: str, *, surely: bool = True) -> str:  # noqa: FBT001
    broken = "BROKEN" if surely else "not kept, but more rounds may tell otherwise"
    return f"(promised: {promised}, {'kept' if keeps else broken})"


def make_venv(path: Path, hooks: Mapping[str, str]) -> Path:
    """Make an environment with coverage.py and its hook in it and these, and give its Python."""
    venv.create(path, symlinks=True)
    (site_packages,) = path.glob("lib/python*/site-packages")
    package = Path(coverage.__file__).parent
    shutil.copytree(package, site_packages / package.name)
    shutil.copy(package.parent / "a1_coverage.pth", site_packages)
    python = path / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    subprocess.run([*pip, "--disable-pip-version-check", SLIPCOVER, "pytest"], check=True)
    for name, text in hooks.items():
        (site_packages / name).write_text(text)
    return python


def measure(directory: Path, rounds: int, names: Sequence[str], *, branch: bool) -> bool:
    """Run benchmarks in a directory; tell whether all promises hold."""
    programs = directory / "programs"
    programs.mkdir()
    data = programs / "coverage_data"
    rcfile = programs / ".coveragerc"
    rcfile.write_text(f"[run]\nparallel = True\nbranch = {branch}\ndata_file = {data}/.coverage\n")
    without_hook = make_venv(directory / "bare", {})
    with_hook = make_venv(
        directory / "measured", {"coverage.pth": _installed_pth_text(Path("/nowhere"))}
    )
    own = ("COVERAGE", "HCOVERAGE", "PYTHON")
    bare = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    os.environ.clear()
    os.environ.update(bare)
    of_coverage = {"COVERAGE_PROCESS_START": str(rcfile)}
    if branch:
        of_coverage["COVERAGE_CORE"] = "ctrace"
    quiet = ("-W", "ignore::RuntimeWarning")  # It warns of each pytest that it does not know.
    begin = (*quiet, "-m", "slipcover", *(["--branch"] if branch else []), "--out", os.devnull)
    benchmarks = [BENCHMARKS[name](programs) for name in names]
    time.sleep(SETTLING)
    with hcoverage.open_session(rcfile, data, core="recorder") as session:
        ways = [
            Way("bare", without_hook, bare),
            Way("recorder", with_hook, session.environment),
            Way("coverage", without_hook, bare | of_coverage),
            Way("SlipCover", without_hook, bare, begin),
        ]
        promised = PROMISED_WITH_BRANCHES if branch else PROMISED_RATIOS
        laboratory = Laboratory(data, ways, rounds, promised)
        kept = [benchmark(laboratory) for benchmark in benchmarks]
        laboratory.clear()
    return all(kept)


def main() -> int:
    """Run the benchmarks named on the command line, or all; give the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15, metavar="N", help="more is steadier")
    parser.add_argument("--quick", action="store_true", help="the same as --rounds 5")
    parser.add_argument("--branch", action="store_true", help="branches, too")
    parser.add_argument("names", nargs="*", choices=[*BENCHMARKS, []], metavar="benchmark")
    arguments = parser.parse_args()
    if sys.version_info < (3, 12):
        parser.error("the recorder needs Python 3.12")
    with tempfile.TemporaryDirectory() as directory:
        rounds = 5 if arguments.quick else arguments.rounds
        names = arguments.names or [*BENCHMARKS]
        kept = measure(Path(directory), rounds, names, branch=arguments.branch)
        return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
