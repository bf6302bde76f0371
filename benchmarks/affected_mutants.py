"""How many tests `hcov affected` leaves out, and whether one of them would have failed.

A project is measured once. Then one line after the other is changed, and for each the whole suite
is run without measuring: what fails has to be among what is needed. It ends with status 1 if a
failing test is left out. Of one that is, it is told whether it fails alone, too, or only behind
another failing test, in what that one left behind.

    python benchmarks/affected_mutants.py --mutants 200 tomlkit
    python benchmarks/affected_mutants.py --mutants 30 shop      # with an engine: `make engine`

`tomlkit` is taken from the package index, with its tests. `shop` is `examples/shop`, with a tool in
subprocesses and a service in a container. With `--kept FILE` each outcome is added to a file, and
mutants that are in it are not tried again: a run that was ended goes on.
"""

from __future__ import annotations

import argparse
import ast
import concurrent.futures
import dataclasses
import itertools
import json
import os
import queue
import random
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import hcoverage

if TYPE_CHECKING:
    from collections.abc import Iterator

TOMLKIT: Final = "tomlkit==0.15.2"
ROOT: Final = Path(__file__).parents[1]
PYTEST: Final = (sys.executable, "-m", "pytest", "-q", "--tb=no", "-p", "no:cacheprovider")
MEASURED: Final = ("--hcov", "--hcov-context=test", "--hcov-report=")
# A line that is changed may run for ever: its test fails then, and the others still run.
LONGEST_TEST: Final = 20  # seconds
LONGEST_RUN: Final = 240  # seconds
# What makes pytest begin, and fail, sooner: it is run once for each mutant.
BARE: Final = (
    *("--assert=plain", "-p", "pytest_timeout"),
    *(f"--timeout={LONGEST_TEST}", f"--session-timeout={LONGEST_RUN}"),
)
# A process writes down what fails at once: a node id or the file that cannot be collected.
NOTING: Final = """\
import os

def note(report):
    if report.failed:
        with open(os.environ["NOTED_FAILURES"], "a", encoding="utf-8") as file:
            file.write(report.nodeid.replace("\\n", "\\\\n") + "\\n")

pytest_runtest_logreport = pytest_collectreport = note
"""
ALL: Final = ""  # where pytest itself cannot begin
RCFILE: Final = "[run]\nparallel = True\nsource = {source}\n"


@dataclasses.dataclass(frozen=True)
class Mutant:
    """A source with one line changed.

    Attributes:
        path: The source, from the project's directory.
        line: Which line.
        text: What the line is then.
    """

    path: str
    line: int
    text: str


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of a mutant.

    Attributes:
        failed: The tests that failed in a run of all.
        needed: The tests that are needed.
        known: How many tests there are.
        is_for_all: Whether all are needed; they were not run, then.
        fail_alone: Those of the tests left out that fail without the others as well.
        ended_early: Whether the run of all took too long, and some tests were not run.
    """

    failed: frozenset[str]
    needed: frozenset[str]
    known: int
    is_for_all: bool
    fail_alone: frozenset[str] = frozenset()
    ended_early: bool = False

    @property
    def left_out(self) -> frozenset[str]:
        """The tests that failed and would not have been run."""
        return self.failed - self.needed


def mutants(project: Path, source: str, number: int, seed: int) -> list[Mutant]:
    """Choose lines of a project's sources, and what they are changed to; each compiles."""
    found = []
    texts = {}
    for path in sorted((project / source).rglob("*.py")):
        name = str(path.relative_to(project))
        texts[name] = path.read_text(encoding="utf-8")
        found += [Mutant(name, *changed) for changed in changed_lines(texts[name])]
    random.Random(seed).shuffle(found)  # noqa: S311 - the same ones each time
    right = (each for each in found if compiles(mutated(texts[each.path], each)))
    return list(itertools.islice(right, number))


def changed_lines(text: str) -> Iterator[tuple[int, str]]:
    """Give changes of lines: another operator or value, nothing returned, a statement less."""
    lines = text.splitlines()
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.stmt | ast.expr) or node.lineno != node.end_lineno:
            continue
        line = lines[node.lineno - 1]
        part = line.encode()[node.col_offset : node.end_col_offset].decode()
        before = line.encode()[: node.col_offset].decode()
        after = line.encode()[node.end_col_offset :].decode()
        for changed in changed_parts(node, part):
            if changed != part:
                yield node.lineno, f"{before}{changed}{after}"


