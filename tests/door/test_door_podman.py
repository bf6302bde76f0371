"""Podman's containers, whoever starts them: podman asks us by a hook, and nobody is the wiser.

Each is started twice, with the session's environment and without. It has to say and end the same,
and what it ran is in the merged report under the path that the code has here.
"""

from __future__ import annotations

import itertools
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
from tests.door.ways import RUNNERS, Ways, told_by
from tests.sampling import FULL

import hcoverage
import hdocker
from hdocker._door.podman import podman_measured

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    RunPast = Callable[[str], list[str]]

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
# As the hook is podman's, the same to it as `run`.
SPELLED: Final = ("by its name", "a login shell", "options of its own", "container run")


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


@pytest.fixture(scope="module")
def python_of_image(image: str, _podman_environment: dict[str, str]) -> str:
    """Where that Python is."""
    find = ["podman", "run", "--rm", image, "sh", "-c", "command -v python3"]
    environment = {**os.environ, **_podman_environment}
    return subprocess.check_output(find, env=environment, text=True).strip()


@pytest.fixture
def ways(
    image: str,
    python_of_image: str,
    podman: str,  # its environment
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Ways]:
    monkeypatch.chdir(tmp_path)
    name = f"hcoverage-test-{uuid.uuid4().hex[:12]}"
    Path("app.py").write_text(APP)
    Path("pod.yaml").write_text(POD.format(name=name, image=image, source=tmp_path))
    Path(".coveragerc").write_text("[run]\nsource = .\n")
    program = shutil.which(podman) or ""
    told = {"IMAGE": image, "NAME": name, "PODMAN": program, "PYTHON": python_of_image}
    with hcoverage.open_session() as session:
        direct = {**os.environ, **told}
        with hdocker.containers_measured({**session.environment, **told}) as through:
            yield Ways(session, through, direct)
        for left in session.data_dir.glob("*.hcrec"):
            left.unlink()


@pytest.mark.parametrize("way", [way for way in WAYS if FULL or way not in SPELLED])
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


# What no hook is asked about, of `$NAME` for what goes past it.
PAST: Final = {
    "--hooks-dir": "$PODMAN --hooks-dir $PWD run --rm --name $NAME-{} $BARE true",
    "another configuration": "CONTAINERS_CONF=$CONF $PODMAN run --rm --name $NAME-{} $BARE true",
    "a cleared environment": """env -i PATH=$PATH CONTAINERS_CONF=$CONF \\
        CONTAINERS_STORAGE_CONF=$CONTAINERS_STORAGE_CONF \\
        $PODMAN run --rm --name $NAME-{} $BARE true""",
}
NOT_PAST: Final = """
HCOVERAGE_CONTAINERS=0 $PODMAN run --rm $BARE true
$PODMAN run --rm --env HCOVERAGE_SESSION= $BARE true
$PODMAN create --name $NAME-never $BARE true >/dev/null
$PODMAN run -d --init --name $NAME-new $BARE sleep 600 >/dev/null
$PODMAN exec $NAME-new true
"""
BUILT: Final = """\
FROM {image} AS stage
COPY word /word
RUN python3 -c 'print("ran")'
FROM {image}
COPY --from=stage word /word
RUN ["python3", "-c", "print('ran')"]
RUN pip --version || true
"""


