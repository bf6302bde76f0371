"""The recorder's branches are those of coverage.py's C tracer, on Python 3.12 and 3.13.

Whole JSON reports are compared, of programs with one construct each, and of random ones. In full,
with 600 random programs, 200 rounds of 64 threads and the standard library's own tests, and on
other Pythons that have coverage.py installed:

    HCOVERAGE_CORPUS=full HCOVERAGE_PYTHONS=/a/bin/python:/b/bin/python \\
        python -m pytest -rP tests/inside/recorder/test_branches_exact.py

The option `-rP` has the counts of statements and branches printed.
"""

from __future__ import annotations

import dis
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import coverage
import pytest
from coverage import CoverageData
from coverage.config import read_coverage_config
from tests.inside.recorder.branch_programs import construct_programs
from tests.inside.recorder.one_by_one import add_to_data
from tests.inside.recorder.random_programs import random_programs
from tests.inside.recorder.test_recorder_contexts import BY_HAND
from tests.inside.recorder.test_recorder_exact import (
    MORE_STDLIB_TESTS,
    NOT_COMPARED,
    STDLIB_TESTS as FEW_STDLIB_TESTS,
)
from tests.sampling import FULL

from hcoverage._inside.recorder_flow import OPCODES, Opcodes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.inside.recorder.conftest import Bench

RANDOM_PROGRAMS: Final = 600 if FULL else 12
ROUNDS: Final = 200 if FULL else 3
OTHERS: Final = [*filter(None, os.environ.get("HCOVERAGE_PYTHONS", "").split(os.pathsep))]
OURS: Final = [sys.executable] if (3, 12) <= sys.version_info < (3, 14) else []
PYTHONS: Final = [*OURS, *OTHERS]
RUN_LIMIT: Final = 600.0  # seconds
STDLIB_TESTS: Final = [
    name
    for name in (*FEW_STDLIB_TESTS, *MORE_STDLIB_TESTS)
    if name not in {*NOT_COMPARED["ctrace"], "test_json", "test_re"}
]

# Runs all programs in one process: starting one for each would take most of the time. Generators
# that garbage holds end at the same moment each time.
RUN_ALL: Final = """\
import builtins, contextlib, gc, glob, io, os
gc.disable()
switch = getattr(builtins, "switch", len)  # where there are contexts
for file in sorted(glob.glob("programs/*.py")):
    switch(file)
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            with open(file) as source:
                code = compile(source.read(), os.path.abspath(file), "exec")
            exec(code, {"__name__": "program", "__file__": os.path.abspath(file)})
        except (Exception, SystemExit):
            pass
    gc.collect(0)
"""

# Generators that garbage holds run on when it is collected, which is at another time each time.
RUN_TESTS: Final = """\
import gc, sys, unittest
gc.disable()
done = unittest.main(module=None, argv=["unittest", "-q", sys.argv[1]], exit=False)
gc.collect()
sys.exit(not done.result.wasSuccessful())
"""

pytestmark = pytest.mark.skipif(not PYTHONS, reason="of Python 3.12 and 3.13")


def assert_same_report(bench: Bench, python: str, *arguments: str) -> None:
    """Run a program under the C tracer, by the bench's rcfile, and under the recorder."""
    rcfile = bench.root / "rcfile"
    if not rcfile.exists():
        bench.write("[run]\nbranch = True\n", "rcfile")
    env = bench.coverage_env | {"COVERAGE_CORE": "ctrace", "PYTHONHASHSEED": "0"}
    if python != sys.executable:
        del env["PYTHONPATH"]  # it has a coverage.py of its own
    traced, recorded = bench.data / ".traced", bench.root / ".recorded"
    begin = [python, "-m", "coverage"]
    run = [*begin, "run", f"--rcfile={rcfile}", f"--data-file={traced}", *arguments]
    expected = _run(bench, run, env)
    settings = read_coverage_config(str(rcfile), warn=pytest.fail)
    branch = str(int(settings.branch))
    measured = bench.env | {"HCOVERAGE_RECORD_BRANCH": branch, "PYTHONHASHSEED": "0"}
    assert _run(bench, [python, *arguments], measured) == expected

    data = CoverageData(basename=str(recorded))
    recordings = bench.read().recordings
    assert recordings
    assert not any(part.damage or part.loss for each in recordings for part in each.segments)
    add_to_data(recordings, data, settings)
    data.close()
    reports = []
    for file in (traced, recorded):
        report = bench.root / "report.json"
        options = [f"--rcfile={rcfile}", "--ignore-errors", f"--data-file={file}", f"-o{report}"]
        subprocess.run([*begin, "json", "--quiet", *options], cwd=bench.root, env=env, check=True)
        reports.append(_in_order(json.loads(report.read_text())))
    assert reports[0]["totals"]["covered_branches" if settings.branch else "covered_lines"]
    assert _differences(*reports) == {}
    totals = reports[0]["totals"]
    assert totals == reports[1]["totals"]
    counts = [f"{totals.get(f'num_{name}', 0)} {name}" for name in ("statements", "branches")]
    print(f"{python} {' '.join(arguments)}: {', '.join(counts)}, no difference")  # noqa: T201 - with -rP


def _run(bench: Bench, command: list[str], env: Mapping[str, str]) -> int:
    return subprocess.run(
        command, cwd=bench.root, env=env, check=False, capture_output=True, timeout=RUN_LIMIT
    ).returncode