def changed_parts(node: ast.AST, part: str) -> Iterator[str]:
    """Give changes of an expression or statement that is on one line."""
    match node:
        case ast.Constant(value=bool(value)):
            yield repr(not value)
        case ast.Constant(value=int(value)):
            yield repr(value + 1)
        case ast.Constant(value=str()) if part[:1] in "'\"" and part[:3] not in ('"""', "'''"):
            yield part[:-1] + "XX" + part[-1]
        case ast.Compare(ops=[ast.Eq() | ast.NotEq() | ast.In() | ast.Is() | ast.Lt() | ast.Gt()]):
            yield f"(not ({part}))"
        case ast.BoolOp(op=ast.And()):
            yield part.replace(" and ", " or ", 1)
        case ast.BoolOp():
            yield part.replace(" or ", " and ", 1)
        case ast.BinOp(op=ast.Add()):
            yield part.replace(" + ", " - ", 1)
        case ast.Return(value=ast.expr()):
            yield "return None"
        case ast.Expr(value=ast.Call()) | ast.Assign() | ast.AugAssign() | ast.Raise():
            yield "pass"


def mutated(text: str, mutant: Mutant) -> str:
    """Change a line of a source."""
    lines = text.splitlines(keepends=True)
    lines[mutant.line - 1] = f"{mutant.text}\n"
    return "".join(lines)


def compiles(text: str) -> bool:
    """Tell whether a source can be run at all."""
    try:
        compile(text, "mutant", "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return False
    return True


def try_mutant(project: Path, mutant: Mutant, number: int) -> Outcome:
    """Change the line, run all tests, and have decided which are needed."""
    path = project / mutant.path
    text = path.read_text(encoding="utf-8")
    write(path, mutated(text, mutant), number)
    try:
        decision = hcoverage.decide(project, project / ".coverage")
        if decision.everything:  # so nothing can be left out, whatever fails
            everything = frozenset(decision.known)
            return Outcome(frozenset(), everything, len(everything), is_for_all=True)
        said, broken = run_all(project, *BARE)
        known = decision.known.items()
        # Where a file cannot be collected, all of its tests fail; all, if pytest cannot begin.
        failed = frozenset(test for test, file in known if broken & {test, file, ALL})
        needed = frozenset(test for test, file in known if decision.reasons(test, file))
        alone = frozenset(
            test for test in failed - needed if run_all(project, *BARE, test)[1] & {test, ALL}
        )
    finally:
        write(path, text, 0)
    ended_early = f"{LONGEST_RUN:.1f} sec" in said  # as pytest-timeout tells it
    return Outcome(
        failed, needed, len(known), is_for_all=False, fail_alone=alone, ended_early=ended_early
    )


def write(path: Path, text: str, number: int) -> None:
    """Write a source of another age, so that nobody takes one mutant's bytecode for another's."""
    path.write_text(text, encoding="utf-8")
    os.utime(path, (BEGAN + 10 * number,) * 2)


def run_all(project: Path, *options: str) -> tuple[str, frozenset[str]]:
    """Run the whole suite; give what it says, and what failed."""
    with tempfile.TemporaryDirectory(prefix="failures-") as directory:
        (Path(directory) / "noting_failures.py").write_text(NOTING, encoding="utf-8")
        noted = Path(directory) / "noted"
        environment = {**hcoverage.unmeasured_environment(os.environ), "NOTED_FAILURES": str(noted)}
        del environment[hcoverage.SESSION_VARIABLE]
        paths = (directory, environment.get("PYTHONPATH"))
        if options[: len(BARE)] == BARE:
            environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        done = subprocess.run(
            [*PYTEST, "-p", "noting_failures", *options],
            cwd=project,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        failures = noted.read_text(encoding="utf-8").splitlines() if noted.exists() else []
    if done.returncode not in (0, 1) and not failures:
        failures = [ALL]
    return done.stdout, frozenset(failures)


def tomlkit(directory: Path) -> tuple[Path, str]:
    """Get the sources and tests of tomlkit, with what its tests need."""
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "download", "--no-deps", "--no-binary=:all:", "--dest", str(directory), TOMLKIT],
        check=True,
    )
    subprocess.run([*pip, "install", "--target", str(directory / "with"), "pyyaml"], check=True)
    os.environ["PYTHONPATH"] = str(directory / "with")
    sys.path.append(str(directory / "with"))  # what is decided here is decided with it, too
    (archive,) = directory.glob("tomlkit-*.tar.gz")
    with tarfile.open(archive) as file:
        file.extractall(directory, filter="data")
    return directory / archive.name.removesuffix(".tar.gz"), "tomlkit"


