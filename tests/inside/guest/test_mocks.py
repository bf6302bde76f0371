"""An application's mock is never called by us, and what it does reaches nobody through us.

Each function of the interpreter's own modules is replaced, one at a time, in five ways and at four
moments, while code runs that is new to the recorder. What the program then sees has to be what it
sees unmeasured: how often the mock was called, and what came out of an import. CI takes the
functions that a guest has a use for; all of them, 20,000 cells in five minutes, with

    HCOVERAGE_CORPUS=full python -m pytest tests/inside/guest/test_mocks.py
"""

from __future__ import annotations

import collections
import os
import re
import sys
from typing import TYPE_CHECKING, Final

import pytest
from tests.sampling import FULL

if TYPE_CHECKING:
    from tests.inside.guest.conftest import Guests

pytestmark = pytest.mark.skipif(sys.version_info < (3, 12), reason="needs sys.monitoring")

KINDS: Final = ("plain", "nonsense", "raises", "fails", "counts", "slow")
MOMENTS: Final = ("import", "thread", "fork before", "fork after")
MOST: Final = 1500  # functions that a Python has in those modules
# What the recorder calls, and what somebody who changes it would: by each name that it has.
OFTEN: Final = tuple(
    f"{module}.{name}"
    for modules, names in (
        (
            ("os", "posix"),
            (
                "close dup fchmod fspath fstat getcwd getpid getppid lstat open posix_fallocate "
                "pwrite read readlink register_at_fork rename stat uname unlink urandom write"
            ),
        ),
        (("os",), "fsencode fsdecode getenv"),
        (("posixpath",), "abspath basename dirname exists join normpath realpath split"),
        (
            ("builtins",),
            (
                "__import__ any bool bytes dict exec filter frozenset getattr globals hasattr id "
                "int isinstance issubclass iter len list map max memoryview min next open range "
                "repr set setattr sorted str sum super tuple type vars zip"
            ),
        ),
        (("sys",), "_getframe audit exc_info getfilesystemencoding gettrace intern"),
        (("sys.monitoring",), "free_tool_id get_tool set_events set_local_events use_tool_id"),
        (("time",), "monotonic time time_ns"),
        (("mmap",), "mmap"),
        (("_signal", "signal"), "pthread_sigmask sigtimedwait"),
        (("marshal",), "loads"),
        (("_thread",), "allocate_lock get_ident start_new_thread"),
        (("zlib", "binascii"), "crc32"),
        (("struct",), "pack unpack"),
    )
    for name in names.split()
    for module in modules
)
MODULE: Final = """\
x = 1
def f(n):
    return [k for k in range(n)]
class C:
    def g(self):
        return 2
"""
# Prints one line for each function: how often the replacement was called, and what came out.
APP: Final = """\
import builtins
import importlib
import sys

KIND, MOMENT, CHOSEN = sys.argv[1], sys.argv[2], sys.argv[3:]
MODULES = (
    "builtins", "posix", "os", "posixpath", "sys", "time", "mmap", "_signal", "signal", "marshal",
    "_thread", "threading", "_imp", "errno", "stat", "struct", "zlib", "binascii", "_io", "io",
    "sys.monitoring", "gc", "atexit", "warnings", "json", "base64", "socket", "sqlite3", "types",
)
# Replacing these breaks this program itself, measured or not.
LEFT_ALONE = {"builtins.__build_class__", "_imp.acquire_lock", "_imp.release_lock"}


def module_of(name):
    if name == "sys.monitoring":
        return sys.monitoring
    return importlib.import_module(name)


def targets():
    for name in MODULES:
        module = module_of(name)
        for attribute in sorted(dir(module)):
            value = getattr(module, attribute)
            target = f"{name}.{attribute}"
            is_error = isinstance(value, type) and issubclass(value, BaseException)
            if callable(value) and not is_error and target not in LEFT_ALONE:
                if not attribute.startswith("__") or attribute in ("__import__",):
                    yield target, module, attribute, value


class Refused(Exception):
    pass


calls = [0]


def make_fake(kind, real):
    count = calls

    def plain(*args, **kwargs):
        return None

    def nonsense(*args, **kwargs):
        return count

    def raises(*args, **kwargs):
        raise Refused("no")

    def fails(*args, **kwargs):
        raise OSError(28, "no space")

    def counts(*args, **kwargs):
        count[0] += 1
        return real(*args, **kwargs)

    def slow(*args, **kwargs):
        count[0] += 1
        for _ in (1, 2, 3) * 1000:
            pass
        return real(*args, **kwargs)

    return locals()[kind]


def work(number, late=__import__):
    module = late("modules.m%d" % number, fromlist=["f"])
    module.f(3)
    module.C().g()
    return module.x


def said(error):
    return "fine" if error is None else f"{type(error).__name__}: {error}"


def attempt(number, result, work=work):
    try:
        work(number)
    except BaseException as error:
        result.append(error)


def in_import(number, patch, restore):
    result = []
    patch()
    try:
        attempt(number, result)
    finally:
        restore()
    return result


def in_thread(number, patch, restore):
    import _thread

    result, go, gone = [], _thread.allocate_lock(), _thread.allocate_lock()
    acquire_go, release_gone = go.acquire, gone.release
    acquire_go()
    gone.acquire()

    def run():
        acquire_go()
        try:
            attempt(number, result)
        finally:
            release_gone()

    _thread.start_new_thread(run, ())
    release_go, acquire_gone = go.release, gone.acquire
    patch()
    try:
        release_go()
        acquire_gone()
    finally:
        restore()
    return result


def forks(before):
    import os

    fork, leave, wait, pipe, write, read = os.fork, os._exit, os.waitpid, os.pipe, os.write, os.read
    encode, say, close = str.encode, said, os.close

    def in_fork(number, patch, restore):
        result = []
        out, into = pipe()
        if before:
            patch()
        try:
            pid = fork()
        except BaseException as error:
            restore()
            close(out)
            close(into)
            return [error]
        if pid == 0:
            try:
                if before:
                    restore()
                else:
                    patch()
                try:
                    attempt(number, result)
                finally:
                    restore()
                write(into, encode(f"{calls[0]} {say(result[0] if result else None)}"))
            finally:
                leave(0)
        restore()
        close(into)
        told = read(out, 9999).decode()
        wait(pid, 0)
        close(out)
        return [told]

    return in_fork


MOMENTS = {
    "import": in_import,
    "thread": in_thread,
    "fork before": forks(before=True),
    "fork after": forks(before=False),
}


def main():
    importlib.import_module("gc").disable()  # its time depends on what is measured
    importlib.import_module("modules")
    done = MOMENTS[MOMENT]
    set_, out = builtins.setattr, []
    wanted = [each for each in targets() if not CHOSEN or each[0] in CHOSEN]
    for number, (target, module, attribute, value) in enumerate(wanted):
        fake = make_fake(KIND, value)
        calls[0] = 0
        result = done(
            number,
            lambda: set_(module, attribute, fake),
            lambda: set_(module, attribute, value),
        )
        shown = result[0] if result else None
        text = shown if isinstance(shown, str) else said(shown)
        out.append(f"{target}: {calls[0]} {text}")
    print("\\n".join(out))


main()
"""


