"""An audit hook of the application sees none of what we do, or can refuse it without a trace.

The program has code of many sources ready before its hook is there, and then runs it, so that each
event that its hook sees is one of ours. What is refused cannot be recorded, and is told. CI takes
the events that we cause; others that a change may cause, too, with

    HCOVERAGE_CORPUS=full python -m pytest tests/inside/guest/test_audit_hooks.py
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

import pytest
from tests.sampling import FULL

if TYPE_CHECKING:
    from pathlib import Path

    from tests.inside.guest.conftest import Guests

pytestmark = pytest.mark.skipif(sys.version_info < (3, 12), reason="needs sys.monitoring")

OURS: Final = ("open", "mmap.__new__", "everything")
# What the recorder has caused at one time or another.
EVENTS: Final = (
    "open", "mmap.__new__", "sys._getframe", "object.__getattr__", "os.chmod", "os.rename",
    "os.remove", "import", "exec", "marshal.loads", "compile", "code.__new__", "function.__new__",
    "sys.monitoring.register_callback", "os.listdir", "everything",
)  # fmt: skip
HOW: Final = ("Exception", "OSError", "SystemExit", "KeyboardInterrupt", "Own")
MODULE: Final = "def f(n):\n    return n\n"
APP: Final = """\
import os, sys, types
how, count, forks = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "fork"
events = sys.argv[4:]
class Own(BaseException): pass
error = {"Own": Own}.get(how) or getattr(__builtins__, how, None)
functions = []
for number in range(count):
    path = os.path.join(os.getcwd(), "modules", f"m{number}.py")
    code = compile(open(path).read(), path, "exec").co_consts[0]
    functions.append(types.FunctionType(code, {"__name__": f"modules.m{number}", "__file__": path}))
seen = []
on = [False]
def hook(event, args):
    if on[0]:
        if not error:
            seen.append(event)
        elif event in events or events == ["everything"]:
            raise error("refused")
sys.addaudithook(hook)
fork, leave, wait = os.fork, os._exit, os.waitpid
if forks:
    pid = fork()
    if pid:
        sys.exit(os.waitstatus_to_exitcode(wait(pid, 0)[1]))
on[0] = True
try:
    total = sum([f(n) for n, f in enumerate(functions)])
finally:
    on[0] = False
print(total, seen)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The program, and sources that it runs code of; those that are new would be read."""
    project = tmp_path / "project"
    (project / "modules").mkdir(parents=True)
    (project / "app.py").write_text(APP)
    for number in range(300):
        (project / f"modules/m{number}.py").write_text(MODULE)
    return project


@pytest.mark.parametrize("when", ["at once", "fork"])
def test_a_hook_sees_nothing_of_ours(guests: Guests, when: str) -> None:
    bare, measured = guests.both("app.py", "see", "8", when)
    assert bare.status == 0
    assert measured == bare
    assert guests.lines(guests.project / "modules/m7.py") == {2}


@pytest.mark.parametrize("context", [{}, {"HCOVERAGE_CONTEXT": "a test"}], ids=["all", "a test"])
def test_a_hook_sees_nothing_of_branches(branching: Guests, context: dict[str, str]) -> None:
    """Asking `id` for a code object would be audited."""
    branching.measured.update(context)
    # Of as many sources as the first file of a recording has room for.
    bare, measured = branching.both("app.py", "see", "2", "at once")
    assert measured == bare
    assert branching.read().recordings


def test_a_hook_sees_nothing_of_contexts(guests: Guests) -> None:
    guests.measured["HCOVERAGE_CONTEXT"] = "a test"
    bare, measured = guests.both("app.py", "see", "8", "at once")
    assert measured == bare
    assert guests.lines(guests.project / "modules/m7.py") == {2}


@pytest.mark.parametrize("how", ["Exception", "Own"])
def test_a_hook_may_refuse_the_coverage_core_anything(covered: Guests, how: str) -> None:
    """It finds each line's source by looking at a frame, which is audited."""
    for event in ("object.__getattr__", "everything"):
        bare, measured = covered.both("app.py", how, "8", "at once", event)
        assert bare.status == 0, event
        assert measured == bare, event


@pytest.mark.thorough
@pytest.mark.sampled
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("when", ["at once", "fork"])
def test_a_hook_may_refuse_us_anything(guests: Guests, how: str, when: str) -> None:
    """Of so many sources that the first file has no room for them."""
    arguments = ("app.py", how, "300", when)
    bare = guests.run(guests.bare, *arguments, "everything")
    assert bare.status == 0
    for event in EVENTS if FULL else OURS:
        assert guests.run(guests.measured, *arguments, event) == bare, event
    losses = [part.loss for each in guests.read().recordings for part in each.segments if part.loss]
    assert losses