def shop(directory: Path) -> tuple[Path, str]:
    """Copy the example."""
    left = shutil.ignore_patterns("coverage_data", ".coverage.*", "__pycache__", ".pytest_cache")
    shutil.copytree(ROOT / "examples" / "shop", directory / "shop", ignore=left)
    return directory / "shop", "shop"


PROJECTS: Final = {"tomlkit": tomlkit, "shop": shop}
BEGAN: Final = int(time.time()) - 100_000


def main() -> None:
    """Print what came of it; exit with 1 if a failing test was left out."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("project", choices=PROJECTS)
    parser.add_argument("--mutants", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--at-once", type=int, default=1, help="copies of the project")
    parser.add_argument("--kept", type=Path, help="where outcomes are kept, for a run that goes on")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mutants-") as directory:
        project, source = PROJECTS[options.project](Path(directory))
        (project / ".coveragerc").write_text(RCFILE.format(source=source), encoding="utf-8")
        said, failures = run_all(project, *MEASURED)
        print(said, flush=True)
        if failures:
            sys.exit("it does not pass as it is")
        chosen = mutants(project, source, options.mutants, options.seed)
        projects: queue.Queue[Path] = queue.Queue()
        for number in range(options.at_once):
            projects.put(shutil.copytree(project, Path(directory) / str(number) / project.name))

        kept = read_outcomes(options.kept)

        def tried(numbered: tuple[int, Mutant]) -> Outcome:
            number, mutant = numbered
            if mutant in kept:
                return kept[mutant]
            copy = projects.get()
            try:
                outcome = told(number, mutant, copy)
            finally:
                projects.put(copy)
            keep_outcome(options.kept, mutant, outcome)
            return outcome

        with concurrent.futures.ThreadPoolExecutor(options.at_once) as pool:
            outcomes = list(pool.map(tried, enumerate(chosen, 1)))
    sys.exit(summary(outcomes))


def read_outcomes(path: Path | None) -> dict[Mutant, Outcome]:
    """Read what came of the mutants that were tried before."""
    if path is None or not path.exists():
        return {}
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        mutant, outcome = json.loads(line)
        for name in ("failed", "needed", "fail_alone"):
            outcome[name] = frozenset(outcome[name])
        found[Mutant(**mutant)] = Outcome(**outcome)
    return found


def keep_outcome(path: Path | None, mutant: Mutant, outcome: Outcome) -> None:
    """Add to a file what came of a mutant."""
    if path is not None:
        both = [dataclasses.asdict(mutant), dataclasses.asdict(outcome)]
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(both, default=sorted) + "\n")


def told(number: int, mutant: Mutant, project: Path) -> Outcome:
    """Try a mutant, and tell what came of it."""
    began = time.monotonic()
    outcome = try_mutant(project, mutant, number)
    needed = "all" if outcome.is_for_all else len(outcome.needed)
    lines = [
        f"{number}: {mutant.path}:{mutant.line}: failed {len(outcome.failed)}, needed {needed}",
        f"    {time.monotonic() - began:.1f} s{', ended early' * outcome.ended_early}",
    ]
    for test in sorted(outcome.left_out):
        how = "fails alone, too" if test in outcome.fail_alone else "fails only behind another"
        lines.append(f"    LEFT OUT: {test} ({how}): {mutant.text.strip()}")
    print("\n".join(lines), flush=True)
    return outcome


def summary(outcomes: list[Outcome]) -> int:
    """Print the figures, and give the exit status."""
    shares = [len(each.needed) / each.known for each in outcomes]
    wrong = sum(bool(each.left_out) for each in outcomes)
    alone = sum(bool(each.fail_alone) for each in outcomes)
    breaking = sum(bool(each.failed) for each in outcomes)
    early = sum(each.ended_early for each in outcomes)
    print(
        f"{len(outcomes)} mutants, of which {breaking} are known to break tests\n"
        f"with a failing test left out: {wrong}, with one that fails alone, too: {alone}\n"
        f"took too long for all tests: {early}\n"
        f"all tests are needed for {sum(each.is_for_all for each in outcomes)}, "
        f"none for {sum(not each.needed for each in outcomes)}\n"
        f"needed of all tests: {statistics.mean(shares):.0%} on average, "
        f"{statistics.median(shares):.0%} in the median"
    )
    return int(bool(wrong))


if __name__ == "__main__":
    main()
