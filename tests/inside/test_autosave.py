"""Autosave: exact, whole at every moment, and nothing that the application would notice.

It is for what `_inside.coverage_marks` cannot record, such as what coverage.py's tracer in Python
sees.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import coverage
import pytest

import hcoverage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Branches both ways, a generator, an exception, a class, threads, a module imported late.
PROGRAM = """\
import sys, threading, helper
class Thing:
    def turn(self, n):
        for i in range(n):
            if i % 2:
                yield i
            elif i > 100:
                raise KeyError
def run():
    for x in Thing().turn(5):
        try:
            helper.check(x)
        except ValueError:
            pass
thread = threading.Thread(target=run)
thread.start()
thread.join()
print("ready", flush=True)
sys.stdin.readline()
"""
HELPER = "def check(x):\n    if x > 2:\n        raise ValueError\n    return x\n"


@pytest.fixture(autouse=True)
def project(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    clean_environment: None,  # noqa: ARG001 - before a session is opened
) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "app.py").write_text(PROGRAM)
    (tmp_path / "helper.py").write_text(HELPER)
    return tmp_path


@contextlib.contextmanager
def opened(settings: str = "") -> Iterator[hcoverage.Session]:
    Path(".coveragerc").write_text(f"[run]\nparallel = True\ncore = pytrace\n{settings}")
    with hcoverage.open_session(core="coverage") as session:
        yield session
        for file in session.data_dir.glob(".*.*"):
            file.unlink()


def start(session: hcoverage.Session, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *arguments],
        env=session.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def output(session: hcoverage.Session, *arguments: str) -> str:
    process = start(session, *arguments)
    out, err = process.communicate()
    assert (process.returncode, err) == (0, ""), err
    return out


def data_files(session: hcoverage.Session) -> list[Path]:
    return [file for file in session.data_dir.glob(".coverage.*") if file.name != ".coveragerc"]


def until(is_so: Callable[[], object]) -> None:
    """Wait for something that only another process's files tell."""
    while not is_so():
        time.sleep(0.02)


def has_saved(session: hcoverage.Session, process: subprocess.Popen[str]) -> bool:
    return any(f".pid{process.pid}." in file.name for file in data_files(session))


def wakes_of_autosave(process: subprocess.Popen[str]) -> int:
    """Count how often the only other thread of a process has looked for something new."""
    (thread,) = set(Path(f"/proc/{process.pid}/task").iterdir()) - {
        Path(f"/proc/{process.pid}/task/{process.pid}")
    }
    text = (thread / "status").read_text()
    return int(text.partition("\nvoluntary_ctxt_switches:")[2].split()[0])


def content(files: list[Path]) -> dict[str, tuple[set[object], dict[int, list[str]]]]:
    """Give the arcs or lines of each source, and the contexts of each line."""
    with contextlib.ExitStack() as stack:
        merged = coverage.CoverageData(no_disk=True)
        stack.callback(merged.close, force=True)
        for file in files:
            part = coverage.CoverageData(str(file))
            stack.callback(part.close, force=True)  # also if it cannot be read
            part.read()
            merged.update(part)
        return {
            Path(name).name: (
                {*((merged.arcs(name) if merged.has_arcs() else merged.lines(name)) or ())},
                {line: sorted(who) for line, who in merged.contexts_by_lineno(name).items()},
            )
            for name in merged.measured_files()
        }


@pytest.mark.parametrize("settings", ["", "branch = True\n", "context = nightly\n"])
def test_what_a_killed_process_leaves_is_what_coverage_itself_would_have(settings: str) -> None:
    with opened(settings) as session:
        process = start(session, "app.py")
        process.communicate("\n")
        (file,) = data_files(session)
        expected = content([file])
        file.unlink()

        process = start(session, "app.py")
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        until(lambda: _without_exit(content(data_files(session))) == _without_exit(expected))
        process.kill()
        process.communicate()
        assert _without_exit(content(data_files(session))) == _without_exit(expected)


def _without_exit(found: dict[str, tuple[set[object], dict[int, list[str]]]]) -> object:
    """Leave out how the main program's last line was left: a killed process never did."""
    last = len(PROGRAM.splitlines())
    measured, who = found.get("app.py", (set(), {}))
    kept = {each for each in measured if each != (last, -1)}
    return {**found, "app.py": (kept, who)}