@pytest.fixture
def app(guests: Guests) -> Guests:
    """The program, and modules of which each is imported once."""
    _write_app(guests)
    return guests


def _write_app(guests: Guests) -> None:
    guests.write("app.py", APP)
    guests.write("modules/__init__.py", "")
    for number in range(MOST if FULL else len(OFTEN)):
        guests.write(f"modules/m{number}.py", MODULE)


@pytest.mark.sampled
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "moment",
    [
        moment if moment == "import" else pytest.param(moment, marks=pytest.mark.thorough)
        for moment in MOMENTS
    ],
)
def test_no_mock_is_called_by_us(app: Guests, kind: str, moment: str) -> None:
    bare, measured = app.both("app.py", kind, moment, *(() if FULL else OFTEN))
    cells = bare.out.splitlines()
    assert len(cells) > len(OFTEN) // 2
    assert measured.out.splitlines() == cells
    assert measured == bare
    fine = [number for number, cell in enumerate(cells) if cell.endswith(" fine")]
    assert fine
    ran = collections.Counter(
        os.path.basename(source.path)  # noqa: PTH119 - there are thousands
        for recording in app.read().recordings
        for source in recording.sources
        if {1, 2, 3, 4, 5, 6} <= source.lines or moment == "fork after"
    )
    assert [number for number in fine if f"m{number}.py" not in ran] == []


@pytest.mark.sampled
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "moment",
    [
        moment if moment == "import" else pytest.param(moment, marks=pytest.mark.thorough)
        for moment in MOMENTS
    ],
)
def test_coverage_core_calls_no_mock_that_coverage_does_not(
    covered: Guests, kind: str, moment: str
) -> None:
    """coverage.py calls what it calls; we add no call, and keep back what is raised in one."""
    _write_app(covered)
    chosen = () if FULL else OFTEN
    # Its own hook, told the same.
    asked = {k: v for k, v in covered.measured.items() if k.startswith("COVERAGE_PROCESS_")}
    assert asked
    alone = covered.run({**covered.bare, **asked}, "app.py", kind, moment, *chosen)
    bare, measured = covered.both("app.py", kind, moment, *chosen)
    assert len(alone.out.splitlines()) > len(OFTEN) // 2
    calls = [re.match(r"\S+ \d*", each) for each in alone.out.splitlines()]
    outcomes = [re.sub(r"\S+ \d*", "", each, count=1) for each in bare.out.splitlines()]
    for ours, n, outcome in zip(measured.out.splitlines(), calls, outcomes, strict=True):
        assert n
        assert ours == n[0] + outcome
    # What coverage.py prints of its own failures goes through our frames at the end.
    assert measured.status == alone.status


def test_a_mock_that_stays_until_the_end_is_not_called(guests: Guests) -> None:
    """From the first line to the last, through all that runs when a process ends."""
    names = [name for name in OFTEN if name.startswith(("os.", "builtins.len", "builtins.int"))]
    guests.write("late.py", MODULE)
    guests.write(
        "app.py",
        "import os, sys, builtins\n"
        "calls = []\n"
        "for name in sys.argv[1:]:\n"
        "    module, name = name.split('.')\n"
        "    module = sys.modules[module]\n"
        "    if name in ('fspath', 'fsencode', 'fsdecode'): continue\n"
        "    def fake(*args, name=name, real=getattr(module, name), note=calls.append, **kwargs):\n"
        "        note(name)\n"
        "        return real(*args, **kwargs)\n"
        "    if type(getattr(module, name)) is not type: setattr(module, name, fake)\n"
        "import late\n"
        "late.f(3)\n"
        "print(calls)\n",
    )
    bare, measured = guests.both("app.py", *names)
    assert measured == bare
    assert guests.lines(guests.project / "late.py") == {1, 2, 3, 4, 5}
