"""Clients of every kind come through the door: measured, and none the wiser.

Each is used twice, through the door and with the engine itself. It has to say and end the same, and
what its containers ran is in the merged report under the path that the code has here.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from coverage import CoverageData
from tests.door.ways import Ways

import hcoverage
import hdocker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import KeptDirectory

pytestmark = [
    pytest.mark.engine,
    pytest.mark.usefixtures("clean_environment"),
    pytest.mark.xdist_group("door-clients"),  # one session looks into the image once
    pytest.mark.skipif(sys.version_info < (3, 12), reason="its Python is the image's"),
    pytest.mark.skipif(sys.platform != "linux", reason="the engine has the door's socket here"),
]

RCFILE: Final = "[run]\nsource = .\n"
APP: Final = """\
import sys
print("ran", *sys.argv[1:], flush=True)
sys.stderr.write("told\\n")
sys.exit(3)
"""
RAN: Final = {1, 2, 3, 4}
STATUS: Final = 3
COMPOSE: Final = """\
services:
  app:
    image: {image}
    command: sh -c "python3 /app/app.py up; touch /tmp/up; sleep 600"
    init: true
    network_mode: host
    volumes: ["./app.py:/app/app.py:ro"]
    labels: ["{label}"]
"""
BUILT: Final = """\
services:
  app:
    build: {{context: ., dockerfile: built/Dockerfile}}
    command: sh -c "python3 /app/app.py up; touch /tmp/up; sleep 600"
    init: true
    labels: ["{label}"]
    develop: {{watch: [{{action: rebuild, path: built/word}}]}}
