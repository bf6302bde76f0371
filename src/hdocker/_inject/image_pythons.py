"""Finds out once which Pythons an image has.

A throw-away container of the image, without a network, runs `look_inside` in the image's own
Python. That program also compiles the startup directory for each Python of the image, and shows
whether the engine sees this machine's files. The container's answer is not trusted: only plausible
paths and versions are taken from it.
"""

from __future__ import annotations

import importlib.resources
import json
import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from hdocker._engine.visibility import why_not_seen
from hdocker._errors import CommandError, DataDirectoryError
from hdocker._inject.added import OWN_LABEL
from hdocker._inject.volumes import USER

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from hdocker._engine.engine import Engine
    from hdocker._inject.volumes import Volumes

# Paths that text can hold; what an option or a file needs besides is quoted there.
_PATH: Final = r"/[^\x00-\x1f\x7f\ud800-\udfff]{1,4000}"
_MOST_DIRECTORIES: Final = 200
_MOST_INTERPRETERS: Final = 50
_PYTHON_NAME: Final = r"python[0-9.]*"
_SOABI: Final = r"[\w.-]{0,100}"
# docker itself exits with 126 and 127: it cannot run the entrypoint, or there is none. A Python
# that is too old for the program exits with 1, and so does a shell that found no Python.
_NO_ANSWER: Final = (1, 126, 127)
# Names that a shell in the image tries, too.
_OTHER_NAMES: Final = tuple(f"python3.{minor}" for minor in range(20, 7, -1))


@dataclass(frozen=True)
class Interpreter:
    """A Python of an image.

    Attributes:
        path: Its path in the image.
        version: Its version, such as (3, 8).
        soabi: The tag in the names of compiled modules that it can load (`SOABI`).
        libc: `glibc` or `musl`.
        is_default: Whether the image's command or `python3` runs it.
        library: The directory of its standard library; empty if nothing can be added to that.
    """

    path: str
    version: tuple[int, int]
    soabi: str
    libc: str
    is_default: bool = False
    library: str = ""

    @property
    def name(self) -> str:
        """The version as text, such as `3.8`."""
        return "{}.{}".format(*self.version)


@dataclass(frozen=True)
class ImagePythons:
    """The Pythons of an image, and where they look for modules.

    Attributes:
        site_directories: The directories from which they read `.pth` files.
        python_path: The image's own PYTHONPATH, or an empty string.
        interpreters: The Pythons; empty if there is none, or none could be asked.
    """

    site_directories: tuple[str, ...]
    python_path: str
    interpreters: tuple[Interpreter, ...]


