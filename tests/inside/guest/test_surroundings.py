"""Whatever surrounds a program, it ends measured as it ends bare: options, limits, other tools.

Each cell is a way to run one program, which imports, forks and starts a thread.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
import struct
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.inside.guest.conftest import Guests

pytestmark = pytest.mark.skipif(sys.version_info < (3, 12), reason="needs sys.monitoring")

WORK: Final = """\
import os, sys, threading
def work():
    import late
    print(late.f(2), flush=True)
    thread = threading.Thread(target=late.in_thread)
    thread.start()
    thread.join()
    pid = os.fork()
    if not pid:
        import later
        os._exit(later.f())
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), late.in_thread(), flush=True)
"""
LATE: Final = "def f(n):\n    return [n] * n\ndef in_thread():\n    return len(f(3))\n"
LATER: Final = "def f():\n    return 7\n"
OPTIONS: Final[tuple[tuple[str, ...], ...]] = (
    ("-X", "dev"), ("-W", "error"), ("-bb",), ("-O",), ("-OO",), ("-X", "faulthandler"),
    ("-X", "tracemalloc=5"), ("-X", "utf8"), ("-X", "no_debug_ranges"), ("-u",), ("-P",), ("-s",),
)  # fmt: skip
# What the program does before it works.
BEFORE: Final[Mapping[str, str]] = {
    "settrace": "sys.settrace(lambda *_: None)\n",
    "settrace all": "def t(*_): return t\nsys.settrace(t); threading.settrace(t)\n",
    "setprofile": "sys.setprofile(lambda *_: None)\n",
    "another tool": (
        "m = sys.monitoring\nm.use_tool_id(2, 'theirs')\n"
        "m.register_callback(2, m.events.LINE, lambda *_: None)\nm.set_events(2, m.events.LINE)\n"
    ),
    "all tools taken": "for n in (0, 1, 2, 5):\n    sys.monitoring.use_tool_id(n, 'theirs')\n",
    "our tool freed": "for n in (1, 3, 4):\n    sys.monitoring.free_tool_id(n)\n",
    "restart_events": "sys.monitoring.restart_events()\n",
    "descriptors closed": "os.closerange(3, 256)\n",
    "umask": "os.umask(0o777)\n",
    "directory gone": "os.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone')\n",
    "modules forgotten": "for n in ('mmap', '_signal', 'posix'): sys.modules[n] = None\n",
    "environment cleared": "os.environ.clear()\n",
    "sys.path of nonsense": "sys.path[1:1] = [None, 3, b'x']\n",
    "facts of nonsense": "sys.executable = sys.prefix = sys.version = sys.orig_argv = None\n",
    "main of nonsense": "__spec__ = __file__ = 3\n",
    "no recursion left": (
        "sys.setrecursionlimit(200)\ndef deep(n):\n    return deep(n + 1)\n"
        "try:\n    deep(0)\nexcept RecursionError:\n    print('reached')\n"
    ),
    "no_new_privs": "import ctypes\nctypes.CDLL(None).prctl(38, 1, 0, 0, 0)\n",
    "unshare": "try:\n    os.unshare(0x10000000)\nexcept OSError as error:\n    print(error)\n",
    "chroot": (
        "try:\n    os.chroot('.'); os.chdir('/'); sys.path.insert(0, '/')\n"
        "except OSError as error:\n    print(error)\n"
    ),
    "another user": "try:\n    os.setgid(65534); os.setuid(65534)\nexcept OSError as e: print(e)\n",
    "alarm": (
        "import signal\ndef handler(*_): print('alarm')\nsignal.signal(14, handler)\n"
        "signal.raise_signal(14)\n"
    ),
    "subinterpreter": (
        "import _interpreters as i\nn = i.create()\ni.exec(n, 'import late')\ni.destroy(n)\n"
        if sys.version_info >= (3, 13)
        else ""
    ),
    "interpreters' pool": (
        "from concurrent.futures import InterpreterPoolExecutor\n"
        "with InterpreterPoolExecutor(2) as p:\n    print(*p.map(abs, [-1, -2]))\n"
        if sys.version_info >= (3, 14)
        else ""
    ),
    "pool": (
        "import multiprocessing\nwith multiprocessing.get_context('fork').Pool(2) as p:\n"
        "    print(p.map(abs, [-1, -2]))\n"
    ),
}
# System calls that a filter refuses, as those of containers do: of x86-64; the bits of an argument
# that make it refuse, of those that Python itself cannot do without.
REFUSED: Final[Mapping[str, tuple[int, int, int]]] = {
    "fallocate": (285, 0, 0),
    "ftruncate": (77, 0, 0),
    "pwrite64": (18, 0, 0),
    "rename": (82, 0, 0),
    "unlink": (87, 0, 0),
    "uname": (63, 0, 0),
    "getppid": (110, 0, 0),
    "readlink": (89, 0, 0),
    "getrandom": (318, 0, 0),
    "rt_sigprocmask": (14, 0, 0),
    "rt_sigtimedwait": (128, 0, 0),
    "fcntl": (72, 0, 0),
    "mmap, shared": (9, 3, 1),
    "openat, to create": (257, 2, os.O_CREAT),
}
LIMITS: Final = tuple(
    [("NOFILE", n) for n in (4, 5, 6, 7, 8, 16)]
    + [("FSIZE", n) for n in (0, 1, 4096, 8191, 8192, 65536)]
    + [("AS", n << 20) for n in (64, 128, 200)]
    + [("STACK", 256 << 10), ("NPROC", 1), ("DATA", 32 << 20), ("MEMLOCK", 0)]
)


@pytest.fixture
def app(guests: Guests) -> Guests:
    """The program."""
    guests.write("app.py", f"{WORK}work()\n")
    guests.write("late.py", LATE)
    guests.write("later.py", LATER)
    return guests


@pytest.mark.thorough
def test_options_of_the_interpreter(app: Guests) -> None:
    for options in OPTIONS:
        bare, measured = app.both(*options, "app.py")
        assert measured == bare, options
    assert app.lines(app.project / "late.py") == {1, 2, 3, 4}
    assert app.lines(app.project / "later.py") == {1, 2}


@pytest.mark.parametrize("name", BEFORE)
def test_what_a_program_does_to_itself(app: Guests, name: str) -> None:
    app.write("app.py", f"{WORK}{BEFORE[name]}work()\n")
    bare, measured = app.both("-W", "ignore", "app.py")
    assert measured == bare


@pytest.mark.thorough
def test_limits(app: Guests) -> None:
    """At their edge some programs do not start, bare or measured."""
    for name, limit in LIMITS:
        number = getattr(resource, f"RLIMIT_{name}")

        def lower(number: int = number, limit: int = limit) -> None:
            resource.setrlimit(number, (limit, resource.getrlimit(number)[1]))

        bare, measured = app.both("app.py", preexec_fn=lower)
        assert measured == bare, (name, limit)


@pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"), reason="numbers of Linux on x86-64"
)
def test_system_calls_that_are_refused(app: Guests) -> None:
    """From its start on; the answer is the one of a sandbox, or of a kernel that is too old."""
    for number, (name, refused) in enumerate(REFUSED.items()):
        error = (errno.EPERM, errno.ENOSYS)[number % 2]

        def refuse(refused: tuple[int, int, int] = refused, error: int = error) -> None:
            _refuse(*refused, error)

        bare, measured = app.both("app.py", preexec_fn=refuse)
        assert measured == bare, (name, error)
        if name == "fallocate":
            assert app.lines(app.project / "late.py") == {1, 2, 3, 4}


def _refuse(call: int, argument: int, bits: int, error: int) -> None:
    """Have the kernel refuse a system call of this process: seccomp, by a program of BPF."""
    load, is_equal, has_bits, end = 0x20, 0x15, 0x45, 0x06
    program = [(load, 0, 0, 0), (is_equal, 0, 3 if bits else 1, call)]
    if bits:
        program += [(load, 0, 0, 16 + 8 * argument), (has_bits, 0, 1, bits)]
    program += [(end, 0, 0, 0x50000 | error), (end, 0, 0, 0x7FFF0000)]
    code = b"".join(struct.pack("HBBI", *step) for step in program)
    buffer = ctypes.create_string_buffer(code)
    told = struct.pack("HxxxxxxP", len(program), ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(38, 1, 0, 0, 0)  # no new privileges, or only root may
    if libc.prctl(22, 2, told, 0, 0):
        raise OSError(ctypes.get_errno(), "no filter")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_data_directory_that_nobody_may_write(app: Guests) -> None:
    app.write("app.py", f"{WORK}os.setgid(65534); os.setuid(65534)\nwork()\n")
    app.data.chmod(0o555)
    bare, measured = app.both("app.py")
    assert measured == bare


# In kilobytes; of the smallest nothing is left, the next have room for a part of what is recorded.
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for a mount")
@pytest.mark.parametrize("size", [0, 8, 16, 32])
def test_a_data_directory_on_a_disk_that_is_or_becomes_full(app: Guests, size: int) -> None:
    mount = f"mount -t tmpfs -o size={max(size, 4)}k none '{app.data}'"
    fill = "" if size else f"head -c 4096 /dev/zero > '{app.data}/full'; "
    command = ["unshare", "--mount", "sh", "-c", f'{mount}; {fill}exec "$0" app.py', sys.executable]
    ended = [
        subprocess.run(command, cwd=app.project, env=env, capture_output=True, check=False)
        for env in (app.bare, app.measured)
    ]
    bare, measured = [(each.returncode, each.stdout, each.stderr) for each in ended]
    assert measured == bare
    assert bare[0] == 0