def test_lines_of_every_dynamic_context_are_kept() -> None:
    Path("test_two.py").write_text(
        "import sys\ndef test_one():\n    x = 1\ndef test_two():\n    x = 2\n"
        "test_one()\ntest_two()\nprint('ready', flush=True)\nsys.stdin.readline()\n"
    )
    with opened("dynamic_context = test_function\n") as session:
        process = start(session, "test_two.py")
        assert process.stdout is not None
        process.stdout.readline()
        who: dict[int, list[str]] = {}
        while not {3, 5, 8} <= who.keys():
            time.sleep(0.05)
            # coverage.py's own file, which it writes at each change of context, may be half done.
            with contextlib.suppress(coverage.CoverageException):
                who = content(data_files(session)).get("test_two.py", (set(), {}))[1]
        process.kill()
        process.communicate()
        assert who[3] == ["__main__.test_one"]
        assert who[5] == ["__main__.test_two"]


@pytest.mark.thorough
def test_a_kill_at_any_moment_leaves_whole_files() -> None:
    Path("grows.py").write_text(
        "import os\nfor n in range(10_000):\n    name = f'<{n}>'\n"
        "    exec(compile('x = 1\\n' * 50, os.path.abspath(f'm{n}.py'), 'exec'))\n"
        "    if n == 200: print('ready', flush=True)\n"
    )
    chance = random.Random(7)  # noqa: S311
    with opened() as session:
        for _ in range(8):
            process = start(session, "grows.py")
            assert process.stdout is not None
            process.stdout.readline()
            until(functools.partial(has_saved, session, process))
            time.sleep(chance.uniform(0, 1.2))  # any moment is as good as another
            process.kill()
            process.communicate()
        found = content(data_files(session))
        assert found["grows.py"][0] >= {1, 2, 3, 4}


def test_a_process_that_ends_well_leaves_one_file() -> None:
    Path("slow.py").write_text("import sys\nsys.stdin.readline()\nx = 1\n")
    with opened() as session:
        process = start(session, "slow.py")
        until(lambda: has_saved(session, process))
        process.communicate("\n")
        (file,) = data_files(session)
        assert content([file])["slow.py"][0] == {1, 2, 3}


ENDS: Final = {
    "killed": ("os.kill(os.getpid(), 9)", True),
    "killed after exec failed": (
        """try: os.execv('/nothing', ['x'])
except OSError: print('failed', flush=True)
sys.stdin.readline(); os.kill(os.getpid(), 9)""",
        True,
    ),
    "a forked child killed at once": ("os.fork() or os.kill(os.getpid(), 9); os.wait()", True),
    "a child that ran Python before another program": (
        "import subprocess; subprocess.run(['true'], preexec_fn=os.getpid)",
        False,
    ),
    "by itself": ("pass", False),
    "os._exit": ("os._exit(0)", False),
    "exec": ("os.execv('/bin/true', ['true'])", False),
}


@pytest.mark.parametrize("end", ENDS)
def test_who_may_have_lost_its_last_second_is_told(end: str) -> None:
    does, may_lose = ENDS[end]
    Path("ends.py").write_text(
        f"import os, sys\nprint('ready', flush=True)\nsys.stdin.readline()\n{does}\n"
    )
    with opened() as session:
        process = start(session, "ends.py")
        assert process.stdin
        until(functools.partial(has_saved, session, process))
        process.stdin.write("\n")
        process.stdin.flush()
        if "exec failed" in end:
            assert process.stdout
            assert [process.stdout.readline() for _ in range(2)] == ["ready\n", "failed\n"]
            until(lambda: list(session.data_dir.glob("unsaved.*")))
        process.communicate("\n")
        result = hcoverage.combine([session.data_dir], data_file=Path("merged").absolute())
        assert len(result.unsaved) == may_lose


def test_nothing_is_written_when_nothing_new_has_run() -> None:
    with opened() as session:
        process = start(session, "app.py")
        assert process.stdout is not None
        process.stdout.readline()
        last = len(PROGRAM.splitlines())
        until(lambda: last in content(data_files(session)).get("app.py", ([],))[0])
        before = [(file, file.stat().st_mtime_ns) for file in data_files(session)]
        enough = wakes_of_autosave(process) + 2
        until(lambda: wakes_of_autosave(process) >= enough)
        assert [(file, file.stat().st_mtime_ns) for file in data_files(session)] == before
        process.communicate("\n")


