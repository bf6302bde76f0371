"""A project whose code is in a container, in each place where images have it, measured in each way.

One image for each Python has the code in all of these places; a container runs it in one of them.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import hcoverage
import hdocker
from hcov._commands.run import Options, environment_of, finish, tell_start

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import pytest
    from tests.report.measuring import Environment

# The machine may be busy.
_LIMIT: Final = 200.0  # seconds
ORDINARY_UMASK: Final = 0o022

MAIN: Final = """\
import sys

from shop.cart import total
from shop.sub import deep


def main() -> int:
    print("sold", total([2, -1]), deep.name())
    if "again" in sys.argv:
        print("again")
    return 0
"""
CART: Final = """\
def total(prices):
    result = 0
    for price in prices:
        if price < 0:
            continue
        result += price
    return result


def empty(prices):
    if prices:
        return False
    return True
"""
FILES: Final = {
    "pyproject.toml": """\
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "shop"
version = "1.0"
scripts = { shop = "shop.main:main" }
""",
    "manage.py": "print('not run')\n",
    "src/shop/__init__.py": '"""The package."""\n',
    "src/shop/__main__.py": "import sys\n\nfrom shop.main import main\n\nsys.exit(main())\n",
    "src/shop/main.py": MAIN,
    "src/shop/cart.py": CART,
    "src/shop/never.py": "import os\n\n\ndef home():\n    return os.environ['HOME']\n",
    "src/shop/sub/__init__.py": "",
    "src/shop/sub/deep.py": "def name():\n    return __name__\n",
    "tests/__init__.py": "",
    "tests/test_main.py": "from shop.main import main\n\n\ndef test_main():\n    main()\n",
}
SAYS: Final = "sold 2 shop.sub.deep\n"

# What pip does, where the image has pip and what builds; where it has not, what pip leaves.
_INSTALL: Final = """\
RUN if python3 -c 'import pip, setuptools'; then \\
        cp -r /app /tmp/app && cd /tmp/app && python3 -m pip install --break-system-packages \\
            --no-deps --no-build-isolation . && rm -r /tmp/app; \\
    else python3 /copy.py; fi
"""
# The Python of `newer` was copied without its pip, and Debian's does not run on it.
_GET_PIP: Final = """\
RUN python3 -m pip --version || { /usr/bin/python3 -m pip download --no-deps --dest /tmp pip \\
    && PYTHONPATH=$(echo /tmp/pip-*) python3 -m pip install --no-cache-dir /tmp/pip-*; }
"""
_COPY: Final = """\
import os, shutil, sys, sysconfig
shutil.copytree("/app/src/shop", sysconfig.get_path("purelib") + "/shop")
script = sysconfig.get_path("scripts") + "/shop"
with open(script, "w") as file:
    program = ["import sys", "from shop.main import main", "sys.exit(main())"]
    file.write("\\n".join([f"#!{sys.executable}", *program, ""]))
os.chmod(script, 0o755)
"""
# Somebody else's package, which each Python there imports; a module of it has a name of ours.
_OTHERS: Final = """\
import pathlib, sysconfig
site = pathlib.Path(sysconfig.get_path("purelib"))
site.joinpath("others").mkdir()
site.joinpath("others", "__init__.py").write_text("")
site.joinpath("others", "cart.py").write_text("theirs = 1\\n")
site.joinpath("zz_others.pth").write_text("import others.cart\\n")
"""
_DOCKERFILE: Final = f"""\
FROM {{python}}
{{first}}
COPY project /app
COPY project/src /code
COPY project /srv/app
COPY copy.py others.py /
RUN python3 /others.py
{_INSTALL}
RUN python3 -m venv --without-pip /opt/venv && /opt/venv/bin/python /copy.py
WORKDIR /app
LABEL hcoverage-matrix={{name}}
"""


@dataclass(frozen=True)
class Placement:
    """A place where containers have the code, and how they run it there.

    Attributes:
        name: What to call it.
        options: Of `docker run`; `<here>` is the project's directory.
        command: What the container runs.
        umask: Under which the one who measures works.
        baked: The Python that is measured where coverage.py is in the image.
    """

    name: str
    options: Sequence[str]
    command: Sequence[str] = ("python3", "-m", "shop")
    umask: int = ORDINARY_UMASK
    baked: str | None = None

    @property
    def kind(self) -> str:
        """What it is one of, as `mounted`: how its paths get here is the same for all of a kind."""
        return self.name.partition("-")[0]

    @property
    def is_script(self) -> bool:
        """Whether the program is started by a script that is not the project's."""
        return "-m" not in self.command


