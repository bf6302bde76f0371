"""What merging costs, against `coverage combine` on the same data, and against the floor.

    python benchmarks/combine_speed.py [--quick] [--rounds N] [CASE ...]

Cases are recordings, lines, contexts, branches and sizes. Each is merged in turn by `coverage
combine` and by `hcoverage.combine`, as commands, so that whatever else the machine does falls on
both. Told are the medians of wall-clock and processor time, the ratios, the largest memory of one
process, and beside it the floor: the time to read the same bytes once, and for SQLite to scan the
same rows once. Recordings are told for 100, 1,000 and 10,000 processes, to see that the time grows
no faster than their number. `sizes` is of the numbers of files that most projects have, with 120
sources: the ratios of each round, with their spread. The exit status is 1 where a promise does not
hold; ratios of wall-clock time are promised on two idle processors, but for `sizes`, where it is
processor time.
"""

from __future__ import annotations

import argparse
import compileall
import contextlib
import os
import random
import shutil
import sqlite3
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import coverage
from coverage.numbits import nums_to_numbits
from coverage.sqldata import SCHEMA, SCHEMA_VERSION

import hcoverage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

PROMISED: Final = {"recordings": 20.0, "lines": 6.0, "contexts": 4.0, "branches": 3.0}
PROMISED_MEMORY: Final = 300 << 20  # bytes
SOURCES: Final = 50
LINES: Final = 400  # of a source
FUNCTION: Final = 9  # lines of a function
CONTEXTS: Final = 100  # of a data file
SOURCES_OF_CONTEXT: Final = 10
FUNCTIONS: Final = tuple(range(20, LINES - FUNCTION, FUNCTION))
CALLED: Final = 0.4  # of the functions
RUN: Final = 0.8  # of the lines of a function that is called
FEW: Final = 1_000  # data files; what is promised holds from here on
MANY: Final = 10_000  # recordings, likewise
SIZES: Final = (2, 10, 60, 200, 400)  # data files
KINDS: Final = ("lines", "branches", "contexts")
SOURCES_OF_SIZES: Final = 120
PROMISED_OF_SIZES: Final = 1.5
IMPORTED: Final = frozenset([*range(1, 20), *FUNCTIONS])
ANSWER: Final = """\
import hcoverage
result = hcoverage.combine(["data"])
assert not result.set_aside, result.set_aside
"""


@dataclass(frozen=True)
class Cost:
    """What a merge took.

    Attributes:
        wall: Seconds by the clock.
        processor: Seconds of processor time, of all processes.
        memory: The most bytes that one process had.
    """

    wall: float
    processor: float
    memory: int


def lines_of(choose: random.Random) -> set[int]:
    """The lines of a source that a process runs: its imports, and some functions in part."""
    called = [first for first in FUNCTIONS if choose.random() < CALLED]
    body = (line for first in called for line in range(first, first + FUNCTION - 1))
    return {*IMPORTED} | {line for line in body if choose.random() < RUN}


def arcs_of(choose: random.Random) -> set[tuple[int, int]]:
    """The arcs of a source that a process runs."""
    imported = sorted(IMPORTED)
    arcs = {*zip([-1, *imported], [*imported, -1], strict=True)}
    for first in FUNCTIONS:
        if choose.random() < CALLED:
            body = [n for n in range(first + 1, first + FUNCTION - 1) if choose.random() < RUN]
            arcs.update(zip([-first, *body], [*body, -first], strict=True))
    return arcs


