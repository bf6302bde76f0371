"""gunicorn with four workers, a Celery worker and Redis under a compose file: all lines come home.

The images never heard of coverage, nor did the compose file or `check.py`, the project's own test;
`docker compose down` ends it all. Runs by itself: `pytest tests/real/test_orders.py`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [
    pytest.mark.engine,
    pytest.mark.index,
    pytest.mark.usefixtures("clean_environment"),
    pytest.mark.skipif(sys.version_info < (3, 12), reason="its Python is the images'"),
]

APPLICATION: Final = Path(__file__).parent / "orders_app"
FILES: Final = ("web.py", "tasks.py")
PROCESSES: Final = 1 + 1 + 4 + 1 + 2  # check.py, gunicorn and its workers, Celery and its two
RCFILE: Final = "[run]\nparallel = True\nsource = .\n"


@pytest.fixture(scope="module")
def images(base_image: str, python_image: str) -> dict[str, str]:
    """The images that the compose file names. They are kept: to build them takes the index."""
    with ThreadPoolExecutor() as builders:
        orders = builders.submit(
            _build, "hcoverage-orders", "Dockerfile", f"PYTHON_IMAGE={python_image}"
        )
        redis = builders.submit(
            _build, "hcoverage-redis", "Dockerfile.redis", f"BASE_IMAGE={base_image}"
        )
        return {"ORDERS_IMAGE": orders.result(), "ORDERS_REDIS_IMAGE": redis.result()}


def _build(name: str, dockerfile: str, argument: str) -> str:
    options = ["--network", "host", "--build-arg", argument]
    done = subprocess.run(
        [
            "docker",
            "build",
            "--tag",
            name,
            *options,
            "--file",
            APPLICATION / dockerfile,
            APPLICATION,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return name


@pytest.fixture
def project(
    compose: tuple[str, ...],
    images: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Path]:
    """A copy of the application; we are in it, and nothing of it runs afterwards."""
    path = tmp_path / "project"
    shutil.copytree(APPLICATION, path, ignore=shutil.ignore_patterns("__pycache__"))
    (path / ".coveragerc").write_text(RCFILE)
    monkeypatch.chdir(path)
    os.environ.update(images, COMPOSE_PROJECT_NAME=f"hcoverage-test-{uuid.uuid4().hex[:12]}")
    yield path
    subprocess.run([*compose, "down", "--volumes"], capture_output=True, check=True)


@pytest.mark.usefixtures("project")
def test_every_handlers_and_every_tasks_line_is_covered(tell: Callable[[str], None]) -> None:
    command = [sys.executable, "-m", "hcov", "run", "--json", "--", sys.executable, "check.py"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(Path("coverage.json").read_text())["files"]
    missing = {file: report[file]["missing_lines"] for file in FILES}
    assert missing == {file: [] for file in FILES}, done.stderr
    assert not re.search("not measured|not merged", done.stderr)
    merged = re.search(r"merged: (\d+) recorded processes", done.stderr)
    assert merged
    assert int(merged[1]) >= PROCESSES
    lines = sum(len(report[file]["executed_lines"]) for file in FILES)
    down = re.search("down after .*", done.stdout)
    assert down
    tell(f"orders: {merged[1]} processes recorded, all {lines} lines covered; {down[0]}")
