"""Under `hcov run`, whatever starts containers with `docker run` has them measured.

The tests here are written as one would write them who never heard of measuring: each runs a command
once as it is and once through the door. It has to say and end the same, and the lines that its
container ran are in the merged report.
"""

from __future__ import annotations

import contextlib
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final

import coverage
import pytest
from coverage import CoverageData
from tests.door.ways import run, unmeasured

import hcoverage
import hdocker
from hdocker._inject.added import PLACE, SESSION_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [
    pytest.mark.engine,
    pytest.mark.usefixtures("clean_environment"),
    pytest.mark.xdist_group("measured-docker-run"),  # one session looks into the image once
    pytest.mark.skipif(sys.version_info < (3, 12), reason="its Python is the image's"),
]

RCFILE: Final = "[run]\nparallel = True\nsource = .\n[paths]\napp =\n    .\n    /app\n"
APP: Final = """\
import os
import signal
import sys

print(os.isatty(0), *sys.argv[1:], flush=True)
if "extra" in sys.argv:
    import extra
if "wait" in sys.argv:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
    print("up", flush=True)
    signal.pause()
sys.stderr.write(sys.stdin.read() if "read" in sys.argv else "")
sys.exit(3)
"""
RAN: Final = {1, 2, 3, 5, 6, 8, 12, 13}
DOCKERFILE: Final = """\
FROM {python}
WORKDIR /app
COPY app.py .
COPY extra.py /elsewhere/
ENV PYTHONPATH=/app/lib
RUN mkdir /venv && python3 -m venv --without-pip /venv
ENTRYPOINT ["python3", "app.py"]
LABEL hcoverage-test-image={name}
"""
STATUS: Final = 3
# To make a network of its own is half of what a container costs the engine.
RUN: Final = ("docker", "run", "--rm", "--network", "host")
DEV: Final = Path(__file__).parents[2] / "dev"
REGISTRY: Final = """\
version: 0.1
storage: {{filesystem: {{rootdirectory: "{directory}"}}}}
http: {{addr: "{address}"}}
"""