def test_the_application_finds_no_trace_of_it() -> None:
    Path("looks.py").write_text(
        "import os, signal, sys, threading\n"
        "print(threading.active_count(), threading.enumerate() == [threading.main_thread()])\n"
        "print([signal.getsignal(n) for n in sorted(signal.valid_signals())])\n"
        "print(signal.pthread_sigmask(signal.SIG_BLOCK, ()), signal.sigpending())\n"
        "print(sorted(os.listdir('/proc/self/fd')))\n"
        "print(sorted(n for n in sys.modules if 'hcov' in n))\n"
        "print(sys.path, sorted(set(os.environ) - {'LC_CTYPE'}), os.environ.get('PYTHONPATH'))\n"
    )
    with opened() as session:
        measured = output(session, "-X", "dev", "looks.py")
        alone = {n: v for n, v in session.environment.items() if n != "HCOVERAGE_SESSION"}
        environment = {**alone, "HCOVERAGE_SESSION": ""}
        done = subprocess.run(
            [sys.executable, "-X", "dev", "looks.py"],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert measured == done.stdout


def test_a_signal_that_the_application_waits_for_is_its_own() -> None:
    Path("waits.py").write_text(
        "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, {10, 12, 15})\n"
        "print('ready', flush=True)\nfor _ in range(3): print(int(signal.sigwait({10, 12, 15})))\n"
    )
    with opened("sigterm = True\n") as session:
        process = start(session, "waits.py")
        assert process.stdout is not None
        process.stdout.readline()
        for signum in (10, 15, 12):
            process.send_signal(signum)
            assert process.stdout.readline() == f"{signum}\n"
        process.communicate()
        assert process.returncode == 0


def test_a_fork_is_no_fork_of_a_process_with_threads() -> None:
    """Python 3.12 and later warn of one, and tests that turn warnings into errors would fail."""
    Path("forks.py").write_text(
        "import os, pty, subprocess, time\n"
        "for n in range(40):\n    pid = os.fork()\n    if not pid:\n        os._exit(0)\n"
        "    assert os.waitpid(pid, 0)[1] == 0\n    time.sleep(n / 1000)\n"
        "pid, _ = pty.fork()\nif not pid:\n    os._exit(0)\nos.waitpid(pid, 0)\n"
        "subprocess.run(['true'], preexec_fn=lambda: None)\n"
    )
    with opened() as session:
        output(session, "-W", "error", "forks.py")


@pytest.mark.thorough
def test_forks_in_threads_while_it_saves_end() -> None:
    Path("storm.py").write_text(
        "import os, threading\n"
        "def more(n):\n    for k in range(40):\n"
        "        exec(compile('x = 1\\n' * 50, os.path.abspath(f'm{n}_{k}.py'), 'exec'))\n"
        "        pid = os.fork()\n        if not pid:\n            y = n\n            os._exit(0)\n"
        "        assert os.waitpid(pid, 0)[1] == 0\n"
        "threads = [threading.Thread(target=more, args=(n,)) for n in range(4)]\n"
        "for t in threads: t.start()\nfor t in threads: t.join()\n"
    )
    with opened() as session:
        output(session, "-W", "ignore", "storm.py")
        assert content(data_files(session))["storm.py"][0] == set(range(1, 13))


@pytest.mark.thorough
def test_a_process_that_forks_without_pause_is_saved_too() -> None:
    Path("server.py").write_text(
        "import os, sys\nprint('ready', flush=True)\nwhile True:\n    pid = os.fork()\n"
        "    if not pid:\n        os._exit(0)\n    os.waitpid(pid, 0)\n    late = 1\n"
    )
    with opened() as session:
        process = start(session, "server.py")
        assert process.stdout is not None
        process.stdout.readline()
        own = f".pid{process.pid}."
        until(
            lambda: (
                content([file for file in data_files(session) if own in file.name])
                .get("server.py", (set(),))[0]
                .issuperset({7, 8})
            )
        )
        process.kill()
        process.communicate()


@pytest.mark.thorough
@pytest.mark.parametrize("how", ["read-only", "gone", "too large"])
def test_where_it_cannot_save_the_application_goes_on(how: str) -> None:
    spoil = {
        "read-only": "os.chmod(data, 0o555); os.setuid(65534) if os.geteuid() == 0 else None",
        "gone": "os.rename(data, 'away')",  # in one step, as we may be writing there
        "too large": "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)); "
        "signal.signal(signal.SIGXFSZ, signal.SIG_DFL)",
    }[how]
    Path("app.py").write_text(
        "import os, resource, signal, time\ndata = os.environ['HCOVERAGE_DATA_DIR']\n"
        f"{spoil}\ntime.sleep(0.5)\nprint('fine', flush=True)\nos._exit(7)\n"
    )
    with opened() as session:
        process = start(session, "app.py")
        out, err = process.communicate()
        assert (out, err, process.returncode) == ("fine\n", "", 7)
        session.data_dir.mkdir(exist_ok=True)
        session.data_dir.chmod(0o777)


def test_an_error_of_coverage_at_exit_is_no_output_of_the_application() -> None:
    Path("app.py").write_text(
        "import os\nos.rename(os.environ['HCOVERAGE_DATA_DIR'], 'away')\nprint('fine')\n"
    )
    with opened() as session:
        assert output(session, "app.py") == "fine\n"
        session.data_dir.mkdir(exist_ok=True)


@pytest.mark.parametrize(
    ("does", "notes"),
    [("sys.settrace(None)", 1), ("own = sys.gettrace(); sys.settrace(own)", 0)],
)
def test_that_the_trace_function_was_taken_away_is_told(does: str, notes: int) -> None:
    Path("app.py").write_text(f"import sys\n{does}\nimport helper\n")
    with opened() as session:
        output(session, "app.py")
        told = [line for line in session.problems() if "`sys.settrace`" in line]
        assert len(told) == notes


def test_another_coverage_in_the_process_takes_nothing_of_what_ran() -> None:
    Path("app.py").write_text(
        "import coverage, glob, os, time\n"
        "def has_saved():\n"
        "    data = os.environ['HCOVERAGE_DATA_DIR']\n"
        "    return bool(glob.glob(f'{data}/.coverage.*.pid{os.getpid()}.*'))\n"
        "while not has_saved(): time.sleep(0.02)\n"
        "cov = coverage.Coverage(data_file='own')\ncov.start()\n"
        "import helper\ncov.stop()\ncov.save()\n"
    )
    with opened() as session:
        output(session, "app.py")
        assert len(data_files(session)) == 1
        assert list(Path().glob("own*"))


@pytest.mark.parametrize("starts", ["", "own.start()"], ids=["made", "started"])
def test_a_kill_loses_nothing_for_another_coverage(starts: str) -> None:
    Path("app.py").write_text(
        "import coverage, helper, sys\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "own = coverage.Coverage(data_file='own', config_file=False)\n"
        f"{starts}\n"
        "print('made', flush=True)\n"
        "helper.check(1); sys.stdin.readline()\n"
    )
    with opened() as session:
        process = start(session, "app.py")
        assert process.stdout is not None
        assert process.stdin is not None
        process.stdout.readline()
        until(lambda: "app.py" in content(data_files(session)))
        process.stdin.write("\n")
        process.stdin.flush()
        process.stdout.readline()
        enough = wakes_of_autosave(process) + 2
        until(lambda: wakes_of_autosave(process) >= enough)
        process.kill()
        process.communicate()
        ran = content(data_files(session))["app.py"][0]
        assert ran == ({1, 2, 3, 4} if starts else {1, 2, 3, 5, 6})


def test_the_signal_that_ends_it_is_the_one_that_was_sent() -> None:
    with opened("sigterm = True\n") as session:
        process = start(session, "app.py")
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate()
        assert (process.returncode, err) == (-signal.SIGTERM, "")
        assert len(data_files(session)) == 1


def test_it_reads_on_every_python_that_an_image_may_have() -> None:
    source = Path(hcoverage.__file__).with_name("_inside").joinpath("autosave.py").read_text()
    ast.parse(source, feature_version=(3, 8))
