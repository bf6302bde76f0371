"""Runs in an image's own Python: finds the image's Pythons, and compiles the startup files.

`image_pythons` passes this file's source to a throw-away container, so it stands alone: the
standard library only, nothing newer than Python 3.8, and only the answer on stdout, as JSON in the
last line.
"""

import contextlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

_NOT_FILES = ("/proc", "/sys", "/dev", "/run")
_MOST_DIRECTORIES = 500_000

# A Python can compile only for itself. The startup files are compiled without docstrings, which
# every process would have to load.
_PREPARE = """
import compileall, glob, importlib.util, json, os, py_compile, sys, sysconfig
startup = sys.argv[1]
files = glob.glob(os.path.join(startup, "*.py")) + glob.glob(os.path.join(startup, "*/__init__.py"))
for file in files:
    try:
        py_compile.compile(file, importlib.util.cache_from_source(file), doraise=True, optimize=2)
    except (OSError, py_compile.PyCompileError):
        pass
library = os.path.join(startup, "lib-%d.%d" % sys.version_info[:2])
if os.path.isdir(library):
    compileall.compile_dir(library, quiet=2)
try:
    glibc = os.confstr("CS_GNU_LIBC_VERSION")
except (OSError, ValueError):
    glibc = None
standard = sysconfig.get_path("stdlib")
print(json.dumps({
    # A package there comes before a module.
    "library": "" if glob.glob(standard + "/sitecustomize/__init__.*") else standard,
    "version": sys.version_info[:2],
    "soabi": sysconfig.get_config_var("SOABI") or "",
    "libc": "glibc" if glibc else "musl",
}))
"""


def main(startup: str, *interpreters: str) -> None:
    """Print what is here, and compile the startup directory for each Python.

    Args:
        startup: Where the startup directory is mounted.
        interpreters: The Pythons, if they are known; otherwise this searches for them.
    """
    directories: set[str] = set()
    found = set(interpreters)
    if not found:
        directories, found = _find(startup)
    ready = Path(startup, "_hcoverage_process.py").exists()
    answer = {
        "startup": ready,
        "own": os.path.realpath(sys.executable),
        "site_directories": sorted(directories),
        "interpreters": list(_prepare(startup, sorted(found))) if ready else [],
    }
    sys.stdout.write(json.dumps(answer))


def _find(startup: str) -> "tuple[set[str], set[str]]":
    directories: set[str] = set()
    interpreters = {os.path.realpath(sys.executable)}
    skipped = (startup, *_NOT_FILES)
    for count, (name, children, files) in enumerate(os.walk("/")):
        if count > _MOST_DIRECTORIES:
            break
        directory = Path(name)
        children[:] = [child for child in children if str(directory / child) not in skipped]
        if directory.name.startswith("python"):
            packages = {"site-packages", "dist-packages"}.intersection(children)
            directories.update(os.path.realpath(directory / package) for package in packages)
        if directory.name == "bin":
            for path in (directory / file for file in files):
                if re.match(r"python3\.[0-9]+$", path.name) and os.access(path, os.X_OK):
                    interpreters.add(os.path.realpath(path))
    return directories, interpreters


def _prepare(startup: str, interpreters: "Iterable[str]") -> "Iterator[dict[str, Any]]":
    for interpreter in interpreters:
        command = [interpreter, "-I", "-c", _PREPARE, startup]
        # The interpreter is for another machine, or lacks a library.
        with contextlib.suppress(OSError, ValueError, IndexError, subprocess.CalledProcessError):
            said = subprocess.check_output(
                command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            # A `.pth` file or a `sitecustomize` of the image may have said something before.
            yield {"path": interpreter, **json.loads(said.decode().splitlines()[-1])}


if __name__ == "__main__":
    main(*sys.argv[1:])
