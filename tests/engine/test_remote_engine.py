"""An engine that does not see this machine's files: told before anything runs, with what to do.

The engine is real: a second dockerd, in a mount namespace where other file systems lie over the
project and over the directory for temporary files.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

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
exec dockerd --host "unix://$2/docker.sock" --data-root "$1/data" --exec-root "$1/exec" \\
    --pidfile "$1/pid" --bridge none --iptables=false --ip-masq=false \\
    --containerd-namespace "$3" --containerd-plugins-namespace "$3-plugins" --shutdown-timeout 1
"""


@pytest.fixture(scope="module")
def remote_engine(image_without_python: str) -> Iterator[str]:
    """The address of an engine with other file systems than ours, and an image."""
    name = f"hcoverage-test-{uuid.uuid4().hex[:8]}"
    runtime = Path("/run") / name
    runtime.mkdir(mode=0o700)
    address = f"unix://{runtime}/docker.sock"
    argv = ["sh", "-c", DOCKERD, "sh", tempfile.gettempdir(), str(runtime), name]
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
        os.environ.update(hdocker.measure_containers(session.environment))
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
    for _ in range(2):
        done = subprocess.run(
            ["docker", "--host", remote_engine, *container],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "up\n", "")
    (problem,) = session.problems()
    assert f"image {image_without_python}" in problem
    assert f"does not see {session.data_dir} of this machine" in problem
