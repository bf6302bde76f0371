"""What coverage.py's C tracer sees is on record at once, and the application notices nothing."""

from __future__ import annotations

import ast
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Final

import coverage
import pytest
from tests.sampling import FULL

import hcoverage
from hcoverage._errors import NoDataError
from hcoverage._inside import autosave, coverage_marks

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

# Each system call of the end takes longer than a test that hangs may.
pytestmark = [pytest.mark.timeout(0)] if FULL else []


# Branches both ways, loops, a generator, exceptions that are caught and passed on, `with`,
# `finally`, a class, a comprehension, a thread, code compiled anew, lines that have no source.
WORK: Final = """\
import sys, threading, helper

class Thing:
    def turn(self, n):
        for i in range(n):
            if i % 2:
                yield i
            elif i > 100:
                raise KeyError

def run(found):
    for x in Thing().turn(5):
        try:
            helper.check(x)
        except ValueError:
            pass
        finally:
            found.append(x)
    with threading.Lock():
        squares = [x * x for x in found if x > 1]
    while len(squares) < 3:
        squares.append(0)
        if len(squares) == 2:
            continue
    try:
        helper.check(9)
    except (KeyError, ValueError) as error:
        return str(error) or (
            squares
        )

threads = [threading.Thread(target=run, args=([],)) for _ in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
pairs = (lambda: {
    1: 2
})()
exec(compile("\\n" * 400 + "late = 1\\n", helper.__file__, "exec"))
helper.after()
end = __import__("os").kill if len(sys.argv) > 1 else max
end(__import__("os").getpid(), 9)
"""
HELPER: Final = "def check(x):\n    if x > 2:\n        raise ValueError\n    return x\n"
HELPER_AFTER: Final = "def after():\n    return 1\n"


@pytest.fixture(autouse=True)
def project(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    clean_environment: None,  # noqa: ARG001 - before a session is opened
) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "app.py").write_text(WORK)
    (tmp_path / "helper.py").write_text(HELPER + HELPER_AFTER)
    return tmp_path


@contextlib.contextmanager
def opened(settings: str = "") -> Iterator[hcoverage.Session]:
    Path(".coveragerc").write_text(f"[run]\nparallel = True\n{settings}")
    with hcoverage.open_session(core="coverage") as session:
        yield session
        for file in session.data_dir.glob("*"):
            file.unlink()


