"""Under `hcov run`, the services of a compose file are measured, and none the wiser.

Compose is called as one would who never heard of measuring: once as it is, once through the door.
It has to say and end the same, and what the services ran is in the merged report.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from coverage import CoverageData
from tests.door.ways import run, unmeasured

import hcoverage
import hdocker

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.engine,
    pytest.mark.usefixtures("clean_environment", "compose"),
    pytest.mark.xdist_group("compose"),  # one session looks into the images once
    pytest.mark.skipif(sys.version_info < (3, 12), reason="its Python is the image's"),
]

RCFILE: Final = "[run]\nparallel = True\nsource = .\n[paths]\napp =\n    .\n    /app\n"
# Both services run it under a name of their own.
APP: Final = """\
import os
import signal
import sys

print(*sys.argv[1:], os.environ.get("WORD"), flush=True)
if "wait" in sys.argv:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
    open("/tmp/up", "w").close()
    signal.pause()
sys.exit(3)
"""
RAN: Final = {1, 2, 3, 5, 6, 10}
WAITED: Final = {1, 2, 3, 5, 6, 7, 8, 9}
DOCKERFILE: Final = "FROM {python}\nWORKDIR /app\nCOPY web.py .\nRUN {step}\n"
SERVICES: Final = """\
services:
  web:
    build: .
    command: python3 web.py wait
    depends_on: [worker, bare]
    environment:
      PYTHONPATH: /own$$path
      WORD: $${{dollar}}
    labels: ["{label}"]
  worker:
    image: {python}
    command: python3 -I /app/worker.py wait
    read_only: true
    user: "65534"
    tmpfs: /tmp
    volumes: ["./worker.py:/app/worker.py:ro"]
    labels: ["{label}"]
  bare:
    image: {bare}
    command: sleep 600
    init: true
    labels: ["{label}"]
  extra:
    image: {python}
    command: python3 /app/worker.py
    network_mode: host
    profiles: [extra]
    volumes: ["./worker.py:/app/worker.py:ro"]
    labels: ["{label}"]
  not-built:
    build: {{dockerfile: Dockerfile.broken}}
    profiles: [broken]
"""
# The whole life of a project; compose tells no more than where it is ready to go on.
LIFE: Final = """\
docker compose up -d
for service in web worker; do
    docker compose exec -T $service sh -c 'until [ -e /tmp/up ]; do sleep 0.05; done'
done
docker compose exec -T web python3 web.py executed; echo $?
docker compose run --rm --no-deps -T web python3 web.py one-off; echo $?
docker compose stop
docker compose ps --all --format '{{.Service}} {{.ExitCode}}' | sort
docker compose down
"""
STATUS: Final = 3
# What comes from the clock, and from compose working on several things at once.
BUILD_STEP: Final = re.compile(r"#\d.*|")
# Seen once to say nothing of one container in a dry run, which goes to compose past us.
DRY_STEP: Final = re.compile(r" DRY-RUN MODE -  Container .*")


@pytest.fixture(scope="module")
def module_session(
    python_image: str,
    image_without_python: str,
    container_label: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[hcoverage.Session, dict[str, str]]]:
    """A session for all tests, in a project with a compose file."""
    project = tmp_path_factory.mktemp("project")
    (project / ".coveragerc").write_text(RCFILE)
    for name in ("web.py", "worker.py"):
        (project / name).write_text(APP)
    for name, step in (("Dockerfile", "true"), ("Dockerfile.broken", "exit 9")):
        (project / name).write_text(DOCKERFILE.format(python=python_image, step=step))
    text = SERVICES.format(python=python_image, bare=image_without_python, label=container_label)
    (project / "compose.yaml").write_text(text)
    with (
        contextlib.chdir(project),
        hcoverage.open_session() as session,
        hdocker.containers_measured(session.environment) as environment,
    ):
        yield session, environment


@pytest.fixture
def session(
    module_session: tuple[hcoverage.Session, dict[str, str]],
    compose: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[hcoverage.Session]:
    """What `hcov run` opens, with this process as the measured command and a project of its own."""
    session, environment = module_session
    project = session.data_file.parent
    monkeypatch.chdir(project)
    own = {"COMPOSE_PROJECT_NAME": f"hcoverage-test-{uuid.uuid4().hex[:12]}"}
    os.environ.update({**environment, "DOCKER_CONFIG": os.environ["DOCKER_CONFIG"], **own})
    yield session
    command = [*compose, "--profile", "*", "down", "--rmi", "local", "--timeout", "0"]
    done = unmeasured(*command, cwd=project)
    assert done.returncode == 0, done.stderr
    for left in [*session.data_dir.glob("*.hcrec"), *session.data_dir.glob("prob*")]:
        left.unlink()


def said(done: subprocess.CompletedProcess[str]) -> tuple[int, list[str], list[str]]:
    """What is to be the same each time: status, stdout and stderr."""
    out = [line for line in done.stdout.splitlines() if not BUILD_STEP.fullmatch(line)]
    err = [line for line in done.stderr.splitlines() if not DRY_STEP.fullmatch(line)]
    return done.returncode, out, sorted(err)


def measured(session: hcoverage.Session) -> dict[str, set[int]]:
    """The lines that ran in the merged report, by their file's name."""
    result = hcoverage.combine(session.data_paths(), coveragerc=session.rcfile.path)
    data = CoverageData(basename=str(result.data_file))
    data.read()
    assert {Path(name).parent for name in data.measured_files()} <= {session.data_file.parent}
    lines = {Path(name).name: set(data.lines(name) or ()) for name in data.measured_files()}
    return {name: ran for name, ran in lines.items() if ran}


