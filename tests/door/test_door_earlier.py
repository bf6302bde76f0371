"""Containers that were there before the run: what starts in them during it is measured, or told.

Each way of getting Python started in such a container is tried on one that runs and on one that
does not, beside one that the run creates. It has to say and end as without measuring.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from coverage import CoverageData
from tests.forks import hcov

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = [
    pytest.mark.engine,
    pytest.mark.usefixtures("clean_environment"),
    pytest.mark.xdist_group("door-earlier"),
    pytest.mark.skipif(sys.version_info < (3, 12), reason="its Python is the image's"),
    pytest.mark.skipif(sys.platform != "linux", reason="the engine has the door's socket here"),
]

RCFILE: Final = "[run]\nsource = .\n"
APP: Final = """\
import sys
def main():
    print("ran", *sys.argv[1:], flush=True)
def executed():
    print("executed", flush=True)
if __name__ == "__main__":
    (executed if "executed" in sys.argv else main)()
"""
MAIN: Final = {1, 2, 3, 4, 6, 7}
EXECUTED: Final = {1, 2, 4, 5, 6, 7}
# What the container itself runs, once each time it starts.
COMMAND: Final = "python3 /app/app.py main; touch /tmp/up; exec sleep 600"
READY: Final = "until docker exec $NAME test -e /tmp/up; do sleep 0.05; done"
EXEC: Final = "docker exec $NAME python3 {} /app/app.py executed"
DETACHED: Final = """\
docker exec -d $NAME sh -c 'python3 /app/app.py executed; touch /tmp/done'
until docker exec $NAME test -e /tmp/done; do sleep 0.05; done"""
# A way to get Python started in a container, by whether that has to run, and the lines it runs.
WAYS: Final = {
    "exec": (True, EXEC.format(""), EXECUTED),
    "exec -I": (True, EXEC.format("-I"), EXECUTED),
    "exec with a variable": (
        True,
        EXEC.format("").replace("exec", "exec -e PYTHONPATH=/nowhere", 1),
        EXECUTED,
    ),
    "exec as nobody": (True, EXEC.format("").replace("exec", "exec -u 65534", 1), EXECUTED),
    "exec, detached": (
        True,
        DETACHED,
        EXECUTED,
    ),
    "start": (False, f"docker start $NAME; {READY}", MAIN),
    "start, exec": (False, f"docker start $NAME; {READY}; {EXEC.format('')}", MAIN | EXECUTED),
    "restart": (True, f"docker exec $NAME rm /tmp/up; docker restart -t0 $NAME; {READY}", MAIN),
    "stop, start": (
        True,
        f"docker exec $NAME rm /tmp/up; docker stop -t0 $NAME; docker start $NAME; {READY}",
        MAIN,
    ),
    "exec, removed": (True, f"{EXEC.format('')}; docker rm -f $NAME", EXECUTED),
    "exec, killed": (True, f"{EXEC.format('')}; docker kill $NAME", EXECUTED),
}


@dataclass(frozen=True)
class Done:
    """How a run ended."""

    status: int
    stdout: str
    stderr: str
    lines: frozenset[int]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("app.py").write_text(APP)
    Path(".coveragerc").write_text(RCFILE)
    return tmp_path


@pytest.fixture
def creation(
    project: Path,
    python_image: str,
    container_label: str,
    container_name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> list[str]:
    """The words that create a container of `NAME`, after `create` or `run -d`."""
    monkeypatch.setenv("NAME", container_name)
    options = ["--name", container_name, "--init", "--label", container_label]
    mount = ["-v", f"{project}/app.py:/app/app.py:ro"]
    return [*options, *mount, python_image, "sh", "-c", COMMAND]


def docker(*words: str) -> str:
    done = subprocess.run(["docker", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def make(creation: Sequence[str], *, running: bool) -> None:
    docker("create", *creation)
    if running:
        docker("start", os.environ["NAME"])
        subprocess.run(["sh", "-c", READY], check=True)


def hcov_run(script: str, *options: str) -> Done:
    done = hcov("run", *options, "--", "sh", "-c", f"{script}; :")
    lines: set[int] = set()
    with contextlib.suppress(FileNotFoundError):
        data = CoverageData(basename=str(Path(".coverage").resolve(strict=True)))
        data.read()
        lines |= set(data.lines(str(Path.cwd() / "app.py")) or ())
    return Done(done.returncode, done.stdout, done.stderr, frozenset(lines))


@pytest.mark.sampled
@pytest.mark.parametrize("when", ["before", "in the run"])
@pytest.mark.parametrize("way", WAYS)
def test_what_starts_in_a_container_is_measured(creation: list[str], way: str, when: str) -> None:
    runs, script, expected = WAYS[way]
    if when == "before":
        make(creation, running=runs)
        done = hcov_run(script)
    else:
        words = subprocess.list2cmdline(["docker", "create", *creation[:-1]])
        created = f"{words} '{COMMAND}' >/dev/null"
        start = f"docker start $NAME >/dev/null; {READY};" if runs else ""
        done = hcov_run(f"{created}; {start} {script}")
        expected = {*expected, *MAIN}  # it is the run that has it start
    assert done.lines == expected, done.stderr
    assert done.status == 0, done.stderr
    assert "not measured" not in done.stderr


def test_it_says_and_ends_as_without_measuring(creation: list[str]) -> None:
    make(creation, running=True)
    program = "import os, sys; print(*sys.argv, os.getcwd(), flush=True); os._exit(7)"
    script = f"docker exec $NAME python3 -c '{program}' a 'b c'"
    plain = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
    done = hcov_run(f"{script}; echo $?")
    assert done.stdout.startswith(f"{plain.stdout}{plain.returncode}\n")


def test_a_container_that_runs_has_nothing_left_in_it(creation: list[str]) -> None:
    make(creation, running=True)
    before = docker("diff", os.environ["NAME"])
    assert hcov_run(WAYS["exec -I"][1]).lines == EXECUTED
    after = docker("diff", os.environ["NAME"])
    assert not re.search("hcov", after)
    # The directories are there still, and only touched.
    assert {line for line in after.splitlines() if line[0] != "C"} == {
        line for line in before.splitlines() if line[0] != "C"
    }


def test_one_that_does_not_run_has_no_more_than_empty_files(creation: list[str]) -> None:
    make(creation, running=False)
    name = os.environ["NAME"]
    done = hcov_run(f"{WAYS['start'][1]}; docker stop -t0 $NAME")
    assert done.lines == MAIN, done.stderr
    docker("start", name)
    find = "find / -xdev ( -path */hcoverage/* -o -name *hcoverage*.pth ) -type f -size +0"
    assert not docker("exec", name, *find.split())
    # And a later run counts its own lines alone.
    Path(".coverage").unlink()
    assert hcov_run(WAYS["exec"][1]).lines == EXECUTED


TOLD: Final = {
    "it removes itself": (["--rm"], False, WAYS["start"][1], "removes itself"),
    "read-only": (["--read-only", "--tmpfs", "/tmp"], True, EXEC.format(""), "cannot be put into"),  # noqa: S108
    "something in our place": (
        ["--tmpfs", "/opt/hcoverage"],
        True,
        EXEC.format(""),
        "was there before the run",
    ),
}


@pytest.mark.parametrize("kind", TOLD)
def test_what_cannot_be_measured_is_told_and_runs_as_it_would(
    creation: list[str], kind: str
) -> None:
    options, runs, script, words = TOLD[kind]
    make([*options, *creation], running=runs)
    done = hcov_run(f"{sys.executable} app.py; {script}; docker rm -f $NAME")
    assert words in done.stderr
    assert "ran\n" in done.stdout


@pytest.mark.parametrize("opt_out", ["HCOVERAGE_CONTAINERS=0 {}", "{} HCOVERAGE_SESSION="])
def test_who_wants_none_is_left_alone(creation: list[str], opt_out: str) -> None:
    make(creation, running=True)
    before = set(docker("diff", os.environ["NAME"]).splitlines())
    script = EXEC.format("")
    wanted = (
        f"HCOVERAGE_CONTAINERS=0 {script}"
        if opt_out.startswith("HC")
        else script.replace("exec", "exec -e HCOVERAGE_SESSION=", 1)
    )
    done = hcov_run(f"{sys.executable} app.py; {wanted}")
    assert done.lines == MAIN
    assert set(docker("diff", os.environ["NAME"]).splitlines()) == before
