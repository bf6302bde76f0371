"""The start of a `docker run` command: what is in it, and what is found out before it runs.

No engine is needed for any of this; that containers started so bring their data home is what
`test_docker_build.py` shows.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import warnings
from typing import TYPE_CHECKING

import pytest

import hcoverage
import hdocker

if TYPE_CHECKING:
    from pathlib import Path

RCFILE = "[run]\nparallel = True\n[paths]\napp =\n    .\n    /app\n"
NOBODY = 65534


@pytest.fixture(autouse=True)
def clients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand-ins on PATH: nothing here runs them, they only have to be there."""
    monkeypatch.delenv(hcoverage.SESSION_VARIABLE, raising=False)  # of a run around the tests
    directory = tmp_path / "clients"
    directory.mkdir()
    for name in ("docker", "podman", "sudo"):
        (directory / name).touch(mode=0o755)
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")
    monkeypatch.delenv("HCOVERAGE_DATA_DIR", raising=False)
    return directory


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".coveragerc").write_text(RCFILE)
    for command in hcoverage.coverage_subprocess_commands():
        subprocess.run(["sh", "-ec", command], check=True)
    return tmp_path / "coverage_data"


def test_the_command(data_dir: Path) -> None:
    assert hdocker.get_docker_base_cmd() == [
        "docker",
        "run",
        "--rm",
        "--init",
        "-v",
        f"{data_dir}:/app/coverage_data",
        "-e",
        "COVERAGE_FILE=/app/coverage_data/.coverage",
        "-e",
        "COVERAGE_PROCESS_START=/app/coverage_data/.coveragerc",
    ]


@pytest.mark.usefixtures("data_dir")
def test_sudo_engine_user_and_options() -> None:
    command = hdocker.get_docker_base_cmd(
        True,  # noqa: FBT003 - a first argument as callers write it
        engine="podman",
        user="1000:1000",
        options=["--network", "host"],
    )
    assert command[:4] == ["sudo", "podman", "run", "--rm"]
    assert command[-4:] == ["--user", "1000:1000", "--network", "host"]
    # Its host name is this machine's, so the names of its data files have to say where it is.
    assert "COVERAGE_FILE=/app/coverage_data/.coverage.in-container" in command


def test_the_data_directory_of_the_run_comes_before_the_current_one(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = data_dir.rename(tmp_path / "the run's")
    monkeypatch.setenv("HCOVERAGE_DATA_DIR", str(other))
    assert f"{other}:/app/coverage_data" in hdocker.get_docker_base_cmd()


def test_a_relative_data_directory_with_spaces_and_quotes(data_dir: Path, tmp_path: Path) -> None:
    data_dir.rename(tmp_path / 'it\'s "here"')
    command = hdocker.get_docker_base_cmd(data_dir='it\'s "here"')
    assert f'{tmp_path}/it\'s "here":/app/coverage_data' in command
    assert shlex.split(shlex.join(command)) == command


@pytest.mark.usefixtures("data_dir")
def test_a_mapping_of_the_containers_paths_gives_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hdocker.get_docker_base_cmd()


@pytest.mark.usefixtures("clean_environment")  # the end of a run needs none
def test_no_mapping_of_the_containers_paths(data_dir: Path) -> None:
    (data_dir / ".coveragerc").write_text(
        "[run]\nparallel = True\n[paths]\napp =\n    .\n    /srv\n"
    )
    with pytest.warns(hdocker.PathMappingWarning, match="add `/app`") as caught:
        hdocker.get_docker_base_cmd()
    assert caught[0].filename == __file__


def test_no_data_directory_names_the_commands_that_make_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", os.path.dirname(sys.executable), prepend=os.pathsep)  # noqa: PTH120
    with pytest.raises(hdocker.DataDirectoryError, match="is not there") as raised:
        hdocker.get_docker_base_cmd()
    assert "hcov run" in str(raised.value)
    subprocess.run(["sh", "-ec", str(raised.value).split("`")[1]], check=True)
    with pytest.warns(hdocker.PathMappingWarning, match="hcov combine"):
        assert hdocker.get_docker_base_cmd()


def test_a_file_in_the_place_of_the_data_directory(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    with pytest.raises(hdocker.DataDirectoryError, match="is no directory"):
        hdocker.get_docker_base_cmd(data_dir=tmp_path / "data")


def test_a_data_directory_that_others_cannot_write(data_dir: Path) -> None:
    data_dir.chmod(0o755)
    with pytest.raises(hdocker.DataDirectoryError, match="its mode is 755: run `chmod 757"):
        hdocker.get_docker_base_cmd()
    with pytest.raises(hdocker.DataDirectoryError, match="cannot write"):
        hdocker.get_docker_base_cmd(user=NOBODY)
    for user in ("root", 0, "0:0", os.getuid()):
        assert hdocker.get_docker_base_cmd(user=user)


def test_an_rcfile_that_is_missing_or_that_others_cannot_read(data_dir: Path) -> None:
    (data_dir / ".coveragerc").chmod(0o600)
    with pytest.raises(hdocker.DataDirectoryError, match=r"cannot read .*: run `chmod 604"):
        hdocker.get_docker_base_cmd()
    assert hdocker.get_docker_base_cmd(user="root")
    (data_dir / ".coveragerc").unlink()
    with pytest.raises(hdocker.DataDirectoryError, match=r"no rcfile .*`hcov commands setup"):
        hdocker.get_docker_base_cmd()


def test_an_rcfile_that_cannot_work(data_dir: Path) -> None:
    (data_dir / ".coveragerc").write_text("[run]\nbranch = perhaps\n")
    with pytest.raises(hcoverage.RcfileError, match=r"coverage\.py cannot use .*perhaps"):
        hdocker.get_docker_base_cmd()


def test_a_colon_in_the_path(tmp_path: Path) -> None:
    with pytest.raises(hdocker.DataDirectoryError, match="colon"):
        hdocker.get_docker_base_cmd(data_dir=tmp_path / "a:b")


@pytest.mark.usefixtures("data_dir")
def test_no_client_on_path(clients: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(clients))
    (clients / "sudo").unlink()
    with pytest.raises(hdocker.EngineNotFoundError, match="no `sudo` on PATH"):
        hdocker.get_docker_base_cmd(use_sudo=True)
    (clients / "docker").unlink()
    with pytest.raises(
        hdocker.EngineNotFoundError, match=r"no `docker` on PATH: install .*docker\.io"
    ):
        hdocker.get_docker_base_cmd()


def test_an_engine_that_nobody_knows() -> None:
    with pytest.raises(hdocker.EngineError, match="'docker' and 'podman'"):
        hdocker.get_docker_base_cmd(engine="rocket")
