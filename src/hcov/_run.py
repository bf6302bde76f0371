"""`hcov run`: set up, run, merge, report, clean up; and what it tells about each."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import hcoverage
from hcov._command import CommandError, run_command
from hcov._messages import tell
from hcov._report import UNDER_THRESHOLD, report

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

DATA_LOST: Final = 3
SETUP_FAILED: Final = 125  # as env(1), timeout(1) and `docker run` have it

_SHOWN: Final = 10


@dataclasses.dataclass(frozen=True)
class Options:
    """What `hcov run` was asked for; see its help."""

    rcfile: Path | None
    data_dir: Path
    append: bool
    fail_under: float | None
    reports: tuple[str, ...]
    quiet: bool
    core: str | None = None


def run(command: Sequence[str], options: Options) -> int:
    """Run a command from start to end in a session of its own.

    Returns:
        The exit status for hcov; see `hcov run --help`.

    Raises:
        HcoverageError, ImportError, OSError: Measuring cannot be set up; nothing has been run.
    """
    with hcoverage.open_session(options.rcfile, options.data_dir, options.core) as session:
        _tell_start(session, quiet=options.quiet)
        try:
            status = run_command(command, session.environment)
        except CommandError as error:
            tell(f"error: {error}")
            return error.exit_status
        own_status = _finish(session, options)
    return status or own_status


def tell_result(result: hcoverage.CombineResult, *, quiet: bool = False) -> int:
    """Tell what a combine did.

    Returns:
        `DATA_LOST` if a file had to be set aside, else 0.
    """
    if not quiet:
        tell(
            f"merged {_measured(result)} from {_hosts(result.hosts)} "
            f"into {_short(result.data_file)}"
        )
    for loss in result.losses:
        tell(f"not recorded: {loss}")
    for source in result.stale:
        tell(f"left out: {_short(Path(source))} has changed since it ran; run it again")
    for item in result.set_aside[:_SHOWN]:
        tell(f"not merged: {_short(item.path)}: {item.reason}")
    if len(result.set_aside) > _SHOWN:
        tell(f"not merged: {len(result.set_aside) - _SHOWN} more; `hcov combine` names them")
    return DATA_LOST if result.set_aside or result.losses or result.stale else 0


def report_live(data_dir: Path, rcfile: Path) -> int:
    """Print the coverage so far of a run that is in progress, leaving all as it is.

    Returns:
        coverage.py's exit status.

    Raises:
        NoDataError: Nothing has been recorded yet.
        OSError: There is no such data directory.
    """
    with tempfile.TemporaryDirectory(prefix="hcov-") as directory:
        merged = Path(directory) / ".coverage"
        result = hcoverage.combine([data_dir], coveragerc=rcfile, data_file=merged, keep=True)
        tell(f"so far: {_measured(result)} from {_hosts(result.hosts)}")
        return report(merged, rcfile)


@contextlib.contextmanager
def rcfile_or_default(rcfile: Path | None) -> Iterator[Path]:
    """Give the rcfile to report with: the one named or found here, else the default settings."""
    here = Path.cwd()
    found = rcfile or hcoverage.find_rcfile(here)
    if found is not None:
        yield hcoverage.read_rcfile(found).path
        return
    with tempfile.TemporaryDirectory(prefix="hcov-") as directory:
        default = Path(directory) / ".coveragerc"
        default.write_text(hcoverage.default_rcfile_text(here), encoding="utf-8")
        yield default


def _finish(session: hcoverage.Session, options: Options) -> int:
    """Merge and report what the command left; the status is hcov's own, 0 if all went well."""
    for problem in session.problems():
        tell(f"not measured: {problem}")
    try:
        result = hcoverage.combine(
            session.data_paths(),
            coveragerc=session.rcfile.path,
            data_file=session.data_file,
            append=options.append,
        )
    except hcoverage.NoDataError:
        tell(
            "error: nothing was measured: the command started no Python that reads "
            f"{session.hook}, or none of them has ended yet"
        )
        return DATA_LOST
    except (hcoverage.CombineError, OSError) as error:
        tell(f"error: {error}")
        return DATA_LOST
    combined = tell_result(result, quiet=options.quiet)
    if not options.quiet:
        tell(f"core: {session.core.core}, since {session.core.reason}")
    reported = report(
        result.data_file,
        session.rcfile.path,
        files=options.reports,
        fail_under=options.fail_under,
        quiet=options.quiet,
    )
    if reported == UNDER_THRESHOLD:
        return UNDER_THRESHOLD
    return DATA_LOST if reported else combined


def _tell_start(session: hcoverage.Session, *, quiet: bool) -> None:
    if session.previous is not None:
        tell(
            f"data of an earlier run was left unmerged; it is now in {_short(session.previous)}: "
            f"`hcov combine --append {_short(session.previous)}` merges it"
        )
    if not session.has_rcfile and not quiet:
        tell("no coverage.py configuration here, so defaults are used; `hcov init` writes one")


def _measured(result: hcoverage.CombineResult) -> str:
    by_core = [
        f"{_count(len(result.recorded), 'recorded process', 'recorded processes')}"
        if result.recorded
        else "",
        f"{_count(len(result.data_files), 'data file')} of coverage.py"
        if result.data_files
        else "",
    ]
    return " and ".join(filter(None, by_core))


def _hosts(hosts: Sequence[str]) -> str:
    own = os.uname().nodename.replace(".", "_")
    others = [host for host in hosts if host != own]
    here = ["this host"] if own in hosts else []
    shown = [*others[:_SHOWN], *(["…"] if len(others) > _SHOWN else [])]
    away = (
        [f"{_count(len(others), 'other host or container')} ({', '.join(shown)})"] if others else []
    )
    return " and ".join([*here, *away]) or "unnamed hosts"


def _count(number: int, noun: str, nouns: str = "") -> str:
    return f"{number} {noun if number == 1 else nouns or noun + 's'}"


def _short(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
