"""Runs in an image's own Python while the image is built: installs coverage.py and the hook.

`dockerfile` puts this file's source into a RUN instruction, so it stands alone: the standard
library only, nothing newer than Python 3.8, and no output except errors.
"""

import os
import shutil
import site
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import NoReturn

# These override settings of the image's own pip that would install to where its Python does not
# look, or refuse to install. PEP 668 images (Debian) need to be told; older pips ignore that.
_PIP_SETTINGS = {
    "PIP_BREAK_SYSTEM_PACKAGES": "1",
    "UV_BREAK_SYSTEM_PACKAGES": "1",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_REQUIRE_VIRTUALENV": "0",
    "PIP_ROOT_USER_ACTION": "ignore",
    "PIP_USER": "0",
}
_PIP_UNSET = ("PIP_PREFIX", "PIP_REQUIRE_HASHES", "PIP_ROOT", "PIP_TARGET")

# The hook's `start` hides errors, so this starts measuring again, with errors shown.
_FIRST_START = """
import coverage, os
if not coverage.Coverage.current():
    openly = coverage.Coverage(config_file=os.environ["COVERAGE_PROCESS_START"])
    openly.start()
    openly.stop()
    raise SystemExit("the hook in site-packages is not read (PYTHONNOUSERSITE, -S or -I?)")
"""


def main(requirements: "list[str]", hook: str, rcfile: str) -> None:
    """Make this Python measure, and check that it does.

    Args:
        requirements: The requirements for pip.
        hook: The text of the `.pth` file.
        rcfile: The path of the rcfile in the image.
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
            f"no pip for {sys.executable}: add one to the Dockerfile, with `RUN apt-get update && "
            "apt-get install -y python3-pip` (Debian), `RUN apk add py3-pip` (Alpine) or "
            f"`RUN {sys.executable} -m ensurepip`"
        )
    command = [*pip, "install", "--no-cache-dir", *requirements]
    if subprocess.run(command, env=environment, check=False).returncode:
        _fail(
            f"pip could not install {', '.join(requirements)} for {sys.executable}; if the build "
            'does not reach the package index, give it a network, `options=["--network", "host"]`'
        )


def _find_pip(environment: "dict[str, str]", scratch: str) -> "list[str] | None":
    own = [sys.executable, "-m", "pip"]
    if _works(own, environment):
        return own
    # For an environment without pip, like those of uv: another Python's pip, from 22.3 on, or uv.
    for python in (shutil.which("python3"), shutil.which("python"), _base_python()):
        other = [python or "", "-m", "pip", "--python", sys.executable]
        if python and _works(other, environment):
            return other
    if shutil.which("uv"):
        # By variable: uv's options must come after `install`, which the caller adds.
        environment["UV_PYTHON"] = sys.executable
        return ["uv", "pip"]
    # Last: Python's bundled pip, unpacked for this once. Debian removes it.
    bundled = [sys.executable, "-m", "ensurepip", "--root", scratch]
    if not subprocess.run(bundled, capture_output=True, check=False).returncode:
        for found in Path(scratch).rglob("pip/__main__.py"):
            environment["PYTHONPATH"] = str(found.parent.parent)
            return own
    return None


def _base_python() -> str:
    version = "{}.{}".format(*sys.version_info[:2])
    return shutil.which(f"{sys.base_prefix}/bin/python{version}") or ""


def _works(pip: "list[str]", environment: "dict[str, str]") -> bool:
    command = [*pip, "--version"]
    return not subprocess.run(command, env=environment, capture_output=True, check=False).returncode


def _write_hook(hook: str) -> None:
    # First where pip put coverage.py: it knows best where this Python's packages belong.
    directories = [sysconfig.get_path("purelib"), *site.getsitepackages()]
    having = [Path(path) for path in directories if Path(path, "coverage").is_dir()]
    if not having:
        _fail(f"coverage.py was installed, but into none of {', '.join(directories)}")
    path = having[0] / "coverage.pth"
    # The image may have a hook already; the check below shows whether it works.
    if not path.exists():
        path.write_text(hook, encoding="utf-8")


def _start_once(rcfile: str, scratch: str) -> None:
    if not Path(rcfile).exists():
        # With a VOLUME over the data directory, the classic builder drops files written there.
        rcfile = f"{scratch}/.coveragerc"
        Path(rcfile).write_text("[run]\n", encoding="utf-8")
    environment = {
        **os.environ,
        "COVERAGE_PROCESS_START": rcfile,
        "COVERAGE_FILE": f"{scratch}/.coverage",
    }
    command = [sys.executable, "-c", _FIRST_START]
    done = subprocess.run(
        command, env=environment, stderr=subprocess.PIPE, cwd=scratch, check=False
    )
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
        _fail(
            f"coverage.py does not start in {sys.executable} ({said[-1]}); plugins that the rcfile "
            'names must be in the image too, `packages=["…"]`'
        )


def _fail(reason: str) -> NoReturn:
    sys.stdout.flush()
    # Joined only here: a builder that echoes this source must not seem to report a reason.
    name = "hdocker"
    sys.exit(f"{name}: {reason}")