@pytest.fixture
def run_past(
    image: str,
    image_without_python: str,
    podman: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[RunPast]:
    """Run a script in a session, and give what is told of podman at its end."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HCOVERAGE_SHARED_ENGINE")
    Path(".coveragerc").write_text("[run]\nsource = .\n")
    name = f"hcoverage-test-{uuid.uuid4().hex[:12]}"
    with subprocess.Popen(
        ["docker", "save", image_without_python], stdout=subprocess.PIPE
    ) as saved:
        subprocess.run(["podman", "load", "--quiet"], stdin=saved.stdout, check=True)
    told = {
        "PODMAN": shutil.which(podman) or "",
        "NAME": name,
        "CONF": os.environ["CONTAINERS_CONF"],
        "BARE": f"localhost/{image_without_python}",
        "IMAGE": image,
    }
    for variable, value in told.items():
        monkeypatch.setenv(variable, value)
    Path("word").write_text(name)
    Path("Dockerfile").write_text(BUILT.format(image=image))

    def run_past(script: str) -> list[str]:
        with hcoverage.open_session() as session:
            with hdocker.containers_measured(session.environment) as environment:
                command = ["sh", "-ec", script]
                subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
            # Docker's engine has others' containers, too.
            return [each for each in session.problems() if "podman" in each or "build" in each]

    yield run_past
    clean = "$PODMAN rm --force --time 0 $($PODMAN ps --all --quiet); $PODMAN rmi --force $NAME"
    subprocess.run(["sh", "-c", clean], check=False, capture_output=True)


def test_what_goes_past_the_hook_is_told(run_past: RunPast) -> None:
    before = "$PODMAN run -d --init --name $NAME-old $BARE sleep 600 >/dev/null"
    subprocess.run(["sh", "-c", before], check=True)
    past = [script.format(number) for number, script in enumerate(PAST.values())]
    executed, started = sorted(
        run_past("\n".join([NOT_PAST, *past, "$PODMAN exec $NAME-old true"]))
    )
    name, bare = os.environ["NAME"], os.environ["BARE"]
    assert started.startswith(f"{len(PAST)} containers were started by podman past")
    assert all(f"{name}-{number} ({bare})" in started for number in range(len(PAST)))
    assert executed.startswith("1 command was executed by podman in containers from before the run")
    assert f"in {name}-old ({bare})" in executed


def test_a_container_of_no_image_is_told(run_past: RunPast) -> None:
    script = (
        "mkdir root; docker export $(docker create --name $NAME $BARE_OF_DOCKER) | tar -x -C root"
    )
    (told,) = run_past(
        f"BARE_OF_DOCKER=${{BARE#localhost/}}; {script}; docker rm $NAME\n"
        "$PODMAN run --rm --rootfs $PWD/root true"
    )
    assert told.startswith("1 container was started by podman without an image (--rootfs)")


def test_a_step_of_podmans_build_that_ran_python_is_told(run_past: RunPast) -> None:
    build = "$PODMAN build --quiet --tag $NAME ."
    (told,) = run_past(build)
    assert told.startswith("2 steps of builds ran Python")
    assert """`RUN python3 -c 'print("ran")'`""" in told
    assert not run_past(build)  # all of it is in the cache
    told = "".join(run_past(f"{build} --no-cache; $PODMAN rmi --force $NAME"))
    assert "1 image was built by podman and removed in this run" in told


def test_what_goes_past_the_door_to_a_service_is_told(
    service: str, run_past: RunPast, monkeypatch: pytest.MonkeyPatch
) -> None:  # `service` is of the configuration
    monkeypatch.setenv("URL", service)
    before = (
        "$PODMAN run -d --init --name $NAME-old $BARE sleep 600 >/dev/null\n"
        "$PODMAN create --name $NAME-start $BARE true >/dev/null"
    )
    subprocess.run(["sh", "-c", before], check=True)
    through = "$PODMAN --remote run --rm $BARE true; $PODMAN --remote exec $NAME-old true\n"
    past = (
        "$PODMAN --url $URL run --rm --name $NAME-url $BARE true\n"
        "$PODMAN --url $URL exec $NAME-old true\n"
        "$PODMAN --url $URL start --attach $NAME-start\n"
    )
    executed, created, started = sorted(
        each for each in run_past(through + past) if "past hcoverage's proxy" in each
    )
    name = os.environ["NAME"]
    assert executed.startswith("1 command was executed past")
    assert f"in {name}-old" in executed
    assert created.startswith("1 container was created past")
    assert f"{name}-url" in created
    assert started.startswith("1 older container was started past")
    assert all("without --url" in each for each in (created, executed, started))


# What one way past the hook, `PODMAN`, does alone; and what is told of it.
PAST_WAYS: Final = {
    "--hooks-dir": "$PODMAN --hooks-dir $PWD",
    "another configuration": "env CONTAINERS_CONF=$CONF $PODMAN",
    "a cleared environment": """env -i PATH=$PATH CONTAINERS_CONF=$CONF \\
        CONTAINERS_STORAGE_CONF=$CONTAINERS_STORAGE_CONF $PODMAN""",
}
PAST_DEEDS: Final = {
    "run": ("PODMAN run --rm --name $NAME $BARE true", "1 container was started", ""),
    "create, start": (
        "PODMAN create --name $NAME $BARE true\nPODMAN start --attach $NAME",
        *("1 container was started", ""),
    ),
    "exec": ("PODMAN exec $NAME-old true", "1 command was executed", "-old"),
}
PAST_CELLS: Final = [*itertools.product(PAST_WAYS, PAST_DEEDS, RUNNERS)]


@pytest.mark.usefixtures("run_past")
@pytest.mark.parametrize(
    ("way", "deed", "runner"),
    PAST_CELLS if FULL else [("--hooks-dir", "create, start", "pytest --hcov")],
)
def test_a_run_tells_what_one_way_past_the_hook_did(way: str, deed: str, runner: str) -> None:
    name, bare = os.environ["NAME"], os.environ["BARE"]
    Path("app.py").write_text("print('ran')\n")
    script, started, of = PAST_DEEDS[deed]
    before = "$PODMAN run -d --init --name $NAME-old $BARE sleep 600"
    subprocess.run(["sh", "-c", before], check=True, capture_output=True)
    lines = told_by(runner, script.replace("PODMAN ", f"{PAST_WAYS[way]} "))
    (line,) = (line for line in lines if "podman" in line)
    assert line.startswith(f"hcov: not measured: {started} by podman")
    assert f"{name}{of} ({bare}); " in line
    assert line.endswith("[not-measured]")
