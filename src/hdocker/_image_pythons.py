"""Which Pythons an image has, found out by looking into it once.

A throw-away container of the image, without a network, runs `_look_inside` in the image's own
Python. That also compiles the startup directory for each Python of the image, and shows whether
the engine sees this machine's files at all. What the container says is believed only as far as it
is a list of plausible paths.
"""

from __future__ import annotations

import importlib.resources
import json
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from hdocker._errors import CommandError, DataDirectoryError

if TYPE_CHECKING:
    from pathlib import Path

    from hdocker._engine import Engine

# What `--mount`, with its comma-separated fields, and a `.pth` take without quoting.
_PLAIN_PATH: Final = re.compile(r"/[\w.+@/-]{1,4000}")
_MOST_DIRECTORIES: Final = 200
# 126 and 127 are docker's own: the entrypoint cannot be run, or is not there.
_NO_SUCH_COMMAND: Final = (126, 127)


@dataclass(frozen=True)
class ImagePythons:
    """What measuring has to know of an image.

    Attributes:
        site_directories: The directories in it that Pythons read `.pth` files from.
        python_path: The image's own PYTHONPATH, or an empty string.
        has_python: Whether there is a Python in it that could be asked.
    """

    site_directories: tuple[str, ...]
    python_path: str
    has_python: bool


def look_into(
    engine: Engine, image: str, config: dict[str, Any], startup: Path, place: str
) -> ImagePythons:
    """Find out which Pythons an image has, and compile the startup directory for each.

    Args:
        engine: The engine that has the image.
        image: The image.
        config: What the engine knows of it.
        startup: The startup directory for containers.
        place: Where containers have it.

    Raises:
        DataDirectoryError: The engine does not see this machine's files.
        EngineError: The engine cannot be asked.
    """
    variables = dict(line.partition("=")[::2] for line in config.get("Env") or ())
    python_path = str(variables.get("PYTHONPATH", ""))
    for command in ("python3", "python"):
        answer = _ask(engine, image, command, startup, place)
        if answer is not None:
            if answer.get("startup") is not True:
                raise DataDirectoryError(
                    f"the {engine.name} engine does not see this machine's files ({startup} is "
                    "empty in a container): run the tests on the engine's own machine; where "
                    "SELinux keeps containers out, point TMPDIR at a directory they may read"
                )
            directories = _plausible(answer.get("site_directories"))
            return ImagePythons(directories, python_path, has_python=True)
    return ImagePythons((), python_path, has_python=False)


def _ask(
    engine: Engine, image: str, command: str, startup: Path, place: str
) -> dict[str, Any] | None:
    source = importlib.resources.files("hdocker").joinpath("_look_inside.py").read_text("utf-8")
    try:
        said = engine.run(
            "run",
            "--rm",
            *("--network", "none"),
            # What it compiles has to be ours to remove.
            *("--user", f"{os.getuid()}:{os.getgid()}"),
            *("--env", "HCOVERAGE_SESSION=", "--env", "COVERAGE_PROCESS_START="),
            *("--volume", f"{startup}:{place}"),
            *("--entrypoint", command),
            image,
            *("-I", "-c", source, place),
        )
    except CommandError as error:
        if error.returncode in _NO_SUCH_COMMAND:
            return None
        raise
    return _parse(said)


def _parse(said: str) -> dict[str, Any]:
    lines = said.strip().splitlines()
    try:
        answer = json.loads(lines[-1]) if lines else None
    except ValueError:
        answer = None
    return answer if isinstance(answer, dict) else {"startup": True}


def _plausible(directories: object) -> tuple[str, ...]:
    if not isinstance(directories, list):
        return ()
    plain = [each for each in directories if isinstance(each, str) and _PLAIN_PATH.fullmatch(each)]
    return tuple(plain[:_MOST_DIRECTORIES])