"""
OPTIONS: Final = '--network host -v "$PWD/app.py:/app/app.py:ro" --label "$LABEL"'
RUN: Final = f'run --rm {OPTIONS} "$IMAGE" python3 /app/app.py one "two words"'
SHELLS: Final = {
    "by its path": f'"$CLIENT" {RUN}',
    "by the path of another": f'"$OTHER_CLIENT" {RUN}',
    "by its name": f"docker {RUN}",
    "a login shell": f"""bash -lc 'docker {RUN.replace("'", "")}'""",
    "a cleared environment": f'env -i DOCKER_HOST="$DOCKER_HOST" "$CLIENT" {RUN}',
    "python -I": f'"$CLIENT" {RUN.replace("python3", "python3 -I")}',
    "create, start, exec": f"""
        "$CLIENT" create --name "$NAME" --init {OPTIONS} "$IMAGE" sleep 600 >/dev/null
        "$CLIENT" start "$NAME" >/dev/null
        "$CLIENT" exec "$NAME" python3 /app/app.py executed; status=$?
        "$CLIENT" rm --force "$NAME" >/dev/null
        exit $status""",
    "a terminal": f"""script -qec '"$CLIENT" run -it --rm {OPTIONS} "$IMAGE" \
        python3 /app/app.py one' /dev/null""",
}
DOCKER_PY: Final = """\
import os, sys
sys.path.insert(0, os.environ["PACKAGES"])
import docker
client = docker.from_env()
volumes = {os.getcwd() + "/app.py": {"bind": "/app/app.py", "mode": "ro"}}
label, _, value = os.environ["LABEL"].partition("=")
options = dict(image=os.environ["IMAGE"], volumes=volumes, labels={label: value})
options["network_mode"] = "host"
way = sys.argv[1]
command = ["python3", "/app/app.py", way]
if way == "run":
    try:
        client.containers.run(command=command, remove=True, **options)
    except docker.errors.ContainerError as error:
        print(error.stderr, error.exit_status)
elif way == "exec_run":
    container = client.containers.run(command="sleep 600", init=True, detach=True, **options)
    print(container.exec_run(command, demux=True))
    # Which of the two streams comes first is not promised.
    print(sorted(b"".join(container.exec_run(command, stream=True).output).split()))
    container.remove(force=True)
elif way == "attach":
    container = client.containers.create(command=command, **options)
    output = container.attach(stream=True, logs=True)
    container.start()
    print(sorted(b"".join(output).split()), container.wait(), container.labels == {label: value})
    container.remove()
elif way == "build":
    image, _ = client.images.build(path=".", dockerfile="built/Dockerfile")
    options["image"] = image.id
    try:
        client.containers.run(command=command, remove=True, **options)
    except docker.errors.ContainerError as error:
        print(error.stderr, error.exit_status)
    client.images.remove(image.id, force=True)
elif way == "API 1.30":
    client = docker.APIClient(base_url=os.environ["DOCKER_HOST"], version="1.30")
    host = client.create_host_config(binds=volumes, network_mode="host")
    made = client.create_container(options["image"], command, labels=[label], host_config=host,
                                   volumes=["/app/app.py"])
    client.start(made)
    print(client.wait(made), sorted(client.logs(made).split()))
    client.remove_container(made)
"""
TESTCONTAINERS: Final = """\
import os, sys
sys.path.insert(0, os.environ["PACKAGES"])
from testcontainers.core.container import DockerContainer
label, _, value = os.environ["LABEL"].partition("=")
container = DockerContainer(os.environ["IMAGE"], labels={label: value})
container.with_kwargs(network_mode="host")
container.with_volume_mapping(os.getcwd() + "/app.py", "/app/app.py", "ro")
with container.with_command("sleep 600") as started:
    result = started.exec(["python3", "/app/app.py", "one"])
    print(result.exit_code, sorted(result.output.split()))
"""
TESTCONTAINERS_COMPOSE: Final = """\
import os, sys
sys.path.insert(0, os.environ["PACKAGES"])
from testcontainers.compose import DockerCompose
with DockerCompose(os.getcwd(), wait=False) as compose:
    script = "until [ -e /tmp/up ]; do sleep 0.1; done; python3 /app/app.py executed; echo $?"
    print(*compose.exec_in_container(["sh", "-c", script], "app"))
"""
ON_WHALES: Final = """\
import os, sys
sys.path.insert(0, os.environ["PACKAGES"])
from python_on_whales import DockerException, docker
volumes = [(os.getcwd() + "/app.py", "/app/app.py", "ro")]
try:
    options = dict(volumes=volumes, remove=True, networks=["host"])
    docker.run(os.environ["IMAGE"], ["python3", "/app/app.py", "one"], **options)
except DockerException as error:
    print(error.stdout, error.stderr, error.return_code)
"""
PYTHON_CLIENTS: Final = ("docker==7.2.0", "testcontainers==4.15.0", "python-on-whales==0.81.0")
NODE_CLIENT: Final = "testcontainers@10"
PYTHON_PROGRAMS: Final = {
    **{
        f"docker-py, {way}": (DOCKER_PY, way)
        for way in ("run", "exec_run", "attach", "build", "API 1.30")
    },
    "testcontainers": (TESTCONTAINERS, ""),
    "testcontainers, DockerCompose": (TESTCONTAINERS_COMPOSE, ""),
    "python-on-whales": (ON_WHALES, ""),
}
NODE: Final = """\
const {GenericContainer} = require(process.env.PACKAGES + "/node_modules/testcontainers");
(async () => {
    const container = await new GenericContainer(process.env.IMAGE)
        .withBindMounts([{source: process.cwd() + "/app.py", target: "/app/app.py", mode: "ro"}])
        .withNetworkMode("host").withCommand(["sleep", "600"]).start();
    const result = await container.exec(["python3", "/app/app.py", "one"]);
    console.log(result.exitCode, result.output.split("\\n").sort().join());
    await container.stop({timeout: 0});
})();
"""


@pytest.fixture(scope="module")
def module_ways(
    python_image: str, container_label: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Ways]:
    project = tmp_path_factory.mktemp("project")
    (project / ".coveragerc").write_text(RCFILE)
    (project / "app.py").write_text(APP)
    (project / "built").mkdir()
    (project / "built" / "word").write_text("first\n")
    (project / "built" / "Dockerfile").write_text(
        f"FROM {python_image}\nCOPY app.py built/word /app/\n"
    )
    for name, text in {"compose.yaml": COMPOSE, "built.yaml": BUILT}.items():
        (project / name).write_text(text.format(image=python_image, label=container_label))
    clients = [found for name in ("/usr/bin/docker", "docker") if (found := shutil.which(name))]
    with contextlib.chdir(project), hcoverage.open_session() as session:
        engine = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
        shared = {
            **session.environment,
            "IMAGE": python_image,
            "LABEL": container_label,
            "CLIENT": clients[0],
            "OTHER_CLIENT": clients[-1],
            "TESTCONTAINERS_RYUK_DISABLED": "true",
        }
        direct = {**shared, "DOCKER_HOST": engine, hdocker.CONTAINERS_VARIABLE: "0"}
        with hdocker.containers_measured(shared) as through:
            yield Ways(session, through, direct)


