"""`hcov run`: set up, run, merge, report, clean up; and what it tells about each."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import hcoverage
from hcov._command import CommandError, run_command
from hcov._messages import tell
from hcov._report import UNDER_THRESHOLD, report

if TYPE_CHECKING:
    from collections.abc import Sequence

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


def run(command: Sequence[str], options: Options) -> int:
    """Run a command from start to end in a session of its own.

    Returns:
        The exit status for hcov; see `hcov run --help`.

    Raises:
        HcoverageError, ImportError, OSError: Measuring cannot be set up; nothing has been run.
    """
    with hcoverage.open_session(options.rcfile, options.data_dir) as session:
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
            f"merged {_count(len(result.merged), 'data file')} from {_hosts(result.hosts)} "
            f"into {_short(result.data_file)}"
        )
    for item in result.set_aside[:_SHOWN]:
        tell(f"not merged: {_short(item.path)}: {item.reason}")
    if len(result.set_aside) > _SHOWN:
        tell(f"not merged: {len(result.set_aside) - _SHOWN} more; `hcov combine` names them")
    return DATA_LOST if result.set_aside else 0


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


def _hosts(hosts: Sequence[str]) -> str:
    own = os.uname().nodename.replace(".", "_")
    others = [host for host in hosts if host != own]
    here = ["this host"] if own in hosts else []
    shown = [*others[:_SHOWN], *(["…"] if len(others) > _SHOWN else [])]
    away = (
        [f"{_count(len(others), 'other host or container')} ({', '.join(shown)})"] if others else []
    )
    return " and ".join([*here, *away]) or "unnamed hosts"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _short(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