def write_data_file(
    path: Path,
    rows: Iterable[tuple[str, str, set[int]]] = (),
    arcs: Iterable[tuple[str, str, set[tuple[int, int]]]] = (),
) -> None:
    """Write a data file as coverage.py does, but faster.

    Args:
        path: The data file.
        rows: Source, context and lines.
        arcs: Source, context and arcs.
    """
    files: dict[str, int] = {}
    contexts: dict[str, int] = {}

    def ids(source: str, context: str) -> tuple[int, int]:
        return files.setdefault(source, len(files) + 1), contexts.setdefault(
            context, len(contexts) + 1
        )

    lines = [(*ids(source, context), nums_to_numbits(found)) for source, context, found in rows]
    pairs = [(*ids(source, name), *arc) for source, name, found in arcs for arc in sorted(found)]
    with contextlib.closing(sqlite3.connect(":memory:")) as database:
        database.executescript(SCHEMA)
        insert = database.executemany
        insert("INSERT INTO coverage_schema VALUES (?)", [(SCHEMA_VERSION,)])
        meta = [("version", coverage.__version__), ("has_arcs", str(int(bool(pairs))))]
        insert("INSERT INTO meta VALUES (?, ?)", meta)
        insert("INSERT INTO file VALUES (?, ?)", [(n, name) for name, n in files.items()])
        insert("INSERT INTO context VALUES (?, ?)", [(n, name) for name, n in contexts.items()])
        insert("INSERT INTO line_bits VALUES (?, ?, ?)", lines)
        insert("INSERT INTO arc VALUES (?, ?, ?, ?)", pairs)
        database.commit()
        path.write_bytes(database.serialize())


