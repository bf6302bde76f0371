"""Engines that are behind no socket here come through the door as well: by TCP, with TLS, by SSH.

The engine is a second dockerd, which has a port with TLS. A port without and an `ssh` are the
test's own. What a client says and how it ends has to be the same as without the door, and what its
containers ran is in the merged report.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from coverage import CoverageData
from tests.door.second_engine import path_with_ssh_to, port_to
from tests.door.ways import Ways

import hcoverage
import hdocker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.door.second_engine import SecondEngine

pytestmark = [
    pytest.mark.engine,
    pytest.mark.usefixtures("clean_environment"),
    pytest.mark.xdist_group("door-engines"),  # to start a second dockerd takes seconds
    pytest.mark.skipif(sys.version_info < (3, 12), reason="its Python is the image's"),
    pytest.mark.skipif(
        os.geteuid() != 0 or not (shutil.which("dockerd") and shutil.which("openssl")),
        reason="needs root, to start a dockerd, and openssl",
    ),
]

APP: Final = 'import sys\nprint("ran", sys.stdin.read().upper(), flush=True)\nsys.exit(3)\n'
RAN: Final = {1, 2, 3}
STATUS: Final = 3
RUN: Final = '-v "$PWD/app.py:/app.py:ro" "$IMAGE"'
CLIENTS: Final = {
    "run": f"echo words | docker run --rm -i {RUN} python3 /app.py",
    "by its path": f'echo words | "$CLIENT" run --rm -i {RUN} python3 /app.py',
    "exec": f"""
        docker run --rm --detach --init --name "$NAME" {RUN} sleep 600 >/dev/null
        echo words | docker exec -i "$NAME" python3 /app.py; status=$?
        docker rm --force "$NAME" >/dev/null
        exit $status""",
    "much": f"""
        head -c 30000000 /dev/zero | docker run --rm -i {RUN} \
            sh -c 'python3 /app.py </dev/null; status=$?; wc -c; exit $status'""",
}


@pytest.fixture(scope="module")
def open_port(second_engine: SecondEngine) -> Iterator[int]:
    """A port of this machine without TLS that the engine is behind."""
    with port_to(second_engine.socket) as port:
        yield port


ENGINES: Final = ("tcp", "tls", "ssh", "a context with TLS", "a context with ssh")


@pytest.fixture(scope="module", params=ENGINES)
def ways(
    request: pytest.FixtureRequest,
    second_engine: SecondEngine,
    open_port: int,
    python_image: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Ways]:
    """A session for each way to the engine, as one run is for all of a suite's clients."""
    project = tmp_path_factory.mktemp("project")
    (project / "app.py").write_text(APP)
    (project / ".coveragerc").write_text("[run]\nsource = .\n")
    settings = chosen_by(request.param, second_engine, open_port, tmp_path_factory.mktemp("user"))
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.chdir(project),
        hcoverage.open_session() as session,
    ):
        patch.delenv("DOCKER_HOST", raising=False)
        inherited = {k: v for k, v in session.environment.items() if k != "DOCKER_HOST"}
        direct = {
            **inherited,
            **settings,
            "IMAGE": python_image,
            "NAME": f"hcoverage-test-{uuid.uuid4().hex[:12]}",
            "CLIENT": shutil.which("docker") or "",
        }
        with hdocker.containers_measured(direct) as through:
            yield Ways(session, through, direct)


def chosen_by(way: str, engine: SecondEngine, open_port: int, directory: Path) -> dict[str, str]:
    """What a user has in the environment for an engine."""
    path = path_with_ssh_to(engine.socket, directory)
    shared = {"DOCKER_CONFIG": str(directory / "docker"), "PATH": path}
    secure = f"tcp://127.0.0.1:{engine.tls_port}"
    pems = {kind: engine.directory / f"{kind}.pem" for kind in ("ca", "cert", "key")}
    endpoints = {
        "a context with TLS": ",".join([f"host={secure}", *(f"{k}={v}" for k, v in pems.items())]),
        "a context with ssh": "host=ssh://somebody@elsewhere",
    }
    if way in endpoints:
        environment = {k: v for k, v in os.environ.items() if k != "DOCKER_HOST"}
        for words in (["create", "own", "--docker", endpoints[way]], ["use", "own"]):
            command = ["docker", "context", *words]
            subprocess.run(command, env={**environment, **shared}, check=True, capture_output=True)
        return shared
    certificates = {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(engine.directory)}
    by_host = {
        "tcp": {"DOCKER_HOST": f"tcp://127.0.0.1:{open_port}"},
        "tls": {"DOCKER_HOST": secure, **certificates},
        "ssh": {"DOCKER_HOST": "ssh://somebody@elsewhere"},
    }
    return {**shared, **by_host[way]}


@pytest.mark.sampled
@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_says_and_ends_as_it_would_and_is_measured(
    ways: Ways, client: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ways.session.data_file.parent)
    assert ways.through["DOCKER_HOST"].startswith("unix://")
    assert "DOCKER_TLS_VERIFY" not in ways.through
    ours, plain = (run(CLIENTS[client], each) for each in (ways.through, ways.direct))
    assert ours == plain
    assert ours[0] == STATUS
    assert measured(ways.session) == RAN
    assert not ways.session.problems()
    for recording in ways.session.data_dir.glob("*.hcrec"):
        recording.unlink()


def run(script: str, environment: dict[str, str]) -> tuple[int, bytes, bytes]:
    command = ["sh", "-c", script]
    done = subprocess.run(command, env=environment, check=False, capture_output=True)
    return done.returncode, done.stdout, done.stderr


def measured(session: hcoverage.Session) -> set[int]:
    result = hcoverage.combine(session.data_paths(), coveragerc=session.rcfile.path)
    data = CoverageData(basename=str(result.data_file))
    data.read()
    return set(data.lines(str(Path.cwd() / "app.py")) or ())