def _differences(expected: dict[str, Any], actual: dict[str, Any]) -> dict[str, object]:
    """Tell what differs of each file: a whole report says nothing."""
    found: dict[str, object] = {}
    for name in expected["files"].keys() | actual["files"].keys():
        one, other = expected["files"].get(name, {}), actual["files"].get(name, {})
        if one != other:
            kinds = ("executed_lines", "missing_lines", "executed_branches", "missing_branches")
            found[name] = {
                kind: [each for each in one.get(kind, []) if each not in other.get(kind, [])]
                + [
                    ("only ours", each)
                    for each in other.get(kind, [])
                    if each not in one.get(kind, [])
                ]
                for kind in kinds
            }
            contexts, others = one.get("contexts", {}), other.get("contexts", {})
            found[f"{name}: contexts"] = {
                line: (contexts.get(line), others.get(line))
                for line in contexts | others
                if contexts.get(line) != others.get(line)
            }
    return found


def _in_order(report: dict[str, Any]) -> dict[str, Any]:
    """Give a report whose contexts are sorted: those of a line are in no order."""
    for file in report["files"].values():
        for part in (file, *file.get("functions", {}).values(), *file.get("classes", {}).values()):
            for names in part.get("contexts", {}).values():
                names.sort()
    return report


def _write_all(bench: Bench, programs: Mapping[str, str]) -> None:
    for name, source in programs.items():
        bench.write(source, f"programs/{name}.py")
    bench.write(RUN_ALL, "run_all.py")


@pytest.mark.parametrize("python", PYTHONS)
def test_each_construct(bench: Bench, python: str) -> None:
    _write_all(bench, construct_programs())
    assert_same_report(bench, python, "run_all.py")


@pytest.mark.thorough
@pytest.mark.parametrize("python", PYTHONS)
def test_each_construct_in_a_context_of_its_own(bench: Bench, python: str) -> None:
    _write_all(bench, construct_programs())
    bench.customize(BY_HAND)
    assert_same_report(bench, python, "run_all.py")


@pytest.mark.thorough
@pytest.mark.timeout(3600 if FULL else 300)
@pytest.mark.parametrize("python", PYTHONS)
def test_random_programs(bench: Bench, python: str) -> None:
    _write_all(bench, random_programs(RANDOM_PROGRAMS))
    assert_same_report(bench, python, "run_all.py")


@pytest.mark.thorough
@pytest.mark.timeout(2 * RUN_LIMIT)
@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("name", STDLIB_TESTS if FULL else ("test_contextlib", "test_with"))
def test_standard_library_tests(bench: Bench, python: str, name: str) -> None:
    find = [python, "-c", "import os; print(os.path.dirname(os.__file__))"]
    directory = Path(subprocess.check_output(find, text=True).strip(), "test")
    if (directory / name).is_dir():
        shutil.copytree(directory / name, bench.root / name)
    elif (directory / f"{name}.py").is_file():
        shutil.copy(directory / f"{name}.py", bench.root)
    else:
        pytest.skip("this Python comes without it")
    bench.write(RUN_TESTS, "run_tests.py")
    assert_same_report(bench, python, "run_tests.py", name)


@pytest.mark.skipif(not OURS, reason="of Python 3.12 and 3.13")
def test_opcodes_are_those_of_this_python() -> None:
    names = (
        "EXTENDED_ARG",
        *("POP_JUMP_IF_FALSE", "POP_JUMP_IF_TRUE", "POP_JUMP_IF_NONE", "POP_JUMP_IF_NOT_NONE"),
        *("FOR_ITER", "JUMP_FORWARD", "JUMP_BACKWARD", "JUMP_BACKWARD_NO_INTERRUPT", "SEND"),
        *("RETURN_VALUE", "RETURN_CONST", "RAISE_VARARGS", "RERAISE", "END_FOR", "END_SEND"),
        *("END_ASYNC_FOR", "RESUME", "MAKE_FUNCTION", "NOP"),
    )
    known = OPCODES[sys.version_info[0], sys.version_info[1]]
    these = Opcodes({name: dis.opmap[name] for name in names}, known.after_for)
    assert vars(known) == vars(these)
    jumps = {opcode for opcode in {*dis.hasjrel, *dis.hasjabs} if opcode < 256}
    instrumented = {dis.opmap[name] for name in dis.opmap if name.startswith("INSTRUMENTED")}
    assert known.jumps == jumps - instrumented


# Each time it is other code: of what one round lost, another would tell.
THREADS: Final = """\
import sys, threading
sys.setswitchinterval(1e-6)
def f(n):
    if n % 7 == 3:
        x = 1
    if n >= 0:
        x = 2
    for i in range(n % 3):
        if i:
            continue
    try:
        if n % 5 == 4:
            raise ValueError
    except ValueError:
        x = 3
    return n
threads = [threading.Thread(target=f, args=(n,)) for n in range(64)]
for each in threads:
    each.start()
for each in threads:
    each.join()
"""


@pytest.mark.timeout(3600 if FULL else 300)
@pytest.mark.parametrize("python", PYTHONS)
def test_threads_lose_no_arc_and_make_none(bench: Bench, python: str) -> None:
    _write_all(bench, {f"threads_{number}": THREADS for number in range(ROUNDS)})
    assert_same_report(bench, python, "run_all.py")


def test_at_the_edge_of_the_stack(bench: Bench) -> None:
    bench.write(
        "def f(n):\n"
        "    if n >= 0:\n"
        "        f(n + 1)\n"
        "    return n\n"
        "for _ in range(3):\n"
        "    try:\n"
        "        f(0)\n"
        "    except RecursionError:\n"
        "        x = 1\n",
        "app.py",
    )
    assert_same_report(bench, PYTHONS[0], "app.py")


assert coverage.__file__  # what `coverage_env` puts on the path
