"""Fetches coverage.py, with its compiled tracer, for an image's Python without recorder.

A bundle is an unpacked wheel of the newest release that runs on that Python, for its libc and
machine. pip fetches it from the index that the user has configured, and checks its hash, which is
in `coverage_wheels.toml` (`dev/pin-coverage` writes that). It is fetched once and stays in the
user's cache directory. Containers compile copies of it, so only we write there.
"""

from __future__ import annotations

import functools
import importlib.resources
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hcoverage import unmeasured_environment
from hdocker._errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hdocker._inject.image_pythons import Interpreter

# The tag in the names of CPython's extension modules. Before 3.11 it says "gnu" for musl, too.
_SOABI: Final = r"cpython-3[0-9]+-(?P<machine>x86_64|aarch64)-linux-(gnu|musl)"
# The oldest platforms for which pip accepts all of our wheels.
_PLATFORMS: Final = {"glibc": "manylinux2014", "musl": "musllinux_1_2"}
_PATIENCE: Final = 45  # seconds; without a name server each look-up takes ten or more
_PIP_OPTIONS: Final = (
    *("install", "--quiet", "--no-input", "--disable-pip-version-check"),
    *("--no-deps", "--no-compile", "--only-binary", ":all:", "--require-hashes"),
    *("--retries", "1", "--timeout", "15", "--implementation", "cp"),
)


def coverage_bundle(python: Interpreter, *, may_fetch: bool = True) -> Path:
    """Return the directory of the package `coverage` for a Python of an image.

    Args:
        python: The Python.
        may_fetch: Whether it may be fetched, which takes time, if the cache does not have it.

    Returns:
        The directory, in the user's cache.

    Raises:
        BundleError: There is no wheel for it, or it cannot be fetched or kept.
    """
    machine = _machine(python)
    release: Mapping[str, str] = _releases().get(python.name, {})
    digest = release.get(f"{python.libc}-{machine}")
    if digest is None:
        raise BundleError(
            f"there is no wheel of coverage.py for {python.soabi or python.path} ({python.libc})"
        )
    version = release["version"]
    place = _cache_directory() / f"coverage-{version}-{python.name}-{python.libc}-{machine}"
    if not place.is_dir():
        if not may_fetch:
            raise BundleError(
                f"coverage.py {version} for it is not here yet, which `hcov doctor` with the "
                "image's name fetches once"
            )
        platform = f"{_PLATFORMS[python.libc]}_{machine}"
        try:
            _make(place, f"coverage=={version} --hash={digest}", python.name, platform)
        except OSError as error:
            raise BundleError(
                f"coverage.py {version} cannot be kept in {place.parent} ({error.strerror}): "
                "set XDG_CACHE_HOME to a directory that can be written"
            ) from error
    return place / "coverage"


def _machine(python: Interpreter) -> str:
    found = re.fullmatch(_SOABI, python.soabi)
    return found["machine"] if found else ""


@functools.cache
def _releases() -> dict[str, Any]:
    file = importlib.resources.files("hdocker").joinpath("_inject", "coverage_wheels.toml")
    return tomllib.loads(file.read_text("utf-8"))


def _cache_directory() -> Path:
    # The XDG specification says to ignore a relative path.
    chosen = os.environ.get("XDG_CACHE_HOME", "")
    return Path(chosen if chosen.startswith("/") else Path.home() / ".cache") / "hcoverage"


def _make(place: Path, requirement: str, version: str, platform: str) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent) as scratch:
        requirements = Path(scratch, "requirements.txt")
        requirements.write_text(requirement, encoding="utf-8")
        made = Path(scratch, "made")
        _install(requirements, made, version, platform)
        try:
            made.rename(place)
        except OSError:
            # Another process was first.
            if not place.is_dir():
                raise


def _install(requirements: Path, target: Path, version: str, platform: str) -> None:
    options = ("--python-version", version, "--platform", platform, "--target", str(target))
    wanted = requirements.read_text("utf-8").partition(" ")[0]
    try:
        done = subprocess.run(
            [*_pip(), *_PIP_OPTIONS, *options, "--requirement", str(requirements)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            # pip refuses `--target` if the user's pip.conf has `user = true`.
            env={**unmeasured_environment(os.environ), "PIP_USER": "0"},
            timeout=_PATIENCE,
        )
    except subprocess.TimeoutExpired as error:
        raise BundleError(
            f"pip could not fetch {wanted} for Python {version} in {_PATIENCE} s"
        ) from error
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")]
        reason = said[-1].removeprefix("ERROR:").strip() if said else done.stderr.strip()[-500:]
        raise BundleError(f"pip could not fetch {wanted} for Python {version}: {reason}")


def _pip() -> list[str]:
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    # It may be the pip of another Python: any pip can fetch for any Python.
    found = shutil.which("pip3") or shutil.which("pip")
    if found is None:
        raise BundleError("there is no pip here to fetch coverage.py with: install pip")
    return [found]
