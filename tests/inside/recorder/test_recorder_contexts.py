"""What a process runs is attributed to what it runs for: told by hand, or in a file it follows."""

from __future__ import annotations

import os
import platform
import sys
from typing import TYPE_CHECKING, Final

import pytest

from hcoverage._read.branches import lines_that_ran, opcodes_of
from hcoverage._session.context_file import ContextFile

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    from .conftest import Bench

pytestmark = pytest.mark.skipif(sys.version_info < (3, 12), reason="the recorder needs 3.12")

BY_HAND: Final = """\
import builtins, hcrecorder, hcrecorder_contexts
hcrecorder.start()
builtins.switch = hcrecorder_contexts.by_hand(hcrecorder).switch
"""
FOLLOWING: Final = """\
import os, hcrecorder, hcrecorder_contexts, hccontext_reader
hcrecorder.start()
try:
    reader = hccontext_reader.ContextReader(os.environ["FOLLOWED"])
except (OSError, ValueError):
    reader = None
hcrecorder_contexts.follow(hcrecorder, reader, "its own")
"""
ANSWER: Final = """\
def even(x):
    return x

def odd(x):
    if x > 5:
        return x
    return -x

print("up", flush=True)
for line in iter(input, "end"):
    number = int(line)
    even(number) if number % 2 == 0 else odd(number)
    print("done", flush=True)
"""


needs_lines_looked_up = pytest.mark.skipif(
    sys.version_info >= (3, 14), reason="LINE events are fast from Python 3.14 on"
)


@pytest.fixture(
    params=[
        "lines",
        pytest.param("instructions before", marks=needs_lines_looked_up),
        "branches",
    ]
)
def bench(bench: Bench, request: pytest.FixtureRequest) -> Bench:
    """A place to run measured programs, with the parts for contexts."""
    if request.param == "branches":
        bench.env["HCOVERAGE_RECORD_BRANCH"] = "1"
    if request.param == "instructions before":
        with (bench.site / "hcrecorder.py").open("a", encoding="utf-8") as file:
            file.write("\n_LONG_LINE_TABLES = (0, 0)\n")
    bench.customize(BY_HAND)
    return bench


def by_context(bench: Bench, name: str = "app.py") -> dict[str, set[int]]:
    """Give the lines of a program that ran in each context."""
    path = os.path.realpath(bench.root / name)
    opcodes = opcodes_of(platform.python_version())
    found: dict[str, set[int]] = {}
    for recording in bench.read().recordings:
        for source in recording.sources:
            lines = {*source.lines}
            if opcodes:
                lines.update(lines_that_ran(source.branching, opcodes))
            if source.path == path and lines:
                found.setdefault(source.context, set()).update(lines)
    return found


class TestByHand:
    def test_each_line_is_in_all_contexts_that_ran_it(self, bench: Bench) -> None:
        app = bench.write(
            "def both():\n    return 1\ndef one():\n    return both()\n"
            "switch('a')\none()\nboth()\nswitch('b')\nboth()\nswitch('')\nboth()\n"
        )
        bench.run(app)
        assert by_context(bench) == {"": {1, 3, 5, 2, 11}, "a": {6, 4, 2, 7, 8}, "b": {9, 2, 10}}

    def test_functions_in_one_line_are_in_all_contexts_that_ran_them(self, bench: Bench) -> None:
        app = bench.write(
            "def f(x): return x\ng = lambda: 1\n"
            "def h(): return sum(x if x else 2 for x in (1,)) + g()\n"
            "for name in 'abc':\n    switch(name)\n    f(1)\n    h()\n"
        )
        bench.run(app)
        found = by_context(bench)
        assert {name: found[name] & {1, 2, 3} for name in "abc"} == {
            name: {1, 2, 3} for name in "abc"
        }

    def test_functions_of_one_name_are_told_apart(self, bench: Bench) -> None:
        """Two of one name, in turn and together, a generator of one that was begun before."""
        app = bench.write(
            "def f():\n    return 1\none = f\n"
            "def f():\n    yield 2\n    yield 3\ntwo = f()\nnext(two)\n"
            "def f():\n    return 4\n"
            "switch('a')\none(); f()\nswitch('b')\nf(); one()\nswitch('c')\none(); next(two)\n"
            "switch('d')\nf()\nswitch('e')\none(); f()\n"
        )
        bench.run(app)
        found = by_context(bench)
        named = {name: found[name] & {2, 5, 6, 10} for name in "abcde"}
        assert named == {"a": {2, 10}, "b": {2, 10}, "c": {2, 6}, "d": {10}, "e": {2, 10}}

    def test_a_fork_goes_on_in_its_parents_context(self, bench: Bench) -> None:
        app = bench.write(
            "import os\ndef here():\n    return 1\nswitch('a')\npid = os.fork()\n"
            "if pid:\n    os.waitpid(pid, 0)\nelse:\n    here()\n    switch('b')\n    here()\n"
            "    os._exit(0)\n"
        )
        bench.run(app, stderr=None)
        found = by_context(bench)
        assert found["a"] == {5, 6, 7, 9, 3, 10}
        assert found["b"] == {11, 3, 12}

    def test_a_function_too_long_for_line_events(self, bench: Bench) -> None:
        body = "    x = 1\n" * 12_000
        bench.write(f"def long():\n{body}switch('a')\nlong()\nswitch('b')\nlong()\n")
        bench.run("app.py")
        ran = set(range(2, 12_002))
        found = by_context(bench)
        assert found["a"] - {12_002, 12_004} == {*ran, 12_003}
        assert found["b"] - {12_004} == {*ran, 12_005}

    def test_lines_past_the_room_of_their_file(self, bench: Bench) -> None:
        app = bench.write(
            "code = compile('\\n' * 5000 + 'x = 1', __file__, 'exec')\n"
            "for name in 'ab':\n    switch(name)\n    exec(code)\n"
        )
        bench.run(app)
        found = by_context(bench)
        assert 5001 in found["a"]
        assert 5001 in found["b"]

    def test_a_thousand_contexts_in_many_segments(self, bench: Bench) -> None:
        app = bench.write(
            "def here():\n    return 1\nfor number in range(1000):\n    switch(str(number))\n"
            "    here()\n"
        )
        bench.run(app)
        found = by_context(bench)
        assert all({2, 5} <= found[str(number)] for number in range(1000))


