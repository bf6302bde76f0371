"""Whatever a process does to itself and whatever is refused to it, the recorder keeps what it ran.

What both cores promise, how processes end and start others, is in `test_faults.py`; here is what
only the recorder does, or does better. Every case is a real process.
"""

from __future__ import annotations

import ctypes
import os
import resource
import shlex
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Final

import coverage
import pytest

import hcoverage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.inside.recorder.conftest import Bench

    Wait = Callable[[subprocess.Popen[str]], str]

pytestmark = pytest.mark.skipif(sys.version_info < (3, 12), reason="needs sys.monitoring")

PRELUDE = """\
import atexit, os, signal, sys, threading
def tick():
    x = 1
    return x
"""
TICK = {1, 2, 3, 4}

ENDS = {
    "SIGKILL": ("os.kill(os.getpid(), 9)", -9),
    "os.abort": ("os.abort()", -6),
    "segmentation fault": ("import ctypes\nctypes.string_at(0)", -11),
}


@pytest.mark.parametrize("name", ENDS)
def test_what_ran_at_the_very_last_is_kept(bench: Bench, name: str) -> None:
    """`test_faults.py` waits until lines are in the data directory, as both cores promise."""
    ending, returncode = ENDS[name]
    bench.write(f"{PRELUDE}tick()\n{ending}\n")
    bench.run("app.py", returncode=returncode, stderr=None)
    assert bench.lines() >= TICK | {5, 6}


def test_application_notices_nothing(bench: Bench) -> None:
    bench.write(
        """
        import os, signal, sys, threading
        print(sorted(os.listdir("/proc/self/fd")), threading.active_count(), file=sys.stderr)
        print([signal.getsignal(n) for n in sorted(signal.valid_signals())])
        print(sys.gettrace(), sys.getprofile(), signal.pthread_sigmask(0, ()), signal.sigpending())
        """.replace("\n        ", "\n")
    )
    command = [sys.executable, "app.py"]
    expected, actual = (
        subprocess.run(command, cwd=bench.root, env=env, capture_output=True, check=True)
        for env in (bench.plain_env, bench.env)
    )
    assert actual.stdout == expected.stdout
    if sys.version_info >= (3, 13):  # Python 3.12 keeps a duplicate of a mapped descriptor.
        assert actual.stderr == expected.stderr
    assert bench.lines() == {2, 3, 4, 5}


def test_a_fork_has_a_recording_of_its_own(bench: Bench) -> None:
    bench.write("def seen():\n    return 1\n", "seen.py")
    bench.write("def fresh():\n    return 1\n", "fresh.py")
    bench.write(
        PRELUDE + "import seen\npid = os.fork()\nif pid == 0:\n    tick()\n    seen.seen()\n"
        "    import fresh\n    fresh.fresh()\n    os.kill(os.getpid(), 9)\n"
        "else:\n    os.waitpid(pid, 0)\n"
    )
    bench.run("app.py")
    assert bench.lines() >= TICK | set(range(5, 13))
    assert bench.lines("seen.py") == bench.lines("fresh.py") == {1, 2}
    parent, child = bench.read().recordings
    assert child.process.forked_from == parent.process.token
    assert child.process.parent_pid == parent.process.pid != child.process.pid
    assert bench.lines("fresh.py", [parent]) == set()


