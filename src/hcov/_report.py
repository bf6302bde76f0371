"""Reports: coverage.py's own, from the merged data file and nothing beside it."""

from __future__ import annotations

import contextlib
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
    from collections.abc import Iterable, Iterator

FILE_REPORTS: Final = ("html", "xml", "json", "lcov")
FORMATS: Final = ("text", "markdown", "total")

# coverage.py's own exit status for a total under --fail-under.
UNDER_THRESHOLD: Final = 2


def report(
    data_file: Path,
    rcfile: hcoverage.Rcfile,
    *,
    layout: str | None = None,
    files: Iterable[str] = (),
    fail_under: float | None = None,
    printed: bool = True,
    quiet: bool = False,
) -> int:
    """Print coverage.py's report, and write the others that are asked for.

    Args:
        data_file: The merged data file.
        rcfile: The rcfile.
        layout: Which of `FORMATS` to print; None for the rcfile's own.
        files: Which of `FILE_REPORTS` to write, to where the rcfile or coverage.py says.
        fail_under: The total, in percent, under which the status is 2; None for the rcfile's own.
        printed: Print the report; the status is the same without.
        quiet: Print nothing at all.

    Returns:
        The first exit status of coverage.py that is not 0, else 0.
    """
    with _options_for(data_file, rcfile) as options:
        printing = [] if layout is None else [f"--format={layout}"]
        threshold = [] if fail_under is None else [f"--fail-under={fail_under:g}"]
        silent = quiet or not printed
        statuses = [_coverage(["report", *printing, *threshold, *options], quiet=silent)]
        # The threshold is for the printed report alone; each of the others would repeat it.
        statuses += [_coverage([name, "--fail-under=0", *options], quiet=quiet) for name in files]
    return next((status for status in statuses if status), 0)


def report_text(data_file: Path, rcfile: hcoverage.Rcfile, layout: str) -> str:
    """Give coverage.py's report as text; empty if it has nothing to report.

    Args:
        data_file: The merged data file.
        rcfile: The rcfile.
        layout: Which of `FORMATS`.
    """
    with _options_for(data_file, rcfile) as options:
        command = _command(["report", f"--format={layout}", "--fail-under=0", *options])
        done = _captured(command, subprocess.DEVNULL)
    return "" if done.returncode else done.stdout


@contextlib.contextmanager
def _options_for(data_file: Path, rcfile: hcoverage.Rcfile) -> Iterator[list[str]]:
    with tempfile.TemporaryDirectory(prefix="hcov-") as directory:
        # A copy, because since coverage.py 7.15 every report first merges, and deletes, whatever
        # `.coverage.*` lies beside its data file: data that is not this run's.
        alone = Path(directory) / ".coverage"
        shutil.copyfile(data_file, alone)
        yield [f"--data-file={alone}", *rcfile.options]


def _coverage(arguments: list[str], *, quiet: bool) -> int:
    sys.stdout.flush()
    write = writer()
    command = _command(arguments)
    if quiet or write is None:
        output = subprocess.DEVNULL if quiet else None
        environment = hcoverage.unmeasured_environment(os.environ)
        return subprocess.run(command, stdout=output, check=False, env=environment).returncode
    done = _captured(command, subprocess.STDOUT)
    write(done.stdout)
    return done.returncode


def _command(arguments: list[str]) -> list[str]:
    return [sys.executable, "-m", "coverage", *arguments]


def _captured(command: list[str], stderr: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=stderr,
        check=False,
        env=hcoverage.unmeasured_environment(os.environ),
        text=True,
        errors="replace",
    )