class TestFollowing:
    def ask(self, process: subprocess.Popen[str], word: str) -> str:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{word}\n")
        process.stdin.flush()
        return process.stdout.readline().strip()

    def test_what_it_does_meanwhile_is_attributed_though_it_is_killed(
        self, bench: Bench, wait_line: Callable[[subprocess.Popen[str]], str]
    ) -> None:
        bench.customize(FOLLOWING)
        file = ContextFile.made(bench.data)
        app = bench.write(ANSWER)
        env = {**bench.env, "FOLLOWED": str(file.path)}
        with bench.start(app, env=env, stdin=-1) as process:
            assert wait_line(process) == "up"
            for context, number in (("a", 2), ("b", 7), ("a", 4), ("c", 1)):
                file.publish(context)
                assert self.ask(process, str(number)) == "done"
            process.kill()
        found = by_context(bench)
        assert {2} <= found["a"]
        assert not {5, 6, 7} & found["a"]
        assert {5, 6} <= found["b"]
        assert not {2, 7} & found["b"]
        assert {5, 7} <= found["c"]
        assert not {2, 6} & found["c"]

    @pytest.mark.parametrize("what", ["nothing", "empty", "fifo", "link", "directory"])
    def test_what_is_no_such_file_leaves_the_context_it_was_started_in(
        self, bench: Bench, what: str, tmp_path: Path
    ) -> None:
        bench.customize(FOLLOWING)
        path = tmp_path / "followed"
        if what == "empty":
            path.touch()
        elif what == "fifo":
            os.mkfifo(path)
        elif what == "link":
            path.symlink_to(ContextFile.made(bench.data).path)
        elif what == "directory":
            path.mkdir()
        bench.run(bench.write("x = 1\n"), env={**bench.env, "FOLLOWED": str(path)})
        assert by_context(bench) == {"its own": {1}}

    @pytest.mark.parametrize("at", [8, 12, 16])
    def test_what_is_damaged_or_half_written_is_not_believed(self, bench: Bench, at: int) -> None:
        bench.customize(FOLLOWING)
        file = ContextFile.made(bench.data)
        file.publish("a")
        with file.path.open("r+b") as damaged:
            damaged.seek(at)
            damaged.write(b"\xff\xff")
        bench.run(bench.write("x = 1\n"), env={**bench.env, "FOLLOWED": str(file.path)})
        assert by_context(bench) == {"": {1}}


def test_all_contexts_together_are_what_runs_without_them(bench: Bench) -> None:
    program = (
        "import json.decoder\n{}\nclass A:\n    def f(self):\n"
        "        return [x for x in range(3)]\n"
        "def g(n):\n    yield n\n    while n:\n        n -= 1\n        yield n\n"
        "for i in range(4):\n    {}\n    A().f()\n    list(g(i))\n"
    )
    bench.run(bench.write(program.format("switch('x')", "switch(str(i))"), "with.py"))
    bench.run(bench.write(program.format("x = 1", "y = 1"), "without.py"))
    assert bench.lines("with.py") == bench.lines("without.py")


@pytest.mark.parametrize("bench", ["lines"], indirect=True)
def test_requests_of_more_names_than_are_told_apart_are_told(bench: Bench) -> None:
    bench.customize(
        FOLLOWING + "import hcrecorder_requests\nhcrecorder_requests._MOST_NAMES = 1\n"
        "import builtins\nof_process = hcrecorder_requests.of_process\n"
        "builtins.requests = of_process(hcrecorder, hcrecorder_contexts.current)\n"
    )
    bench.write("print([requests.begin(name) is not None for name in ('one', 'two', 'one')])\n")
    env = {**bench.env, "FOLLOWED": "/nowhere"}
    assert bench.run("app.py", env=env) == "[True, False, True]\n"
    losses = [segment.loss for segment in bench.only().segments if segment.loss]
    assert [os.strerror(loss.error) for loss in losses] == ["Argument list too long"]