def write_recording(path: Path, number: int, maps: Sequence[tuple[str, set[int]]]) -> None:
    """Write a recording as the recorder does (`docs/recording-format.md`)."""
    facts = {
        "host": "host",
        "python": ".".join(map(str, sys.version_info[:3])),
        "prefix": sys.prefix,
        "base_prefix": sys.base_prefix,
        "stdlib": os.path.dirname(os.__file__),  # noqa: PTH120
        "cwd": str(path.parent),
        "argv": f"program.py {number}",
    }
    metadata = b"".join(f"{key}={value}\0".encode() for key, value in facts.items())
    body = b"".join(_record(source, lines) for source, lines in maps)
    start = -(-(64 + len(metadata)) // 8) * 8
    size = 8192
    while size < start + len(body):
        size *= 4
    fixed = struct.pack(
        "<8sHHIQIIQ8sI",
        b"\x89HCOV\r\n\x1a",
        4,
        0,
        len(metadata),
        size,
        number + 1,
        1,
        number,
        number.to_bytes(8, "little"),
        1,
    )
    header = fixed + struct.pack("<III", _checksum(fixed + metadata), 0, 0)
    path.write_bytes((header + metadata).ljust(start, b"\0") + body.ljust(size - start, b"\0"))


def _record(source: str, lines: set[int]) -> bytes:
    name, module = source.encode(), Path(source).stem.encode()
    length = -(-(52 + len(name) + len(module) + LINES) // 8) * 8
    begin = struct.pack("<4sI", b"LINE", length)
    rest = struct.pack("<IQqIIIII", 0, 0, 0, 0, 1, LINES, len(name), len(module)) + name + module
    marks = bytearray(LINES)
    for line in lines:
        marks[line - 1] = 0xA5
    record = begin + struct.pack("<I", _checksum(begin + rest)) + rest + bytes(marks)
    return record.ljust(length, b"\0")


def _checksum(content: bytes) -> int:
    return int.from_bytes(content, "little") % 1073741789


def make(case: str, count: int, directory: Path, among: int = SOURCES) -> tuple[Path, Path]:
    """Write what a number of processes leave, no two of them the same.

    Returns:
        A directory for `coverage combine`, and one for us: the same, but for recordings.
    """
    choose = random.Random(count)  # noqa: S311 - the same each time
    theirs = directory / f"{case}-{count}"
    theirs.mkdir()
    ours = directory / f"{case}-{count}-recorded" if case == "recordings" else theirs
    ours.mkdir(exist_ok=True)
    sources = [str(directory / "src" / f"module_{number}.py") for number in range(among)]
    tests = [f"tests/test_{number % 10}.py::test_{number}|run" for number in range(1000)]
    for number in range(count):
        file = theirs / f".coverage.host.pid{number}.X{number:06d}x"
        if case == "branches":
            write_data_file(file, arcs=[(source, "", arcs_of(choose)) for source in sources])
        elif case == "contexts":
            rows = (
                (source, context, lines_of(choose))
                for context in choose.sample(tests, CONTEXTS)
                for source in choose.sample(sources, SOURCES_OF_CONTEXT)
            )
            write_data_file(file, rows)
        else:
            maps = [(source, lines_of(choose)) for source in sources]
            write_data_file(file, [(source, "", lines) for source, lines in maps])
            if case == "recordings":
                write_recording(ours / f"host.{number}.{number:016x}.1.hcrec", number, maps)
    return theirs, ours


def measure(command: Sequence[str], data: Path, work: Path) -> Cost:
    """Merge a copy of some data, in a process of its own, and say what it took."""
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(data, work / "data")
    (work / ".coveragerc").write_text("[run]\nsource = ../src\n")
    # GNU time is not everywhere: a process in between has only this child.
    program = (
        "import resource, subprocess, sys, time; start = time.perf_counter(); "
        "subprocess.run(sys.argv[1:], check=True); wall = time.perf_counter() - start; "
        "used = resource.getrusage(resource.RUSAGE_CHILDREN); "
        "print(wall, used.ru_utime + used.ru_stime, used.ru_maxrss)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *command],
        cwd=work,
        env=hcoverage.unmeasured_environment(os.environ),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    wall, processor, memory = done.stdout.split()
    return Cost(float(wall), float(processor), int(memory) << 10)


def same_lines(first: Path, second: Path) -> bool:
    """Tell whether two data files say the same."""
    said = []
    for path in (first, second):
        data = coverage.CoverageData(str(path))
        data.read()
        arcs = data.has_arcs()
        names = sorted(data.measured_files())
        said.append([(n, sorted((data.arcs(n) if arcs else data.lines(n)) or [])) for n in names])
        said[-1].append((",".join(sorted(data.measured_contexts())), []))
        data.close(force=True)
    return said[0] == said[1]


def floor(data: Path) -> Iterator[tuple[str, float]]:
    """How long it takes to read the same bytes once, and to scan the same rows once, in seconds."""
    files = sorted(data.iterdir())
    yield "read the bytes", _timed(lambda: [file.read_bytes() for file in files])
    if files[0].suffix != ".hcrec":
        yield "scan the rows", _timed(lambda: [_scan(file) for file in files])


def _scan(file: Path) -> list[list[tuple[int, ...]]]:
    with contextlib.closing(sqlite3.connect(f"file:{file}?immutable=1", uri=True)) as database:
        lines = "SELECT count(*), sum(length(numbits)) FROM line_bits"
        arcs = "SELECT count(*), sum(fromno), sum(tono) FROM arc"
        return [database.execute(query).fetchall() for query in (lines, arcs)]


def _timed(act: Callable[[], object]) -> float:
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def compare(case: str, count: int, rounds: int, directory: Path) -> tuple[Cost, list[str]]:
    """Merge by both, tell what it took.

    Returns:
        What ours took, and which promises do not hold.
    """
    theirs_data, ours_data = make(case, count, directory)
    theirs_command = [sys.executable, "-m", "coverage", "combine", "-q", "--data-file=.coverage"]
    theirs_work, ours_work = directory / "theirs", directory / "ours"
    theirs, ours = [], []
    for _ in range(rounds):
        theirs.append(measure([*theirs_command, "data"], theirs_data, theirs_work))
        ours.append(measure([sys.executable, "-c", ANSWER], ours_data, ours_work))
    if not same_lines(theirs_work / ".coverage", ours_work / ".coverage"):
        return ours[0], [f"{case}: the results differ"]
    theirs_cost, ours_cost = _median(theirs), _median(ours)
    wall = theirs_cost.wall / ours_cost.wall
    processor = theirs_cost.processor / ours_cost.processor
    print(f"{case}, {count} processes, {SOURCES} sources:")
    for name, cost in (("coverage combine", theirs_cost), ("hcoverage", ours_cost)):
        print(
            f"  {name:17} {cost.wall:8.2f} s, processor {cost.processor:8.2f} s, "
            f"memory {cost.memory >> 20} MB"
        )
    print(f"  {'faster':17} {wall:7.1f} x, processor {processor:7.1f} x")
    for what, seconds in floor(ours_data):
        print(f"  {what:17} {seconds:8.2f} s, {ours_cost.wall / seconds:.1f} x of it is ours")
    shutil.rmtree(theirs_data)
    shutil.rmtree(ours_data, ignore_errors=True)
    return ours_cost, _broken(case, count, wall, ours_cost)


def compare_sizes(rounds: int, directory: Path) -> list[str]:
    """Merge few files by both, in turn, and tell the ratios.

    Returns:
        Which promises do not hold.
    """
    broken = []
    for number in range(SOURCES_OF_SIZES):
        (directory / "src" / f"module_{number}.py").touch()
    theirs_command = [sys.executable, "-m", "coverage", "combine", "-q", "--data-file=.coverage"]
    print(f"{SOURCES_OF_SIZES} sources, times as fast by processor time, and the least and most:")
    for kind in KINDS:
        for count in SIZES:
            data, _ = make(kind, count, directory, SOURCES_OF_SIZES)
            ratios, walls = [], []
            for _ in range(rounds):
                theirs = measure([*theirs_command, "data"], data, directory / "theirs")
                ours = measure([sys.executable, "-c", ANSWER], data, directory / "ours")
                ratios.append(theirs.processor / ours.processor)
                walls.append(theirs.wall / ours.wall)
            shutil.rmtree(data)
            median = statistics.median(ratios)
            spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
            wall = statistics.median(walls)
            print(f"  {kind:9} {count:4} files: {median:5.2f} ({spread}), by the clock {wall:5.2f}")
            if not same_lines(directory / "theirs" / ".coverage", directory / "ours" / ".coverage"):
                broken.append(f"{kind}, {count} files: the results differ")
            if median < PROMISED_OF_SIZES:
                broken.append(f"{kind}, {count} files: {median:.2f} x")
    return broken


def _broken(case: str, count: int, wall: float, cost: Cost) -> list[str]:
    broken = []
    if count >= (MANY if case == "recordings" else FEW) and wall < PROMISED[case]:
        broken.append(f"{case}, {count}: {wall:.1f} x, promised are {PROMISED[case]:g} x")
    if case == "recordings" and cost.memory > PROMISED_MEMORY:
        broken.append(f"{case}, {count}: {cost.memory >> 20} MB of memory")
    return broken


def _median(costs: Sequence[Cost]) -> Cost:
    return Cost(
        statistics.median(cost.wall for cost in costs),
        statistics.median(cost.processor for cost in costs),
        max(cost.memory for cost in costs),
    )


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="a tenth of the processes, one round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("cases", nargs="*", default=[])
    options = parser.parse_args()
    rounds, most = (1, 1_000) if options.quick else (options.rounds, 10_000)
    broken: list[str] = []
    # pip compiles what it installs, coverage.py; ours may be in a clone.
    compileall.compile_dir(Path(hcoverage.__file__).parent, quiet=1)
    load = os.getloadavg()[0]
    print(f"coverage.py {coverage.__version__}, {os.cpu_count()} processors, load {load:.1f}")
    if load > 1:
        print("the machine is busy: go by processor time, which it spends on ours alone")
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "src").mkdir()
        for number in range(SOURCES):
            (directory / "src" / f"module_{number}.py").touch()
        for case in options.cases or (*PROMISED, "sizes"):
            if case == "sizes":
                broken += compare_sizes(rounds, directory)
                continue
            counts = [100, 1_000, 10_000] if case == "recordings" else [1_000]
            costs = {}
            for count in (count for count in counts if count <= most):
                costs[count], failed = compare(case, count, rounds, directory)
                broken += failed
            if case == "recordings" and most in costs:
                per = {count: cost.processor / count * 1e6 for count, cost in costs.items()}
                print("  of processor time, µs each: ", {n: round(us) for n, us in per.items()})
    for line in broken:
        print("NOT KEPT:", line)
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())