def _at(directory: str, path: str, *more: str) -> tuple[str, ...]:
    return ("-w", directory, "-e", f"PYTHONPATH={path}", *more)


_VENV: Final = "/opt/venv/bin/python"
PLACEMENTS: Final = (
    Placement("workdir", _at("/app", "src")),
    Placement("flat", _at("/", "/code")),
    Placement("whole", _at("/", "/srv/app/src")),
    Placement("installed", ("-w", "/")),
    Placement("installed-script", ("-w", "/"), ("shop",)),
    Placement("venv", ("-w", "/"), (_VENV, "-m", "shop"), baked=_VENV),
    Placement("venv-script", ("-w", "/app"), ("/opt/venv/bin/shop",), baked=_VENV),
    Placement("mounted", _at("/work", "/work/src", "-v", "<here>:/work")),
    Placement("mounted-flat", _at("/", "/lib/shop", "-v", "<here>/src:/lib/shop:ro")),
    Placement("mounted-same", _at("<here>", "<here>/src", "-v", "<here>:<here>")),
    Placement("host-network", _at("/", "/app/src", "--network", "host")),
    Placement("another-user", _at("/app", "/app/src", "--user", "1000:1000"), umask=0o077),
)

RCFILES: Final[Mapping[str, str | None]] = {
    "none": None,
    "init": "",  # by `hcov init`
    "dot": "[run]\nsource = .\n",
    "src": "[run]\nsource = src\n",
    "absolute": "[run]\nsource = <here>/src\n",
    "directory": "[run]\nsource = src/shop\n",
    "import-name": "[run]\nsource = shop\n",
    "source-pkgs": "[run]\nsource_pkgs = shop\n",
}


@dataclass(frozen=True)
class Way:
    """How containers are measured.

    Attributes:
        name: What to call it.
        image: The image, see `Images`.
        script: A program in Python, whose arguments are those of `docker run`; without one it is
            `docker run` itself, in a session as `hcov run` opens it.
        branch: Whether branches are measured.
        helper: Whether a program of this machine is measured that starts the container.
    """

    name: str
    image: str
    script: str = ""
    branch: bool = False
    helper: bool = False

    @property
    def core(self) -> str:
        """What measures: the recorder, where there is a session and the Python is new enough."""
        return "coverage" if self.image == "older" or self.script == _STEPS else "recorder"


_RUN: Final = """\
import subprocess, sys
hcov = [sys.executable, "-m", "hcov", "run", "--json", "--"]
sys.exit(subprocess.run([*hcov, "docker", "run", "--rm", *sys.argv[1:]]).returncode)
"""
# As a test's helper, with the image that has coverage.py in it.
_RUN_BASE_COMMAND: Final = """\
import subprocess, sys
hcov = [sys.executable, "-m", "hcov", "run", "--json", "--"]
helper = "import subprocess, sys, hdocker; words = sys.argv[1:]; " \\
    "sys.exit(subprocess.call([*hdocker.get_docker_base_cmd(), *words]))"
sys.exit(subprocess.run([*hcov, sys.executable, "-c", helper, *sys.argv[1:]]).returncode)
"""
_STEPS: Final = """\
import subprocess, sys, warnings
import hcoverage, hdocker
for command in hcoverage.coverage_subprocess_commands():
    subprocess.run(["sh", "-ec", command], check=True)
# Of `[paths]`, which coverage.py's own `combine` needs; it is not used here.
warnings.simplefilter("ignore", hdocker.PathMappingWarning)
words = sys.argv[1:]
own = ["--network", "host"] if "--network" in words else []
words = [word for word in words if word not in own]
base = hdocker.get_docker_base_cmd(options=own)
status = subprocess.run([*base, *words]).returncode
hcov = [sys.executable, "-m", "hcov"]
status = status or subprocess.run([*hcov, "combine", "coverage_data"]).returncode
for report in (["report"], ["json", "-q"]):
    status = status or subprocess.run([sys.executable, "-m", "coverage", *report]).returncode
sys.exit(status)
"""