@pytest.fixture(scope="module")
def image(python_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An image with an application that ends with a status of its own."""
    directory = tmp_path_factory.mktemp("image")
    (directory / "app.py").write_text(APP)
    (directory / "extra.py").write_text("print('extra')\n")
    name = f"hcoverage-test-{uuid.uuid4().hex[:12]}:latest"
    (directory / "Dockerfile").write_text(DOCKERFILE.format(python=python_image, name=name))
    subprocess.run(
        ["docker", "build", "--quiet", "--tag", name, directory], check=True, capture_output=True
    )
    yield name
    subprocess.run(["docker", "image", "rm", "--force", name], check=True, capture_output=True)


@pytest.fixture(scope="module")
def module_session(
    engine: str,  # noqa: ARG001 - DOCKER_HOST
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[hcoverage.Session, dict[str, str]]]:
    """A session for all tests, as one run is for all of a suite's: an image is looked into once."""
    project = tmp_path_factory.mktemp("project")
    (project / ".coveragerc").write_text(RCFILE)
    (project / "app.py").write_text(APP)
    with (
        contextlib.chdir(project),
        hcoverage.open_session() as session,
        hdocker.containers_measured(session.environment) as environment,
    ):
        yield session, environment


@pytest.fixture
def session(
    module_session: tuple[hcoverage.Session, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> Iterator[hcoverage.Session]:
    """What `hcov run` opens, with this process as the measured command."""
    session, environment = module_session
    monkeypatch.chdir(session.data_file.parent)
    os.environ.update(environment)
    yield session
    for left in [*session.data_dir.glob("*.hcrec"), *session.data_dir.glob("prob*")]:
        left.unlink()


def measured(session: hcoverage.Session) -> set[int]:
    """The lines of app.py in the merged report."""
    result = hcoverage.combine(session.data_paths(), coveragerc=session.rcfile.path)
    data = CoverageData(basename=str(result.data_file))
    data.read()
    assert {Path(name) for name in data.measured_files()} == {Path.cwd() / "app.py"}
    return set(data.lines(str(Path.cwd() / "app.py")) or ())


@pytest.mark.parametrize(
    "command",
    [
        pytest.param("docker run --rm IMAGE one two", id="run"),
        pytest.param("docker container run --rm -i --name=NAME IMAGE read", id="container run"),
        pytest.param(
            "docker -l error run --init --rm -ie A=B --read-only --user 65534 -- IMAGE read",
            id="options",
        ),
        pytest.param("podman-like --host HOST run --rm IMAGE", id="another host"),
        pytest.param("docker run --rm --entrypoint python3 IMAGE -I app.py", id="python -I"),
        pytest.param("docker run --rm DIGEST one", id="by digest"),
        pytest.param("sh -c 'docker create --name NAME -i IMAGE read' ; start", id="create, start"),
    ],
)
def test_a_container_is_measured_and_runs_as_it_would(
    session: hcoverage.Session, image: str, container_name: str, command: str
) -> None:
    digest = run("docker", "image", "inspect", "--format", "{{.Id}}", image).stdout.strip()
    words = {
        "IMAGE": image,
        "NAME": container_name,
        "DIGEST": digest,
        "HOST": os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock"),
        "podman-like": "docker",
    }
    create, _, start = command.partition(" ; ")
    text = re.sub("|".join(words), lambda found: words[found[0]], create)
    text += f" >/dev/null; docker start -ai {container_name}" if start else ""
    ours = run("sh", "-c", text, input="in\n")
    if start:
        run("docker", "rm", container_name)
    plain = unmeasured("sh", "-c", text, input="in\n")
    assert (ours.returncode, ours.stdout, ours.stderr) == (
        plain.returncode,
        plain.stdout,
        plain.stderr,
    )
    assert ours.returncode == STATUS
    assert ours.stderr == ("in\n" if "read" in command else "")
    assert measured(session) == RAN
    assert not session.problems()


def test_a_terminal_is_passed_on(session: hcoverage.Session, image: str) -> None:
    main, terminal = pty.openpty()
    command = [*RUN, "-it", image, "one"]
    with subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal) as process:
        os.close(terminal)
        said = os.read(main, 100)
        assert process.wait() == STATUS
    os.close(main)
    assert said == b"True one\r\n"
    assert measured(session) == RAN


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
def test_a_signal_meets_the_client_itself(
    session: hcoverage.Session, image: str, container_name: str, signum: signal.Signals
) -> None:
    command = [*RUN, "--name", container_name, image, "wait"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(2)] == ["False wait\n", "up\n"]
        process.send_signal(signum)
        status = process.wait()
    # The client hands SIGTERM on to the container.
    assert status == (7 if signum == signal.SIGTERM else -signal.SIGKILL)
    run("docker", "rm", "--force", container_name)
    assert measured(session) >= {9, 10, 11}


@pytest.mark.parametrize(
    "options",
    [
        ["-e", "PYTHONPATH=/elsewhere"],
        ["--env=PYTHONPATH"],
        ["--env-file", "variables"],
    ],
    ids=["-e", "passed on", "a file"],
)
def test_a_pythonpath_of_the_users_own_is_joined(
    session: hcoverage.Session, image: str, options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # As under `hcov run`, where the session's own is first.
    monkeypatch.setenv("PYTHONPATH", f"{os.environ[SESSION_VARIABLE]}:/elsewhere")
    Path("variables").write_text("PYTHONPATH=/elsewhere\n")
    ours = run(*RUN, *options, image, "extra")
    assert (ours.returncode, ours.stdout, ours.stderr) == (STATUS, "False extra\nextra\n", "")
    assert measured(session) == RAN | {7}


def test_only_a_pythonpath_that_is_seen_has_anything_of_ours(
    session: hcoverage.Session, image: str
) -> None:
    show = ["--entrypoint", "python3", image, "-c", "import os; print(os.environ['PYTHONPATH'])"]
    assert run(*RUN, *show).stdout == f"{PLACE}:/app/lib\n"
    assert run(*RUN, "-e", "PYTHONPATH=", *show).stdout == f"{PLACE}\n"
    assert session.data_dir.is_dir()


def test_nothing_is_left_in_what_the_user_mounts(
    session: hcoverage.Session, image: str, tmp_path: Path
) -> None:
    library = tmp_path / "venv" / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    library.mkdir(parents=True)
    before = sorted(tmp_path.joinpath("venv").rglob("*"))
    for mode in ("rw", "ro"):
        done = run(*RUN, "-v", f"{tmp_path / 'venv'}:/venv:{mode}", image)
        assert (done.returncode, done.stderr) == (STATUS, "")
    assert sorted(tmp_path.joinpath("venv").rglob("*")) == before
    assert measured(session) == RAN


@pytest.mark.parametrize("create", [run, unmeasured])
def test_volumes_from_another_container(
    session: hcoverage.Session,
    image: str,
    container_name: str,
    create: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    create("docker", "create", "--name", container_name, "-v", "/data", image)
    lent = ["--volumes-from", f"{container_name}:ro", "--entrypoint", "python3"]
    done = run(*RUN, *lent, image, "-I", "app.py", "one")
    assert (done.returncode, done.stdout, done.stderr) == (STATUS, "False one\n", "")
    assert measured(session) == RAN


@pytest.mark.parametrize("is_lent", [False, True])
def test_a_mount_over_the_standard_library_hides_all_but_pythonpath_and_that_is_told(
    session: hcoverage.Session, image: str, container_name: str, *, is_lent: bool
) -> None:
    library = run(*RUN, "--entrypoint", "python3", image, "-Sc", "print(__import__('os').__file__)")
    directory = str(Path(library.stdout).parent)
    options = ["-v", directory]
    if is_lent:
        unmeasured("docker", "create", "--name", container_name, *options, image)
        options = ["--volumes-from", container_name]
    done = run(*RUN, *options, image, "one")
    assert (done.returncode, done.stdout, done.stderr) == (STATUS, "False one\n", "")
    assert measured(session) == RAN
    (problem,) = session.problems()
    assert f"a mount of its own at {directory}, where" in problem


def test_a_mount_of_the_users_own_at_our_place_is_theirs_and_that_is_told(
    session: hcoverage.Session, image: str, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    command = ["--entrypoint", "ls", "-v", f"{tmp_path}:{PLACE}:ro", image, PLACE]
    done = run(*RUN, *command)
    assert (done.returncode, done.stdout, done.stderr) == (0, "file\n", "")
    (problem,) = session.problems()
    assert f"a container's mount at {PLACE} is in the way" in problem


def test_a_command_of_get_docker_base_cmd_is_not_added_to_twice(
    session: hcoverage.Session, image: str
) -> None:
    for base in (hdocker.get_docker_base_cmd(image=image), hdocker.get_docker_base_cmd()):
        done = run(*base, image, "one")
        assert (done.returncode, done.stdout, done.stderr) == (STATUS, "False one\n", "")
    assert len(list(session.data_dir.glob("*.hcrec"))) == 2
    assert measured(session) == RAN


@pytest.mark.parametrize(
    ("hook", "asked_for"),
    [
        pytest.param(hcoverage.pth_text(), "*.hcrec", id="our hook"),
        pytest.param(
            'import os; os.getenv("COVERAGE_PROCESS_START")'
            ' and exec("import coverage; coverage.process_startup()")\n',
            ".coverage.*",
            id="by hand",
        ),
    ],
)
def test_in_a_baked_image_one_core_measures(
    session: hcoverage.Session,
    image: str,
    image_name: str,
    tmp_path: Path,
    *,
    hook: str,
    asked_for: str,
) -> None:
    context = tmp_path / "context"
    package = Path(coverage.__file__).parent
    shutil.copytree(package, context / "coverage", ignore=shutil.ignore_patterns("__pycache__"))
    (context / "coverage.pth").write_text(hook)
    library = f"{sys.base_prefix}/lib/python3.{sys.version_info.minor}/site-packages"
    (context / "Dockerfile").write_text(
        f"FROM {image}\nCOPY coverage {library}/coverage\nCOPY coverage.pth {library}/\n"
    )
    build = ["docker", "build", "--quiet", "--tag", image_name, str(context)]
    subprocess.run(build, check=True, capture_output=True)

    for base, left in (
        (hdocker.get_docker_base_cmd(), asked_for),
        (RUN, "*.hcrec"),
    ):
        done = run(*base, image_name, "one")
        assert (done.returncode, done.stdout, done.stderr) == (STATUS, "False one\n", "")
        data = [file for kind in (".coverage.*", "*.hcrec") for file in session.data_dir.glob(kind)]
        assert data == list(session.data_dir.glob(left))
        assert len(data) == 1
        assert measured(session) == RAN


@pytest.mark.parametrize(
    ("command", "status"),
    [
        ("run --rm hcoverage-test.invalid/nowhere:1", 125),
        ("run --rm --pull never hcoverage-test-nowhere", 125),
        ("run --nosuch IMAGE", 125),
        ("run --rm --workdir", 125),
        ("run", 1),
        ("run --help", 0),
        ("create --env-file nosuch IMAGE", 1),
        ("-H unix:///nosuch run IMAGE", 125),
    ],
)
def test_what_the_client_refuses_it_refuses_in_its_own_words(
    session: hcoverage.Session, image: str, command: str, status: int
) -> None:
    words = ["docker", *command.replace("IMAGE", image).split()]
    ours, plain = run(*words), unmeasured(*words)
    assert (ours.returncode, ours.stdout, ours.stderr) == (
        plain.returncode,
        plain.stdout,
        plain.stderr,
    )
    assert ours.returncode in {status, 125}
    assert not session.problems()


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    """The address of a registry of the test's own."""
    if shutil.which("docker-registry") is None:
        done = run(str(DEV / "install-packages"), "docker-registry")
        if done.returncode:
            pytest.skip(f"no registry here: {done.stderr}")
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    configuration = tmp_path / "registry.yml"
    configuration.write_text(REGISTRY.format(directory=tmp_path / "registry", address=address))
    with subprocess.Popen(
        ["docker-registry", "serve", configuration],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        assert any("listening on" in line for line in process.stderr)
        yield address
        process.terminate()


def test_an_image_that_is_not_here_is_pulled_and_looked_into(
    session: hcoverage.Session, image_without_python: str, registry: str, image_name: str
) -> None:
    # Small, as it is compressed to be pushed.
    name = f"{registry}/{image_name}:1"
    for command in (["tag", image_without_python, name], ["push", name], ["image", "rm", name]):
        subprocess.run(["docker", *command], check=True, capture_output=True)
    ours = run(*RUN, name, "sh", "-c", "echo up; exit 3")
    (problem,) = session.problems()
    assert problem.startswith(f"image {name}: there is no Python in it")
    run("docker", "image", "rm", name)
    plain = unmeasured(*ours.args)
    assert (ours.returncode, ours.stdout) == (plain.returncode, plain.stdout) == (STATUS, "up\n")
    assert ours.stderr == plain.stderr


def test_pulling_always_shows_what_it_would(
    session: hcoverage.Session, image_without_python: str, registry: str, image_name: str
) -> None:
    name = f"{registry}/{image_name}:2"
    for command in (["tag", image_without_python, name], ["push", name]):
        subprocess.run(["docker", *command], check=True, capture_output=True)
    ours = run(*RUN, "--pull=always", name, "sh", "-c", "echo up")
    plain = unmeasured(*ours.args)
    assert (ours.returncode, ours.stdout, ours.stderr) == (
        plain.returncode,
        plain.stdout,
        plain.stderr,
    )
    assert session.data_dir.is_dir()


def test_containers_started_at_once(session: hcoverage.Session, image: str) -> None:
    with ThreadPoolExecutor(4) as starters:
        done = list(starters.map(lambda _: run(*RUN, image), range(4)))
    assert {(each.returncode, each.stderr) for each in done} == {(STATUS, "")}
    assert len(list(session.data_dir.glob("*.hcrec"))) == 4
    assert not session.problems()


def test_a_failure_of_ours_leaves_the_command_as_it_was_and_is_told(
    session: hcoverage.Session, image: str
) -> None:
    startup = Path(os.environ[SESSION_VARIABLE])
    run("docker", "run", "--rm", image)
    for kept in startup.parent.glob("injection-*"):
        kept.write_bytes(b"garbage")
    done = run("docker", "run", "--rm", image, "one")
    for kept in startup.parent.glob("injection-*"):
        kept.unlink()
    assert (done.returncode, done.stdout, done.stderr) == (STATUS, "False one\n", "")
    (problem,) = session.problems()
    assert "EOFError" in problem
    assert f"`docker run --rm {image} one`" in problem


def test_who_asks_for_no_measuring_gets_none(session: hcoverage.Session, image: str) -> None:
    for environment in ({SESSION_VARIABLE: ""}, {hdocker.CONTAINERS_VARIABLE: "0"}):
        run(*RUN, image, env={**os.environ, **environment})
    run(*RUN, "-e", f"{SESSION_VARIABLE}=", image)
    assert not list(session.data_dir.glob("*.hcrec"))
    assert not session.problems()


def test_a_process_with_another_environment_is_still_measured(
    session: hcoverage.Session, image: str
) -> None:
    kept = {name: os.environ[name] for name in ("PATH", "DOCKER_HOST") if name in os.environ}
    assert run(*RUN, image, env=kept).returncode == STATUS
    assert measured(session) == RAN


def test_who_started_it_is_told_to_the_container(
    session: hcoverage.Session, image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HCOVERAGE_CONTEXT", "a test")
    code = "import os; print(os.getenv('HCOVERAGE_IMAGE'), os.getenv('HCOVERAGE_CONTEXT'))"
    show = ["--entrypoint", "python3", image, "-c", code]
    assert run(*RUN, *show).stdout == f"{image} a test\n"
    assert run(*hdocker.get_docker_base_cmd(image=image), *show).stdout == f"{image} a test\n"
    own = ["-e", "HCOVERAGE_CONTEXT=own"]
    assert run(*RUN, *own, *show).stdout == f"{image} own\n"
    assert session.data_dir.is_dir()


def test_hcov_run_measures_what_any_command_starts(
    image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(".coveragerc").write_text(RCFILE)
    Path("app.py").write_text(APP)
    hcov = [sys.executable, "-m", "hcov", "run"]
    container = [*RUN, image]
    done = run(*hcov, "--", *container)
    assert done.returncode == STATUS
    assert re.search(r"^app\.py +\d+ +\d+ +[1-9]\d*%", done.stdout, re.MULTILINE)
    done = run(*hcov, "--no-containers", "--", *container)
    assert done.returncode == STATUS
    assert "nothing was measured" in done.stderr
    monkeypatch.setenv(hdocker.CONTAINERS_VARIABLE, "0")
    assert "nothing was measured" in run(*hcov, "--", *container).stderr
    assert "nothing was measured" not in run(*hcov, "--containers", "--", *container).stderr
