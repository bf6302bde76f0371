"""What an installed hook costs a Python start that has nothing to measure; the promise is 1.03.

Virtual environments, alike but for their hooks, start in turn, so that whatever else the machine
does falls on all of them. The one to compare with has coverage.py as pip installs it, its own hook
included. Beside it stand one without any .pth file, since the first of them, whosever it is, makes
`site` import a codec, and one with the hook unguarded. Give the number of rounds as argument.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

import coverage

import hcoverage
from hcoverage._session.hook import _installed_pth_text

PROMISE = 1.03
ROUNDS = 200
OWN = "a1_coverage.pth"
UNGUARDED = "import coverage; coverage.process_startup()\n"


def make_venv(path: Path, hooks: dict[str, str]) -> Path:
    """Make an environment with coverage.py in it and these .pth files, and give its Python."""
    venv.create(path, symlinks=True)
    (site_packages,) = path.glob("lib/python*/site-packages")
    package = Path(coverage.__file__).parent
    shutil.copytree(package, site_packages / package.name)
    for name, text in hooks.items():
        (site_packages / name).write_text(text)
    return path / "bin" / "python"


def seconds(python: Path, environment: dict[str, str]) -> float:
    """Time one start that does nothing."""
    before = time.perf_counter()
    subprocess.run([python, "-c", "pass"], env=environment, check=True)
    return time.perf_counter() - before


def main() -> None:
    """Print medians and ratios; exit with 1 where the promise does not hold."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    environment = hcoverage.unmeasured_environment(os.environ)
    # As on a user's machine: bytecode is cached, which PYTHONDONTWRITEBYTECODE would prevent.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    own = {OWN: (Path(coverage.__file__).parents[1] / OWN).read_text()}
    hooks = {
        "no .pth file": {},
        "coverage.py": own,
        "and our hook": {**own, "coverage.pth": _installed_pth_text(Path("/nowhere"))},
        "or unguarded": {**own, "coverage.pth": UNGUARDED},
    }
    with tempfile.TemporaryDirectory() as directory:
        pythons = {
            name: make_venv(Path(directory) / str(number), files)
            for number, (name, files) in enumerate(hooks.items())
        }
        times: dict[str, list[float]] = {name: [] for name in hooks}
        for _ in range(rounds):
            for name, python in pythons.items():
                times[name].append(seconds(python, environment))
    before = statistics.median(times["coverage.py"])
    for name, measured in times.items():
        median = statistics.median(measured)
        print(f"{name:14} {1000 * median:7.2f} ms  {median / before:5.3f}x")
    ratio = statistics.median(times["and our hook"]) / before
    print(f"idle hook: {ratio:.3f}x, promised at most {PROMISE}x, {rounds} rounds")
    sys.exit(ratio > PROMISE)


if __name__ == "__main__":
    main()
