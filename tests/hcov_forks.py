"""`python -m hcov` in a process of its own that has not to load what it is made of.

Two thirds of a short `hcov` are imports. So a process that has them all, and does nothing
else, forks for each command, and the child becomes that command: its directory, environment and
streams. It is for tests of what hcov does and says. Whoever is about hcov's own start, sends it
signals, writes to its stdin or needs another interpreter, starts one.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import subprocess
import sys
import tempfile
from typing import IO, TYPE_CHECKING, Final

from tests.command_log import note_command

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_SERVER: Final = """\
import json, os, runpy, sys
import coverage.cmdline, coverage.data
import hcov._cli.main, hcov._commands.contexts, hcov._commands.doctor, hcov._commands.run
import hcov._tell.analysis, hcoverage._combine.combine, hcoverage._session.session
for line in sys.stdin:
    request = json.loads(line)
    child = os.fork()
    if not child:
        break
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
else:
    sys.exit()
os.chdir(request["directory"])
os.environ.clear()
os.environ.update(request["environment"])
for descriptor, name in enumerate((os.devnull, *request["streams"])):
    file = os.open(name, os.O_RDWR)
    os.dup2(file, descriptor)
    os.close(file)
sys.stdin = open(0)
sys.path[0] = request["directory"]
sys.argv = ["hcov", *request["arguments"]]
runpy.run_module("hcov", run_name="__main__", alter_sys=True)
"""
# What is around the tests, as `hcov run` that measures them, is around who forks.
_AROUND: Final = dict(os.environ)
_servers: Final[list[subprocess.Popen[str]]] = []


def hcov(
    *arguments: str | os.PathLike[str], env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run hcov to its end in this directory; stdin is empty.

    Args:
        arguments: Those of hcov.
        env: The whole environment, if it is another than the one here.
    """
    words = [*map(os.fspath, arguments)]
    argv = [sys.executable, "-m", "hcov", *words]
    with tempfile.NamedTemporaryFile("r+") as out, tempfile.NamedTemporaryFile("r+") as err:
        request = {
            "arguments": words,
            "directory": os.getcwd(),  # noqa: PTH109 - as text
            "environment": dict(os.environ if env is None else env),
            "streams": [out.name, err.name],
        }
        stdin, stdout = _server()
        print(json.dumps(request), file=stdin, flush=True)
        answer = stdout.readline()
        assert answer, f"who runs {shlex.join(argv)} has ended"
        done = subprocess.CompletedProcess(argv, int(answer), out.read(), err.read())
    note_command(argv, done.returncode, (done.stdout, done.stderr))
    return done


def _server() -> tuple[IO[str], IO[str]]:
    if not _servers:
        pipe = subprocess.PIPE
        command = [sys.executable, "-c", _SERVER]
        server = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=_AROUND)
        _servers.append(server)
    (server,) = _servers
    assert server.stdin
    assert server.stdout
    return server.stdin, server.stdout


@contextlib.contextmanager
def forks_ended() -> Iterator[None]:
    """End who forks, at the end of a `with` block."""
    yield
    for server in _servers:
        server.communicate()
    _servers.clear()