WAYS: Final = (
    Way("recorder", "newer"),
    Way("coverage-core", "older"),
    Way("branches", "newer", branch=True),
    Way("baked", "baked", _STEPS),
    Way("baked-run", "baked"),
    Way("baked-helper", "baked", _RUN_BASE_COMMAND, helper=True),
)


@dataclass(frozen=True)
class Container:
    """A container, and how it is measured."""

    way: Way
    placement: Placement
    image: str
    label: str

    def words(self, here: Path) -> list[str]:
        """Give the arguments of `docker run`."""
        options = [word.replace("<here>", str(here)) for word in self.placement.options]
        return ["--label", self.label, *options, self.image, *self.placement.command]


@dataclass(frozen=True)
class Result:
    """What came of a container.

    Attributes:
        status: The exit status of what measured.
        out: What it printed: the application's words, then the report.
        err: What it told.
        json: The report, all that does not change with time.
    """

    status: int
    out: str
    err: str
    json: Any


def rcfile_text(name: str, here: Path, *, branch: bool) -> str | None:
    """Give the text of an rcfile; None for no rcfile, and nothing for `hcov init`'s."""
    text = RCFILES[name]
    if branch and name != "init":
        text = (text or "[run]\n").replace("[run]\n", "[run]\nbranch = True\n")
    return text and text.replace("<here>", str(here))


def lay_out(here: Path, python: Environment, rcfile: str, *, branch: bool) -> Path:
    """Write the project, and give its directory."""
    write_files(here)
    text = rcfile_text(rcfile, here, branch=branch)
    if rcfile == "init":
        _run([python.python, "-m", "hcov", "init"], here)
        text = (here / ".coveragerc").read_text()
        if branch:
            text = text.replace("[run]\n", "[run]\nbranch = True\n")
    if text is not None:
        (here / ".coveragerc").write_text(text)
    return here


def write_files(here: Path) -> None:
    """Write the files of the project, but for the rcfile."""
    for name, content in FILES.items():
        file = here / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)


def measure(here: Path, python: Environment, container: Container) -> Result:
    """Run the project in a container, and report."""
    script = container.way.script or _RUN
    command = [python.python, "-c", script, *container.words(here)]
    return _result(_run(command, here, container.placement.umask), here)


# What `hcov run --json` asks for.
_OPTIONS: Final = Options(
    rcfile=None,
    data_dir=None,
    append=False,
    fail_under=None,
    reports=("json",),
    quiet=False,
)


class Sessions:
    """Measures containers of one project and image in one session, which is closed for the next."""

    def __init__(self) -> None:
        self._key: object = None
        self._here = Path()
        self._session: hcoverage.Session | None = None
        self._close = contextlib.ExitStack()

    def open(self, key: object, lay_out: Callable[[], Path]) -> None:
        """Have the session of some cells be open.

        Args:
            key: What these have in common.
            lay_out: Writes their project, and tells where.
        """
        if key != self._key:
            self.close()
            self._here = lay_out()
            with contextlib.chdir(self._here):
                self._session = self._close.enter_context(hcoverage.open_session())
            self._key = key

    def measure(self, container: Container, captured: pytest.CaptureFixture[str]) -> Result:
        """Run the project in a container, merge and report."""
        captured.readouterr()
        session, here = self._session, self._here
        assert session is not None
        with contextlib.chdir(here):
            command = ["docker", "run", "--rm", *container.words(here)]
            tell_start(session, quiet=False)
            with (
                environment_of(session, _OPTIONS) as environment,
                subprocess.Popen(command, env=environment) as process,
            ):
                status = process.wait()
            status = status or finish(session, _OPTIONS, process.pid)
        told = captured.readouterr()
        result = _result(subprocess.CompletedProcess(command, status, told.out, told.err), here)
        self._forget(session)
        return result

    def close(self) -> None:
        """Close the session that is open, if any."""
        self._key = self._session = None
        if self._here != Path():
            with contextlib.chdir(self._here):
                self._close.close()

    def _forget(self, session: hcoverage.Session) -> None:
        """Leave nothing of a container to the next one."""
        left = [file for file in session.data_dir.iterdir() if file.name != hcoverage.RCFILE_NAME]
        for file in [*left, self._here / "coverage.json", self._here / ".coverage"]:
            file.unlink(missing_ok=True)


