"""Finds the Pythons that a test run may start, and asks each what it has.

It only looks: a Python that is asked writes nothing and is not measured. `check_interpreter` draws
the conclusions.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hcoverage._session import hook
from hcoverage._settings.environment import unmeasured_environment

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_NAME: Final = r"python(3(\.[0-9]+)?)?"
_MOST: Final = 40
_AT_ONCE: Final = 4
_PATIENCE: Final = 30.0  # seconds

# Any version of Python may run this.
_QUESTION: Final = """
import json, sys
facts = {"version": list(sys.version_info[:3]), "prefix": sys.prefix, "executable": sys.executable}
facts.update(site_directories=[], user_directory="", coverage="", in_environment=False)
try:
    import site
    facts["site_directories"] = site.getsitepackages()
    if site.ENABLE_USER_SITE:
        facts["user_directory"] = site.getusersitepackages()
    facts["in_environment"] = sys.prefix != sys.base_prefix
except Exception:
    pass
try:
    import coverage
    facts["coverage"] = coverage.__version__
except Exception:
    facts["coverage_error"] = "%s: %s" % sys.exc_info()[:2]
print(json.dumps(facts))
"""


@dataclasses.dataclass(frozen=True)
class Hook:
    """A file in site-packages that may start coverage.py or us as Python starts.

    Attributes:
        path: The file.
        kind: `ours`, `ours for a run`, `coverage.py's` or `other`.
    """

    path: Path
    kind: str


@dataclasses.dataclass(frozen=True)
class Interpreter:
    """A Python on this machine.

    Attributes:
        path: Its path.
        is_own: Whether it runs hcov.
        is_target: Whether tests will run in it: it runs hcov, or its environment is active.
        error: Why it could not be asked; then all the following is empty.
        version: Its version.
        coverage: The version of coverage.py in it, or an empty string.
        coverage_error: Why coverage.py cannot be imported.
        user_directory: The user's own site-packages, or an empty string if there is none.
        site_directories: All directories that it reads `.pth` files from, the user's own last.
        writable_directory: The first of them that we can write to.
        in_environment: Whether it belongs to a virtual environment.
        hooks: The hooks in those directories.
        is_held: Whether a running session holds our hook.
    """

    path: str
    is_own: bool = False
    is_target: bool = False
    error: str = ""
    version: tuple[int, ...] = ()
    coverage: str = ""
    coverage_error: str = ""
    user_directory: str = ""
    site_directories: tuple[Path, ...] = ()
    writable_directory: Path | None = None
    in_environment: bool = False
    hooks: tuple[Hook, ...] = ()
    is_held: bool = False

    @property
    def name(self) -> str:
        """Its name in messages: version and path."""
        version = ".".join(map(str, self.version))
        return f"Python {version} ({self.path})" if version else self.path


def find_interpreters(environment: Mapping[str, str] = os.environ) -> list[Interpreter]:
    """Find the Python that runs this, that of the active environment and those on PATH.

    Args:
        environment: Where PATH, VIRTUAL_ENV and CONDA_PREFIX are looked up.

    Returns:
        The Pythons in this order, each once.
    """
    active = [
        str(Path(environment[name]) / "bin" / "python")
        for name in ("VIRTUAL_ENV", "CONDA_PREFIX")
        if environment.get(name)
    ]
    paths = list(dict.fromkeys([sys.executable, *active, *_on_path(environment)]))[:_MOST]
    asked = _ask_all(paths, environment)
    found: dict[object, Interpreter] = {}
    for path, facts in zip(paths, asked, strict=True):
        if isinstance(facts, str):
            if path in active:
                found[path] = Interpreter(path, is_target=True, error=facts)
            continue  # such as pyenv's shim for a Python that is not selected
        key = (facts["prefix"], *facts["version"])
        own, target = path == sys.executable, path in (sys.executable, *active)
        if key not in found:
            found[key] = _interpreter(facts, path, is_own=own, is_target=target)
        elif target:
            found[key] = dataclasses.replace(found[key], is_target=True)
    return list(found.values())


def _on_path(environment: Mapping[str, str]) -> Iterator[str]:
    for entry in environment.get("PATH", os.defpath).split(os.pathsep):
        try:
            names = sorted(os.listdir(entry or "."))  # noqa: PTH208 - names are all it takes
        except OSError:
            continue
        for name in names:
            path = os.path.join(entry, name)  # noqa: PTH118
            if re.fullmatch(_NAME, name) and os.access(path, os.X_OK):
                yield path


def _ask_all(paths: list[str], environment: Mapping[str, str]) -> list[dict[str, Any] | str]:
    unmeasured = {**unmeasured_environment(environment), "PYTHONDONTWRITEBYTECODE": "1"}
    with concurrent.futures.ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(lambda path: _ask(path, unmeasured), paths))


def _ask(path: str, environment: Mapping[str, str]) -> dict[str, Any] | str:
    """Ask an interpreter for its facts; return a string that says why, if it does not answer."""
    try:
        done = subprocess.run(
            [path, "-B", "-c", _QUESTION],
            env=environment,
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PATIENCE,
            check=False,
        )
        facts = json.loads(done.stdout.splitlines()[-1]) if done.stdout else None
    except (OSError, subprocess.TimeoutExpired, ValueError) as error:
        return str(error)
    if not isinstance(facts, dict):
        return done.stderr.strip().rpartition("\n")[2] or f"exit status {done.returncode}"
    return facts


def _interpreter(
    facts: Mapping[str, Any], path: str, *, is_own: bool, is_target: bool
) -> Interpreter:
    user = str(facts["user_directory"])
    directories = tuple(
        map(Path, dict.fromkeys([*facts["site_directories"], *filter(None, [user])]))
    )
    hooks: list[Hook] = []
    is_held = False
    for directory in directories:
        with contextlib.suppress(OSError), hook.alone_in(directory):  # there is none
            hooks += _hooks(directory)
            is_held |= hook.is_held(directory)
    return Interpreter(
        # Not the path of a shim that starts it.
        path=path if is_target else str(facts["executable"] or path),
        is_own=is_own,
        is_target=is_target,
        version=tuple(facts["version"]),
        coverage=str(facts["coverage"]),
        coverage_error=str(facts.get("coverage_error", "")),
        user_directory=user,
        site_directories=directories,
        writable_directory=next(filter(_is_writable, directories), None),
        in_environment=bool(facts["in_environment"]),
        hooks=tuple(hooks),
        is_held=is_held,
    )


def _is_writable(directory: Path) -> bool:
    while not directory.exists():
        directory = directory.parent
    return os.access(directory, os.W_OK)


def _hooks(directory: Path) -> Iterator[Hook]:
    for path in sorted(directory.glob("*.pth")):
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        kind = hook.kind_of(path, text)
        if kind:
            yield Hook(path, kind)
