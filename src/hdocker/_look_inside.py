"""What runs in an image's own Python to find out which Pythons the image has, and to get ready.

`_image_pythons` hands this file's source to a throw-away container, so it stands alone: the
standard library only, nothing newer than Python 3.8, and on stdout the answer alone, as JSON in the
last line.
"""

import contextlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

_NOT_FILES = ("/proc", "/sys", "/dev", "/run")
_MOST_DIRECTORIES = 500_000

# Without docstrings, which every process would load. Each Python can compile for itself alone.
_COMPILE = """
import compileall, glob, importlib.util, os, py_compile, sys
for file in glob.glob(os.path.join(sys.argv[1], "*.py")):
    try:
        py_compile.compile(file, importlib.util.cache_from_source(file), doraise=True, optimize=2)
    except (OSError, py_compile.PyCompileError):
        pass
if sys.version_info < (3, 12):
    compileall.compile_dir(os.path.join(sys.argv[1], "lib"), quiet=2)
"""


def main(startup: str) -> None:
    """Tell what is here, and compile the startup directory for each Python.

    Args:
        startup: Where the startup directory is mounted.
    """
    directories, interpreters = _find(startup)
    ready = Path(startup, "_hcoverage_process.py").exists()
    if ready:
        for interpreter in sorted(interpreters):
            with contextlib.suppress(OSError):  # it is for another machine, or lacks a library
                command = [interpreter, "-I", "-c", _COMPILE, startup]
                subprocess.call(command, stdin=subprocess.DEVNULL)
    sys.stdout.write(json.dumps({"startup": ready, "site_directories": sorted(directories)}))


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


if __name__ == "__main__":
    main(sys.argv[1])
