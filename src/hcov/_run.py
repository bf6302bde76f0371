"""`hcov run`: set up, run, merge, report, clean up; and what it tells about each."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import hcoverage
import hdocker
from hcov._command import CommandError, run_command
from hcov._messages import tell
from hcov._origin_table import tell_origins
from hcov._progress_bar import progress_bar
from hcov._report import UNDER_THRESHOLD, report
from hcov._summary import short, tell_result, tell_unmeasured, tell_what_is_missing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

DATA_LOST: Final = 3
SETUP_FAILED: Final = 125  # as env(1), timeout(1) and `docker run` have it


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
    containers: bool = True


def run(command: Sequence[str], options: Options) -> int:
    """Run a command from start to end in a session of its own.

    Returns:
        The exit status for hcov; see `hcov run --help`.

    Raises:
        HcoverageError, ImportError, OSError: Measuring cannot be set up; nothing has been run.
    """
    with hcoverage.open_session(options.rcfile, options.data_dir, options.core) as session:
        _tell_start(session, quiet=options.quiet)
        watch = hcoverage.PythonWatch()
        try:
            status = run_command(command, _environment(session, options), watch.look)
        except CommandError as error:
            tell(f"error: {error}")
            return error.exit_status
        own_status = _finish(session, watch, options)
    return status or own_status


def combine(paths: Sequence[str | Path], *, rcfile: Path | None, **options: Any) -> int:  # noqa: ANN401
    """Merge data files and recordings, and tell what came of it.

    Returns:
        `DATA_LOST` if something was left out, else 0.

    Raises:
        HcoverageError, OSError: As `hcoverage.combine` does.
    """
    with progress_bar("reading") as on_progress:
        result = hcoverage.combine(paths, coveragerc=rcfile, on_progress=on_progress, **options)
    tell_result(result, "merged")
    return _tell_what_is_missing(result)


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
        tell_result(result, "so far")
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


def _environment(session: hcoverage.Session, options: Options) -> Mapping[str, str]:
    if options.containers:
        return hdocker.measure_containers(session.environment)
    return {**session.environment, hdocker.CONTAINERS_VARIABLE: "0"}


def _finish(session: hcoverage.Session, watch: hcoverage.PythonWatch, options: Options) -> int:
    """Merge and report what the command left; the status is hcov's own, 0 if all went well."""
    problems = session.problems()
    try:
        with progress_bar("merging") as on_progress:
            result = hcoverage.combine(
                session.data_paths(),
                coveragerc=session.rcfile.path,
                data_file=session.data_file,
                append=options.append,
                command=watch.root,
                on_progress=None if options.quiet else on_progress,
            )
    except hcoverage.NoDataError:
        tell_unmeasured(problems, session.unmeasured(watch.seen()))
        tell(
            "error: nothing was measured: the command started no Python that reads "
            f"{session.hook}, or none of them has ended yet"
        )
        return DATA_LOST
    except (hcoverage.CombineError, OSError) as error:
        tell_unmeasured(problems, session.unmeasured(watch.seen()))
        tell(f"error: {error}")
        return DATA_LOST
    tell_unmeasured(problems, session.unmeasured(watch.seen(), result.merged))
    if not options.quiet:
        tell_result(result, "merged", session.core)
    combined = _tell_what_is_missing(result)
    reported = report(
        result.data_file,
        session.rcfile.path,
        files=options.reports,
        fail_under=options.fail_under,
        quiet=options.quiet,
    )
    if not options.quiet:
        tell_origins(result.data_file, session.rcfile.path)
    if reported == UNDER_THRESHOLD:
        return UNDER_THRESHOLD
    return DATA_LOST if reported else combined


def _tell_what_is_missing(result: hcoverage.CombineResult) -> int:
    tell_what_is_missing(result)
    return DATA_LOST if result.set_aside or result.losses else 0


def _tell_start(session: hcoverage.Session, *, quiet: bool) -> None:
    if session.previous is not None:
        tell(
            f"data of an earlier run was left unmerged; it is now in {short(session.previous)}: "
            f"`hcov combine --append {short(session.previous)}` merges it"
        )
    if not session.has_rcfile and not quiet:
        tell("no coverage.py configuration here, so defaults are used; `hcov init` writes one")
