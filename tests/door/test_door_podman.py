"""Podman's containers, whoever starts them: podman asks us by a hook, and nobody is the wiser.

Each is started twice, with the session's environment and without. It has to say and end the same,
and what it ran is in the merged report under the path that the code has here.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from coverage import CoverageData
from tests.door.ways import Ways

import hcoverage
import hdocker
from hdocker._door.podman import podman_measured

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.engine,
    pytest.mark.usefixtures("clean_environment"),
    pytest.mark.xdist_group("podman"),  # no container may be left in the one storage it has here
    pytest.mark.skipif(sys.version_info < (3, 12), reason="its Python is the image's"),
]

APP: Final = """\
import sys
print("ran", *sys.argv[1:], flush=True)
sys.stderr.write("told\\n")
sys.exit(3)
"""
RAN: Final = {1, 2, 3, 4}
STATUS: Final = 3
POD: Final = """\
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  hostNetwork: true
  restartPolicy: Never
  containers:
  - name: app
    image: {image}
    command: [python3, /app/app.py, one]
    volumeMounts: [{{mountPath: /app, name: source}}]
  volumes: [{{name: source, hostPath: {{path: {source}}}}}]
"""
APP_OF: Final = '-v "$PWD/app.py:/app/app.py:ro"'
RUN: Final = f'run --rm {APP_OF} "$IMAGE" python3 /app/app.py one "two words"'
LIFE: Final = f"""
$PODMAN run -d --init --name $NAME {APP_OF} $IMAGE sleep 600 >/dev/null"""
END: Final = """
status=$?; $PODMAN rm --force --time 0 $NAME >/dev/null; exit $status"""
WAYS: Final = {
    "run": f"$PODMAN {RUN}",
    "by its name": f"podman {RUN}",
    "a login shell": f"""bash -lc '$PODMAN {RUN.replace("'", "")}'""",
    "options of its own": f"$PODMAN --log-level error {RUN}",
    "container run": f"$PODMAN container {RUN}",
    "read-only": f"$PODMAN {RUN.replace('--rm', '--rm --read-only')}",
    "nobody": f"$PODMAN {RUN.replace('--rm', '--rm --user 65534')}",
    "python -I": f"$PODMAN {RUN.replace('python3', 'python3 -I')}",
    "a cleared environment": "$PODMAN " + RUN.replace("python3", "env -i $PYTHON"),
    "a PYTHONPATH of its own": f"$PODMAN {RUN.replace('--rm', '--rm -e PYTHONPATH=/nowhere')}",
    "create, start": f"""
        $PODMAN create --name $NAME {APP_OF} $IMAGE python3 /app/app.py one >/dev/null
        $PODMAN start --attach $NAME {END}""",
    "exec": f"{LIFE} \n $PODMAN exec $NAME python3 /app/app.py one {END}",
    "exec -I": f"{LIFE} \n $PODMAN exec $NAME python3 -I /app/app.py one {END}",
    "restart, exec": f"""{LIFE}
        $PODMAN restart --time 0 $NAME >/dev/null
        $PODMAN exec $NAME python3 /app/app.py one {END}""",
    "in a pod": f"""
        $PODMAN pod create --name $NAME --network host >/dev/null
        $PODMAN run --pod $NAME {APP_OF} $IMAGE python3 /app/app.py one; status=$?
        $PODMAN pod rm --force --time 0 $NAME >/dev/null; exit $status""",
    "kube play": """
        $PODMAN kube play pod.yaml >/dev/null 2>&1
        $PODMAN wait $NAME-app; $PODMAN logs $NAME-app
        $PODMAN kube down pod.yaml >/dev/null; exit 3""",
    "Python": """python3 -c '
import subprocess, sys, os
podman, image = os.environ["PODMAN"], os.environ["IMAGE"]
mount = os.getcwd() + "/app.py:/app/app.py:ro"
run = [podman, "run", "--rm", "-v", mount, image, "python3", "/app/app.py", "one"]
sys.exit(subprocess.run(run).returncode)'""",
}


