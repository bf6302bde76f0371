"""How many short Pythons that ran unmeasured a run tells of: 100 of each kind, quiet and busy.

They only start and end. Busy are eight processes for each processor, which compute.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

COUNT: Final = 100
BUSY: Final = 8
STARTS: Final = """\
import os, subprocess, sys
for _ in range(int(sys.argv[1])):
    subprocess.run(sys.argv[2:], check=True)
"""
TOLD: Final = re.compile(r"hcov: not measured: process [0-9]+(?: and ([0-9]+) like it)?, ")


@contextlib.contextmanager
def busy(processes: int) -> Iterator[None]:
    """Keep the machine busy."""
    command = [sys.executable, "-S", "-c", "while True: pass"]
    kept = [subprocess.Popen(command) for _ in range(processes)]
    try:
        yield
    finally:
        for process in kept:
            process.kill()
            process.wait()


def told(command: list[str]) -> int:
    """Run a command so often, measured, and count of how many it is told that they were not."""
    hcov = [sys.executable, "-m", "hcov", "run", "--no-containers", "--", sys.executable]
    done = subprocess.run(
        [*hcov, "starts.py", str(COUNT), *command], capture_output=True, text=True, check=True
    )
    return sum(1 + int(match[1] or 0) for match in TOLD.finditer(done.stderr))


def main() -> None:
    """Print a line for each kind."""
    for name in [name for name in os.environ if name.startswith(("HCOVERAGE", "COVERAGE"))]:
        del os.environ[name]
    with tempfile.TemporaryDirectory() as directory, contextlib.chdir(directory):
        Path(".coveragerc").write_text("[run]\nparallel = True\n", encoding="utf-8")
        Path("starts.py").write_text(STARTS, encoding="utf-8")
        venv.create("other", symlinks=True)
        other = str(Path("other/bin/python").absolute())
        kinds = {
            "python -S": [sys.executable, "-S", "-c", "pass"],
            "python -I -S": [sys.executable, "-I", "-S", "-c", "pass"],
            "another's, env -i": ["env", "-i", other, "-c", "pass"],
            "another's -I": [other, "-I", "-c", "pass"],
            "another's -E": [other, "-E", "-c", "pass"],
        }
        for load, processes in (("quiet", 0), ("busy", BUSY * (os.cpu_count() or 1))):
            with busy(processes):
                for kind, command in kinds.items():
                    print(f"{load}: {kind}: {told(command)} of {COUNT} told", flush=True)


if __name__ == "__main__":
    main()
