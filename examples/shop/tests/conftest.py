"""How the tests start the tool, as a subprocess, and the service, in a container."""

import os
import shlex
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

import hdocker

PROJECT = Path(__file__).parents[1]
START_TIMEOUT = 30  # seconds
IMAGE = os.environ.get("SHOP_IMAGE", "shop")
# For machines that have another image, or need a network of their own to build.
BASE_IMAGE = os.environ.get("HCOVERAGE_BASE_IMAGE", "python:3-slim")
BUILD_OPTIONS = shlex.split(os.environ.get("SHOP_BUILD_OPTIONS", ""))


@pytest.fixture
def run_shop() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the tool to its end: `run_shop("price", "kettle")`."""

    def run(*arguments: str, cwd: Path = PROJECT) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "shop.cli", *arguments],
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": str(PROJECT)},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def service() -> Iterator[str]:
    """The address of the service, which runs in a container for as long as the tests do."""
    if subprocess.run(["docker", "version"], capture_output=True, check=False).returncode:
        pytest.skip("no container: no docker answers; `docker version` tells why")
    baked = bool(os.environ.get("SHOP_BAKED"))
    image = build_baked() if baked else build()
    docker_run = hdocker.get_docker_base_cmd() if baked else ["docker", "run", "--rm", "--init"]

    name = f"shop-{uuid.uuid4().hex[:12]}"
    publish = ["--name", name, "--publish", "127.0.0.1::8000"]
    with subprocess.Popen([*docker_run, *publish, image]) as container:
        try:
            yield wait_until_up(name, container)
        finally:
            subprocess.run(["docker", "stop", name], stdout=subprocess.DEVNULL, check=False)


def build() -> str:
    """The image as it is deployed."""
    command = ["docker", "build", "--quiet", "--tag", IMAGE, "--build-arg"]
    command += [f"BASE_IMAGE={BASE_IMAGE}", *BUILD_OPTIONS, str(PROJECT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return IMAGE


def build_baked() -> str:
    """The image with coverage.py baked in, which is measured without `hcov run` as well."""
    return hdocker.build_container_image(
        IMAGE, PROJECT / "Dockerfile", build_args={"BASE_IMAGE": BASE_IMAGE}, options=BUILD_OPTIONS
    )


def wait_until_up(name: str, container: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + START_TIMEOUT
    while container.poll() is None and time.monotonic() < deadline:
        try:
            url = f"http://{published_address(name)}"
            with urlopen(f"{url}/health", timeout=1):  # noqa: S310
                return url
        except OSError:
            time.sleep(0.05)
    pytest.fail("the service did not come up; the container's output tells why")


def published_address(name: str) -> str:
    done = subprocess.run(
        ["docker", "port", name, "8000/tcp"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ConnectionError(done.stderr)  # the container has not started yet
    return done.stdout.strip()