def measured(session: hcoverage.Session) -> set[int]:
    result = hcoverage.combine(session.data_paths(), coveragerc=session.rcfile.path, keep=True)
    data = CoverageData(basename=str(result.data_file))
    data.read()
    return set(data.lines(str(Path.cwd() / "app.py")) or ())


@pytest.fixture(scope="module")
def image(python_image: str, _podman_environment: dict[str, str]) -> Iterator[str]:
    """An image with Python in podman's storage."""
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in _podman_environment.items():
            patch.setenv(variable, value)
        with subprocess.Popen(["docker", "save", python_image], stdout=subprocess.PIPE) as saved:
            subprocess.run(["podman", "load", "--quiet"], stdin=saved.stdout, check=True)
        yield python_image
        subprocess.run(["podman", "image", "rm", "--force", python_image], check=True)


@pytest.fixture
def ways(
    image: str,
    podman: str,  # its environment
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Ways]:
    monkeypatch.chdir(tmp_path)
    name = f"hcoverage-test-{uuid.uuid4().hex[:12]}"
    Path("app.py").write_text(APP)
    Path("pod.yaml").write_text(POD.format(name=name, image=image, source=tmp_path))
    Path(".coveragerc").write_text("[run]\nsource = .\n")
    find = [podman, "run", "--rm", image, "sh", "-c", "command -v python3"]
    python = subprocess.check_output(find, text=True).strip()
    told = {"IMAGE": image, "NAME": name, "PODMAN": shutil.which(podman) or "", "PYTHON": python}
    with hcoverage.open_session() as session:
        direct = {**os.environ, **told}
        with hdocker.containers_measured({**session.environment, **told}) as through:
            yield Ways(session, through, direct)
        for left in session.data_dir.glob("*.hcrec"):
            left.unlink()


@pytest.mark.parametrize("way", WAYS)
def test_what_podman_starts_is_measured_and_says_what_it_would(ways: Ways, way: str) -> None:
    ours, plain = ways.both("sh", "-c", WAYS[way])
    assert (ours.returncode, ours.stdout, ours.stderr) == (
        plain.returncode,
        plain.stdout,
        plain.stderr,
    )
    assert ours.returncode == STATUS
    assert "ran one" in ours.stdout
    assert measured(ways.session) == RAN
    assert not ways.session.problems()


# Through a service that is older than the run, and knows nothing of hooks.
SERVED: Final = {
    "podman --remote": ("", f"$PODMAN --remote {RUN}"),
    "CONTAINER_HOST": ("CONTAINER_HOST", f"$PODMAN {RUN}"),
    "create, start, exec": (
        "CONTAINER_HOST",
        f"{LIFE} \n $PODMAN exec $NAME python3 /app/app.py one {END}",
    ),
    "docker's client": (
        "DOCKER_HOST",
        f"""
        docker run -d --network host --name $NAME {APP_OF} localhost/$IMAGE sleep 600 >/dev/null
        docker exec $NAME python3 /app/app.py one; status=$?
        docker rm --force $NAME >/dev/null; exit $status""",
    ),
}


