"""Suites of released servers that kill their children, configured as they are: do they stay green?

Each runs bare, five times under `hcov run`, and once as its project measures it. Told are the
status, the result, what hcov says, and the lines that only one of the reports has. Everything is
kept in `.cache/suites`. A busy machine makes some of their tests fail, with hcov or without: they
wait for a few seconds at most.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
import venv
from pathlib import Path
from typing import Any, Final

_ROOT: Final = Path(__file__).parents[1]
_PLACE: Final = _ROOT / ".cache" / "suites"
_PYTEST: Final = ("-p", "no:cacheprovider", "-rfE")


@dataclasses.dataclass(frozen=True)
class Suite:
    """A release.

    Attributes:
        name: Its name on the index.
        version: Its version.
        needed: What its tests need, in the versions that they pass with.
        measured: How its project measures it.
    """

    name: str
    version: str
    needed: tuple[str, ...]
    measured: tuple[str, ...]

    @property
    def directory(self) -> Path:
        """Where it is unpacked."""
        return _PLACE / f"{self.name}-{self.version}"

    @property
    def programs(self) -> Path:
        """Where its environment's programs are."""
        return _PLACE / f"env-{self.name}" / "bin"


SUITES: Final = (
    # A line of it is for websockets 16 alone, and `fail_under` is 100.
    Suite(
        *("uvicorn", "0.54.0"),
        (
            *("pytest>=9.1.1", "pytest-mock==3.15.1", "pytest-xdist[psutil]==3.8.0", "trustme"),
            *("pytest-codspeed", "cryptography", "coverage-conditional-plugin==0.9.0", "httpx2"),
            *("a2wsgi==1.10.10", "wsproto==1.3.2", "zttp>=0.0.34", "websockets<17"),
            *("httptools", "python-dotenv", "PyYAML", "uvloop", "watchfiles", "click", "h11"),
        ),
        ("coverage", "run", "-m", "pytest"),
    ),
    # Newer ones want a gunicorn_h1c that is on no index, and 0.6.10 has another error.
    Suite(
        *("gunicorn", "26.2.0"),
        (
            *("pytest>=9.0.3", "pytest-cov", "pytest-asyncio", "packaging", "httpx[http2]"),
            *("gevent", "tornado", "setproctitle", "h2>=4.4.1", "uvloop", "inotify"),
            *("gunicorn_h1c==0.6.9",),
        ),
        ("python", "-m", "pytest"),
    ),
)


def prepare(suite: Suite) -> None:
    """Unpack a suite, and install it beside us, unless that is done."""
    done = suite.programs / "done"
    if done.exists():
        return
    _PLACE.mkdir(parents=True, exist_ok=True)
    python = str(suite.programs / "python")
    venv.create(suite.programs.parent, symlinks=True, clear=True)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    wanted = f"{suite.name}=={suite.version}"
    source = ["--no-deps", "--no-binary", suite.name, "--dest", str(_PLACE)]
    subprocess.run([*pip, "download", *source, wanted], check=True)
    with tarfile.open(f"{suite.directory}.tar.gz") as archive:
        archive.extractall(_PLACE, filter="data")
    into = [*pip, "--python", python, "install"]
    subprocess.run([*into, "--editable", str(_ROOT), *suite.needed], check=True)
    subprocess.run([*into, "--no-deps", "--editable", str(suite.directory)], check=True)
    done.touch()


def run(suite: Suite, title: str, *command: str, **variables: str) -> str:
    """Run a command in the suite's directory; print how it ended, and return what it printed."""
    own = ("HCOVERAGE", "COVERAGE", "COV_", "PYTHON")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(own)}
    environment["PATH"] = f"{suite.programs}{os.pathsep}{environment['PATH']}"
    begin = time.perf_counter()
    program = str(suite.programs / command[0])
    done = subprocess.run(
        [program, *command[1:]],
        cwd=suite.directory,
        env={**environment, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    result = re.findall(r"^=+ (.* in [0-9.]+s.*?) =+$", done.stdout, re.MULTILINE)
    seconds = time.perf_counter() - begin
    print(f"{suite.name} {title}: status {done.returncode}, {result}, {seconds:.0f} s", flush=True)
    for line in done.stdout.splitlines():
        if line.startswith(("FAILED ", "ERROR ", "hcov: not ")):
            print("   ", line[:200], flush=True)
    return done.stdout


def report(suite: Suite) -> dict[str, set[int]]:
    """Take the lines of each file of a report that was written."""
    written = suite.directory / "coverage.json"
    files: dict[str, Any] = json.loads(written.read_bytes())["files"]
    written.unlink()
    return {name: set(file["executed_lines"]) for name, file in files.items()}


def clear(suite: Suite) -> None:
    """Remove what a run has left."""
    for left in suite.directory.glob(".coverage*"):
        if not left.name.startswith(".coveragerc"):
            left.unlink()
    shutil.rmtree(suite.directory / "coverage_data", ignore_errors=True)


def compare(suite: Suite, runs: int) -> None:
    """Print how a suite ends bare, measured by us, and measured as its project has it."""
    run(suite, "bare", "python", "-m", "pytest", *_PYTEST)
    found = []
    for number in range(runs):
        clear(suite)
        hcov = ("hcov", "run", "--no-containers", "--json", "--")
        run(suite, f"hcov run {number + 1}", *hcov, "python", "-m", "pytest", *_PYTEST)
        found.append(report(suite))
    clear(suite)
    rcfile = str(suite.directory / "pyproject.toml")
    run(suite, "as its own", *suite.measured, *_PYTEST, COVERAGE_PROCESS_START=rcfile)
    if not (suite.directory / ".coverage").exists():
        run(suite, "combine", "coverage", "combine")
    run(suite, "json", "coverage", "json", "--fail-under=0")
    theirs = report(suite)
    clear(suite)
    for number, ours in enumerate(found, 1):
        lost = {name: sorted(lines - ours.get(name, set())) for name, lines in theirs.items()}
        more = {name: len(lines - theirs.get(name, set())) for name, lines in ours.items()}
        print(f"{suite.name} run {number}: {sum(more.values())} lines more than coverage.py; less:")
        for name in sorted(name for name in lost if lost[name]):
            print("   ", name, lost[name])


def main() -> None:
    """Compare all, or the named ones."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=[suite.name for suite in SUITES])
    parser.add_argument("--runs", type=int, default=5, help="how often under `hcov run`")
    arguments = parser.parse_args()
    for suite in SUITES:
        if suite.name in arguments.names:
            prepare(suite)
            compare(suite, arguments.runs)


if __name__ == "__main__":
    main()
