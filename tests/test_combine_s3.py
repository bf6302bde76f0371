"""Combining what lies in a bucket, from a real S3 endpoint: moto's server, started here."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import venv
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from coverage import CoverageData

import hcoverage

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.index, pytest.mark.remote, pytest.mark.timeout(900)]

_PROJECT: Final = Path(__file__).parents[1]
_SERVER: Final = """\
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
input()
server.stop()
"""
_FILL: Final = """\
import pathlib, sys, fsspec
system = fsspec.filesystem("s3")
system.mkdir("bucket")
for file in pathlib.Path(sys.argv[1]).iterdir():
    system.put_file(str(file), f"bucket/run-42/{file.name}")
"""
_LIST: Final = "import fsspec; print(sorted(fsspec.filesystem('s3').find('bucket')))"


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with `hcoverage[remote]`, and moto's server."""
    environment = tmp_path_factory.mktemp("remote") / "venv"
    python = environment / "bin" / "python"

    venv.create(environment, with_pip=True)
    packages = [f"{_PROJECT}[remote]", "moto[server]"]
    pip = [str(python), "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, "--upgrade", "pip"], check=True)
    subprocess.run([*pip, *packages], check=True)
    return python


@pytest.fixture
def endpoint(python: Path) -> Iterator[dict[str, str]]:
    """The environment in which S3 is a server of our own."""
    environment = {
        **hcoverage.unmeasured_environment(os.environ),
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "NO_PROXY": "127.0.0.1",
    }
    with subprocess.Popen(
        [python, "-c", _SERVER],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as server:
        try:
            assert server.stdout
            port = int(re.findall(r"\d+", server.stdout.readline())[-1])
            yield {**environment, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
        finally:
            with contextlib.suppress(BrokenPipeError):
                server.communicate("\n")


def test_what_lies_under_a_prefix_is_merged_and_stays_there(
    python: Path, endpoint: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tmp_path / "made"
    made.mkdir()
    for number in range(3):
        data = CoverageData(basename=str(made / f".coverage.h{number}.pid{number}.Xa"))
        data.add_lines({"/app/one.py": [number + 1]})
        data.write()
        data.close()
    (made / ".coverage.bad.pid9.Xa").write_bytes(b"no data")
    (made / "notes.txt").write_text("no data either")
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    Path(".coveragerc").write_text("[paths]\napp =\n    .\n    /app\n")
    Path("one.py").write_text("a = 1\nb = 2\nc = 3\n")
    subprocess.run([python, "-c", _FILL, made], env=endpoint, check=True)

    command = [str(python), "-m", "hcov", "combine", "s3://bucket/run-42/"]
    done = subprocess.run(command, env=endpoint, capture_output=True, text=True, check=False)

    assert done.returncode == 3, done.stderr
    assert ".coverage.bad.pid9.Xa: coverage.py cannot read it" in done.stderr
    merged = CoverageData(basename=".coverage")
    merged.read()
    assert sorted(merged.lines(str(project / "one.py")) or []) == [1, 2, 3]
    left = subprocess.run(
        [python, "-c", _LIST], env=endpoint, capture_output=True, text=True, check=True
    )
    assert left.stdout.count("bucket/run-42/") == 5

    command[-1] = "s3://bucket/run-43/"
    nothing = subprocess.run(command, env=endpoint, capture_output=True, text=True, check=False)
    assert nothing.returncode == 1
    assert "nothing to combine at s3://bucket/run-43/" in nothing.stderr
