"""What runs in an image's own Python while the image is built: it installs coverage.py and the hook.

`_dockerfile` renders this file's source into a RUN instruction, so it stands alone: the standard
library only, nothing newer than Python 3.8, and no output of its own but for what went wrong.
"""

import os
import shutil
import site
import subprocess
import sys
import sysconfig
import tempfile

# Settings of the image's own pip that would put the packages where its Python does not look, or
# refuse to. PEP 668 images (Debian) want to be told that this is meant; older pips ignore it.
_PIP_SETTINGS = {
    "PIP_BREAK_SYSTEM_PACKAGES": "1",
    "UV_BREAK_SYSTEM_PACKAGES": "1",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_REQUIRE_VIRTUALENV": "0",
    "PIP_ROOT_USER_ACTION": "ignore",
    "PIP_USER": "0",
}
_PIP_UNSET = ("PIP_PREFIX", "PIP_REQUIRE_HASHES", "PIP_ROOT", "PIP_TARGET")

# `start` in the hook swallows what goes wrong, so a second start is made in the open.
_FIRST_START = """
import coverage, os
if not coverage.Coverage.current():
    openly = coverage.Coverage(config_file=os.environ["COVERAGE_PROCESS_START"])
    openly.start()
    openly.stop()
    raise SystemExit("the hook in site-packages is not read (PYTHONNOUSERSITE, -S or -I?)")
"""


def main(requirements: "list[str]", hook: str, rcfile: str) -> None:
    """Make this Python measure, and see that it does.

    Args:
        requirements: What to install, as pip takes it.
        hook: The text of the `.pth` file.
        rcfile: The path that the image has its rcfile at.
    """
    with tempfile.TemporaryDirectory() as scratch:
        _install(requirements, scratch)
        _write_hook(hook)
        _start_once(rcfile, scratch)


def _install(requirements: "list[str]", scratch: str) -> None:
    environment = {**os.environ, **_PIP_SETTINGS}
    for name in _PIP_UNSET:
        environment.pop(name, None)
    pip = _find_pip(environment, scratch)
    if pip is None:
        _fail(
            "no pip for %s: add one to the Dockerfile, with `RUN apt-get update && apt-get install "
            "-y python3-pip` (Debian), `RUN apk add py3-pip` (Alpine) or `RUN %s -m ensurepip`"
            % (sys.executable, sys.executable)
        )
    if subprocess.run(
        [*pip, "install", "--no-cache-dir", *requirements], env=environment
    ).returncode:
        _fail(
            "pip could not install %s for %s; if the build does not reach the package index, give "
            'the build a network, `options=["--network", "host"]`'
            % (" ".join(requirements), sys.executable)
        )


def _find_pip(environment: "dict[str, str]", scratch: str) -> "list[str] | None":
    own = [sys.executable, "-m", "pip"]
    if _works(own, environment):
        return own
    # An environment made without pip, as uv makes them: another Python's pip, from 22.3 on, or uv.
    for python in (shutil.which("python3"), shutil.which("python"), _base_python()):
        other = [python or "", "-m", "pip", "--python", sys.executable]
        if python and _works(other, environment):
            return other
    if shutil.which("uv"):
        # uv's options come after its `install`, which the caller adds.
        environment["UV_PYTHON"] = sys.executable
        return ["uv", "pip"]
    # Last, the pip that Python carries, unpacked for this once. Debian's Python has it taken out.
    bundled = [sys.executable, "-m", "ensurepip", "--root", scratch]
    if subprocess.run(bundled, capture_output=True).returncode == 0:
        for directory, names, _ in os.walk(scratch):
            if "pip" in names:
                environment["PYTHONPATH"] = directory
                return own
    return None


def _base_python() -> str:
    version = "python%d.%d" % sys.version_info[:2]
    return shutil.which(os.path.join(sys.base_prefix, "bin", version)) or ""


def _works(pip: "list[str]", environment: "dict[str, str]") -> bool:
    return not subprocess.run([*pip, "--version"], env=environment, capture_output=True).returncode


def _write_hook(hook: str) -> None:
    # pip knows best where this Python's packages belong: beside the coverage.py that it installed.
    directories = [sysconfig.get_path("purelib"), *site.getsitepackages()]
    having = [path for path in directories if os.path.isdir(os.path.join(path, "coverage"))]
    if not having:
        _fail("coverage.py is in none of %s" % ", ".join(directories))
    path = os.path.join(having[0], "coverage.pth")
    if os.path.exists(path):
        return  # the image has one; whether it works is seen next
    with open(path, "w", encoding="utf-8") as file:
        file.write(hook)


def _start_once(rcfile: str, scratch: str) -> None:
    # A VOLUME over the data directory makes the classic builder forget what was written there.
    if not os.path.exists(rcfile):
        rcfile = os.path.join(scratch, ".coveragerc")
        with open(rcfile, "w", encoding="utf-8") as file:
            file.write("[run]\n")
    data_file = os.path.join(scratch, ".coverage")
    environment = {**os.environ, "COVERAGE_PROCESS_START": rcfile, "COVERAGE_FILE": data_file}
    command = [sys.executable, "-c", _FIRST_START]
    done = subprocess.run(command, env=environment, stderr=subprocess.PIPE, cwd=scratch)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
        _fail(
            "coverage.py does not start in %s (%s): plugins that the rcfile names must be in the "
            'image too, `packages=["…"]`' % (sys.executable, said[-1])
        )


def _fail(reason: str) -> None:
    sys.stdout.flush()
    sys.exit("hdocker: " + reason)