@dataclass(frozen=True)
class Look:
    """Looks into an image by a container that has the image's startup directory.

    Attributes:
        engine: The engine that has the image.
        image: The image.
        startup: The startup directory for the image's containers, on this machine.
        place: Its path in containers.
        volumes: The volumes for it, if the engine does not see this machine's files.
        data_dir: The data directory.
    """

    engine: Engine
    image: str
    startup: Path
    place: str
    data_dir: Path
    volumes: Volumes | None = None

    def find_pythons(self, config: Mapping[str, Any]) -> ImagePythons:
        """Find out which Pythons the image has, and compile the startup directory for each.

        Args:
            config: The image's `Config`, as the engine shows it.

        Raises:
            DataDirectoryError: The engine does not see this machine's files.
            EngineError: The engine cannot be asked.
        """
        variables = dict(line.partition("=")[::2] for line in config.get("Env") or ())
        python_path = str(variables.get("PYTHONPATH", ""))
        words = [str(word) for key in ("Entrypoint", "Cmd") for word in config.get(key) or ()]
        for command in _commands(words, _program(self.place)):
            answer = self._run(command)
            if answer is None:
                continue
            if answer.get("startup") is not True:
                raise DataDirectoryError(
                    f"containers of the {self.engine.name} engine do not see this machine's "
                    f"files ({self.startup} is empty in one): {why_not_seen(self.engine)}"
                )
            directories = _plausible_directories(answer.get("site_directories"))
            interpreters = _plausible_interpreters(answer.get("interpreters"), answer.get("own"))
            return ImagePythons(directories, python_path, interpreters)
        return ImagePythons((), python_path, ())

    def carry(self) -> None:
        """Copy the startup directory to the engine, if that does not see this machine's files.

        Raises:
            EngineError: The engine cannot be asked.
        """
        if self.volumes:
            self.volumes.carry(self.startup, self.data_dir)

    def compile_again(self, interpreters: Sequence[Interpreter]) -> None:
        """Compile what was added to the startup directory since, for some of the Pythons.

        Raises:
            EngineError: The engine cannot be asked.
        """
        self.carry()
        program = _program(self.place, *(each.path for each in interpreters))
        self._run([interpreters[0].path, "-I", "-c", program])

    def _run(self, command: Sequence[str]) -> dict[str, Any] | None:
        entrypoint, *arguments = command
        # As our user, so that we can remove what it compiles.
        user = USER if self.volumes else self.engine.own_user()
        startup = self.volumes.startup if self.volumes else str(self.startup)
        try:
            said = self.engine.run(
                "run",
                "--rm",
                *("--label", OWN_LABEL),
                *("--network", "none"),
                *("--user", user),
                *("--env", "HCOVERAGE_SESSION=", "--env", "COVERAGE_PROCESS_START="),
                *("--volume", f"{startup}:{self.place}"),
                *("--entrypoint", entrypoint),
                self.image,
                *arguments,
            )
        except CommandError as error:
            if error.returncode in _NO_ANSWER:
                return None
            raise
        return _parse(said)


def _commands(words: Sequence[str], program: str) -> Iterator[list[str]]:
    """Yield commands that may run a program in an image's Python, likeliest first."""
    named = [word for word in words if re.fullmatch(_PYTHON_NAME, PurePosixPath(word).name)]
    for python in dict.fromkeys([*named, "python3", "python"]):
        yield [python, "-I", "-c", program]
    yield ["sh", "-c", _source("find_python.sh"), "sh", program, *words, *_OTHER_NAMES]


def _program(place: str, *interpreters: str) -> str:
    # The arguments are part of the program, since `find_python.sh` passes none on.
    arguments = ["look_inside", place, *interpreters]
    return f"import sys; sys.argv = {arguments!r}\n{_source('look_inside.py')}"


def _source(name: str) -> str:
    return importlib.resources.files("hdocker").joinpath("_inside", name).read_text("utf-8")


def _parse(said: str) -> dict[str, Any]:
    lines = said.strip().splitlines()
    try:
        answer = json.loads(lines[-1]) if lines else None
    except ValueError:
        answer = None
    return answer if isinstance(answer, dict) else {"startup": True}


def _plausible_directories(directories: object) -> tuple[str, ...]:
    paths = [each for each in _list(directories) if _is_path(each)]
    return tuple(paths[:_MOST_DIRECTORIES])


def _plausible_interpreters(answers: object, own: object) -> tuple[Interpreter, ...]:
    found = []
    for answer in _list(answers)[:_MOST_INTERPRETERS]:
        match answer:
            case {
                "path": str(path),
                "version": [int(major), int(minor)],
                "soabi": str(soabi),
                "libc": "glibc" | "musl" as libc,
            } if _is_path(path) and re.fullmatch(_SOABI, soabi):
                said = answer.get("library")
                library = str(said) if _is_path(said) else ""
                version = (major, minor)
                found.append(Interpreter(path, version, soabi, libc, path == own, library))
    return tuple(found)


def _list(answer: object) -> list[Any]:
    return answer if isinstance(answer, list) else []


def _is_path(path: object) -> bool:
    return isinstance(path, str) and bool(re.fullmatch(_PATH, path))
