"""What measuring costs a container: `docker run` with what is injected, against the same without.

    python benchmarks/container_speed.py [ROUNDS]

It needs an engine, which `make bench` finds or starts, and the package index. Containers of each
Python start in turn with and without, so that whatever else the machine does falls on both; told
are the medians and their ratio. Then, on one image: the way from an image that exists to its first
container measured and merged, injected and baked. The exit status is 1 where the promise, which is
about the recorder, does not hold.
"""

from __future__ import annotations

import contextlib
import io
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Final
from unittest import mock

import hcoverage
import hdocker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PROMISE: Final = 1.05
ROUNDS: Final = 40
FIRST_ROUNDS: Final = 3
DEV: Final = Path(__file__).parents[1] / "dev"
OLDER: Final = ("3.8", "3.11")
RCFILE: Final = "[run]\nparallel = True\n[paths]\napp =\n    .\n    /app\n"
PLAIN: Final = ("docker", "run", "--rm", "--init")


def image_of(script: str, *arguments: str) -> str:
    """Get the name of an image that a script in dev/ makes."""
    command = [str(DEV / script), *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.splitlines()[-1]


def images() -> dict[str, str]:
    """Give an image for each Python that is here, by its version; the tests' own is the first."""
    found = {"{}.{}".format(*sys.version_info): image_of("python-image", sys.executable)}
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    for version in OLDER:
        for python in sorted(root.glob(f"versions/{version}.*/bin/python{version}"))[-1:]:
            found[version] = image_of("python-image", str(python))
    return found


def seconds(work: Callable[[], object]) -> float:
    """Time a piece of work."""
    before = time.perf_counter()
    work()
    return time.perf_counter() - before


def start(base: Sequence[str], image: str) -> None:
    """Run a container that does nothing."""
    subprocess.run([*base, image, "python3", "-c", "pass"], check=True)


def compare_starts(version: str, image: str, rounds: int) -> float:
    """Print what a start costs with and without; give the ratio."""
    base = hdocker.get_docker_base_cmd(image=image)
    with_it, without = [], []
    for _ in range(rounds):
        without.append(seconds(lambda: start(PLAIN, image)))
        with_it.append(seconds(lambda: start(base, image)))
    before, after = statistics.median(without), statistics.median(with_it)
    print(
        f"Python {version:5} plain {1000 * before:7.1f} ms   injected {1000 * after:7.1f} ms   "
        f"{after / before:5.3f}x"
    )
    return after / before


def first_injected(image: str) -> None:
    """Go from an image to its first measured container, in a session that never saw it."""
    with hcoverage.open_session() as session, mock.patch.dict(os.environ, session.environment):
        start(hdocker.get_docker_base_cmd(image=image), image)
        hcoverage.combine(session.data_paths(), coveragerc=session.rcfile.path)


def first_baked(image: str, names: list[str]) -> None:
    """Go from an image to its first measured container, by baking coverage.py into it."""
    Path("Dockerfile").write_text(f"FROM {image}\nLABEL benchmark={uuid.uuid4().hex}\n")
    with contextlib.redirect_stderr(io.StringIO()):  # the builder's progress
        name = hdocker.build_container_image(
            "hcoverage-benchmark", "Dockerfile", options=["--network", "host"]
        )
    names.append(name)
    with hcoverage.open_session() as session, mock.patch.dict(os.environ, session.environment):
        start(hdocker.get_docker_base_cmd(), name)
        hcoverage.combine(session.data_paths(), coveragerc=session.rcfile.path)


def size(image: str) -> int:
    """Tell how large an image is, in bytes."""
    command = ["docker", "image", "inspect", "--format", "{{.Size}}", image]
    return int(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def compare_first(image: str) -> None:
    """Print what it takes to measure an image's first container, injected and baked."""
    injected, baked = [], []
    names: list[str] = []
    try:
        for _ in range(FIRST_ROUNDS):
            injected.append(seconds(lambda: first_injected(image)))
            baked.append(seconds(lambda: first_baked(image, names)))
        grown = (size(names[-1]) - size(image)) / 1e6
    finally:
        subprocess.run(
            ["docker", "image", "rm", "--force", *names], capture_output=True, check=True
        )
    print(f"first container of an image, injected {statistics.median(injected):6.2f} s   0 MB")
    print(
        f"first container of an image, baked    {statistics.median(baked):6.2f} s {grown:3.0f} MB"
    )


def main() -> None:
    """Print the figures; exit with 1 where the promise does not hold."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    if subprocess.run(["docker", "version"], capture_output=True, check=False).returncode:
        sys.exit('no container engine answers: make bench, or eval "$(dev/engine env)"')
    found = images()
    base = image_of("base-image")
    clean = hcoverage.unmeasured_environment(os.environ)
    with (
        tempfile.TemporaryDirectory() as directory,
        mock.patch.dict(os.environ, clean, clear=True),
    ):
        os.chdir(directory)
        Path(".coveragerc").write_text(RCFILE)
        with hcoverage.open_session() as session, mock.patch.dict(os.environ, session.environment):
            ratios = [compare_starts(*each, rounds) for each in found.items()]
            for file in [*session.data_dir.glob(".coverage.*"), *session.data_dir.glob("*.hcrec")]:
                file.unlink()
        compare_first(base)
    print(f"injected: {ratios[0]:.3f}x, promised at most {PROMISE}x, {rounds} rounds")
    sys.exit(ratios[0] > PROMISE)


if __name__ == "__main__":
    main()
