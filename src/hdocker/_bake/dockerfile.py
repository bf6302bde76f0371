"""Adds coverage to the stage of a Dockerfile that is built: from text to text.

It is pure: it touches no file and no engine. The base image's user and command, which the text does
not have, are passed as a `BaseImage`. `find_python.sh` and `bake.py` find out the rest in the image
itself: where its Python is, and how that installs packages.

All added instructions are in exec form, which builders do not pass to the Dockerfile's SHELL, and
have no heredocs, which the classic builder does not know.
"""

from __future__ import annotations

import io
import json
import re
import shlex
from dataclasses import dataclass
from importlib import metadata, resources
from typing import TYPE_CHECKING, Final

from dockerfile_parse import DockerfileParser

# hcoverage defines the hook's text; its public names lack it, since no user needs it.
from hcoverage import RCFILE_NAME, pth_text
from hdocker._bake.place import CONTAINER_DATA_DIR
from hdocker._errors import DockerfileError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

_CONTAINER_RCFILE: Final = f"{CONTAINER_DATA_DIR}/{RCFILE_NAME}"

_HEREDOC_INSTRUCTIONS: Final = ("RUN", "COPY", "ADD")
# `reHeredoc` in BuildKit's frontend/dockerfile/parser/parser.go.
_HEREDOC: Final = r"(\d*)<<(-?)([^<]+)"
# `$name`, `${name}`, `${name:-default}` and `${name:+other}`, the forms that FROM takes.
_VARIABLE: Final = r"\$(?:(\w+)|\{(\w+)(?:(:?[-+])([^}]*))?\})"

# Programs that start others: their own Python is not the application's.
_LAUNCHERS: Final = {"hatch", "honcho", "pdm", "pipenv", "poetry", "rye", "supervisord", "uv"}
# Tried if no word of the command leads to a Python.
_LIKELY_PYTHONS: Final = (
    "${VIRTUAL_ENV:-/none}/bin/python",
    "${UV_PROJECT_ENVIRONMENT:-/none}/bin/python",
    "python3",
    "python",
)


@dataclass(frozen=True)
class BaseImage:
    """What an image passes on to a Dockerfile that starts from it.

    Attributes:
        user: Its user; empty for root.
        entrypoint: Its entry point.
        command: Its command.
        onbuild: The instructions that it runs at the start of a stage based on it.
    """

    user: str = ""
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    onbuild: tuple[str, ...] = ()


@dataclass(frozen=True)
class Instruction:
    """One instruction of a Dockerfile; line numbers count from 0, `last_line` is part of it."""

    name: str
    value: str
    first_line: int
    last_line: int


@dataclass(frozen=True)
class Stage:
    """One stage of a Dockerfile.

    Attributes:
        base: The image or stage that it starts from, variables replaced.
        name: Its name, if it has one.
        instructions: The instructions after its FROM.
        last_line: Where its last instruction ends, counted from 0.
    """

    base: str
    name: str | None
    instructions: tuple[Instruction, ...]
    last_line: int


def add_coverage(
    dockerfile: str,
    rcfile: str,
    *,
    base: BaseImage | None = None,
    target: str | None = None,
    build_args: Mapping[str, str] | None = None,
    python: str | None = None,
    packages: Sequence[str] = (),
) -> str:
    """Add coverage to the text of a Dockerfile: coverage.py, the data directory, rcfile and hook.

    Entry point, command, working directory, user and shell of the image stay the same. The
    coverage.py version is the one installed here, if it supports the image's Python, else the
    newest that does.

    Args:
        dockerfile: The text of the Dockerfile.
        rcfile: The text of the rcfile, in INI form.
        base: What the built stage's base image passes on. Needed if that has another user than
            root, or a command of its own.
        target: The stage to build; the last by default.
        build_args: Values of ARGs that FROM may use.
        python: The image's Python to measure, by name or path. By default the one that ENTRYPOINT
            or CMD lead to, else the first on PATH.
        packages: Further packages to install, such as the plugins that the rcfile names.

    Returns:
        The text of a Dockerfile that every builder accepts.

    Raises:
        DockerfileError: The text is empty or has no FROM, or there is no such target.
    """
    dockerfile = dockerfile.removeprefix("\ufeff")
    stages = parse_stages(dockerfile, build_args or {})
    stage = find_stage(stages, target)
    history = _history(stages, stage, base or BaseImage())
    user = _last(history, "USER")
    restored = _restored_user(user, base or BaseImage())
    added = [
        "",
        "# Coverage, added by hdocker.",
        *(["USER root"] if restored else []),
        *_bake_instructions(
            rcfile,
            words=[python] if python else _command_words(history, base or BaseImage()),
            requirements=[*_requirements(), *packages],
            escape=_escape_character(dockerfile),
        ),
        *restored,
        "",
    ]
    after = {stage.last_line: added}
    if user is not None and "$" in user.value and user.first_line >= 0:
        # Only the builder knows the value of an ARG, and by the end of the stage it may be gone or
        # changed. So the image's environment keeps the value.
        after[user.last_line] = [f"ENV HCOVERAGE_USER={user.value}", *after.get(user.last_line, [])]
    return _insert(dockerfile, after)


