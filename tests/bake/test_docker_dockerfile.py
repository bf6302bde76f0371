"""Dockerfile text with coverage added: where it goes, who runs it, and what stays as it was.

That the result builds and measures is what `test_docker_build.py` shows.
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
import subprocess
import sys
from importlib import metadata
from typing import TYPE_CHECKING, Any

import pytest
from dockerfile_parse import DockerfileParser

import hdocker
from hdocker._bake.build import _Recipe
from hdocker._bake.build_context import digest_of, ignore_file_of
from hdocker._bake.dockerfile import bases_of, parse_stages

if TYPE_CHECKING:
    from pathlib import Path

RCFILE = "[run]\nparallel = True\n"
# The environment's own may be below a directory with a space in its name, which no `#!` can tell.
BASE_PYTHON = os.path.realpath(sys.executable)


def added(dockerfile: str, **options: Any) -> str:  # noqa: ANN401
    return hdocker.add_coverage(dockerfile, RCFILE, **options)


def instructions(dockerfile: str) -> list[tuple[str, str]]:
    parser = DockerfileParser(fileobj=io.BytesIO(dockerfile.encode()), env_replace=False)
    return [
        (found["instruction"], found["value"])
        for found in parser.structure
        if found["instruction"] != "COMMENT"
    ]


def names(dockerfile: str) -> str:
    return " ".join(name for name, _ in instructions(dockerfile))


def runs(dockerfile: str) -> list[list[str]]:
    """The argv of each RUN that was added."""
    ours = dockerfile.partition("# Coverage, added by hdocker.")[2]
    return [json.loads(value) for name, value in instructions(ours) if name == "RUN"]


def words(dockerfile: str, **options: Any) -> list[str]:  # noqa: ANN401
    """Where the Python is looked for, before it is looked for where it mostly is."""
    found = runs(added(dockerfile, **options))[-1][5:]
    return found[: found.index("${VIRTUAL_ENV:-/none}/bin/python")]


def test_what_was_there_stays_and_what_is_added_comes_after_it() -> None:
    dockerfile = 'FROM a\nWORKDIR /srv\nENTRYPOINT ["x"]\nCMD ["y"]\n'
    result = added(dockerfile)
    assert result.startswith(dockerfile)
    assert names(result) == "FROM WORKDIR ENTRYPOINT CMD RUN RUN"


def test_the_data_directory_and_the_rcfile() -> None:
    rcfile = "[run]\n# 'a' \"b\" $c `d` \\\n\n\tparallel = \N{SNOWMAN}\x0c%s\\n"
    prepare, _ = runs(hdocker.add_coverage("FROM a\n", rcfile))
    assert prepare[:2] == ["/bin/sh", "-c"]
    assert prepare[2].startswith("mkdir -p /app/coverage_data && chmod 777 /app/coverage_data && ")
    assert prepare[2].endswith("chmod 644 /app/coverage_data/.coveragerc")
    printed = subprocess.run(
        ["/bin/sh", "-c", "printf '%s\\n' \"$@\"", *prepare[3:]], capture_output=True, check=True
    )
    assert printed.stdout.decode() == rcfile + "\n"


def test_coverage_is_pinned_to_the_one_here_where_it_supports_the_images_python() -> None:
    program = runs(added("FROM a\n", packages=["covdefaults"]))[-1][4]
    version = metadata.version("coverage")
    assert f"coverage=={version}; python_full_version >= '3." in program
    assert "'coverage', 'pytest', 'pytest-cov', 'covdefaults']" in program


def test_the_program_is_python_when_the_builder_has_joined_its_lines() -> None:
    program = runs(added("FROM a\n"))[-1][4]
    compile(program, "program", "exec")
    assert "process_startup" in program


@pytest.mark.parametrize("escape", ["\\", "`"])
def test_every_builder_reads_it(escape: str) -> None:
    result = added(f"# escape={escape}\nFROM a\n")
    assert "<<" not in result
    ours = result.partition("# Coverage")[2].splitlines()
    inside = [
        line for number, line in enumerate(ours) if number and ours[number - 1].endswith(escape)
    ]
    # Builders drop such lines from the middle of an instruction, or complain of them.
    assert not [line for line in inside if not line.strip() or line.lstrip().startswith("#")]
    # Go's bufio.Scanner, which older builders read lines with, takes no longer ones.
    assert max(map(len, ours)) < 64 * 1024
    assert len(runs(result.replace(f"{escape}\n", "\\\n"))) == 2


def test_a_byte_order_mark_is_none_of_the_first_instruction() -> None:
    assert names(added("\ufeffFROM a\n")) == "FROM RUN RUN"


def test_the_last_stage_is_measured() -> None:
    result = added("FROM a AS one\nRUN x\nFROM b\nRUN y\n")
    assert names(result) == "FROM RUN FROM RUN RUN RUN"


@pytest.mark.parametrize("target", ["one", "ONE", "0"])
def test_the_target_is_measured(target: str) -> None:
    result = added("FROM a AS one\nUSER u\nFROM b\nRUN y\n", target=target)
    assert names(result) == "FROM USER USER RUN RUN USER FROM RUN"


def test_root_installs_and_the_user_is_put_back() -> None:
    result = added("FROM a\nUSER first\nUSER 10:20\nRUN x\n")
    assert names(result) == "FROM USER USER RUN USER RUN RUN USER"
    assert instructions(result)[4] == ("USER", "root")
    assert instructions(result)[-1] == ("USER", "10:20")


def test_the_user_of_an_earlier_stage_is_put_back() -> None:
    result = added("FROM a AS base\nUSER app\nFROM other AS b\nUSER no\nFROM Base\nRUN x\n")
    assert instructions(result)[-1] == ("USER", "app")


def test_the_user_of_the_base_image_is_put_back() -> None:
    base = hdocker.BaseImage(user="app")
    assert instructions(added("FROM a\n", base=base))[-1] == ("USER", "app")
    triggered = hdocker.BaseImage(user="app", onbuild=("RUN x", "user late"))
    assert instructions(added("FROM a\n", base=triggered))[-1] == ("USER", "late")


def test_a_trigger_of_an_earlier_stage_sets_the_user() -> None:
    assert instructions(added("FROM a AS b\nONBUILD USER app\nFROM b\n"))[-1] == ("USER", "app")
    assert "USER root" not in added("FROM a AS b\nONBUILD USER app\n")


def test_a_user_in_a_variable_is_noted_while_the_builder_knows_it() -> None:
    result = added("FROM a AS b\nARG NAME=app\nUSER ${NAME:-x}\nFROM b\nENV NAME=other\n")
    at = instructions(result).index(("USER", "${NAME:-x}"))
    assert instructions(result)[at + 1] == ("ENV", "HCOVERAGE_USER=${NAME:-x}")
    assert instructions(result)[-1] == ("USER", "$HCOVERAGE_USER")


def test_heredocs_are_no_instructions() -> None:
    dockerfile = (
        "FROM a\nUSER app\nRUN <<EOF cat <<-'TWO' > /x \\\n  && true\nUSER no\nFROM no\nEOF\n"
        '\tFROM no \\\n\tTWO\nCOPY <<"E-F" /y\nUSER no\nE-F\nRUN x\n'
    )
    result = added(dockerfile)
    assert result.startswith(dockerfile)
    assert result.rstrip().endswith("USER app")
    assert [stage.base for stage in parse_stages(dockerfile, {})] == ["a"]


def test_what_only_looks_like_a_heredoc_is_none() -> None:
    dockerfile = 'FROM a\nRUN ["x", "<<EOF"]\nRUN echo $((1 <<2))\nUSER app\nCOPY <<never /x\n'
    assert added(dockerfile).rstrip().endswith("USER app")


def test_comments_and_empty_lines_do_not_end_an_instruction() -> None:
    dockerfile = "FROM a\nUSER app\nRUN x \\\n\n# FROM b\n  USER \\\n\n  no\n"
    assert added(dockerfile).rstrip().endswith("USER app")


def test_a_file_that_ends_in_a_continuation() -> None:
    for end in ("", "\n", "\n\n", "\n# comment"):
        assert names(added("FROM a\nRUN x \\" + end)) == "FROM RUN RUN RUN"


def test_arguments_of_from() -> None:
    dockerfile = (
        "ARG TAG=1\nARG IMAGE=a:${TAG}\nFROM --platform=$BUILDPLATFORM $IMAGE AS one\n"
        "FROM ${OTHER:-b} AS two\nFROM one\nFROM scratch\n"
    )
    assert bases_of(parse_stages(dockerfile, {})) == ["a:1", "b"]
    assert bases_of(parse_stages(dockerfile, {"TAG": "2"})) == ["a:2", "b"]


@pytest.mark.parametrize(
    ("dockerfile", "expected"),
    [
        ("FROM a\n", []),
        ('FROM a\nCMD ["/v/bin/python", "-m", "x"]\n', ["/v/bin/python", "x"]),
        ('FROM a\nCMD ["no"]\nENTRYPOINT ["tini", "--", "serve"]\n', ["tini", "serve", "no"]),
        ("FROM a\nCMD exec gunicorn --bind :80 app:app\n", ["exec", "gunicorn", ":80", "app:app"]),
        ('FROM a\nCMD ["sh", "-c", "exec $HOME/serve"]\n', ["sh", "exec", "$HOME/serve"]),
        ('FROM a\nCMD ["sh", "-c", "$(rm -r x)"]\n', ["sh", "-r"][:1]),
        ('FROM a\nCMD ["poetry", "run", "serve"]\n', ["./.venv/bin/python", "run", "serve"]),
    ],
)
def test_the_python_is_looked_for_in_the_images_command(
    dockerfile: str, expected: list[str]
) -> None:
    found = words(dockerfile)
    assert found[: len(expected)] == expected


def test_the_python_is_looked_for_in_the_base_images_command() -> None:
    base = hdocker.BaseImage(entrypoint=("one",), command=("two",))
    assert words("FROM a\n", base=base) == ["one", "two"]
    assert words("FROM a\nCMD three\n", base=base) == ["one", "three"]
    assert words("FROM a\nENTRYPOINT three\n", base=base) == ["three"]


def test_a_python_that_is_named_is_the_only_one() -> None:
    assert runs(added("FROM a\nCMD python\n", python="/opt/python"))[-1][5:] == ["/opt/python"]


def find_python(tmp_path: Path, *where: str) -> subprocess.CompletedProcess[str]:
    """Run the search itself, with a program that tells what it runs in."""
    [*_, command] = runs(added("FROM a\n"))
    command = [*command[:4], "import sys; print(sys.executable)", *where]
    return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)


def script(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    "text",
    [
        f"#!{BASE_PYTHON}\n",
        f"#!{BASE_PYTHON} -I\n",
        f"#!/usr/bin/env -S {BASE_PYTHON} -u\n",
    ],
)
def test_a_script_leads_to_the_python_in_its_first_line(tmp_path: Path, text: str) -> None:
    serve = script(tmp_path / "serve", text)
    assert find_python(tmp_path, "no-such", "exec", "sh", serve).stdout.strip() == BASE_PYTHON


def test_a_script_of_an_environment_leads_to_its_python(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "e"], check=True)
    serve = script(tmp_path / "e" / "bin" / "serve", "#!/bin/sh\n'''exec' python \"$0\"\n' '''\n")
    assert find_python(tmp_path, serve).stdout.strip() == str(tmp_path / "e" / "bin" / "python")


def test_a_python_that_is_too_old_is_told_of(tmp_path: Path) -> None:
    old = script(tmp_path / "python3", "#!/bin/sh\necho 3.6\n")
    done = find_python(tmp_path, old)
    assert done.returncode == 1
    assert done.stderr == (
        f"hdocker: no Python 3.8 or newer in the image, of: {old} ({old} is Python 3.6)\n"
    )


@pytest.mark.parametrize(
    ("dockerfile", "told"),
    [
        ("", "is empty"),
        ("# only a comment\n\n", "is empty"),
        ("RUN x\n", "has no FROM, it begins with RUN"),
        ("ARG A\n", "has no FROM, it begins with ARG"),
        ("FROM\n", "line 1 .* names no image"),
        ("ARG A\nFROM $A\n", "line 2 .* is empty: give the ARG a default"),
    ],
)
def test_a_dockerfile_that_cannot_be_built(dockerfile: str, told: str) -> None:
    with pytest.raises(hdocker.DockerfileError, match=told):
        added(dockerfile)


def test_a_target_that_is_not_there() -> None:
    with pytest.raises(hdocker.DockerfileError, match="no stage 'three': choose one of one, 1"):
        added("FROM a AS one\nFROM b\n", target="three")


@pytest.mark.parametrize(
    "change",
    [
        {"text": "FROM a\nRUN x\n"},
        {"rcfile": RCFILE + "branch = True\n"},
        {"build_args": {"A": "1"}},
        {"platform": "linux/arm64"},
        {"python": "/opt/python"},
        {"packages": ("covdefaults",)},
        {"options": ("--network", "host")},
        {"text": "FROM a AS b\n", "target": "b"},
    ],
)
def test_an_image_of_another_recipe_has_another_name(change: dict[str, Any]) -> None:
    recipe = _Recipe("FROM a\n", None, None, RCFILE, {}, None, None, None, (), ())
    assert recipe.digest == dataclasses.replace(recipe).digest
    assert recipe.digest != dataclasses.replace(recipe, **change).digest


def changes(context: Path, name: str) -> bool:
    """Tell whether a new file changes the digest of a context."""
    path = context / name
    path.parent.mkdir(parents=True, exist_ok=True)
    before = digest_of(context, ignore_file_of(context, context / "Dockerfile"))
    path.write_text("x")
    return digest_of(context, ignore_file_of(context, context / "Dockerfile")) != before


@pytest.mark.parametrize(
    ("ignored", "name", "seen"),
    [
        ("", "a", True),
        ("a", "a", False),
        ("/a", "a/b", False),
        ("a/", "a/b", False),
        ("a", "b/a", True),
        ("**/a", "b/c/a", False),
        ("*", "a/b", False),
        ("*.txt", "a.txt", False),
        ("*.txt", "b/a.txt", True),
        ("*\n!a", "a/b", True),
        ("*\n!a/b", "a/b", True),
        ("*\n!a\na/b", "a/b", False),
        ("# a\n", "a", True),
        ("", "__pycache__/a", False),
        ("", "coverage_data/a", False),
        ("", "b/.coverage.host.1", False),
        ("", ".coveragerc", True),
    ],
)
def test_what_counts_as_a_change_of_the_context(
    tmp_path: Path, ignored: str, name: str, *, seen: bool
) -> None:
    (tmp_path / ".dockerignore").write_text(ignored)
    assert changes(tmp_path, name) is seen


def test_the_ignore_file_of_the_dockerfile_comes_first(tmp_path: Path) -> None:
    (tmp_path / ".dockerignore").write_text("a")
    (tmp_path / "Dockerfile.dockerignore").write_text("b")
    assert changes(tmp_path, "a")
    assert not changes(tmp_path, "b")


def test_modes_and_links_are_part_of_the_context(tmp_path: Path) -> None:
    (tmp_path / "a").touch(mode=0o644)
    digests = [digest_of(tmp_path, None)]
    (tmp_path / "a").chmod(0o755)
    digests.append(digest_of(tmp_path, None))
    (tmp_path / "link").symlink_to("a")
    digests.append(digest_of(tmp_path, None))
    (tmp_path / "link").unlink()
    (tmp_path / "link").symlink_to("gone")
    digests.append(digest_of(tmp_path, None))
    assert len(set(digests)) == len(digests)
