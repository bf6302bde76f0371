"""What the shims cost: `docker` as `hcov run` has it on PATH, against the client itself.

Both run in turn, so that whatever else the machine does falls on both. Other commands than those
that start a container are promised at 5 ms more; `docker run` at 1.05 times the client's. Give the
number of rounds as argument; an image with Python 3.12 or later comes from dev/python-image.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import hcoverage
import hdocker

ROUNDS: Final = 20
OTHER_PROMISE: Final = 0.005  # seconds
RUN_PROMISE: Final = 1.05
DEV: Final = Path(__file__).parents[1] / "dev"


def seconds(command: list[str], environment: dict[str, str]) -> float:
    """Time a command to its end."""
    before = time.perf_counter()
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - before


def medians(arguments: list[str], environment: dict[str, str], rounds: int) -> tuple[float, float]:
    """Give how long the shim takes, and the client itself."""
    search_path = environment["PATH"]
    paths = (search_path, search_path.partition(os.pathsep)[2])
    programs = [str(shutil.which("docker", path=path)) for path in paths]
    times = [
        [seconds([program, *arguments], environment) for program in programs] for _ in range(rounds)
    ]
    ours, plain = (statistics.median(column) for column in zip(*times, strict=True))
    print(f"docker {arguments[0]:10} {plain * 1000:7.1f} ms, under hcov run {ours * 1000:7.1f} ms")
    return ours, plain


def main() -> None:
    """Print medians; exit with 1 where a promise does not hold."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    if subprocess.run(["docker", "version"], capture_output=True, check=False).returncode:
        sys.exit('no engine answers; make engine, then: eval "$(dev/engine env)"')
    made = subprocess.run([DEV / "python-image"], stdout=subprocess.PIPE, text=True, check=True)
    image = made.stdout.splitlines()[-1]
    with tempfile.TemporaryDirectory() as project:
        os.chdir(project)
        with hcoverage.open_session() as session:
            environment = hdocker.measure_containers(session.environment)
            run = ["run", "--rm", image, "python3", "-c", "pass"]
            subprocess.run(["docker", *run], env=environment, check=True)  # the image is met
            shim, client = medians(["version"], environment, rounds * 2)
            measured, plain = medians(run, environment, rounds)
        os.chdir("/")
    kept = shim - client <= OTHER_PROMISE and measured <= plain * RUN_PROMISE
    print(f"docker run: {measured / plain:.3f} times; the promises {'hold' if kept else 'FAIL'}")
    sys.exit(0 if kept else 1)


if __name__ == "__main__":
    main()