def test_a_project_is_measured_and_lives_as_it_would(session: hcoverage.Session) -> None:
    ours = run("sh", "-c", LIFE)
    (problem,) = session.problems()
    assert "no Python" in problem
    run("docker", "image", "rm", f"{os.environ['COMPOSE_PROJECT_NAME']}-web")
    plain = unmeasured("sh", "-c", LIFE)
    assert said(ours) == said(plain)
    assert ours.stdout.splitlines()[-7:] == [
        "executed ${dollar}",
        "3",
        "one-off ${dollar}",
        "3",
        "bare 143",  # each ended when it was told to, and did not have to be killed
        "web 7",
        "worker 7",
    ]
    assert measured(session) == {"web.py": RAN | WAITED, "worker.py": WAITED}


def test_up_again_leaves_containers_alone_also_in_another_context(
    session: hcoverage.Session,
) -> None:
    assert session.data_dir.is_dir()
    containers = []
    for context in ("first", "second"):
        os.environ["HCOVERAGE_CONTEXT"] = context
        assert run("docker", "compose", "up", "-d", "worker").returncode == 0
        containers.append(run("docker", "compose", "ps", "--quiet").stdout.split())
    assert containers[0] == containers[1]
    assert len(containers[0]) == 1
    # What the container runs is its maker's, what `exec` starts is of who asks for it.
    told = (
        "tr '\\0' '\\n' </proc/1/environ | sed -n s/^HCOVERAGE_CONTEXT=//p; echo $HCOVERAGE_CONTEXT"
    )
    inside = run("docker", "compose", "exec", "-T", "worker", "sh", "-c", told)
    assert inside.stdout.split() == ["first", "second"]
    one_off = ("docker", "compose", "run", "--rm", "-T", "worker")
    assert run(*one_off, "sh", "-c", "echo $HCOVERAGE_CONTEXT").stdout.split() == ["second"]


@pytest.mark.parametrize(
    ("way", "command"),
    [
        pytest.param("", "docker compose --file=../compose.yaml", id="by option"),
        pytest.param("COMPOSE_FILE", "docker compose", id="by variable"),
        pytest.param(".env", "docker compose", id="by a variable in .env"),
        pytest.param("", "docker compose", id="in the directory above"),
        pytest.param("compose.override.yaml", "docker compose", id="with an override"),
        pytest.param("compose.yaml", "docker compose", id="with an include"),
        pytest.param("", 'docker --host "$HOST" compose --profile extra', id="another host"),
    ],
)
def test_compose_finds_its_files_as_ever(
    session: hcoverage.Session, way: str, command: str
) -> None:
    project = session.data_file.parent
    below = project / "below"
    below.mkdir()
    override = "services: {extra: {environment: {WORD: other}}}"
    text = {
        ".env": "COMPOSE_FILE=../compose.yaml",
        "compose.yaml": "include: [../compose.yaml]",
        "compose.override.yaml": override,
    }
    if way in text:
        (project if "override" in way else below).joinpath(way).write_text(text[way])
    elif way:
        os.environ[way] = "../compose.yaml"
    os.environ["HOST"] = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    try:
        words = f"{command} run --rm -T extra python3 /app/worker.py 'a word' --build"
        ours = run("sh", "-c", words, cwd=below)
        assert said(ours) == said(unmeasured("sh", "-c", words, cwd=below))
    finally:
        shutil.rmtree(below)
        (project / "compose.override.yaml").unlink(missing_ok=True)
    word = "other" if "override" in way else "None"
    assert (ours.returncode, ours.stdout) == (STATUS, f"a word --build {word}\n")
    assert measured(session) == {"worker.py": RAN}


@pytest.mark.parametrize(
    "words",
    [
        pytest.param("--profile broken up -d not-built", id="an image that cannot be built"),
        pytest.param("-f nowhere.yaml up -d", id="no compose file"),
        pytest.param("-f web.py up -d", id="an invalid compose file"),
        pytest.param("up -d nobody", id="no such service"),
        pytest.param("up -d --nonsense", id="no such option"),
        pytest.param("run", id="no service"),
        pytest.param("--dry-run up -d", id="a dry run"),
        pytest.param("up --help", id="help"),
    ],
)
def test_what_compose_refuses_it_refuses_in_its_own_words(
    session: hcoverage.Session, words: str
) -> None:
    ours = run("docker", "compose", *words.split())
    plain = unmeasured("docker", "compose", *words.split())
    assert session.data_dir.is_dir()
    assert said(ours) == said(plain)


def test_a_service_that_says_no_is_left_alone(session: hcoverage.Session) -> None:
    Path("no.yaml").write_text("services: {extra: {environment: {HCOVERAGE_SESSION: ''}}}")
    files = ("-f", "compose.yaml", "-f", "no.yaml")
    ours = run("docker", "compose", *files, "run", "--rm", "-T", "extra")
    assert ours.returncode == STATUS
    assert not list(session.data_dir.glob("*.hcrec"))
    assert not session.problems()


def test_a_compose_file_from_standard_input(session: hcoverage.Session) -> None:
    words = ("-f", "-", "run", "--rm", "-T", "extra")
    ours = run("docker", "compose", *words, input=Path("compose.yaml").read_text())
    assert ours.returncode == STATUS
    assert measured(session) == {"worker.py": RAN}
    assert not session.problems()
