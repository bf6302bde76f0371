"""`python -m hcov`, `coverage` or `pytest`, each in a process of its own that is up at once.

Most of what a short one takes are imports. So a process that has them all, and does nothing else,
forks for each command, and the child becomes that command: its directory, environment and streams.
It is for tests of what a command does and says. Whoever is about its start, sends it signals,
writes to its stdin or needs another interpreter, starts one.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.command_log import note_command

import hcoverage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_OURS: Final = (
    "coverage.cmdline, hcov._cli.main, hcov._commands.contexts, hcov._commands.doctor, "
    "hcov._commands.run, hcov._tell.analysis, hcoverage._combine.combine, "
    "hcoverage._session.session"
)
# pytest imports its plugins itself, hcov's among them: it writes their assertions anew.
_IMPORTED: Final = {
    "hcov": _OURS,
    "coverage": _OURS,
    "pytest": "coverage.cmdline, click, pytest",
    "matrix_reports": "coverage.cmdline",
}
_SERVER: Final = """\
import json, os, runpy, sys
import {imported}
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
    file = os.open(name, os.O_RDWR | os.O_APPEND)
    os.dup2(file, descriptor)
    os.close(file)
sys.stdin = open(0)
sys.dont_write_bytecode = bool(os.environ.get("PYTHONDONTWRITEBYTECODE"))
places = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
sys.path[0:1] = [request["directory"], *map(os.path.abspath, places)]
module, *sys.argv[1:] = request["words"]
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""
# What is around the tests, as `hcov run` that measures them, is around who forks.
_AROUND: Final = dict(os.environ)
_servers: Final[dict[tuple[str, str, bool], subprocess.Popen[str]]] = {}


def forked(
    module: str,
    *arguments: str | os.PathLike[str],
    env: Mapping[str, str] | None = None,
    directory: Path | None = None,
    python: str = sys.executable,
) -> subprocess.CompletedProcess[str]:
    """Run a module's command to its end; its stdin is empty.

    Args:
        module: One of those that can be had.
        arguments: The command's.
        env: The whole environment, if it is another than the one here.
        directory: Where it runs, if not here.
        python: The interpreter.
    """
    words = [module, *(os.fspath(argument) for argument in arguments)]
    argv = [python, "-m", *words]
    environment = dict(os.environ if env is None else env)
    is_measured = bool(environment.get(hcoverage.SESSION_VARIABLE))
    server = _server(python, _IMPORTED[module], is_measured=is_measured)
    with tempfile.NamedTemporaryFile("r+") as out, tempfile.NamedTemporaryFile("r+") as err:
        request = {
            "words": words,
            "directory": str(directory or Path.cwd()),
            "environment": environment,
            "streams": [out.name, err.name],
        }
        assert server.stdin
        assert server.stdout
        print(json.dumps(request), file=server.stdin, flush=True)
        answer = server.stdout.readline()
        assert answer, f"who starts {shlex.join(argv)} has ended"
        done = subprocess.CompletedProcess(argv, int(answer), out.read(), err.read())
    note_command(argv, done.returncode, (done.stdout, done.stderr))
    return done


def hcov(
    *arguments: str | os.PathLike[str], env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run hcov to its end, see `forked`."""
    return forked("hcov", *arguments, env=env)


def _server(python: str, imported: str, *, is_measured: bool) -> subprocess.Popen[str]:
    key = python, imported, is_measured
    if key not in _servers:
        _servers[key] = subprocess.Popen(
            [python, "-c", _SERVER.format(imported=imported)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=_AROUND if is_measured else hcoverage.unmeasured_environment(_AROUND),
        )
    return _servers[key]


@contextlib.contextmanager
def forks_ended() -> Iterator[None]:
    """End who forks, at the end of a `with` block."""
    yield
    for server in _servers.values():
        server.communicate()
    _servers.clear()