_ALONE: Final = """\
import sys
from coverage.cmdline import main
kind, parallel = sys.argv[1:]
code = "from shop.main import main; main()"
if kind == "script":
    import coverage
    measuring = coverage.Coverage()
    measuring.start()
    exec(code, {})
    measuring.stop()
    measuring.save()
else:
    main(["run", "-m", "shop"])
if parallel:
    main(["combine", "-q"])
main(["report"])
main(["json", "-q"])
"""


def measure_alone(here: Path, python: Environment, *, is_script: bool) -> Result:
    """Run the project here, measured by coverage.py alone, and report."""
    rcfile = here / ".coveragerc"
    is_parallel = rcfile.exists() and "parallel" in rcfile.read_text()
    words = ["script" if is_script else "module", "parallel" if is_parallel else ""]
    done = _run([python.python, "-c", _ALONE, *words], here, PYTHONPATH="src")
    return _result(done, here)


def _result(done: subprocess.CompletedProcess[str], here: Path) -> Result:
    file = here / "coverage.json"
    content = json.loads(file.read_text()) if file.exists() else None
    if content is not None:
        del content["meta"]["timestamp"]
    return Result(done.returncode, done.stdout, done.stderr, content)


def _run(
    command: Sequence[str], here: Path, umask: int = ORDINARY_UMASK, **variables: str
) -> subprocess.CompletedProcess[str]:
    environment = {**hcoverage.unmeasured_environment(os.environ), **variables}
    environment.pop("PYTEST_ADDOPTS", None)
    return subprocess.run(
        command,
        cwd=here,
        env=environment,
        umask=umask,
        capture_output=True,
        text=True,
        check=False,
        timeout=_LIMIT,
    )


class Images:
    """Gets the images; they stay in the engine, for the next run.

    Args:
        directory: Where build contexts are written.
        pythons: Makes, by name, an image with a Python.
    """

    def __init__(self, directory: Path, pythons: Mapping[str, Callable[[], str]]) -> None:
        self._directory = directory
        self._pythons = pythons
        self._known: dict[tuple[str, str | None], str] = {}

    def get(self, way: Way, placement: Placement) -> str:
        """Give the name of the image for a cell."""
        python = placement.baked if way.image == "baked" else None
        key = (way.image, python)
        if key not in self._known:
            baked = way.image == "baked"
            with self._one_at_a_time():
                self._known[key] = self._bake(python) if baked else self._build(way.image)
        return self._known[key]

    @contextlib.contextmanager
    def _one_at_a_time(self) -> Iterator[None]:
        """Wait for other workers of this run: what one of them builds the next one finds built."""
        with (self._directory.parents[1] / "hcoverage-matrix.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _build(self, name: str) -> str:
        context, text = self._context(name, self._pythons[name](), "")
        tag = f"hcoverage-matrix-{name}:{self._digest(text)}"
        command = ["docker", "build", "-q", "--network", "host", "-t", tag, str(context)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return tag

    def _bake(self, python: str | None) -> str:
        context, _ = self._context("baked", self._pythons["newer"](), _GET_PIP)
        return hdocker.build_container_image(
            "hcoverage-matrix-baked",
            context / "Dockerfile",
            options=["--network", "host"],
            rcfile=context / "rcfile",
            python=python,
            quiet=True,
        )

    def _context(self, name: str, python: str, first: str) -> tuple[Path, str]:
        context = self._directory / name
        context.mkdir(exist_ok=True)
        write_files(context / "project")
        (context / "copy.py").write_text(_COPY)
        (context / "others.py").write_text(_OTHERS)
        (context / "rcfile").write_text("[run]\n")
        text = _DOCKERFILE.format(python=python, first=first, name=name)
        (context / "Dockerfile").write_text(text)
        return context, text

    def _digest(self, text: str) -> str:
        whole = json.dumps([text, FILES, _COPY, _OTHERS])
        return hashlib.sha256(whole.encode()).hexdigest()[:12]