@pytest.fixture
def service(
    image: str, podman: str, short_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """The address of podman's service, in a project, which the user's configuration names."""
    address = f"unix://{short_directory}/podman.sock"
    configuration = short_directory / "containers.conf"
    services = f'active_service = "it"\n[engine.service_destinations.it]\nuri = "{address}"\n'
    configuration.write_text(Path(os.environ["CONTAINERS_CONF"]).read_text() + services)
    monkeypatch.chdir(short_directory)
    Path("app.py").write_text(APP)
    Path(".coveragerc").write_text("[run]\nsource = .\n")
    monkeypatch.setenv("IMAGE", image)
    monkeypatch.setenv("PODMAN", shutil.which(podman) or "")
    monkeypatch.setenv("NAME", f"hcoverage-test-{uuid.uuid4().hex[:12]}")
    with subprocess.Popen([podman, "system", "service", "--time", "0", address]) as process:
        while not Path("podman.sock").exists():
            assert process.poll() is None
            time.sleep(0.05)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("CONTAINERS_CONF", str(configuration))
            yield address
        process.terminate()


@pytest.mark.parametrize("way", SERVED)
def test_what_a_service_starts_is_measured(service: str, way: str) -> None:
    variable, script = SERVED[way]
    with hcoverage.open_session() as session:
        told = {variable: service} if variable else {}
        direct = {**os.environ, **told}
        with hdocker.containers_measured({**session.environment, **told}) as through:
            ways = Ways(session, through, direct)
            ours, plain = ways.both("sh", "-c", script)
        assert (ours.returncode, ours.stdout, ours.stderr) == (
            plain.returncode,
            plain.stdout,
            plain.stderr,
        )
        assert "ran one" in ours.stdout
        assert measured(ways.session) == RAN
        assert not session.problems()


@pytest.fixture
def short_directory() -> Iterator[Path]:
    """A directory whose sockets have short addresses."""
    directory = Path(tempfile.mkdtemp(prefix="hcov-test-"))
    yield directory
    shutil.rmtree(directory)


OPT_OUTS: Final = {
    "of the client": f"HCOVERAGE_CONTAINERS=0 $PODMAN {RUN}",
    "of the container": f"$PODMAN {RUN.replace('--rm', '--rm -e HCOVERAGE_SESSION=')}",
}


@pytest.mark.parametrize("opt_out", OPT_OUTS)
def test_who_wants_none_is_left_alone(ways: Ways, opt_out: str) -> None:
    ours, _ = ways.both("sh", "-c", OPT_OUTS[opt_out])
    assert ours.returncode == STATUS
    assert not list(ways.session.data_dir.glob("*.hcrec"))
    assert not ways.session.problems()


def test_a_mount_of_the_users_where_ours_belongs_is_told_and_left_as_it_is(ways: Ways) -> None:
    Path("mine").mkdir()
    ours, plain = ways.both(
        "sh", "-c", f"$PODMAN {RUN.replace('--rm', '--rm -v $PWD/mine:/opt')}; ls -A mine"
    )
    assert (ours.returncode, ours.stdout) == (plain.returncode, plain.stdout)
    (problem,) = ways.session.problems()
    assert "a container's mount at /opt is in the way of ours" in problem


def test_a_container_that_outlives_the_run_starts_again(ways: Ways) -> None:
    script = f"$PODMAN run -d --init --name $NAME {APP_OF} $IMAGE sleep 600 >/dev/null"
    subprocess.run(["sh", "-c", script], env=ways.through, check=True)
    again = "$PODMAN restart --time 0 $NAME >/dev/null; $PODMAN exec $NAME python3 /app/app.py one"
    done = subprocess.run(["sh", "-c", again + END], env=ways.direct, check=False)
    assert done.returncode == STATUS
    assert not list(ways.session.data_dir.glob("*.hcrec"))


def no_door(service: str, client: str) -> str:  # noqa: ARG001 - as a door is asked for
    return f"unix://{service}"


def test_the_users_configuration_is_in_force(ways: Ways, tmp_path: Path) -> None:
    own = tmp_path / "hooks"
    own.mkdir()
    text = Path(os.environ["CONTAINERS_CONF"]).read_text()
    settings = (
        f'{text}hooks_dir = ["{own}"]\nnetwork_cmd_options = ["a b", "c\\"d"]\n'
        '[containers]\nenv = ["MINE=ä 😀"]\n[engine.runtimes]\nother = ["/bin/x"]\n'
    ).replace("[containers]\nenv", "[network]\nenv", 1)
    configuration = tmp_path / "containers.conf"
    configuration.write_text(settings)
    session = {**ways.session.environment, "CONTAINERS_CONF": str(configuration)}
    merged = tomllib.loads(Path(podman_measured(session, no_door)["CONTAINERS_CONF"]).read_text())
    expected = tomllib.loads(settings)
    for settings_of_services in ("service_destinations", "active_service"):  # where one runs here
        merged["engine"].pop(settings_of_services, None)
    assert merged["engine"].pop("hooks_dir")[:-1] == expected["engine"].pop("hooks_dir")
    assert merged == expected