def test_fork_in_a_thread_while_others_record(bench: Bench) -> None:
    for number in range(40):
        bench.write("x = 1\n", f"module{number}.py")
    bench.write(
        """\
import os, threading
def load(first):
    for number in range(first, 40, 4):
        __import__(f"module{number}")
def child():
    pid = os.fork()
    if not pid:
        import late
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
threads = [threading.Thread(target=load, args=(n,)) for n in range(4)]
threads += [threading.Thread(target=child) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""
    )
    bench.write("x = 1\ny = 2\n", "late.py")
    bench.run("-W", "ignore", "app.py")
    assert bench.lines("late.py") == {1, 2}
    assert all(bench.lines(f"module{number}.py") == {1} for number in range(40))
    assert len(bench.read().recordings) == 5


MULTIPROCESSING = """\
import multiprocessing, os, sys
from concurrent.futures import ProcessPoolExecutor
def work(n=0):
    if n == "die":
        os.kill(os.getpid(), 9)
    return os.getpid()
def hang(ready):
    ready.set()
    import signal
    signal.pause()
if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    how = sys.argv[2]
    if how == "pool":
        pool = context.Pool(2)
        pool.map(work, range(4))
        os._exit(0)
    elif how == "executor":
        with ProcessPoolExecutor(2, mp_context=context) as executor:
            list(executor.map(work, range(4)))
    else:
        ready = context.Event()
        process = context.Process(target=hang, args=(ready,))
        process.start()
        ready.wait()
        getattr(process, how)()
        process.join()
"""


@pytest.mark.thorough
@pytest.mark.parametrize("how", ["pool", "executor", "terminate", "kill"])
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_multiprocessing(bench: Bench, method: str, how: str) -> None:
    bench.write(MULTIPROCESSING)
    bench.run("-W", "ignore", "app.py", method, how)
    assert bench.lines() >= ({4, 6} if how in {"pool", "executor"} else {8})


def test_exec_in_a_loop(bench: Bench) -> None:
    bench.write(
        "import os, sys\nleft = int(sys.argv[1])\nif left:\n"
        "    os.execv(sys.executable, [sys.executable, __file__, str(left - 1)])\nleft = None\n"
    )
    bench.run("app.py", "20")
    recordings = bench.read().recordings
    assert len(recordings) == 21
    assert len({each.process.pid for each in recordings}) == 1
    assert bench.lines() == {1, 2, 3, 4, 5}
    assert bench.lines(recordings=[recordings[0]]) == {1, 2, 3, 4}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.usefixtures("open_tmp_path")
def test_privileges_dropped_with_a_tight_umask(bench: Bench) -> None:
    many = "\n".join(f"x{n} = {n}" for n in range(20_000))
    bench.write(many, "late.py")
    bench.write(
        PRELUDE + "os.umask(0o077)\nos.setgid(65534)\nos.setuid(65534)\ntick()\nimport late\n"
    )
    bench.run("app.py")
    assert bench.lines() >= TICK
    assert bench.lines("late.py") == set(range(1, 20_001))
    modes = {segment.file.stat().st_mode & 0o777 for segment in bench.only().segments}
    assert modes == {0o644}


def test_memory_limit(bench: Bench) -> None:
    bench.write(
        PRELUDE + "import resource\nresource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))\n"
        "try:\n    x = bytearray(1 << 31)\nexcept MemoryError:\n    tick()\n"
    )
    bench.run("app.py")
    assert bench.lines() >= TICK | {10}


def test_traceback_and_status_of_a_keyboard_interrupt(bench: Bench) -> None:
    bench.write(
        PRELUDE + "try:\n    os.kill(os.getpid(), 2)\n    signal.pause()\n"
        "except KeyboardInterrupt:\n    tick()\n"
    )
    bench.run("app.py")
    assert bench.lines() >= TICK | {8, 9}


def test_exception_of_a_signal_handler_that_runs_in_our_code(bench: Bench) -> None:
    """A handler's `TimeoutError` is an `OSError`; it must reach the application all the same."""
    bench.write("x = 1\n", "late.py")
    bench.write(
        """\
import signal, hcrecorder_sources
def handler(*_):
    raise TimeoutError
signal.signal(signal.SIGALRM, handler)
real = hcrecorder_sources.crc32
def interrupted(*args):
    hcrecorder_sources.crc32 = real
    signal.raise_signal(signal.SIGALRM)
    return real(*args)
hcrecorder_sources.crc32 = interrupted
try:
    import late
except TimeoutError:
    print("reached")
import late
"""
    )
    assert bench.run("app.py") == "reached\n"
    assert bench.lines("late.py") == {1}
    assert not any(segment.loss for segment in bench.only().segments)


def test_very_long_command_line(bench: Bench) -> None:
    bench.write("x = 1\n")
    bench.run("app.py", *["y" * 1000] * 500)
    (segment,) = bench.only().segments
    assert segment.process.argv[1] == "app.py"
    assert set(segment.process.argv[2:]) == {"y" * 1000}
    assert segment.file.stat().st_size <= 5 * 4096


@pytest.mark.parametrize("lines", [1, 400])
def test_recursion_to_the_limit(bench: Bench, lines: int) -> None:
    bench.write(
        "import sys\ndef down():\n    down()\ntry:\n    down()\nexcept RecursionError:\n"
        "    import late\nprint('fine')\n"
    )
    bench.write("x = 1\n" * lines, "late.py")
    assert bench.run("app.py") == "fine\n"
    assert bench.lines("late.py") == set(range(1, lines + 1))


@pytest.mark.thorough
def test_two_hundred_processes_at_once(bench: Bench) -> None:
    bench.write("import sys\nsys.stdin.read(1)\nx = 1\n")
    processes = [bench.start("app.py", stdin=subprocess.PIPE) for _ in range(200)]
    for process in processes:
        assert process.communicate("x")[1] == ""
    recordings = bench.read().recordings
    assert {each.process.pid for each in recordings} == {process.pid for process in processes}
    assert all(bench.lines(recordings=[each]) == {1, 2, 3} for each in recordings)


@pytest.mark.thorough
def test_sixty_four_threads_mark_the_same_files(bench: Bench) -> None:
    for number in range(64):
        bench.write(
            "def f(n):\n" + "".join(f"    if n == {k}: x = {k}\n" for k in range(64)),
            f"m{number}.py",
        )
    bench.write(
        """\
import sys, threading
sys.setswitchinterval(1e-6)
def run(n):
    start.wait()
    for k in range(64):
        __import__(f"m{(n + k) % 64}").f(n)
start = threading.Barrier(64)
threads = [threading.Thread(target=run, args=(n,)) for n in range(64)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""
    )
    bench.run("app.py")
    recording = bench.only()
    assert not any(segment.damage or segment.loss for segment in recording.segments)
    assert all(bench.lines(f"m{n}.py", [recording]) == set(range(1, 66)) for n in range(64))


def test_starting_twice_records_once(bench: Bench) -> None:
    bench.write("import hcrecorder\nprint(hcrecorder.start())\n")
    assert bench.run("app.py") == "False\n"
    assert len(bench.only().segments) == 1


def test_stands_down_where_coverage_measures(bench: Bench) -> None:
    for core in ("sysmon", "ctrace", "pytrace"):
        bench.write(
            "import coverage\ncov = coverage.Coverage(data_file=None)\ncov.start()\n"
            "import hcrecorder\nprint(hcrecorder.start())\n"
        )
        bench.customize("")
        path = os.pathsep.join([str(bench.site), str(Path(coverage.__file__).parents[1])])
        env = {**bench.env, "COVERAGE_CORE": core, "PYTHONPATH": path}
        assert bench.run("app.py", env=env, stderr=None) == "False\n"
    assert bench.read().recordings == ()


def test_stands_down_where_no_tool_id_is_free(bench: Bench) -> None:
    bench.customize(
        "import sys, hcrecorder\nfor n in range(6): sys.monitoring.use_tool_id(n, 'theirs')\n"
        "hcrecorder.start()\n"
    )
    bench.write("x = 1\n")
    bench.run("app.py")
    assert bench.read().recordings == ()


def test_tool_ids_named_for_others_are_left_free(bench: Bench) -> None:
    bench.write(
        "from sys import monitoring as m\n"
        "for n in (m.DEBUGGER_ID, m.COVERAGE_ID, m.PROFILER_ID, m.OPTIMIZER_ID):\n"
        "    m.use_tool_id(n, 'theirs')\n"
    )
    bench.run("app.py")
    assert bench.lines() == {1, 2, 3}


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="a second tool id is not needed")
def test_where_no_second_tool_id_is_left_branches_go_on_and_that_is_told(bench: Bench) -> None:
    bench.write(
        "def f(x):\n    with open('/dev/null'):\n        if x: return\n"
        "    while x:\n        try: int('a')\n        except ValueError: continue\n"
        "        finally: x = 0\nf(0)\nf(1)\n",
        "late.py",
    )
    bench.write(
        "from sys import monitoring as m\n"
        "for n in range(6):\n    if m.get_tool(n) is None: m.use_tool_id(n, 'theirs')\n"
        "import late\nprint('done')\n"
    )
    assert bench.run("app.py", env={**bench.env, "HCOVERAGE_RECORD_BRANCH": "1"}) == "done\n"
    (told,) = told_losses(bench)
    assert told.endswith("all tool ids of `sys.monitoring` were taken")


FREES: Final = "import sys\nfor n in range(6): sys.monitoring.free_tool_id(n)\n"


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (f"{FREES}import late\n", ["it freed hcov's tool id"]),
        (f"import os\nif os.fork(): os.wait()\nelse:\n    exec({FREES!r})\n", ["it freed"]),
        (f"{FREES}import os\nos.kill(os.getpid(), 9)\n", ["it freed"]),
        ("import late\n", []),
    ],
    ids=["here", "in a fork", "then killed", "not"],
)
def test_application_that_frees_our_tool_id_is_told(
    bench: Bench, source: str, told: list[str]
) -> None:
    bench.write("x = 1\n", "late.py")
    bench.write(source)
    bench.run("app.py", returncode=-9 if "kill" in source else 0)
    losses = told_losses(bench)
    assert len(losses) == len(told)
    assert all(part in loss for part, loss in zip(told, losses, strict=True))


def told_losses(bench: Bench) -> tuple[str, ...]:
    return hcoverage.combine([bench.data], data_file=bench.root / "merged").losses


def test_standard_streams_closed(bench: Bench) -> None:
    bench.write(PRELUDE + "tick()\nos.write(1, b'theirs') if len(sys.argv) > 1 else None\n")
    python = f"{shlex.quote(sys.executable)} app.py"
    command = ["sh", "-c", f"{python} <&- >&- 2>&-; {python} x <&- >out 2>&-"]
    subprocess.run(command, cwd=bench.root, env=bench.env, check=True)
    assert (bench.root / "out").read_text() == "theirs"
    assert len(bench.read().recordings) == 2
    assert not any(part.damage for each in bench.read().recordings for part in each.segments)


def test_limit_of_file_size(bench: Bench) -> None:
    """RLIMIT_FSIZE while recording, also where SIGXFSZ would kill the application."""
    bench.write(
        "\n".join(f"x{n:05} = 1{n:05}  # as long as lines are" for n in range(9_000)), "large.py"
    )
    bench.env["PYTHONDONTWRITEBYTECODE"] = "1"
    for action in ("SIG_IGN", "SIG_DFL"):
        bench.write(
            PRELUDE + f"signal.signal(signal.SIGXFSZ, signal.{action})\nimport large\n"
            "tick()\nprint(signal.sigpending(), signal.pthread_sigmask(0, ()))\n"
        )
        limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))  # noqa: E731
        assert bench.run("app.py", preexec_fn=limit) == "set() set()\n"
    for recording in bench.read().recordings:
        (segment,) = recording.segments
        assert segment.loss is not None
        assert os.strerror(segment.loss.error) == "File too large"
        assert bench.lines(recordings=[recording]) >= TICK | {5, 6, 7, 8}
        assert bench.lines("large.py", [recording]) == set()


def test_process_that_cannot_record_at_all_is_told(bench: Bench) -> None:
    bench.write("print('fine')\n")
    bench.env["PYTHONDONTWRITEBYTECODE"] = "1"
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # noqa: E731
    process = bench.start("app.py", preexec_fn=limit)
    process.wait()
    found = bench.read()
    assert found.recordings == ()
    (lost,) = found.lost
    assert lost.pid == process.pid
    assert os.strerror(lost.error) == "File too large"
    process.communicate()


@pytest.fixture
def mount(bench: Bench) -> Iterator[Callable[[int, str], None]]:
    """Mounts a file system of its own as the data directory."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    libc = ctypes.CDLL(None, use_errno=True)
    target = str(bench.data).encode()

    def mount(flags: int, options: str) -> None:
        if libc.mount(b"tmpfs", target, b"tmpfs", flags, options.encode()) != 0:
            pytest.skip(f"cannot mount: {os.strerror(ctypes.get_errno())}")

    yield mount
    libc.umount2(target, 2)


@pytest.mark.thorough
def test_full_disk(bench: Bench, mount: Callable[[int, str], None]) -> None:
    mount(0, "size=64k,mode=777")
    for number in range(12):
        bench.write(
            "\n".join(f"x{n:05} = 1{n:05}  # as long as lines are" for n in range(9_000)),
            f"large{number}.py",
        )
    bench.write("".join(f"import large{n}\n" for n in range(12)) + "print('fine')\n")
    assert bench.run("app.py") == "fine\n"
    (recording,) = bench.read().recordings
    losses = [segment.loss for segment in recording.segments if segment.loss]
    assert os.strerror(losses[0].error) == "No space left on device"
    assert bench.lines() == set(range(1, 14))
    kept = [bench.lines(f"large{number}.py") for number in range(12)]
    assert set(range(1, 9001)) in kept
    assert all(lines in (set(), set(range(1, 9001))) for lines in kept)


@pytest.mark.parametrize("how", ["missing", "a file"])
def test_data_directory_that_cannot_be_used(bench: Bench, how: str) -> None:
    bench.write("print('fine')\n")
    bench.data.rmdir()
    if how == "a file":
        bench.data.write_text("")
    assert bench.run("app.py") == "fine\n"


def test_data_directory_that_cannot_be_written(
    bench: Bench, mount: Callable[[int, str], None]
) -> None:
    bench.write("print('fine')\n")
    read_only = 1
    mount(read_only, "")
    assert bench.run("app.py") == "fine\n"


def test_data_directory_that_vanishes(bench: Bench) -> None:
    bench.write(
        "\n".join(f"x{n:05} = 1{n:05}  # as long as lines are" for n in range(9_000)), "large.py"
    )
    bench.write(
        "import os, shutil\nshutil.rmtree(os.environ['HCOVERAGE_RECORD'])\nimport large\n"
        "print('fine')\n"
    )
    assert bench.run("app.py") == "fine\n"


def test_no_shared_mapping(bench: Bench) -> None:
    """Stands in for a file system that has none: `mmap` fails with ENODEV as it would there."""
    bench.customize(
        textwrap.dedent("""
        import errno, mmap, os
        real = mmap.mmap
        def refuse(fd, *args, **kwargs):
            if fd == -1:
                return real(fd, *args, **kwargs)
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
        mmap.mmap = refuse
        import hcrecorder
        hcrecorder.start()
    """)
    )
    bench.write("\n".join(f"x{n} = {n}" for n in range(3_000)), "large.py")
    bench.write(
        PRELUDE
        + "import large\npid = os.fork()\nif not pid:\n    tick()\n    os.kill(os.getpid(), 9)\n"
        "os.waitpid(pid, 0)\nos.kill(os.getpid(), 9)\n"
    )
    bench.run("app.py", returncode=-9)
    assert bench.lines() == set(range(1, 12))
    assert bench.lines("large.py") == set(range(1, 3001))


@pytest.mark.thorough
def test_source_with_a_hundred_thousand_lines(bench: Bench) -> None:
    bench.write("x=1\n" * 100_000)
    bench.run("app.py")
    assert bench.lines() == set(range(1, 100_001))


def test_long_path(bench: Bench) -> None:
    directory = bench.root
    while len(str(directory)) < 3_800:
        directory = directory / ("d" * 180)
    directory.mkdir(parents=True)
    file = directory / ("m" * (4_000 - len(str(directory)) - 4) + ".py")
    file.write_text("x = 1\n")
    assert len(str(file)) == 4_000
    bench.run(file)
    assert bench.lines(str(file.relative_to(bench.root))) == {1}


def test_path_that_is_not_text(bench: Bench) -> None:
    name = os.fsdecode(b"caf\xe9.py")
    (bench.root / name).write_text("x = 1\n")
    bench.run(name)
    assert bench.lines(name) == {1}
    assert bench.only().process.argv[-1] == name


def test_relative_names_keep_their_meaning_after_chdir(bench: Bench) -> None:
    bench.write("def late():\n    return 1\n", "sub/rel.py")
    bench.write(
        "import os, sys\nsys.path.insert(0, 'sub')\nimport rel\nos.chdir('/')\nrel.late()\n"
    )
    bench.run("app.py")
    assert bench.lines("sub/rel.py") == {1, 2}


@pytest.mark.parametrize("odd", ["/", "/.", "/../package/x.py", "//x.py"])
def test_odd_names_say_nothing_of_other_files(bench: Bench, odd: str) -> None:
    bench.write("x = 1\n", "package/module.py")
    bench.write(
        "import os\n"
        f"exec(compile('x = 1', os.path.abspath('package') + {odd!r}, 'exec'), {{}})\n"
        "import package.module\n"
    )
    bench.run("app.py")
    assert bench.lines("package/module.py") == {1}


def test_relative_names_say_nothing_of_directories_below_the_root(bench: Bench) -> None:
    bench.write("x = 1\n", "inline.py")
    with tempfile.NamedTemporaryFile(dir="/tmp", suffix=".py") as file:
        file.write(b"x = 1\n")
        file.flush()
        bench.write(
            "for name in ('inline.py', sys.argv[1]):\n"
            "    exec(compile('x = 1', name, 'exec'), {})\n"
        )
        bench.run("-c", "import sys; exec(open('app.py').read(), {'sys': sys})", file.name)
        _, measured = bench.measured()
        assert measured.what[os.path.realpath(file.name)] == {1}
    assert bench.lines("inline.py") == {1}


def test_pipe_as_a_program_is_not_read_by_us(bench: Bench) -> None:
    read, write = os.pipe()
    os.write(write, b"import sys, os\nprint('fine')\n")
    os.close(write)
    assert bench.run(f"/dev/fd/{read}", pass_fds=[read]) == "fine\n"
    os.close(read)


def test_what_a_process_is(bench: Bench) -> None:
    bench.write("x = 1\n")
    env = {**bench.env, "HCOVERAGE_RECORD_CONTEXT": "nightly"}
    process = bench.start("-X", "dev", "app.py", "an argument", env=env)
    process.communicate()
    who = bench.only().process
    assert who.host == os.uname().nodename
    assert (who.pid, who.parent_pid) == (process.pid, os.getpid())
    assert who.argv == (sys.executable, "-X", "dev", "app.py", "an argument")
    assert who.executable == sys.executable
    assert who.python == sys.version.split()[0]
    assert who.context == "nightly"
    assert who.forked_from == who.container == ""


def test_source_that_changes_after_it_ran_is_told(bench: Bench) -> None:
    app = bench.write("x = 1\ny = 2\n")
    bench.write("x = 1\n", "same.py")
    bench.write("import app, same\n", "main.py")
    bench.run("main.py")
    app.write_text("\nx = 1\n#\ny = 2\n")
    selected, measured = bench.measured()
    assert selected.stale == {os.path.realpath(app)}
    assert os.path.realpath(app) not in measured.what
    assert measured.what[os.path.realpath(bench.root / "same.py")] == {1}


def test_disk_space_of_a_short_process(bench: Bench) -> None:
    bench.write(PRELUDE + "tick()\n")
    bench.run("app.py")
    (segment,) = bench.only().segments
    assert segment.file.stat().st_blocks * 512 <= 8192


def test_imports_next_to_nothing(bench: Bench) -> None:
    bench.write("")
    err = subprocess.run(
        [sys.executable, "-X", "importtime", "app.py"],
        cwd=bench.root,
        env=bench.env,
        capture_output=True,
        text=True,
        check=True,
    ).stderr
    names = [line.rpartition("|")[2].strip() for line in err.splitlines()]
    # Python imports these on its own before any site customisation; what else is there is ours.
    bare = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", ""],
        env={**bench.env, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        check=True,
    ).stderr
    known = {line.rpartition("|")[2].strip() for line in bare.splitlines()}
    ours = set(names) - known - {"sitecustomize", "linecache"}
    ours -= {f"hcrecorder{part}" for part in ("", "_long_code", "_seldom", "_sources", "_writer")}
    assert ours <= {"binascii", "mmap", "errno", "__future__"}
