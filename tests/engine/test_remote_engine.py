"""An engine that does not see this machine's files: measured by volumes, or told before it runs.

The engine is real: a second dockerd, in a mount namespace where other file systems lie over the
project and over the directory for temporary files.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import subprocess
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from coverage import CoverageData
from tests.door.second_engine import OPENSSL, free_port, path_with_ssh_to, port_to
from tests.forks import hcov
from tests.sampling import FULL

import hcoverage
import hdocker

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.engine,
    pytest.mark.usefixtures("clean_environment"),
    pytest.mark.xdist_group("remote-engine"),  # to start a second dockerd takes seconds
    pytest.mark.skipif(
        os.geteuid() != 0 or not (shutil.which("dockerd") and shutil.which("unshare")),
        reason="needs root, to start a dockerd elsewhere",
    ),
]

DOCKERD: Final = """\
set -e
mount -t tmpfs none "$1"
mkdir -p "$TMPDIR"  # where `docker exec` writes
exec dockerd --host "unix://$2/docker.sock" --data-root "$1/data" --exec-root "$1/exec" \\
    --pidfile "$1/pid" --bridge none --iptables=false --ip-masq=false \\
    --containerd-namespace "$3" --containerd-plugins-namespace "$3-plugins" --shutdown-timeout 1 \\
    --host "tcp://127.0.0.1:$4" --tlsverify --tlscacert "$2/cert.pem" --tlscert "$2/cert.pem" \\
    --tlskey "$2/key.pem"
"""
APP: Final = """\
import os, sys
def main():
    for number in range(int(sys.argv[1])):
        if not os.fork():
            child(number)
    ended = [os.waitstatus_to_exitcode(os.wait()[1]) for _ in range(int(sys.argv[1]))]
    print("ran", *sorted(ended))
    sys.stdout.flush()
    if "wait" in sys.argv:
        import signal
        signal.pause()
def child(number):
    os._exit(number)
