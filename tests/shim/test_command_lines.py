"""Where the image is in a client's command line, whatever is in front of it.

The client's own help is read, as it is where the tests run; no engine is needed.
"""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from hdocker._shim import command_line as _command_line

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module", params=["docker", "podman"])
def client(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if shutil.which(name) is None:
        pytest.skip(f"there is no {name} here to ask for its options")
    return name


def help_of(client: str, *subcommand: str) -> dict[str, str]:
    argv = [client, *subcommand, "--help"]
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True)
    return _command_line.read_help(done.stdout)


@pytest.fixture(scope="module")
def run_options(client: str) -> dict[str, str]:
    return help_of(client, "run")


def read(options: dict[str, str], *arguments: str) -> _command_line.CommandLine:
    return _command_line.read(["run", *arguments], 0, options)


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["-it"],
        ["-itd", "--rm"],
        ["--rm=true", "-d=false"],
        ["--name", "IMAGE2"],
        ["--name=x"],
        ["-e", "A=B"],
        ["-eA=B", "-e=C=D"],
        ["-ite", "A=B"],
        ["-p80:80", "-P"],
        ["--net", "host", "--network=none"],
        ["--mount", "type=tmpfs,target=/x", "-v/a:/b"],
        ["--entrypoint", "", "-w", "/"],
        ["--security-opt", "no-new-privileges", "--cap-drop", "ALL", "--read-only"],
        ["--pull=always", "--platform", "linux/amd64"],
        ["--"],
        ["-i", "--"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("image", ["shop", "reg:5000/shop:1@sha256:" + "0" * 64])
def test_the_image_is_found(run_options: dict[str, str], options: list[str], image: str) -> None:
    line = read(run_options, *options, image, "python", "-e", "X=Y", "--name", "z")
    assert line.image == image
    assert ["run", *options][line.insert_at :] == (["--"] if "--" in options else [])


def test_nothing_after_the_options_is_no_image(run_options: dict[str, str]) -> None:
    assert not read(run_options, "--rm", "--name", "shop").image
    assert not read(run_options, "--name").image
    assert not read(run_options).image


@pytest.mark.parametrize("option", ["--nosuch", "-Z", "-iZ", "--nosuch=1"])
def test_an_option_that_the_client_does_not_have(run_options: dict[str, str], option: str) -> None:
    with pytest.raises(_command_line.UnknownOptionError, match="help does not have -"):
        read(run_options, option, "shop")


def test_what_is_mounted(run_options: dict[str, str]) -> None:
    line = read(
        run_options,
        *("-v", "/here:/there:ro", "--volume=/anonymous/", "--tmpfs", "/scratch:size=1m"),
        *("--mount", 'type=bind,"source=/with,comma",dst=/one'),
        *("--mount", "type=volume,target=/two,source=x", "shop"),
    )
    assert set(line.mount_targets()) == {"/there", "/anonymous", "/scratch", "/one", "/two"}


def test_the_variables_of_files_and_options(run_options: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "variables"
    file.write_text("# A=0\nA=from the file\nB=2=3\n\n  C\nD\r\nE=5\n")
    options = ["-e", "A=last", "--env-file", str(file), "--env=E", "-eF="]
    found = read(run_options, *options, "shop").variables({"C": "here", "E": "here"})
    assert found == {"A": "last", "B": "2=3", "C": "here", "E": "here", "F": "", "D": None}


@pytest.mark.parametrize(
    ("arguments", "subcommand"),
    [
        (["run", "shop"], "run"),
        (["container", "create", "shop"], "create"),
        (["--log-level", "run", "run", "shop"], "run"),
        (["--log-level=debug", "container", "run", "shop"], "run"),
        (["exec", "shop", "run"], "exec"),
        (["--log-level", "debug"], "debug"),
        (["container"], "container"),
    ],
    ids=str,
)
def test_the_subcommand_is_found_behind_the_clients_own_options(
    client: str, arguments: list[str], subcommand: str
) -> None:
    assert arguments[_command_line.subcommand_at(arguments, help_of(client))] == subcommand


def test_the_clients_own_options_are_kept_for_what_is_asked_of_it(
    run_options: dict[str, str],
) -> None:
    line = _command_line.read(["-H", "unix:///x", "container", "run", "shop"], 3, run_options)
    assert line.client_options == ["-H", "unix:///x"]