def parse_stages(dockerfile: str, build_args: Mapping[str, str]) -> list[Stage]:
    """Parse the text of a Dockerfile into its stages.

    Args:
        dockerfile: The text.
        build_args: Values of the ARGs that FROM may use.

    Raises:
        DockerfileError: The text is empty, or has no FROM.
    """
    instructions = _instructions(dockerfile)
    if not instructions:
        raise DockerfileError("the Dockerfile is empty: begin it with FROM and a base image")
    starts = [number for number, found in enumerate(instructions) if found.name == "FROM"]
    if not starts:
        raise DockerfileError(
            f"the Dockerfile has no FROM, it begins with {instructions[0].name}: "
            "begin it with FROM and a base image"
        )
    variables = _global_arguments(instructions[: starts[0]], build_args)
    ends = [*starts[1:], len(instructions)]
    return [
        _stage(instructions[start:end], variables) for start, end in zip(starts, ends, strict=True)
    ]


def find_stage(stages: Sequence[Stage], target: str | None) -> Stage:
    """Find the stage that is built: by name, in any case, or number; the last by default.

    Raises:
        DockerfileError: There is no such stage.
    """
    if target is None:
        return stages[-1]
    for number, stage in enumerate(stages):
        if target.lower() == (stage.name or str(number)).lower() or target == str(number):
            return stage
    names = ", ".join(stage.name or str(number) for number, stage in enumerate(stages))
    raise DockerfileError(f"the Dockerfile has no stage {target!r}: choose one of {names}")


def base_of(stages: Sequence[Stage], stage: Stage) -> str:
    """Return the image that a stage is based on, directly or through other stages."""
    parent = _parent(stages, stage)
    return stage.base if parent is None else base_of(stages, parent)


def bases_of(stages: Sequence[Stage]) -> list[str]:
    """Return all images that stages start from, sorted, without `scratch`."""
    bases = {stage.base for stage in stages if _parent(stages, stage) is None}
    return sorted(bases - {"scratch"})


def _instructions(dockerfile: str) -> list[Instruction]:
    """Parse again and again, until no heredoc is left whose lines look like instructions."""
    lines = dockerfile.removeprefix("\ufeff").split("\n")
    _mend_continuations(lines, _escape_character(dockerfile))
    while True:
        parser = DockerfileParser(
            fileobj=io.BytesIO("\n".join(lines).encode("utf-8", "surrogateescape")),
            env_replace=False,
        )
        instructions = [
            Instruction(
                found["instruction"], found["value"].strip(), found["startline"], found["endline"]
            )
            for found in parser.structure
            if found["instruction"] != "COMMENT"
        ]
        if not any(_blank_heredocs(lines, instruction) for instruction in instructions):
            return instructions


def _mend_continuations(lines: list[str], escape: str) -> None:
    # For builders an instruction goes on after an empty line, and ends with the file. For
    # dockerfile-parse it goes on only after a comment, and is dropped at the end of the file.
    continued = None
    for number, line in enumerate(lines):
        if continued is not None and not line.strip():
            lines[number] = "#"
        elif not line.lstrip().startswith("#"):
            continued = number if line.rstrip().endswith(escape) else None
    if continued is not None:
        lines[continued] = lines[continued].rstrip().removesuffix(escape)


def _blank_heredocs(lines: list[str], instruction: Instruction) -> bool:
    """Turn the lines of an instruction's heredocs into comments; return whether there were any."""
    position = start = instruction.last_line + 1
    for strip_tabs, name in _heredocs(instruction):
        end = next(
            (
                number
                for number in range(position, len(lines))
                if (lines[number].lstrip("\t") if strip_tabs else lines[number]).rstrip("\r")
                == name
            ),
            None,
        )
        if end is None:
            break  # no heredoc after all, or one that the builder will reject
        position = end + 1
    body = range(start, position)
    changed = any(lines[number] != "#" for number in body)
    for number in body:
        lines[number] = "#"
    return changed