def run(session: hcoverage.Session, *arguments: str, status: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        env=session.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (status, "")
    return done.stdout


def run_bare(session: hcoverage.Session, *arguments: str) -> str:
    environment = {**session.environment, "HCOVERAGE_SESSION": ""}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout


def merged(session: hcoverage.Session) -> dict[str, tuple[set[object], dict[int, list[str]]]]:
    """Merge what is there, and give what is measured."""
    target = Path("merged").absolute()
    target.unlink(missing_ok=True)
    assert hcoverage.combine([session.data_dir], data_file=target).set_aside == ()
    return measured(target)


def measured(file: str | Path) -> dict[str, tuple[set[object], dict[int, list[str]]]]:
    """Give the arcs or lines of each source in a data file, and the contexts of each line."""
    data = coverage.CoverageData(str(file))
    data.read()
    found = {
        Path(name).name: (
            {*((data.arcs(name) if data.has_arcs() else data.lines(name)) or ())},
            {line: sorted(who) for line, who in data.contexts_by_lineno(name).items()},
        )
        for name in data.measured_files()
    }
    data.close(force=True)
    return found


SETTINGS: Final = ["", "branch = True\n", "context = nightly\n"]


@pytest.mark.parametrize("settings", SETTINGS)
def test_a_process_that_is_killed_at_once_has_lost_nothing(settings: str) -> None:
    with opened(settings) as session:
        run(session, "app.py", "and be killed", status=-9)
        assert not list(session.data_dir.glob(".coverage.*.*"))
        killed = merged(session)
    with opened(settings) as session:
        run(session, "app.py")
        last = len(WORK.splitlines())
        ended = merged(session)
    for name, (measured, contexts) in killed.items():
        # A recording has lines beside arcs; in data of branches they are arcs that no branch has.
        of_lines = {(start, line) for line in range(500) for start in (-1, line)}
        assert measured - of_lines == ended[name][0] - {(last, -1), *of_lines}
        assert contexts == {line: who for line, who in ended[name][1].items() if line > 0}


# Contexts that come again, and in which code goes on that has begun before: a loop, a generator;
# code without a source, and functions that one context has made for the next.
IN_CONTEXTS: Final = """\
import os, sys, helper

def slowly():
    yield 1
    if helper.check(1):
        yield 2
    yield 3

def test_one(n):
    for x in range(n):
        if x % 2:
            helper.check(x)
    return next(steps)

def test_two(n):
    def later():
        return n > 1 and test_one(n)
    exec(compile("\\n" * 40 + "late = 1\\n", helper.__file__, "exec"))
    functions.append(later)
    return [each() for each in functions]

functions = []
steps = slowly()
for n in range(3):
    test_one(n)
    helper.after()
    try:
        test_two(n)
    except StopIteration:
        pass
end = os.kill if len(sys.argv) > 1 else max
end(os.getpid(), 9)
"""


@pytest.mark.parametrize("settings", SETTINGS)
def test_dynamic_contexts_are_those_of_coverage_itself_though_it_is_killed(settings: str) -> None:
    Path("app.py").write_text(IN_CONTEXTS)
    with opened(f"{settings}dynamic_context = test_function\n") as session:
        run(session, "app.py", "and be killed", status=-9)
        killed = merged(session)
        for file in session.data_dir.glob("*.hcrec"):
            file.unlink()
        run(session, "app.py")
        assert not list(session.data_dir.glob(".coverage.*.*"))
        ended = merged(session)
    command = [sys.executable, "-m", "coverage", "run", "app.py"]
    subprocess.run(command, env={**os.environ, "COVERAGE_CORE": "ctrace"}, check=True)
    hcoverage.combine(["."], data_file="alone")
    alone = measured("alone")
    for name, (_, contexts) in alone.items():
        expected = {line: who for line, who in contexts.items() if line > 0}
        assert (killed[name][1], ended[name][1]) == (expected, expected)
        # A recording has lines beside arcs; in data of branches they are arcs that no branch has.
        of_lines = {(start, line) for line in range(500) for start in (-1, line)}
        assert ended[name][0] - of_lines == alone[name][0] - of_lines


def test_what_ends_well_leaves_a_data_file_of_coverage_alone() -> None:
    with opened() as session:
        run(session, "helper.py")
        (file,) = session.data_dir.glob("*[!c]")
        assert file.name.startswith(".coverage.")


LOOKS: Final = {
    "threads": "import os, threading\nprint(threading.active_count(), threading.enumerate())\n"
    "print(os.listdir('/proc/self/task') == [str(os.getpid())])\n",
    "descriptors": "import os\nprint(sorted(os.listdir('/proc/self/fd')))\n",
    "signals": "import signal\nprint([signal.getsignal(n) for n in sorted(signal.valid_signals())])"
    "\nprint(signal.pthread_sigmask(signal.SIG_BLOCK, ()), signal.sigpending())\n",
    "fork": "import os\nprint(os.fork, os.forkpty)\n",
    "a user namespace of its own": "import ctypes\n"
    "print(ctypes.CDLL(None, use_errno=True).unshare(0x10000000), ctypes.get_errno())\n",
}


@pytest.mark.sampled
@pytest.mark.parametrize("settings", SETTINGS[:2])
@pytest.mark.parametrize("what", LOOKS)
def test_the_application_finds_as_without_us(what: str, settings: str) -> None:
    program = LOOKS[what]
    Path("looks.py").write_text(program.replace("(threading.enumerate())", "()"))
    with opened(settings) as session:
        measured = run(session, "-X", "dev", "looks.py")
        bare = run_bare(session, "-X", "dev", "looks.py")
    assert _without_addresses(measured) == _without_addresses(bare)


def _without_addresses(text: str) -> list[str]:
    return [word for word in text.split() if not word.strip("]>)").isdigit() or len(word) < 6]


@pytest.mark.parametrize("settings", SETTINGS[:2])
def test_a_child_with_a_data_file_of_its_own_is_measured(settings: str) -> None:
    Path("parent.py").write_text(
        "import os, subprocess, sys\n"
        "subprocess.run([sys.executable, 'helper.py'], env={**os.environ, 'COVERAGE_FILE': 'own'})"
    )
    with opened(settings) as session:
        run(session, "parent.py")
        assert "helper.py" in merged(session)
    assert not list(Path().glob("own*"))


@pytest.mark.parametrize("settings", SETTINGS[:2])
def test_it_begins_where_coverages_own_hook_is_not_asked(settings: str) -> None:
    with opened(settings) as session:
        told = ("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG")
        left = {name: value for name, value in session.environment.items() if name not in told}
        subprocess.run([sys.executable, "helper.py"], env=left, check=True)
        assert not list(session.data_dir.glob("problem.*"))
        assert "helper.py" in merged(session)


ODD: Final = """\
import os, signal
signal.alarm(100)  # opening a pipe waits for who writes into it
def ran(name):
    names = {}
    exec(compile("def f():\\n    return 3\\nx = f()\\n", name, "exec"), names)
    return names["x"]
os.mkfifo("pipe.py")
os.symlink("/dev/zero", "zero.py")
os.symlink("loop.py", "loop.py")
places = [os.path.abspath(name) for name in ("pipe.py", "zero.py", "loop.py", "none.py")]
print([ran(name) for name in [*places, "/", "x" * 300 + ".py", "relative.py", "\\udcff.py"]])
def f():
    n = 1
    return n
for first in (0, 1 << 17, 10**6, 2**31 - 1):
    f.__code__ = f.__code__.replace(co_firstlineno=first)
    print(f())
last = 1
"""


@pytest.mark.parametrize("settings", SETTINGS[:2])
def test_odd_sources_and_odd_lines_do_not_reach_the_application(settings: str) -> None:
    Path("app.py").write_text(ODD)
    with opened(settings) as session:
        measured = run(session, "app.py")
        for name in ("pipe.py", "zero.py", "loop.py"):
            Path(name).unlink()
        assert measured == run_bare(session, "app.py")


@pytest.mark.parametrize("settings", ["", "core = pytrace\n"])
def test_a_limit_on_the_size_of_files_does_not_end_a_process_that_is_saved(settings: str) -> None:
    Path("app.py").write_text(
        "import resource, signal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_DFL)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 1 << 30))\n"
        "print('done')\n"
    )
    with opened(settings) as session:
        assert run(session, "app.py") == "done\n"


SUBINTERPRETER: Final = """\
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
number = interpreters.create()
find = "import sys; sys.path.insert(0, '.'); "
interpreters.run_string(number, find + "import helper; print('inside', flush=True)")
interpreters.destroy(number)
print("outside")
"""


def test_a_subinterpreter_prints_nothing_and_is_told_to_be_unmeasured() -> None:
    Path("app.py").write_text(SUBINTERPRETER)
    with opened() as session:
        assert run(session, "-W", "default", "app.py") == "inside\noutside\n"
        (problem,) = session.data_dir.glob("problem.*")
        assert problem.read_text().endswith("coverage.py does not measure subinterpreters")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_what_runs_after_chroot_is_on_record() -> None:
    Path("app.py").write_text(
        "import os\nos.mkdir('jail')\nos.chroot('jail')\nos.chdir('/')\n"
        "def inside():\n    return 1\ninside()\n"
    )
    with opened() as session:
        run(session, "app.py")
        assert merged(session)["app.py"][0] >= {6, 7}


def test_an_error_of_a_signal_handler_is_the_applications() -> None:
    Path("app.py").write_text(
        "import helper, signal\n"
        "class Late(Exception): pass\n"
        "def stop(*_): raise Late\n"
        "signal.signal(signal.SIGALRM, stop)\n"
        "caught = n = 0\n"
        "while caught < 30:\n"
        "    try:\n"
        "        signal.setitimer(signal.ITIMER_REAL, 0.002)\n"
        "        while True:\n"
        "            n += 1\n"
        "            exec(compile('x = 1\\n' * 30, helper.__file__ + str(n), 'exec'))\n"
        "    except Late:\n"
        "        caught += 1\n"
        "print('fine')\n"
    )
    with opened() as session:
        assert run(session, "app.py") == "fine\n"


@pytest.mark.parametrize("settings", SETTINGS[:2])
def test_code_with_a_relative_name_runs_in_a_directory_that_is_gone(settings: str) -> None:
    """coverage.py's own error would be the application's."""
    Path("app.py").write_text(
        "import os\nos.mkdir('gone')\nos.chdir('gone')\nos.rmdir(os.getcwd())\n"
        "exec(compile('def f():\\n return 1\\nprint(f(), f())', 'relative.py', 'exec'))\n"
        "def last(): return 1\nlast()\n"
    )
    with opened(settings) as session:
        assert run(session, "app.py") == "1 1\n"
        assert merged(session)["app.py"][1].keys() >= {1, 2, 3, 4, 5, 6, 7}


# What a program does where the counting begins.
BEGIN: Final = "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)"

_TRACE_ME, _CONTINUE, _KILL, _SYSTEM_CALL = 0, 7, 8, 24
_libc: Final = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


def run_and_kill(
    command: Sequence[str], environment: Mapping[str, str], place: Path, calls: int
) -> int:
    """Run a program until it has entered, or left, so many system calls since it began to count.

    Args:
        command: The program, which executes `BEGIN`.
        environment: Its environment.
        place: Its working directory.
        calls: After how many of them it is killed.

    Returns:
        How many it made; fewer than `calls` where it has ended before.
    """
    process = subprocess.Popen(
        command,
        env=environment,
        cwd=place,
        preexec_fn=lambda: _ask(_TRACE_ME, 0),  # noqa: PLW1509 - there is one thread
    )
    made = 0
    request = _CONTINUE
    while True:
        status = os.waitpid(process.pid, 0)[1]
        if not os.WIFSTOPPED(status):
            process.returncode = os.waitstatus_to_exitcode(status)
            assert request != _CONTINUE, "the program has ended before it began"
            assert process.returncode in (0, -signal.SIGKILL)
            return made
        passed_on = os.WSTOPSIG(status)
        if passed_on == signal.SIGSTOP:
            request = _SYSTEM_CALL
        elif request == _SYSTEM_CALL and passed_on == signal.SIGTRAP:
            made += 1
            if made >= calls:
                process.kill()
        if passed_on in (signal.SIGSTOP, signal.SIGTRAP):
            passed_on = 0
        _ask(request, process.pid, passed_on)


def _ask(request: int, pid: int, number: int = 0) -> None:
    _libc.ptrace(request, pid, None, number)


@pytest.mark.thorough
@pytest.mark.skipif(sys.platform != "linux", reason="ptrace")
@pytest.mark.parametrize(
    "settings", [*SETTINGS[:2], "dynamic_context = test_function\n", "core = pytrace\n"]
)
def test_a_kill_at_each_system_call_of_the_end_loses_nothing(settings: str) -> None:
    Path("app.py").write_text(
        f"import helper\nhelper.check(1)\n{BEGIN}\n"
        "def test_one(): helper.after()\ndef test_two(): helper.after()\n"
        "test_one()\ntest_two()\n"
    )
    command = [sys.executable, "app.py"]
    with opened(settings) as session:
        everything = run_and_kill(command, session.environment, Path(), 1 << 30)
    keeps_all = "pytrace" not in settings
    for calls in range(1, everything, 1 if FULL else max(1, everything // 6)):
        with opened(settings) as session:
            run_and_kill(command, session.environment, Path(), calls)
            # What is saved now and then may not be yet; what there is is whole.
            with contextlib.nullcontext() if keeps_all else contextlib.suppress(NoDataError):
                found = merged(session)
            if keeps_all:
                assert found["app.py"][1].keys() >= {1, 2, 3}, calls
                assert found["helper.py"][1].keys() >= {1, 2, 4}, calls


class _Older:
    def flush_data(self) -> int:
        return 0xFFFFF


class _Newer:
    def flush_data(self) -> int:
        return 0xFFFFFFF


@pytest.mark.parametrize(("collector", "bits"), [(_Older(), 20), (_Newer(), 28)])
def test_arcs_are_packed_as_in_the_coverage_that_measures(
    collector: object, bits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert autosave.line_bits(collector) == bits
    monkeypatch.setattr(coverage_marks, "_line_bits", bits)
    assert coverage_marks._packed(-3, 5) == 3 | 5 << bits | 1 << 2 * bits
    for arc in ((1, 2), (-1, 2), (70_000, -1)):
        assert coverage_marks._unpacked(coverage_marks._packed(*arc)) == arc


def test_the_lines_of_real_code_are_all_met_by_traps() -> None:
    """Each arc that a tracer sees in functions of the standard library is one that can be."""
    library = Path(sysconfig.get_path("stdlib"))
    files = [library / name for name in ("textwrap.py", "argparse.py", "json/decoder.py")]
    for file in files:
        top = compile(file.read_bytes(), str(file), "exec")
        for code in coverage_marks._codes_in(top):
            lines = {line for _, line in coverage_marks._blocks_of(code) if line}
            arcs = {coverage_marks._unpacked(arc) for arc in coverage_marks._possible_arcs(code)}
            assert {first for first, _ in arcs if first > 0} == lines
            assert len(arcs) < 12 * len(lines) + 12


def test_it_reads_on_every_python_that_an_image_may_have() -> None:
    source = Path(hcoverage.__file__).with_name("_inside").joinpath("coverage_marks.py").read_text()
    ast.parse(source, feature_version=(3, 8))
