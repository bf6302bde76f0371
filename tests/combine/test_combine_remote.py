"""Combining from a bucket, and on a cluster: a real S3 endpoint, a real scheduler with two workers.

`dev/venv` makes the environment of the programs that do that; the one of the tests has none of it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from coverage import CoverageData
from tests.unmeasured import run_unmeasured

import hcoverage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

pytestmark = [
    pytest.mark.index,
    pytest.mark.remote,
    pytest.mark.xdist_group("remote"),  # one bucket for all
    pytest.mark.usefixtures("clean_environment"),
]

THIS_PROJECT: Final = Path(__file__).parents[2]
ENVIRONMENT: Final = ".venv-remote"
KEYS: Final = ("testing", "testing-secret")
DATA_FILES: Final = 60
LINES: Final = "a = 1\nb = 2\nc = 3\n" * DATA_FILES
COMBINE_ON_CLUSTER: Final = """\
import json, sys
import hcoverage
from distributed import Client

with Client(scheduler_file="scheduler.json", timeout=120) as client:
    client.wait_for_workers(2, timeout=120)
    result = hcoverage.combine([sys.argv[1]], executor=client.get_executor())
    tasks = client.run(lambda dask_worker: dask_worker.state.executed_count)
print(json.dumps([len(result.merged), len(result.recorded), list(tasks.values())]))
"""


@dataclass(frozen=True)
class Bucket:
    """A bucket that is a directory here.

    Attributes:
        directory: What is in the bucket.
        variables: The environment in which S3 is where it is.
    """

    directory: Path
    variables: Mapping[str, str]


@pytest.fixture(scope="module")
def programs() -> str:
    """The directory of the programs of an environment with `hcoverage[remote]`, Dask and rclone."""
    run_unmeasured(["dev/venv", ENVIRONMENT, "remote"], THIS_PROJECT)
    return str(THIS_PROJECT / ENVIRONMENT / "bin")


@pytest.fixture(autouse=True)
def _dask_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dask writes a template of its configuration, and locks; not into the user's places now."""
    monkeypatch.setenv("DASK_CONFIG", str(tmp_path / "dask"))
    monkeypatch.setenv("DASK_TEMPORARY_DIRECTORY", str(tmp_path))


@pytest.fixture
def bucket(programs: str, tmp_path: Path) -> Iterator[Bucket]:
    """A bucket at an S3 endpoint of our own."""
    directory = tmp_path / "s3" / "bucket"
    directory.mkdir(parents=True)
    serve = ["serve", "s3", "--verbose", "--addr=127.0.0.1:0", f"--auth-key={','.join(KEYS)}"]
    with running([f"{programs}/rclone", *serve, "--config=", str(directory.parent)]) as told:
        address = next(filter(None, (re.search(r"http://[\d.:]+", line) for line in told)))
        yield Bucket(
            directory,
            {
                **hcoverage.unmeasured_environment(os.environ),
                "AWS_ACCESS_KEY_ID": KEYS[0],
                "AWS_SECRET_ACCESS_KEY": KEYS[1],
                "AWS_DEFAULT_REGION": "us-east-1",
                "AWS_ENDPOINT_URL": address.group(),
                "NO_PROXY": "127.0.0.1",
            },
        )


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project; the current directory."""
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    Path(".coveragerc").write_text("[run]\nparallel = True\n[paths]\napp =\n    .\n    /app\n")
    Path("one.py").write_text(LINES)
    Path("two.py").write_text("a = 1\n")
    return project


@contextlib.contextmanager
def running(command: Sequence[str], cwd: Path | None = None) -> Iterator[Iterator[str]]:
    """Have a server running; it gives the lines that it says, and is ended afterwards."""
    with subprocess.Popen(
        command,
        cwd=cwd,
        env=hcoverage.unmeasured_environment(os.environ),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        try:
            assert server.stderr
            yield iter(server.stderr)
        finally:
            server.terminate()
            server.communicate(timeout=60)


def write_data_files(directory: Path, number: int) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for each in range(number):
        data = CoverageData(basename=str(directory / f".coverage.h{each}.pid{each}.Xa"))
        data.add_lines({"/app/one.py": [each + 1]})
        data.write()
        data.close()


def lines_here(project: Path, name: str = "one.py") -> list[int]:
    merged = CoverageData(basename=".coverage")
    merged.read()
    return sorted(merged.lines(str(project / name)) or [])


def test_what_lies_under_a_prefix_is_merged_and_stays_there(
    programs: str, bucket: Bucket, project: Path
) -> None:
    run = bucket.directory / "run-42"
    write_data_files(run, 3)
    (run / ".coverage.bad.pid9.Xa").write_bytes(b"no data")
    (run / "notes.txt").write_text("no data either")
    before = sorted(run.iterdir())

    def combine(url: str) -> subprocess.CompletedProcess[str]:
        command = [f"{programs}/hcov", "combine", url]
        return subprocess.run(
            command, env=bucket.variables, capture_output=True, text=True, check=False
        )

    done = combine("s3://bucket/run-42/")
    assert done.returncode == 3, done.stderr
    assert ".coverage.bad.pid9.Xa: coverage.py cannot read it" in done.stderr
    assert lines_here(project) == [1, 2, 3]
    assert sorted(run.iterdir()) == before

    nothing = combine("s3://bucket/run-43/")
    assert nothing.returncode == 1
    assert "nothing to combine at s3://bucket/run-43/" in nothing.stderr


def test_a_dask_cluster_reads_what_lies_in_a_bucket(
    programs: str, bucket: Bucket, project: Path, tmp_path: Path
) -> None:
    run = bucket.directory / "run-42"
    write_data_files(run, DATA_FILES)
    recorded = record_into(run) if sys.version_info >= (3, 12) else 0
    common = ["--no-dashboard", "--scheduler-file", f"{project}/scheduler.json"]
    scheduler = [f"{programs}/dask", "scheduler", "--host=127.0.0.1", "--port=0", *common]
    cluster = tmp_path / "cluster"
    worker = [f"{programs}/dask", "worker", "--no-nanny", "--nthreads=1", *common]
    cluster.mkdir()
    with running(scheduler, cluster), running(worker, cluster), running(worker, cluster):
        command = [f"{programs}/python", "-c", COMBINE_ON_CLUSTER, "s3://bucket/run-42/"]
        done = subprocess.run(
            command, env=bucket.variables, capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stderr
    merged, processes, tasks = json.loads(done.stdout)
    assert merged == DATA_FILES + recorded
    assert processes == recorded
    assert len(tasks) == 2
    assert all(tasks), "both workers have read"
    assert lines_here(project) == list(range(1, DATA_FILES + 1))
    assert lines_here(project, "two.py") == [1] * recorded


def record_into(directory: Path) -> int:
    """Leave a recording; tell how many there are."""
    with hcoverage.open_session(core="recorder") as session:
        subprocess.run([sys.executable, "two.py"], env=session.environment, check=True)
        recordings = list(session.data_dir.glob("*.hcrec"))
        for file in recordings:
            file.rename(directory / file.name)
    return len(recordings)