def _heredocs(instruction: Instruction) -> Iterator[tuple[bool, str]]:
    name, value = instruction.name, instruction.value
    if name == "ONBUILD":
        name, _, value = value.partition(" ")
    if name.upper() not in _HEREDOC_INSTRUCTIONS or value.startswith("["):
        return
    for word in _shell_words(value, posix=False):
        match = re.fullmatch(_HEREDOC, word)
        if match:
            yield bool(match[2]), match[3].strip("\"'")


def _shell_words(text: str, *, posix: bool = True) -> list[str]:
    lexer = shlex.shlex(text, posix=posix, punctuation_chars=False)
    lexer.whitespace_split = True
    lexer.commenters = ""
    try:
        return list(lexer)
    except ValueError:  # an unclosed quote
        return text.split()


def _escape_character(dockerfile: str) -> str:
    # Directives, such as `# escape=`, are comments before anything else.
    for line in dockerfile.removeprefix("\ufeff").split("\n"):
        key, equals, value = line.strip().removeprefix("#").partition("=")
        if not line.lstrip().startswith("#") or not equals:
            break
        if key.strip().lower() == "escape":
            return value.strip() or "\\"
    return "\\"


def _global_arguments(
    instructions: Iterable[Instruction], build_args: Mapping[str, str]
) -> dict[str, str]:
    variables: dict[str, str] = {}
    for instruction in instructions:
        for word in _shell_words(instruction.value) if instruction.name == "ARG" else ():
            name, _, default = word.partition("=")
            variables[name] = build_args.get(name, _expand(default, variables))
    return variables


def _expand(text: str, variables: Mapping[str, str]) -> str:
    def value(match: re.Match[str]) -> str:
        plain = variables.get(match[1] or match[2], "")
        operator, word = match[3] or "", match[4] or ""
        if operator.endswith("-"):
            return plain or word
        if operator.endswith("+"):
            return word if plain else ""
        return plain

    return re.sub(_VARIABLE, value, text)


def _stage(instructions: Sequence[Instruction], variables: Mapping[str, str]) -> Stage:
    start, *rest = instructions
    words = [word for word in start.value.split() if not word.startswith("--")]
    if not words:
        raise DockerfileError(
            f"FROM on line {start.first_line + 1} of the Dockerfile names no image: add one"
        )
    name = words[2] if len(words) > 2 and words[1].upper() == "AS" else None  # noqa: PLR2004
    base = _expand(words[0], variables).strip("\"'")
    if not base:
        raise DockerfileError(
            f"FROM {words[0]} on line {start.first_line + 1} of the Dockerfile is empty: give the "
            "ARG a default, or a value with `build_args`"
        )
    return Stage(base, name, tuple(rest), instructions[-1].last_line)


def _parent(stages: Sequence[Stage], stage: Stage) -> Stage | None:
    """Return the earlier stage that a stage starts from, or None if that is an image."""
    before = stages[: stages.index(stage)]
    for candidate in reversed(before):
        if candidate.name and candidate.name.lower() == stage.base.lower():
            return candidate
    return None


def _history(stages: Sequence[Stage], stage: Stage, base: BaseImage) -> list[Instruction]:
    """List all instructions that the builder runs for a stage, from the base image's ONBUILD on."""
    parent = _parent(stages, stage)
    if parent is None:
        triggers = list(base.onbuild)
        history = []
    else:
        triggers = [found.value for found in parent.instructions if found.name == "ONBUILD"]
        history = _history(stages, parent, base)
    return [*history, *map(_trigger, triggers), *stage.instructions]


def _trigger(text: str) -> Instruction:
    name, _, value = text.strip().partition(" ")
    return Instruction(name.upper(), value.strip(), -1, -1)


def _last(history: Sequence[Instruction], name: str) -> Instruction | None:
    return next((found for found in reversed(history) if found.name == name), None)


def _command_words(history: Sequence[Instruction], base: BaseImage) -> list[str]:
    """List the words of the image's command that may lead to its Python, likeliest first."""
    entrypoint, command = _last(history, "ENTRYPOINT"), _last(history, "CMD")
    words = [*(_words(entrypoint.value) if entrypoint else base.entrypoint)]
    if command:
        words += _words(command.value)
    elif not entrypoint:
        words += base.command
    flat = [part for word in words for part in _shell_words(word)]
    launched = any(_is_launcher(word) for word in flat)
    return [
        *(["./.venv/bin/python"] if launched else []),
        *(word for word in flat if not _is_launcher(word) and _may_be_program(word)),
        *_LIKELY_PYTHONS,
    ]


