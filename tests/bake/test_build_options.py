"""Options of a build that choose what is built: they count as the arguments do, or are refused.

Against the documentation of docker's and podman's `build`; that an image so built is measured is in
test_docker_build.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import hdocker
from hdocker._bake.build_options import BuildOptions, read_options

if TYPE_CHECKING:
    from pathlib import Path


def read(*options: str, **given: Any) -> BuildOptions:  # noqa: ANN401
    return read_options(options, **{"target": None, "platform": None, "build_args": {}, **given})


@pytest.mark.parametrize("name", ["target", "platform"])
@pytest.mark.parametrize("before", [(), ("--network", "host"), ("-q",), ("--label=a=--target",)])
def test_what_is_built_is_understood_in_each_spelling(name: str, before: tuple[str, ...]) -> None:
    for option in ([f"--{name}", "x/y"], [f"--{name}=x/y"], [f"--{name}=", f"--{name}=x/y"]):
        found = read(*before, *option, "--pull")
        assert getattr(found, name) == "x/y"
        assert found.others == (*before, "--pull")
    assert getattr(read(f"--{name}="), name) is None
    assert getattr(read(f"--{name}=x", **{name: "x"}), name) == "x"
    assert getattr(read(**{name: "x"}), name) == "x"


def test_values_of_args_are_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FROM_HERE", "5")
    monkeypatch.delenv("NOT_HERE", raising=False)
    options = ["--build-arg", "A=1", "--build-arg=B=x=y", "--build-arg", "FROM_HERE"]
    found = read(*options, "--build-arg=NOT_HERE", build_args={"A": "0", "C": "3"})
    assert found.build_args == {"A": "1", "B": "x=y", "C": "3", "FROM_HERE": "5"}
    assert found.others == ()


@pytest.mark.parametrize(
    "options",
    [
        ["--file", "Other"],
        ["--file=Other"],
        ["-f", "Other"],
        ["-fOther"],
        ["-f=Other"],
        ["-qf", "Other"],
        ["--output", "type=local,dest=x"],
        ["-o", "x"],
        ["-ox"],
        ["--push"],
        ["--push=true"],
        ["--check"],
        ["--call=outline"],
        ["--print"],
        ["--manifest", "x"],
        ["--from", "alpine"],
        ["--arch=arm64"],
        ["--os", "linux"],
        ["--variant", "v7"],
        ["--all-platforms"],
        ["--network", "host", "--target"],
        ["--platform"],
        ["--build-arg"],
    ],
)
def test_what_cannot_be_honoured_is_refused_before_anything_is_built(options: list[str]) -> None:
    with pytest.raises(hdocker.BuildOptionError, match=r"`--[a-z-]+` .*: [a-z ]+"):
        hdocker.build_container_image("shop", "FROM a\nRUN b\n", options=options)


@pytest.mark.parametrize("name", ["target", "platform"])
def test_a_contradiction_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"`--{name}` is both 'x' and 'y'"):
        read(f"--{name}=y", **{name: "x"})


@pytest.mark.parametrize("context", ["base", "BASE", "app"])
def test_another_thing_in_the_place_of_a_base_is_refused(context: str) -> None:
    text = "FROM base AS app\nFROM app\nCOPY --from=assets / /\n"
    option = f"--build-context={context}=docker-image://other"
    with pytest.raises(hdocker.BuildOptionError, match="FROM"):
        hdocker.build_container_image("shop", text, options=[option])
    assert read("--build-context", "assets=.").others == ("--build-context=assets=.",)


@pytest.mark.parametrize(
    "others",
    [
        ["--network", "host"],
        ["--tag=x", "-t", "y"],
        ["--label", "a=b"],
        ["--secret=id=x"],
        ["--no-cache", "--pull"],
        ["--format", "docker"],
        ["-m", "512m"],
        ["--cache-from=x"],
        ["--add-host", "a:1.1.1.1"],
        [],
    ],
)
def test_all_others_are_the_clients(others: list[str]) -> None:
    assert read(*others).others == tuple(others)


def test_a_stage_that_is_none_is_told() -> None:
    with pytest.raises(hdocker.DockerfileError, match="no stage 'b'"):
        hdocker.build_container_image("shop", "FROM a AS c\nRUN b\n", options=["--target", "b"])


@pytest.mark.parametrize("variable", ["", "HCOVERAGE_MEASURE"])
def test_measuring_in_another_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.chdir(tmp_path)
    said: dict[str, Any] = {} if variable else {"measure": "never"}
    if variable:
        monkeypatch.setenv(variable, "never")
    with pytest.raises(hdocker.MeasureError, match="'always' or 'auto'"):
        hdocker.get_docker_base_cmd(**said)
    with pytest.raises(hdocker.MeasureError, match=f"{variable or 'measure'} is 'never'"):
        hdocker.build_container_image("shop", "FROM a\nRUN b\n", **said)
