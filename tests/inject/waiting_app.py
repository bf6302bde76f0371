"""An application in a container of any engine that ends by itself, or waits for what ends it.

What `test_injected_containers.py` and `test_podman.py` run, once as it is and once measured.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import subprocess
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Final

from coverage import CoverageData

import hcoverage

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pytest

RCFILE: Final = "[run]\nparallel = True\nsource = .\n[paths]\napp =\n    .\n    /app\n"
# Says when it is up; then waits for what ends it.
APP: Final = """\
import signal
import sys

def ready():
    print("up", flush=True)

def wait():
    signal.pause()

ready()
if "wait" in sys.argv:
    wait()
"""
RAN: Final = {1, 2, 4, 5, 7, 10, 11}
WAITED: Final = RAN | {8, 12}
DOCKERFILE: Final = """\
FROM {python}
WORKDIR /app
COPY app.py .
ENV PYTHONPATH=/app/lib
RUN python3 -m venv --without-pip /venv && ln -s /venv/bin/python /usr/local/bin/python-of-venv \\
    && mkdir /app/lib && echo 'print("its own", flush=True)' > /app/lib/sitecustomize.py
CMD ["python3", "app.py"]
LABEL hcoverage-test-image={name}
"""
OWN: Final = "its own\n"  # from the image's own sitecustomize, which -I leaves out


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a container ended."""

    status: int
    stdout: str
    stderr: str


def write_context(directory: Path, python_image: str) -> str:
    """Write what an image of the application is built from.

    Returns:
        A name for the image. It is in the image as well, so that no other run has the same one.
    """
    name = f"hcoverage-test-{uuid.uuid4().hex[:12]}:latest"
    (directory / "app.py").write_text(APP)
    (directory / "Dockerfile").write_text(DOCKERFILE.format(python=python_image, name=name))
    return name


@contextlib.contextmanager
def opened(project: Path) -> Iterator[hcoverage.Session]:
    """Open a session in a new project with the application's source, in a `with` block."""
    project.chmod(0o755)
    with contextlib.chdir(project):
        Path(".coveragerc").write_text(RCFILE)
        Path("app.py").write_text(APP)
        with hcoverage.open_session() as session:
            yield session


@contextlib.contextmanager
def within(session: hcoverage.Session, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make this process a part of a session, and remove what is recorded in a `with` block."""
    monkeypatch.chdir(session.data_file.parent)
    os.environ.update(session.environment)
    yield
    for left in [*session.data_dir.glob("*.hcrec"), *session.data_dir.glob("prob*")]:
        left.unlink()


def said(*command: str) -> str:
    """Run a command of an engine, which has to succeed, and give what it says."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def ended(
    base: Sequence[str], name: str, words: Sequence[str], end: Sequence[str] | None = None
) -> Ended:
    """Run a container; once it is up, end it with another command of its engine.

    Args:
        base: How containers are started, beginning with the engine.
        name: The container's name.
        words: What else there is on the command line.
        end: The command that ends it, without its name; None to wait for its own end.
    """
    # To make a network of its own is half of what a container costs the engine.
    network = [] if "--network" in words else ["--network", "host"]
    command = [*base, *network, "--name", name, *words]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        begun = ""
        if end is not None:
            assert process.stdout is not None
            while not begun.endswith("up\n"):
                line = process.stdout.readline()
                assert line, process.communicate()[1]
                begun += line
            said(base[0], *end, name)
        rest, errors = process.communicate()
    return Ended(process.returncode, begun + rest, errors)


def measured(session: hcoverage.Session, origin: str = "") -> set[int]:
    """The lines of app.py in the merged report, which has no other file of the project."""
    result = hcoverage.combine(session.data_paths(), coveragerc=session.rcfile.path)
    assert not origin or {each.origin for each in result.recorded} == {origin}
    data = CoverageData(basename=str(result.data_file))
    data.read()
    # coverage.py also has what the image's own sitecustomize ran, which is not here.
    names = {Path(name) for name in data.measured_files()} - {Path("/app/lib/sitecustomize.py")}
    assert names == {Path.cwd() / "app.py"}
    return set(data.lines(str(Path.cwd() / "app.py")) or ())