main()
"""
ALONE: Final = {1, 2, 3, 6, 7, 8, 9, 12, 14}
FORKED: Final = {*ALONE, 4, 5, 13}
WAITED: Final = {*ALONE, 10, 11}
RUN: Final = "docker run --network host --label test --rm {} $IMAGE python3 {} /app/app.py {}"
KILLED: Final = """
docker run -d --network host {} --name $NAME $IMAGE python3 /app/app.py 0 wait >/dev/null
until docker logs $NAME | grep -q ran; do sleep 0.05; done
docker {} $NAME >/dev/null; docker rm -f $NAME >/dev/null 2>&1; echo gone"""
EXEC: Final = """
docker run -d --network host --init {} --name $NAME $IMAGE sleep 600 >/dev/null
docker exec $NAME python3 {} /app/app.py 0; docker rm -f $NAME >/dev/null"""
# What is run, and the lines that it runs.
WAYS: Final = {
    "run": (RUN.format("", "", "0"), ALONE),
    "several processes": (RUN.format("", "", "5"), FORKED),
    "read-only": (RUN.format("--read-only", "", "5"), FORKED),
    "nobody": (RUN.format("--user 65534", "", "0"), ALONE),
    "python -I": (RUN.format("", "-I", "0"), ALONE),
    "a cleared environment": (
        RUN.format("--entrypoint env", "", "0").replace("$IMAGE python3", "$IMAGE -i $PYTHON"),
        ALONE,
    ),
    "killed": (KILLED.format("", "kill"), WAITED),
    "killed, --rm": (KILLED.format("--rm", "kill"), WAITED),
    "removed": (KILLED.format("--read-only", "rm -f"), WAITED),
    "exec": (EXEC.format("--rm", ""), ALONE),
    "exec -I": (EXEC.format("", "-I"), ALONE),
    "two of an image": (f"{RUN.format('', '', '0')}; {RUN.format('', '', '5')}", FORKED),
}
# "python -I", and "killed, --rm", which is run over each relay, are there without them.
ALIKE: Final = ("exec -I", "killed")


@pytest.fixture(scope="module")
def remote_engine(image_without_python: str) -> Iterator[str]:
    """The address of an engine with other file systems than ours, and an image."""
    name = f"hcoverage-test-{uuid.uuid4().hex[:8]}"
    runtime = Path("/run") / name
    runtime.mkdir(mode=0o700)
    subprocess.run(OPENSSL, cwd=runtime, check=True, capture_output=True)
    shutil.copy(runtime / "cert.pem", runtime / "ca.pem")
    (runtime / "port").write_text(port := str(free_port()))
    address = f"unix://{runtime}/docker.sock"
    above = os.environ["PYTEST_DEBUG_TEMPROOT"]  # of all temporary directories
    argv = ["sh", "-c", DOCKERD, "sh", above, str(runtime), name, port]
    log = runtime / "log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", *argv], stdout=output, stderr=output
        ) as dockerd,
    ):
        try:
            _wait_until_it_answers(address, dockerd, log)
            with subprocess.Popen(
                ["docker", "save", image_without_python], stdout=subprocess.PIPE
            ) as saved:
                docker(address, "load", stdin=saved.stdout)
            yield address
        finally:
            dockerd.terminate()
            dockerd.wait()
            shutil.rmtree(runtime)


def _wait_until_it_answers(address: str, dockerd: subprocess.Popen[bytes], log: Path) -> None:
    while dockerd.poll() is None:
        if not subprocess.run(
            ["docker", "--host", address, "version"], capture_output=True, check=False
        ).returncode:
            return
        time.sleep(0.1)
    pytest.fail(f"the second dockerd did not start:\n{log.read_text()[-2000:]}")


def docker(address: str, *arguments: str, stdin: object = None) -> str:
    done = subprocess.run(  # type: ignore[call-overload]
        ["docker", "--host", address, *arguments], stdin=stdin, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    said: str = done.stdout.decode()
    return said


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[hcoverage.Session]:
    monkeypatch.chdir(tmp_path)
    Path(".coveragerc").write_text("[run]\nparallel = True\n[paths]\na =\n    .\n    /app\n")
    with hcoverage.open_session() as session:
        os.environ.update(session.environment)
        yield session


@pytest.mark.parametrize("image", [None, "hcoverage-no-python:latest"])
def test_a_data_directory_that_it_does_not_see_is_an_error_before_the_run(
    session: hcoverage.Session,
    remote_engine: str,
    image: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert hdocker.get_docker_base_cmd()
    monkeypatch.setenv("DOCKER_HOST", remote_engine)
    with pytest.raises(hdocker.DataDirectoryError) as caught:
        hdocker.get_docker_base_cmd(image=image)
    assert f"does not see {session.data_dir} of this machine" in str(caught.value)
    assert "run the tests on the engine's own machine" in str(caught.value)
    assert not docker(remote_engine, "ps", "--all", "--quiet")


def test_another_directory_by_the_same_name_is_not_taken_for_it(
    session: hcoverage.Session, remote_engine: str, image_without_python: str
) -> None:
    # `-v` makes what is not there.
    volume = ["--volume", f"{session.data_dir}:/data", image_without_python]
    docker(remote_engine, "run", "--rm", *volume, "sh", "-c", "echo > /data/.coveragerc")
    os.environ["DOCKER_HOST"] = remote_engine
    with pytest.raises(hdocker.DataDirectoryError, match="does not see"):
        hdocker.get_docker_base_cmd()


def test_docker_run_runs_as_it_would_and_that_is_told_once(
    session: hcoverage.Session, remote_engine: str, image_without_python: str
) -> None:
    container = ["run", "--rm", image_without_python, "sh", "-c", "echo up"]
    environment = {**session.environment, "DOCKER_HOST": remote_engine}
    with hdocker.containers_measured(environment) as through:
        for _ in range(2):
            done = subprocess.run(
                ["docker", *container], env=through, capture_output=True, text=True, check=False
            )
            assert (done.returncode, done.stdout, done.stderr) == (0, "up\n", "")
    (problem,) = session.problems()
    assert f"image {image_without_python}" in problem
    assert "there is no Python in it" in problem


# Measured by volumes ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def image(
    remote_engine: str, python_image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """An image of the application, in that engine."""
    directory = tmp_path_factory.mktemp("image")
    (directory / "app.py").write_text(APP)
    (directory / "Dockerfile").write_text(f"FROM {python_image}\nCOPY app.py /app/app.py\n")
    with subprocess.Popen(["docker", "save", python_image], stdout=subprocess.PIPE) as saved:
        docker(remote_engine, "load", stdin=saved.stdout)
    environment = {**os.environ, "DOCKER_BUILDKIT": "0", "DOCKER_HOST": remote_engine}
    command = ["docker", "build", "--quiet", "--tag", "app", str(directory)]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    yield "app"
    docker(remote_engine, "image", "rm", "app")


@pytest.fixture(scope="module")
def python_of_image(remote_engine: str, image: str) -> str:
    """Where its Python is."""
    find = ["run", "--rm", "--network", "host", image, "sh", "-c", "command -v python3"]
    return docker(remote_engine, *find).strip()


@pytest.fixture
def project(
    tmp_path: Path,
    remote_engine: str,
    image: str,
    python_of_image: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[str]:
    """The engine's address, in a project with the application's source."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DOCKER_HOST", remote_engine)
    monkeypatch.setenv("IMAGE", image)
    monkeypatch.setenv("NAME", f"hcoverage-test-{uuid.uuid4().hex[:12]}")
    monkeypatch.setenv("PYTHON", python_of_image)
    Path("app.py").write_text(APP)
    Path(".coveragerc").write_text("[run]\nsource = .\n")
    yield remote_engine
    assert not docker(remote_engine, "ps", "--all", "--quiet")
    assert not docker(remote_engine, "volume", "ls", "--quiet")