@pytest.fixture
def ways(module_ways: Ways, container_name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ways]:
    monkeypatch.chdir(module_ways.session.data_file.parent)
    more = {"NAME": container_name}
    if "DOCKER_CONFIG" in os.environ:
        more["DOCKER_CONFIG"] = os.environ["DOCKER_CONFIG"]
    yield Ways(module_ways.session, {**module_ways.through, **more}, {**module_ways.direct, **more})
    data_dir = module_ways.session.data_dir
    for left in [*data_dir.glob("*.hcrec"), *data_dir.glob("problem*")]:
        left.unlink()


@pytest.fixture(scope="module")
def packages(kept_directory: KeptDirectory) -> Path:
    """Where Python's clients are installed."""

    def install(directory: Path) -> None:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        # Of all their modules few are imported.
        command = [*pip, "--no-compile", "--target", str(directory), *PYTHON_CLIENTS]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    versions = "-".join([*PYTHON_CLIENTS, *map(str, sys.version_info[:2])])
    return kept_directory(versions.replace("==", "-"), install)


@pytest.fixture(scope="module")
def node_packages(kept_directory: KeptDirectory) -> Path:
    """Where a client in JavaScript is installed."""
    if not shutil.which("npm"):
        pytest.skip("no npm here")

    def install(directory: Path) -> None:
        # What would be compiled for it is there in JavaScript, too.
        lean = ["--no-audit", "--no-fund", "--ignore-scripts", "--omit=optional"]
        command = ["npm", "install", *lean, "--prefix", ".", NODE_CLIENT]
        done = subprocess.run(command, cwd=directory, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    return kept_directory(f"node-lean-{NODE_CLIENT}", install)


def measured(session: hcoverage.Session) -> set[int]:
    result = hcoverage.combine(session.data_paths(), coveragerc=session.rcfile.path)
    data = CoverageData(basename=str(result.data_file))
    data.read()
    return set(data.lines(str(Path.cwd() / "app.py")) or ())


@pytest.mark.parametrize("client", SHELLS)
def test_a_client_on_a_command_line(ways: Ways, client: str) -> None:
    ours, plain = ways.both("sh", "-c", SHELLS[client])
    assert (ours.returncode, ours.stdout, ours.stderr) == (
        plain.returncode,
        plain.stdout,
        plain.stderr,
    )
    assert ours.returncode == STATUS
    assert "ran one" in ours.stdout or "ran executed" in ours.stdout
    assert measured(ways.session) == RAN
    assert not ways.session.problems()


@pytest.mark.index
@pytest.mark.usefixtures("compose")
@pytest.mark.parametrize("client", PYTHON_PROGRAMS)
def test_a_client_in_python(ways: Ways, packages: Path, client: str) -> None:
    program, way = PYTHON_PROGRAMS[client]
    check_program(ways, packages, [sys.executable, "-c", program, way])


@pytest.mark.index
def test_a_client_in_javascript(ways: Ways, node_packages: Path) -> None:
    check_program(ways, node_packages, ["node", "-e", NODE])


def check_program(ways: Ways, packages: Path, command: list[str]) -> None:
    for environment in (ways.through, ways.direct):
        environment["PACKAGES"] = str(packages)
    ours, plain = ways.both(*command)
    assert (ours.returncode, ours.stdout) == (plain.returncode, plain.stdout)
    assert ours.returncode == 0, ours.stderr
    assert "told" in ours.stdout + ours.stderr
    assert measured(ways.session) == RAN
    assert not ways.session.problems()


# A test runner in a container, which starts others beside its own by the engine's socket.
RUNNER: Final = """\
import http.client, json, os, socket
class Engine(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect("/var/run/docker.sock")
def ask(method, path, body=None):
    engine = Engine("docker")
    engine.request(method, path, json.dumps(body), {"Content-Type": "application/json"})
    return json.loads(engine.getresponse().read() or b"null")
host = {"Binds": [os.environ["APP"] + ":/app/app.py:ro"], "NetworkMode": "host"}
label, _, value = os.environ["LABEL"].partition("=")
sibling = ask("POST", "/containers/create", {
    "Image": os.environ["IMAGE"], "Cmd": ["python3", "/app/app.py", "sibling"],
    "HostConfig": host, "Labels": {label: value}})["Id"]
ask("POST", f"/containers/{sibling}/start")
print(ask("POST", f"/containers/{sibling}/wait")["StatusCode"])
ask("DELETE", f"/containers/{sibling}")
"""


def test_what_a_runner_in_a_container_starts_by_the_engines_socket(ways: Ways) -> None:
    engine = ways.direct["DOCKER_HOST"].removeprefix("unix://")
    told = {
        "IMAGE": ways.direct["IMAGE"],
        "LABEL": ways.direct["LABEL"],
        "APP": f"{Path.cwd()}/app.py",
    }
    words = [word for item in told.items() for word in ("-e", "=".join(item))]
    for mount in (
        ["-v", f"{engine}:/var/run/docker.sock"],
        ["--mount", f"type=bind,source={engine},target=/var/run/docker.sock"],
    ):
        container = ["docker", "run", "--rm", "--network", "host", *mount, *words]
        container += ["--label", ways.direct["LABEL"]]
        ours, plain = ways.both(*container, ways.direct["IMAGE"], "python3", "-c", RUNNER)
        assert (ours.returncode, ours.stdout, ours.stderr) == (0, f"{STATUS}\n", "")
        assert (plain.returncode, plain.stdout, plain.stderr) == (0, f"{STATUS}\n", "")
        assert measured(ways.session) == RAN
        assert not ways.session.problems()
        for recording in ways.session.data_dir.glob("*.hcrec"):
            recording.unlink()


COMPOSES: Final = {
    "docker compose": "docker compose",
    "by its path": '"$CLIENT" compose',
    "docker-compose": '"$DOCKER_CONFIG/cli-plugins/docker-compose"',
}
UP: Final = "exec -T app sh -c 'until [ -e /tmp/up ]; do sleep 0.05; done'"
EXECUTE: Final = "exec -T app python3 /app/app.py executed; echo $?"
DOWN: Final = "down --timeout 0 --rmi local"
LIVES: Final = {
    "up twice": f"""
        COMPOSE up -d; COMPOSE {UP}; COMPOSE ps --quiet >first
        COMPOSE up -d; COMPOSE ps --quiet | cmp first -; echo $?
        COMPOSE {EXECUTE}
        COMPOSE logs --no-log-prefix""",
    "up --build": f"""
        COMPOSE -f built.yaml up -d --build >build.log; COMPOSE -f built.yaml {UP}
        COMPOSE -f built.yaml up -d --build >build.log
        COMPOSE -f built.yaml {EXECUTE}
        COMPOSE -f built.yaml {DOWN}""",
    "scale": f"""
        COMPOSE up -d --scale app=3; COMPOSE ps --quiet | wc -l
        COMPOSE {UP}
        COMPOSE up -d --scale app=1 --no-recreate; COMPOSE ps --quiet | wc -l
        COMPOSE {EXECUTE}""",
    "run": "COMPOSE run --rm -T app python3 /app/app.py one-off; echo $?",
    "create, start": f"COMPOSE create; COMPOSE start; COMPOSE {UP}; COMPOSE {EXECUTE}",
    "watch": f"""
        echo first >built/word
        setsid COMPOSE -f built.yaml watch >watch.log 2>&1 & watch=$!
        until grep -q "atch enabled" watch.log; do sleep 0.05; done
        echo second >built/word
        until COMPOSE -f built.yaml exec -T app grep -q second /app/word >/dev/null 2>&1; do
            sleep 0.05
        done
        kill -- -$watch; wait $watch
        COMPOSE -f built.yaml {EXECUTE}
        COMPOSE -f built.yaml {DOWN}""",
}


@pytest.mark.usefixtures("compose")
@pytest.mark.sampled
@pytest.mark.parametrize("client", COMPOSES)
@pytest.mark.parametrize("life", LIVES)
def test_a_compose_project_lives_as_it_would(ways: Ways, life: str, client: str) -> None:
    name = f"hcoverage-test-{uuid.uuid4().hex[:12]}"
    for environment in (ways.through, ways.direct):
        environment["COMPOSE_PROJECT_NAME"] = name
    script = LIVES[life].replace("COMPOSE", COMPOSES[client])
    ours, plain = ways.both("sh", "-c", f"{script}\n{COMPOSES[client]} {DOWN}")
    assert sorted(ours.stdout.splitlines()) == sorted(plain.stdout.splitlines())
    assert str(STATUS) in ours.stdout.split(), ours.stderr
    assert "Recreate" not in ours.stderr or life == "watch"
    assert measured(ways.session) == RAN
    assert not ways.session.problems()


@pytest.mark.usefixtures("compose")
def test_what_outlives_the_run_compose_makes_anew(
    python_image: str, container_label: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = f"hcoverage-test-{uuid.uuid4().hex[:12]}"
    monkeypatch.setenv("COMPOSE_PROJECT_NAME", name)
    text = COMPOSE.format(image=python_image, label=container_label)
    Path("compose.yaml").write_text(text)
    Path("app.py").write_text(APP)
    Path(".coveragerc").write_text(RCFILE)
    client = shutil.which("docker") or ""
    up = [client, "compose", "up", "-d"]
    try:
        for command in ([sys.executable, "-m", "hcov", "run", "--", *up], up):
            done = subprocess.run(command, check=False, capture_output=True, text=True)
            assert done.returncode == 0 or "hcov" in command, done.stderr
            assert f"Container {name}-app-1" in done.stderr
    finally:
        down = [client, "compose", "down", "--timeout", "0"]
        subprocess.run(down, check=True, capture_output=True)


@pytest.mark.parametrize(
    "words",
    [
        pytest.param([sys.executable, "-m", "hcov", "run", "--"], id="hcov run"),
        pytest.param([sys.executable, "-m", "hcov", "run", "--no-containers", "--"], id="without"),
        pytest.param(["--hcov"], id="pytest --hcov"),
    ],
)
def test_a_suite_whose_tests_start_containers_by_the_clients_path(
    python_image: str,
    container_label: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("app.py").write_text(APP)
    Path(".coveragerc").write_text(f"{RCFILE}omit = test_*\n")
    client = shutil.which("docker")
    mount = f"{tmp_path}/app.py:/app/app.py:ro"
    command = [client, "run", "--rm", "--label", container_label, "-v", mount, python_image]
    Path("test_it.py").write_text(
        "import subprocess\ndef test_it():\n"
        f"    assert subprocess.call({[*command, 'python3', '/app/app.py']!r}) == 3\n"
    )
    pytest_words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    whole = [*pytest_words, *words] if words == ["--hcov"] else [*words, *pytest_words]
    done = subprocess.run(whole, check=False, capture_output=True, text=True)
    said = done.stdout + done.stderr
    is_measured = "--no-containers" not in words
    assert bool(re.search(r"^app\.py +4 +0 +100%", done.stdout, re.MULTILINE)) == is_measured, said


def test_what_goes_past_the_door_is_told(
    python_image: str, container_label: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HCOVERAGE_SHARED_ENGINE")
    Path("app.py").write_text(APP)
    Path("unit.py").write_text("import sys; sys.exit(0)\n")
    Path(".coveragerc").write_text(RCFILE)
    engine = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    client = f"{shutil.which('docker')} -H {engine}"
    mount = f"-v {tmp_path}/app.py:/app/app.py:ro --label {container_label}"
    script = (
        f"{sys.executable} unit.py; {client} run --rm --name $NAME {mount} {python_image} "
        "python3 /app/app.py; exit 0"
    )
    name = f"hcoverage-test-{uuid.uuid4().hex[:12]}"
    monkeypatch.setenv("NAME", name)
    command = [sys.executable, "-m", "hcov", "run", "--", "sh", "-c", script]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0
    assert "past hcoverage's proxy to the engine" in done.stderr
