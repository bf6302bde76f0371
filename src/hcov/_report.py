"""Reports: coverage.py's own, from the merged data file and nothing beside it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import hcoverage
from hcov._messages import writer

if TYPE_CHECKING:
    from collections.abc import Iterable

FILE_REPORTS: Final = ("html", "xml", "json", "lcov")

# coverage.py's own exit status for a total under --fail-under.
UNDER_THRESHOLD: Final = 2


def report(
    data_file: Path,
    rcfile: Path,
    *,
    files: Iterable[str] = (),
    fail_under: float | None = None,
    printed: bool = True,
    quiet: bool = False,
) -> int:
    """Print coverage.py's report, and write the others that are asked for.

    Args:
        data_file: The merged data file.
        rcfile: The rcfile.
        files: Which of `FILE_REPORTS` to write, to where the rcfile or coverage.py says.
        fail_under: The total, in percent, under which the status is 2; None for the rcfile's own.
        printed: Print the report; the status is the same without.
        quiet: Print nothing at all.

    Returns:
        The first exit status of coverage.py that is not 0, else 0.
    """
    with tempfile.TemporaryDirectory(prefix="hcov-") as directory:
        # A copy, because since coverage.py 7.15 every report first merges, and deletes, whatever
        # `.coverage.*` lies beside its data file: data that is not this run's.
        alone = Path(directory) / ".coverage"
        shutil.copyfile(data_file, alone)
        options = [f"--data-file={alone}", f"--rcfile={rcfile}"]
        threshold = [] if fail_under is None else [f"--fail-under={fail_under:g}"]
        silent = quiet or not printed
        statuses = [_coverage(["report", *threshold, *options], quiet=silent)]
        # The threshold is for the printed report alone; each of the others would repeat it.
        statuses += [_coverage([name, "--fail-under=0", *options], quiet=quiet) for name in files]
    return next((status for status in statuses if status), 0)


def _coverage(arguments: list[str], *, quiet: bool) -> int:
    sys.stdout.flush()
    write = writer()
    command = [sys.executable, "-m", "coverage", *arguments]
    environment = hcoverage.unmeasured_environment(os.environ)
    if quiet or write is None:
        output = subprocess.DEVNULL if quiet else None
        return subprocess.run(command, stdout=output, check=False, env=environment).returncode
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        env=environment,
        text=True,
        errors="replace",
    )
    write(done.stdout)
    return done.returncode
