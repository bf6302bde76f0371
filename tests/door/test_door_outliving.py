"""Containers that outlive the run: they can be started again, and nobody measures them then.

And compose projects that were up before the run, which it leaves alone.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from tests.forks import hcov

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.engine,
    pytest.mark.usefixtures("clean_environment", "temporary"),
    pytest.mark.xdist_group("door-outliving"),
    pytest.mark.skipif(sys.version_info < (3, 12), reason="its Python is the image's"),
    pytest.mark.skipif(sys.platform != "linux", reason="the engine has the door's socket here"),
]

APP: Final = 'print("ran", flush=True)\n'
HCOV: Final = (sys.executable, "-m", "hcov", "run")
COMMAND: Final = "python3 /app/app.py; touch /tmp/up; exec sleep 600"
READY: Final = "until docker exec $NAME test -e /tmp/up; do sleep 0.05; done"
COMPOSE: Final = """\
services:
  app:
    container_name: {name}
    image: {image}
    command: sh -c "{command}"
    init: true
    volumes: ["./app.py:/app/app.py:ro"]
    labels: ["{label}"]
"""
# How the run gets the container, by whether that has to be ready then.
CREATIONS: Final = {
    "created": ("docker create {options} >/dev/null", False),
    "running": (f"docker run -d {{options}} >/dev/null; {READY}", True),
    "stopped": (
        f"docker run -d {{options}} >/dev/null; {READY}; docker stop -t0 $NAME >/dev/null",
        True,
    ),
    "by compose": (f"docker compose up -d; {READY}", True),
}
AGAIN: Final = {
    "start": "docker stop -t0 $NAME; docker start $NAME",
    "restart": "docker restart -t0 $NAME",
}
DATA: Final = {"of the run": [], "named": ["--data-dir", "cov"]}


@pytest.fixture
def options(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    python_image: str,
    container_name: str,
    container_label: str,
) -> str:
    """The options and the rest of `docker run`, of a container of `NAME`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NAME", container_name)
    monkeypatch.setenv("COMPOSE_PROJECT_NAME", f"hcoverage-test-{uuid.uuid4().hex[:12]}")
    Path("app.py").write_text(APP)
    Path(".coveragerc").write_text("[run]\nsource = .\n")
    text = COMPOSE.format(
        name=container_name, image=python_image, label=container_label, command=COMMAND
    )
    Path("compose.yaml").write_text(text)
    mount = f"{tmp_path}/app.py:/app/app.py:ro"
    words = ["--init", "--label", container_label, "-v", mount, python_image, "sh", "-c", COMMAND]
    return shlex.join(["--name", container_name, *words])


@pytest.fixture
def project_removed(options: str, compose: tuple[str, ...]) -> Iterator[None]:  # noqa: ARG001
    yield
    down = [*compose, "down", "--timeout", "0"]
    subprocess.run(down, check=True, capture_output=True)


def shell(script: str) -> str:
    done = subprocess.run(["sh", "-ec", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def hcov_run(script: str, *more: str) -> subprocess.CompletedProcess[str]:
    return hcov("run", *more, "--", "sh", "-ec", script)


def left() -> list[Path]:
    """What runs have left where they keep what is theirs."""
    return list(Path(os.environ["TMPDIR"]).iterdir())


def files_left() -> list[Path]:
    return [
        path
        for directory in left()
        for path in directory.rglob("*")
        if path.is_file() and path.stat().st_size and not path.name.startswith("in-use")
    ]


@pytest.mark.usefixtures("project_removed")
@pytest.mark.sampled
@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("again", AGAIN)
@pytest.mark.parametrize("creation", CREATIONS)
def test_it_can_be_started_again_and_is_not_measured_then(
    options: str, creation: str, again: str, data: str
) -> None:
    script, is_measured = CREATIONS[creation]
    here = f"{sys.executable} app.py"  # so that something is measured in any case
    done = hcov_run(f"{here}; {script.format(options=options)}", *DATA[data])
    assert done.returncode == 0, done.stderr
    processes = 2 if is_measured else 1
    assert f"merged: {processes} recorded process" in done.stderr
    shell(f"{AGAIN[again]}; {READY}")
    said = shell("docker exec $NAME python3 /app/app.py; docker logs $NAME 2>&1")
    assert set(said.split()) == {"ran"}
    assert not files_left()


def test_its_place_is_gone_once_the_container_is(options: str) -> None:
    script = CREATIONS["running"][0].format(options=options)
    assert hcov_run(script).returncode == 0
    assert len(left()) == 1
    # While there is the container, a later run leaves it.
    assert hcov_run(f"{sys.executable} app.py").returncode == 0
    assert len(left()) == 1
    shell("docker restart -t0 $NAME; docker rm -f $NAME")
    assert hcov_run(f"{sys.executable} app.py").returncode == 0
    assert not left()


def test_nothing_is_left_where_no_container_is(options: str) -> None:
    script = f"{CREATIONS['running'][0].format(options=options)}; docker rm -f $NAME"
    assert hcov_run(script).returncode == 0
    assert not left()


def test_it_starts_again_after_a_run_that_was_killed(options: str) -> None:
    script = f"{CREATIONS['running'][0].format(options=options)}; touch ready; exec sleep 600"
    with subprocess.Popen(
        [*HCOV, "--", "sh", "-ec", script], stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        while not Path("ready").exists():
            assert process.poll() is None
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
    shell(f"{AGAIN['restart']}; {READY}; docker rm -f $NAME")


@pytest.mark.usefixtures("project_removed")
@pytest.mark.parametrize(
    "up", ["up -d", "up -d; docker compose up -d", "up -d; docker compose down -t0"]
)
def test_a_project_that_is_up_is_left_alone_and_told(options: str, up: str) -> None:  # noqa: ARG001
    shell(f"docker compose up -d; {READY}; docker exec $NAME touch /mine")
    identity = shell("docker inspect -f '{{.Id}}' $NAME")
    done = hcov_run(f"{sys.executable} app.py; docker compose {up}")
    assert "1 container was up before the run, and compose left them" in done.stderr
    assert os.environ["NAME"] in done.stderr
    if "down" not in up:
        assert shell("docker inspect -f '{{.Id}}' $NAME") == identity
        shell("docker exec $NAME test -e /mine")


@pytest.mark.usefixtures("project_removed")
@pytest.mark.parametrize(
    "script",
    [
        "docker compose down -t0; docker compose up -d",
        "docker compose up -d --force-recreate -t0",
        "docker compose ps",
    ],
)
def test_a_project_that_is_made_anew_is_not_told_to_be_left_alone(
    options: str,  # noqa: ARG001
    script: str,
) -> None:
    shell(f"docker compose up -d; {READY}")
    done = hcov_run(f"{sys.executable} app.py; {script}")
    assert not re.search("was up before|were up before", done.stderr)
