"""What goes past the door is told at the end of the run: how much of what, and where.

Each way around the door does the same six things, in an engine of the tests' own, since others
would be counted: it creates a container, starts one that was there before the run, and executes
something in one; each of them ends before the run does, and is running when it ends.

All ways, with each thing that they do alone, in both kinds of runs, are taken by

    HCOVERAGE_CORPUS=full python -m pytest tests/door/test_door_past.py
"""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from tests.door.ways import RUNNERS, told_by
from tests.sampling import FULL

import hcoverage
import hdocker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.door.second_engine import SecondEngine

pytestmark = [
    pytest.mark.engine,
    pytest.mark.usefixtures("clean_environment"),
    pytest.mark.xdist_group("door-engines"),  # they share a second dockerd
    pytest.mark.skipif(sys.version_info < (3, 12), reason="its Python is the image's"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to start a dockerd"),
]

# For `CLIENT`, and a `NAME` of its own.
ACTIONS: Final = """
CLIENT run --rm --network host --name NAME-c-ends $IMAGE true
CLIENT run -d --init --network host --name NAME-c-runs $IMAGE sleep 600
CLIENT start -a NAME-s-ends
CLIENT start NAME-s-runs
CLIENT exec NAME-e-ends true
CLIENT exec -d NAME-e-runs sleep 600
"""
KINDS: Final = {
    "c": "containers were created",
    "s": "older containers were started",
    "e": "commands were executed",
}
CLIENTS: Final[dict[str, str]] = {
    "-H": 'docker -H "$ENGINE"',
    "--context": "docker --context own",
    "a DOCKER_HOST of the test's own": 'env DOCKER_HOST="$ENGINE" docker',
    "a DOCKER_CONTEXT of the test's own": "env -u DOCKER_HOST DOCKER_CONTEXT=own docker",
}
# As a library does that has the address in the code that calls it.
PROGRAM: Final = """\
import getopt, http.client, json, os, socket, sys
class Engine(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(os.environ["ENGINE"].removeprefix("unix://"))
def ask(path, body=None):
    engine = Engine("docker")
    engine.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    return json.loads(engine.getresponse().read() or b"{}")
verb, *words = sys.argv[1:]
options, words = getopt.getopt(words, "ad", ["init", "rm", "name=", "network="])
options = dict(options)
name = options.get("--name") or words[0]
if verb in ("run", "create"):
    host = {"NetworkMode": "host", "AutoRemove": "--rm" in options, "Init": "--init" in options}
    wanted = {"Image": words[0], "Cmd": words[1:], "HostConfig": host}
    ask(f"/containers/create?name={name}", wanted)
if verb in ("run", "start"):
    ask(f"/containers/{name}/start")
if "-a" in options:
    ask(f"/containers/{name}/wait")
if verb == "exec":
    wanted = {"Cmd": words[1:], "AttachStdout": "-d" not in options}
    made = ask(f"/containers/{name}/exec", wanted)["Id"]
    ask(f"/exec/{made}/start", {"Detach": "-d" in options})
"""
IN_CODE: Final = "an address in its code"
CLIENTS[IN_CODE] = '"$PYTHON" "$PWD/program.py"'


COMPOSE: Final = """\
services:
  one: &one {image: "$IMAGE", command: sleep 600, init: true, network_mode: host}
  two: *one
"""
CREATION: Final = "--network host --name NAME $IMAGE true"
# Each with how much is told of what kind, and of which containers.
DEEDS: Final = {
    "run": (f"CLIENT run --rm {CREATION}", 1, "container was created", [""]),
    "create, start": (
        f"CLIENT create {CREATION}\nCLIENT start -a NAME",
        *(1, "container was created", [""]),
    ),
    "start": ("CLIENT start -a NAME-s-ends", 1, "older container was started", ["-s-ends"]),
    "exec": (
        "CLIENT exec NAME-e-ends true\nCLIENT exec NAME-e-ends true",
        *(2, "commands were executed", ["-e-ends"]),
    ),
    "compose up": (
        "CLIENT compose --project-name NAME up --detach",
        *(2, "containers were created", ["-one-1", "-two-1"]),
    ),
}
# The program is no compose.
CELLS: Final = [
    (way, deed, runner)
    for way, deed, runner in itertools.product(CLIENTS, DEEDS, RUNNERS)
    if (way, deed) != (IN_CODE, "compose up")
]
# Of all of them a run tells how many there are.
ALONE: Final = [*CLIENTS] if FULL else ["--context", IN_CODE]
SAMPLE: Final = [
    ("--context", "compose up", "hcov run"),
    ("an address in its code", "create, start", "pytest --hcov"),
]


@pytest.fixture
def project(
    second_engine: SecondEngine,
    image_without_python: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A project whose clients are led to an engine that nobody else uses."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HCOVERAGE_SHARED_ENGINE")
    address = f"unix://{second_engine.socket}"
    for name, value in {
        "DOCKER_HOST": address,
        "ENGINE": address,
        "IMAGE": image_without_python,
        "PYTHON": sys.executable,
        "DOCKER_CONFIG": str(tmp_path / "docker"),
    }.items():
        monkeypatch.setenv(name, value)
    docker("context", "create", "own", "--docker", f"host={address}")
    Path("app.py").write_text("print('ran')\n")
    Path("program.py").write_text(PROGRAM)
    Path(".coveragerc").write_text("[run]\nsource = .\nomit = program.py, test_*\n")
    return tmp_path


@pytest.fixture
def names(
    request: pytest.FixtureRequest,
    project: Path,  # noqa: ARG001 - the engine
) -> Iterator[dict[str, str]]:
    """For each way around the door of the test a name; its containers from before are there."""
    ways = request.node.callspec.params["ways"]
    names = {way: f"hcoverage-test-{uuid.uuid4().hex[:12]}" for way in ways}
    with ThreadPoolExecutor(4) as makers:
        list(makers.map(make_before, names.values()))
    yield names
    docker("rm", "--force", *docker("ps", "--all", "--quiet").split())


def make_before(name: str) -> None:
    image = os.environ["IMAGE"]
    options = ["--init", "--network", "host"]
    docker("create", *options, "--name", f"{name}-s-ends", image, "true")
    docker("create", *options, "--name", f"{name}-s-runs", image, "sleep", "600")
    for end in ("ends", "runs"):
        docker("run", "-d", *options, "--name", f"{name}-e-{end}", image, "sleep", "600")


def docker(*words: str) -> str:
    done = subprocess.run(["docker", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def script_of(way: str, name: str, actions: str = ACTIONS) -> str:
    return f"set -e\n{actions}".replace("CLIENT", CLIENTS[way]).replace("NAME", name)


def told(lines: list[str]) -> list[str]:
    return [line for line in lines if "past hcoverage's proxy" in line]


def told_of(runner: str, script: str) -> list[str]:
    return told(told_by(runner, script))


@pytest.mark.parametrize("ways", [[way] for way in ALONE], ids=ALONE)
def test_each_thing_is_told_by_its_kind(names: dict[str, str], ways: list[str]) -> None:
    (way,) = ways
    with hcoverage.open_session() as session:
        with hdocker.containers_measured(session.environment) as environment:
            command = ["sh", "-c", script_of(way, names[way])]
            subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        lines = told(session.problems())
    assert len(lines) == len(KINDS)
    for letter, words in KINDS.items():
        (line,) = (line for line in lines if line.startswith(f"2 {words} past"))
        for end in ("ends", "runs"):
            assert f"{names[way]}-{letter}-{end} ({os.environ['IMAGE']})" in line
        assert "if it goes by DOCKER_HOST" in line


@pytest.mark.parametrize("ways", [["-H", "--context"]], ids=["of two"])
def test_through_the_door_nothing_of_it_is_told(names: dict[str, str], ways: list[str]) -> None:
    script = "set -e" + ACTIONS.replace("CLIENT", "docker").replace("NAME", names[ways[0]])
    with hcoverage.open_session() as session:
        with hdocker.containers_measured(session.environment) as environment:
            environment["HCOVERAGE_CONTAINERS"] = "0"  # whoever wants none has come through it, too
            subprocess.run(["sh", "-c", script], env=environment, check=True, capture_output=True)
            del environment["HCOVERAGE_CONTAINERS"]
            script = script.replace(names[ways[0]], names[ways[1]])
            subprocess.run(["sh", "-c", script], env=environment, check=True, capture_output=True)
        assert not told(session.problems())


def test_a_check_of_health_is_nobodys_command(project: Path) -> None:  # noqa: ARG001
    name = f"hcoverage-test-{uuid.uuid4().hex[:12]}"
    check = ["--health-cmd", "sleep 0", "--health-interval", "100ms"]
    image = os.environ["IMAGE"]
    docker("run", "-d", "--init", "--network", "host", "--name", name, *check, image, "sleep", "60")
    with hcoverage.open_session() as session:
        with hdocker.containers_measured(session.environment) as environment:
            wait = 'docker events --filter event=exec_die --filter container="$0" | read -r first'
            command = ["bash", "-c", wait, name]
            subprocess.run(command, env=environment, check=True, capture_output=True)
        assert not told(session.problems())
    docker("rm", "--force", name)


@pytest.mark.parametrize(
    ("runner", "ways"),
    [(RUNNERS[0], [*CLIENTS]), *((each, [*CLIENTS][:2]) for each in RUNNERS[1:])],
)
def test_all_of_it_is_counted_at_the_end_of_a_run(
    names: dict[str, str], runner: str, ways: list[str]
) -> None:
    lines = told_of(runner, "\n".join(f"({script_of(way, name)})" for way, name in names.items()))
    number = 2 * len(ways)
    assert len(lines) == len(KINDS)
    for words in KINDS.values():
        (line,) = (line for line in lines if f"not measured: {number} {words} past" in line)
        assert re.search(rf" and {number - 3} more; ", line)
        assert line.endswith("[not-measured]")


@pytest.mark.parametrize(("way", "deed", "runner"), CELLS if FULL else SAMPLE)
def test_a_run_tells_what_one_way_did(
    project: Path,
    _docker_plugins: str,  # noqa: PT019 - where they are
    way: str,
    deed: str,
    runner: str,
) -> None:
    (project / "docker" / "cli-plugins").symlink_to(Path(_docker_plugins, "cli-plugins"))
    (project / "compose.yaml").write_text(COMPOSE)
    name = f"hcoverage-test-{uuid.uuid4().hex[:12]}"
    make_before(name)
    script, number, kind, of = DEEDS[deed]
    try:
        (line,) = told_of(runner, script_of(way, name, f"{script}\n"))
    finally:
        docker("rm", "--force", *docker("ps", "--all", "--quiet").split())
    assert f"not measured: {number} {kind} past" in line
    _, _, shown = line.partition(" by somebody else: ")
    shown, _, advice = shown.removeprefix("in ").partition("; ")
    assert sorted(shown.split(", ")) == [f"{name}{each} ({os.environ['IMAGE']})" for each in of]
    assert advice.startswith("a client comes through the proxy if it goes by DOCKER_HOST")
    assert line.endswith("[not-measured]")
