"""A gunicorn with four workers in a container: all their lines come home, and it stops at once.

Runs by itself: `pytest tests/real/test_gunicorn.py`.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

import hcoverage
import hdocker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [pytest.mark.engine, pytest.mark.index]

APPLICATION: Final = Path(__file__).parent / "gunicorn_app"
WORKERS: Final = 4
HANDLERS: Final = ("application", "total", "slow", "missing")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clean_environment: None) -> Path:  # noqa: ARG001
    """A copy of the application, set up for measuring as the README has it; we are in it."""
    path = tmp_path / "project"
    shutil.copytree(APPLICATION, path, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(path)
    for command in hcoverage.coverage_subprocess_commands():
        subprocess.run(["sh", "-ec", command], check=True)
    return path


@dataclass(frozen=True)
class Container:
    """A gunicorn that answers.

    Attributes:
        name: The container's name.
        address: Where on this machine its port is.
        process: The `docker run` that is attached to it.
    """

    name: str
    address: str
    process: subprocess.Popen[bytes]

    def get(self, target: str) -> tuple[int, dict[str, Any]]:
        """Ask on a connection of its own, so that any worker may answer."""
        with contextlib.closing(HTTPConnection(self.address)) as connection:
            connection.request("GET", target)
            response = connection.getresponse()
            return response.status, json.load(response)

    def stop(self) -> float:
        """End it; give the seconds that `docker stop` took."""
        start = time.perf_counter()
        subprocess.run(["docker", "stop", self.name], stdout=subprocess.DEVNULL, check=True)
        seconds = time.perf_counter() - start
        assert self.process.wait() == 0  # 137 if docker had to kill it
        return seconds


@pytest.fixture
def gunicorn(
    project: Path,
    kit_image: str,
    image_name: str,
    container_name: str,
    container_label: str,
) -> Iterator[Container]:
    image = hdocker.build_container_image(
        image_name,
        project / "Dockerfile",
        build_args={"BASE_IMAGE": kit_image},
        options=["--network", "host"],
    )
    options = ["--name", container_name, "--label", container_label, "-p", "127.0.0.1::8000"]
    argv = [*hdocker.get_docker_base_cmd(options=options), image]
    with subprocess.Popen(argv) as process:
        try:
            yield _when_it_answers(container_name, process)
        finally:
            subprocess.run(
                ["docker", "rm", "--force", container_name], capture_output=True, check=False
            )


def _when_it_answers(name: str, process: subprocess.Popen[bytes]) -> Container:
    while process.poll() is None:
        container = Container(name, _published_address(name), process)
        # Until the container is started there is no address; until gunicorn is, nobody listens.
        with contextlib.suppress(OSError):
            container.get("/")
            return container
        time.sleep(0.05)
    pytest.fail("gunicorn did not come up; the container's output tells why")


def _published_address(name: str) -> str:
    done = subprocess.run(
        ["docker", "port", name, "8000/tcp"], capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


def _until_every_worker_served(gunicorn: Container) -> set[int]:
    """Ask for as many slow answers at once as there are workers, until all of them gave some."""
    pids: set[int] = set()
    with ThreadPoolExecutor(WORKERS) as clients:
        while len(pids) < WORKERS:
            answers = clients.map(gunicorn.get, ["/slow?seconds=0.05"] * WORKERS)
            pids |= {body["pid"] for _, body in answers}
    return pids


def _pids_of(files: tuple[Path, ...]) -> set[int]:
    found = (re.search(r"\.pid(\d+)\.", file.name) for file in files)
    return {int(match[1]) for match in found if match}


def _report(data_file: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "coverage", "json", "-q", "-o", "-"]
    environment = {
        **hcoverage.unmeasured_environment(os.environ),
        "COVERAGE_FILE": str(data_file),
    }
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def test_every_workers_lines_are_covered_and_it_stops_without_a_kill(
    gunicorn: Container, tell: Callable[[str], None]
) -> None:
    assert gunicorn.get("/total?n=1&n=41")[1]["total"] == 42
    assert gunicorn.get("/total?n=x")[0] == 400
    assert gunicorn.get("/nowhere")[0] == 404
    pids = _until_every_worker_served(gunicorn)

    seconds = gunicorn.stop()
    result = hcoverage.combine(["coverage_data"])
    report = _report(result.data_file)["files"]["app.py"]

    tell(
        f"gunicorn: {len(pids)} workers served, {len(result.merged)} data files, "
        f"{len(report['executed_lines'])} lines of app.py covered, "
        f"{len(report['missing_lines'])} missing; docker stop took {seconds:.2f} s"
    )
    assert not [name for name in HANDLERS if report["functions"][name]["missing_lines"]]
    assert not result.set_aside
    assert pids <= _pids_of(result.merged)