def hcov_run(script: str) -> tuple[subprocess.CompletedProcess[str], set[int]]:
    done = hcov("run", "--", "sh", "-c", script)
    data = CoverageData()
    data.read()
    return done, set(data.lines(str(Path.cwd() / "app.py")) or ())


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("way", [way for way in WAYS if FULL or way not in ALIKE])
def test_it_is_measured_and_says_what_it_would(way: str) -> None:
    check_measured(way)


def check_measured(way: str) -> None:
    script, expected = WAYS[way]
    plain = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
    done, lines = hcov_run(script)
    assert lines == expected, done.stderr
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(plain.stdout)
    assert plain.stdout
    assert "not measured" not in done.stderr


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("address", "way"),
    [*itertools.product(("tcp", "ssh"), ("read-only", "killed, --rm")), ("tls", "killed, --rm")],
)
def test_it_is_measured_over_a_relay(
    project: str, address: str, way: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    socket = project.removeprefix("unix://")
    with contextlib.ExitStack() as undo:
        if address == "tcp":
            os.environ["DOCKER_HOST"] = f"tcp://127.0.0.1:{undo.enter_context(port_to(socket))}"
        elif address == "tls":
            runtime = Path(socket).parent
            os.environ["DOCKER_HOST"] = f"tcp://127.0.0.1:{(runtime / 'port').read_text()}"
            os.environ["DOCKER_TLS_VERIFY"], os.environ["DOCKER_CERT_PATH"] = "1", str(runtime)
        else:
            os.environ["PATH"] = path_with_ssh_to(socket, tmp_path_factory.mktemp("bin"))
            os.environ["DOCKER_HOST"] = "ssh://somebody@elsewhere"
        check_measured(way)


def test_exec_in_a_container_from_before_is_measured(project: str) -> None:
    name = os.environ["NAME"]
    words = ["run", "-d", "--network", "host", "--init", "--name", name, "app", "sleep", "600"]
    docker(project, *words)
    done, lines = hcov_run("docker exec $NAME python3 /app/app.py 0")
    assert lines == ALONE, done.stderr
    docker(project, "rm", "--force", name)


def test_what_outlives_the_run_starts_again_and_a_later_run_tidies_up(project: str) -> None:
    name = os.environ["NAME"]
    script = KILLED.format("", "kill").partition("docker kill")[0]
    done, lines = hcov_run(script)
    assert lines == WAITED, done.stderr
    docker(project, "restart", "--time", "0", name)
    docker(project, "exec", name, "python3", "/app/app.py", "0")
    mounted = docker(project, "exec", name, "find", "/opt/hcoverage", "-type", "f", "-size", "+0")
    assert not mounted
    docker(project, "rm", "--force", name)
    assert hcov_run(RUN.format("", "", "0"))[1] == ALONE


def test_what_is_fetched_is_not_believed(project: str) -> None:
    """A container may put anything into the volume: links, names that lead out, no recordings."""
    evil = (
        "ln -s /etc/passwd /opt/hcoverage/data/.coverage.link.pid1.Xa; "
        "mkdir /opt/hcoverage/data/.coverage.directory.pid1.Xa; "
        "mkfifo /opt/hcoverage/data/.coverage.fifo.pid1.Xa; "
        "head -c 3000 /dev/urandom > /opt/hcoverage/data/evil.1.0123456789abcdef.1.hcrec"
    )
    start = "docker run --network host --rm $IMAGE sh -c"
    done, lines = hcov_run(f"{start} '{evil}; python3 /app/app.py 0'")
    assert lines == ALONE
    assert not Path("coverage_data", ".coverage.link.pid1.Xa").exists()
    for name in ("link", "fifo"):
        assert f".coverage.{name}.pid1.Xa: it is not a regular file" in done.stderr
    assert project