def _words(value: str) -> list[str]:
    try:
        words = json.loads(value)
    except ValueError:
        return _shell_words(value)
    return words if isinstance(words, list) else _shell_words(value)


def _is_launcher(word: str) -> bool:
    return word.rpartition("/")[2] in _LAUNCHERS


def _may_be_program(word: str) -> bool:
    # Variables are replaced in the image; no other shell syntax may be run there.
    return not word.startswith("-") and not set(word) & set("`\"'\\()<>|&;")


def _requirements() -> list[str]:
    """Return the requirements: coverage.py in our version, wherever that runs."""
    here = metadata.distribution("coverage")
    if "dev" in here.version or "+" in here.version:
        return ["coverage", "pytest", "pytest-cov"]  # no package index has such a version
    clauses = [clause.strip() for clause in here.metadata["Requires-Python"].split(",")]
    versions = [clause.lstrip("<>=!~ ") for clause in clauses]
    supported = " and ".join(
        f"python_full_version {clause.removesuffix(version).strip()} '{version}'"
        for clause, version in zip(clauses, versions, strict=True)
    )
    # If the pin's marker does not hold, pip takes the newest version that the second one allows.
    return [f"coverage=={here.version}; {supported}", "coverage", "pytest", "pytest-cov"]


def _bake_instructions(
    rcfile: str, *, words: Sequence[str], requirements: Sequence[str], escape: str
) -> list[str]:
    program = (
        f"{_source('bake.py')}main({[*requirements]!r}, {pth_text()!r}, {_CONTAINER_RCFILE!r})"
    )
    make = f"mkdir -p {CONTAINER_DATA_DIR} && chmod 777 {CONTAINER_DATA_DIR}"
    # In one step: under a VOLUME, the classic builder drops the files after each step.
    write = f"printf '%s\\n' \"$@\" > {_CONTAINER_RCFILE} && chmod 644 {_CONTAINER_RCFILE}"
    head = ["/bin/sh", "-c", f"{make} && {write}", "rcfile"]
    return [
        _run_with_text(head, rcfile, escape),
        _run_program(_source("find_python.sh"), program, words, escape),
    ]


def _run_with_text(head: Sequence[str], text: str, escape: str) -> str:
    """Return a RUN with a text as its last arguments, one for each line, so that it is readable."""
    lines = text.removesuffix("\n").split("\n")
    arguments = [", ".join(map(json.dumps, head)), *map(json.dumps, lines)]
    separator = f", {escape}\n    "
    return f"RUN [{separator.join(arguments)}]"


def _run_program(script: str, program: str, words: Sequence[str], escape: str) -> str:
    arguments = ['"/bin/sh", "-c"', _spread(script, escape), '"hdocker"', _spread(program, escape)]
    return f"RUN [{', '.join([*arguments, *(json.dumps(word) for word in words)])}]"


def _spread(text: str, escape: str) -> str:
    """Spread a JSON string over lines, with the Dockerfile's own continuation character."""
    lines = (json.dumps(line)[1:-1] for line in text.split("\n"))
    return f'"{escape}\n' + f"\\n{escape}\n".join(lines) + '"'


def _source(name: str) -> str:
    # Builders take a line that starts with `#` for a comment, even inside of a string, and older
    # builders do not accept an empty line.
    text = resources.files("hdocker").joinpath("_inside", name).read_text(encoding="utf-8")
    kept = (line for line in text.splitlines() if line.strip() and line.lstrip()[0] != "#")
    return "\n".join(kept) + "\n"


def _restored_user(user: Instruction | None, base: BaseImage) -> list[str]:
    if user is None:
        return [f"USER {base.user}"] if base.user else []
    if "$" in user.value and user.first_line >= 0:
        return ["USER $HCOVERAGE_USER"]
    return [f"USER {user.value}"]


def _insert(dockerfile: str, after: Mapping[int, Sequence[str]]) -> str:
    lines = dockerfile.split("\n")
    escape = _escape_character(dockerfile)
    for number in sorted(after, reverse=True):
        # A continuation at the end of the file would swallow the added lines.
        lines[number] = lines[number].rstrip().removesuffix(escape)
        lines[number + 1 : number + 1] = after[number]
    return "\n".join(lines)
