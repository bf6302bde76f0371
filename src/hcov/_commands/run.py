"""`hcov run`: sets up, runs, merges, reports and cleans up, with the messages of each step."""

from __future__ import annotations

import contextlib
import gc
import os
import shlex
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import hcoverage
import hdocker
from hcov._commands.tox import let_through_tox
from hcov._tell.formats import STEP_SUMMARY_VARIABLE, UNDER_THRESHOLD
from hcov._tell.messages import message_of, tell
from hcov._tell.progress_bar import progress_bar
from hcov._tell.report import print_text, report
from hcov._tell.summary import (
    short,
    tell_result,
    tell_unattributed,
    tell_what_is_missing,
    what_is_missing,
    what_is_unmeasured,
)
from hcoverage import Page, with_slug

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence


DATA_LOST: Final = 3


class Options(NamedTuple):
    """The options of `hcov run`, see its help, and of `pytest --hcov`.

    Attributes:
        contexts: Whether each test is a context.
        context: The first context, if the run follows one.
        imported_before: Files of the modules that this process had imported before it was measured.
        result_name: The name to show for the data file, if its path means nothing to a person.
        layout: The format of the printed report; None for the rcfile's own.
    """

    rcfile: Path | hcoverage.Rcfile | None
    data_dir: Path | None
    append: bool
    fail_under: float | None
    reports: tuple[str, ...]
    quiet: bool
    core: str | None = None
    containers: bool = True
    printed: bool = True
    contexts: bool = False
    context: str | None = None
    imported_before: tuple[str, ...] = ()
    result_name: str | None = None
    layout: str | None = None


class Merged(NamedTuple):
    """The outcome of a session.

    Attributes:
        result: The result of combining.
        unmeasured: What ran and was not measured, in lines for a person.
    """

    result: hcoverage.CombineResult
    unmeasured: list[str]


def run(command: Sequence[str], options: Options) -> int:
    """Run a command from start to end in a session of its own.

    Returns:
        The exit status for hcov; see `hcov run --help`.

    Raises:
        HcoverageError, ImportError, OSError: Measuring cannot be set up; nothing has been run.
    """
    # Imported here: the pytest plugin, which shares the rest of this module, runs no command.
    from hcov._commands.child import NotStartedError, run_command  # noqa: PLC0415

    with hcoverage.open_session(options.rcfile, options.data_dir, options.core) as session:
        tell_start(session, quiet=options.quiet)
        with hcoverage.PythonWatch() as watch:
            watch.signal_with(signal.SIGCHLD)
            try:
                with environment_of(session, options) as environment:
                    status = run_command(command, environment, watch.look)
            except NotStartedError as error:
                tell(f"error: {message_of(error)}")
                return error.exit_status
        own_status = finish(session, options, watch.root, watch.seen())
    return status or own_status


def combine(paths: Sequence[str | Path], *, rcfile: Path | None, **options: Any) -> int:  # noqa: ANN401
    """Merge data files and recordings, and report the outcome.

    Returns:
        `DATA_LOST` if something was left out, else 0.

    Raises:
        HcoverageError, OSError: As `hcoverage.combine` does.
    """
    with progress_bar("reading") as on_progress:
        result = hcoverage.combine(paths, coveragerc=rcfile, on_progress=on_progress, **options)
    tell_result(result, "merged")
    tell_what_is_missing(result)
    return 0 if is_whole(result) else DATA_LOST


def report_live(data_dir: Path | None, rcfile: hcoverage.Rcfile, context: str | None = None) -> int:
    """Print the coverage so far of a run in progress, without changing anything.

    Args:
        data_dir: Its data directory; by default those of all runs in progress here.
        rcfile: The rcfile for the report.
        context: Report only what ran in this context.

    Returns:
        coverage.py's exit status.

    Raises:
        NoDataError: Nothing has been recorded yet.
        OSError: There is no such data directory.
    """
    running = [data_dir] if data_dir else hcoverage.data_of_running_sessions(Path.cwd())
    found = running or [Path(hcoverage.DEFAULT_DATA_DIR)]
    with tempfile.TemporaryDirectory(prefix="hcov-") as directory:
        merged = Path(directory) / ".coverage"
        result = hcoverage.combine(found, coveragerc=rcfile, data_file=merged, keep=True)
        tell_result(result, "so far")
        return report_data(merged, rcfile, context)


def report_data(data_file: Path, rcfile: hcoverage.Rcfile, context: str | None = None) -> int:
    """Print coverage.py's report of a merged data file.

    Args:
        data_file: The data file.
        rcfile: The rcfile for the report.
        context: Report only what ran in this context; then no total is too low.

    Returns:
        coverage.py's exit status.
    """
    from hcov._tell.analysis import analysed  # noqa: PLC0415 - with most of coverage.py

    with analysed(data_file, rcfile, by_context=context is not None) as analysis:
        if context is None:
            return report(analysis)
        return report(analysis, context=context, fail_under=0)


def report_changed(
    data_file: Path, rcfile: hcoverage.Rcfile, since: str, fail_under: float | None
) -> int:
    """Print the coverage of the lines that have changed since a revision.

    Args:
        data_file: The merged data file.
        rcfile: The rcfile for the report.
        since: The revision.
        fail_under: How many of the changed statements must have run, in percent.

    Returns:
        `UNDER_THRESHOLD` if fewer did, else 0.

    Raises:
        RevisionError, HcoverageError: The changes are not known, or the data cannot be read.
    """
    from hcov._tell.analysis import analysed  # noqa: PLC0415 - with most of coverage.py
    from hcov._tell.changed_lines import changed_coverage  # noqa: PLC0415

    with analysed(data_file, rcfile) as analysis:
        changed = changed_coverage(analysis, data_file, since)
    print_text(f"{changed.text()}\n")
    if fail_under is not None and changed.percent < fail_under:
        text = f"total of {changed.percent:.2f} of what has changed is less than fail-under-changed"
        print_text(f"Coverage failure: {text}={fail_under:g}\n")
        return UNDER_THRESHOLD
    return 0


@contextlib.contextmanager
def environment_of(session: hcoverage.Session, options: Options) -> Iterator[Mapping[str, str]]:
    """Measure the containers of a session, for the length of a `with` block.

    Yields:
        The whole environment of the session's processes.
    """
    with contextlib.ExitStack() as stack:
        environment = dict(session.environment)
        if options.context is not None:
            followed = hcoverage.followed(
                session.data_dir, options.context, session.rcfile.settings
            )
            environment.update(stack.enter_context(followed))
        if options.containers:
            environment = stack.enter_context(hdocker.containers_measured(environment))
        else:
            environment[hdocker.CONTAINERS_VARIABLE] = "0"
        yield let_through_tox(environment, os.environ)


def finish(
    session: hcoverage.Session,
    options: Options,
    command: int,
    seen: Iterable[hcoverage.SeenPython] = (),
) -> int:
    """Merge and report the command's data.

    Args:
        session: The session.
        options: The options.
        command: The process id of the command.
        seen: The Pythons that were seen to start.

    Returns:
        hcov's own exit status: 0 if all went well, `UNDER_THRESHOLD`, or `DATA_LOST`.
    """
    with _nothing_collected():
        return _finish(session, options, command, seen)


def _finish(
    session: hcoverage.Session,
    options: Options,
    command: int,
    seen: Iterable[hcoverage.SeenPython],
) -> int:
    try:
        merged = merge(session, session.data_file, options, command, seen)
    except hcoverage.NoDataError:
        error = hcoverage.NoDataError(
            f"nothing was measured: the command started no Python that reads {session.hook}, "
            "or none of them has ended yet"
        )
        tell(f"error: {message_of(error)}")
        return DATA_LOST
    except (hcoverage.CombineError, OSError) as error:
        tell(f"error: {message_of(error)}")
        return DATA_LOST
    result = merged.result
    _record_tests(session, merged)
    problems = [*merged.unmeasured, *what_is_missing(result)]
    reported = _report_all(result, session.rcfile, options, problems)
    if reported == UNDER_THRESHOLD:
        return UNDER_THRESHOLD
    return DATA_LOST if reported or not is_whole(result) else 0


@contextlib.contextmanager
def _nothing_collected() -> Iterator[None]:
    """Look for no garbage: there is hardly any, in pytest's process beside all of its objects."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _record_tests(session: hcoverage.Session, merged: Merged) -> None:
    """Keep what `hcov affected` needs, if tests were contexts."""
    if not hcoverage.are_tests_noted(session):
        return
    try:
        hcoverage.record_tests(session, merged.result, Path.cwd(), is_blind=bool(merged.unmeasured))
    except OSError as error:
        tell(f"warning: what `hcov affected` needs is not kept: {message_of(error)}")


def _report_all(
    result: hcoverage.CombineResult,
    rcfile: hcoverage.Rcfile,
    options: Options,
    problems: Sequence[str],
) -> int:
    """Print and write all requested reports from one analysis; return coverage.py's exit status."""
    from hcov._tell.analysis import analysed  # noqa: PLC0415 - with most of coverage.py

    html = Path(rcfile.settings.html_dir) if "html" in options.reports else None
    with analysed(result.data_file, rcfile) as analysis:
        is_told = bool(html or os.environ.get(STEP_SUMMARY_VARIABLE)) or not result.sole_origin
        if is_told:
            # Imported here: in most runs one origin ran all.
            from hcov._tell.origin_counts import counted_origins  # noqa: PLC0415
            from hcov._tell.origins import report_origins  # noqa: PLC0415
            from hcov._tell.step_summary import append_step_summary  # noqa: PLC0415

            counted = counted_origins(result.data_file, analysis)
        reported = report(
            analysis,
            layout=options.layout,
            files=options.reports,
            fail_under=options.fail_under,
            printed=options.printed,
            quiet=options.quiet,
        )
        if options.imported_before:
            from hcov._tell.imported_before import tell_imported_before  # noqa: PLC0415

            tell_imported_before(options.imported_before, analysis)
        if is_told:
            report_origins(counted, page_directory=html, quiet=options.quiet)
            append_step_summary(analysis, counted, problems, result.data_file)
    return reported


def merge(
    session: hcoverage.Session,
    data_file: Path,
    options: Options,
    command: int,
    seen: Iterable[hcoverage.SeenPython] = (),
) -> Merged:
    """Merge the data of a session's processes, and report the outcome.

    Args:
        session: The session.
        data_file: Where the result goes.
        options: The options.
        command: The process id of the command.
        seen: The Pythons that were seen to start.

    Raises:
        HcoverageError, OSError: As `hcoverage.combine` does.
    """
    problems = session.problems()
    try:
        with progress_bar("merging") as on_progress:
            result = session.combine(
                data_file,
                append=options.append,
                command=command,
                imported=options.imported_before,
                on_progress=None if options.quiet else on_progress,
            )
    except (hcoverage.HcoverageError, OSError):
        _tell_each(what_is_unmeasured(problems, session.unmeasured(seen)))
        raise
    unmeasured = what_is_unmeasured(problems, session.unmeasured(seen, result.merged))
    _tell_each(unmeasured)
    if not options.quiet:
        tell_result(result, "merged", session.core, options.result_name)
    tell_what_is_missing(result)
    tell_unattributed(result, asked_for=options.contexts)
    return Merged(result, unmeasured)


def is_whole(result: hcoverage.CombineResult) -> bool:
    """Return whether a result contains all data."""
    return not (result.set_aside or result.losses)


def tell_start(session: hcoverage.Session, *, quiet: bool) -> None:
    """Print what a session found at its start, and what it lacks."""
    for previous in session.previous:
        text = (
            f"data of an earlier run was left unmerged; it is in {short(previous)}: "
            f"`hcov combine --append {shlex.quote(short(previous))}` merges it"
        )
        tell(with_slug(text, Page.LEFT_OVER))
    if session.rcfile.path is None and not quiet:
        text = "no coverage.py configuration here, so its defaults are used; `hcov init` writes one"
        tell(with_slug(text, Page.NO_RCFILE))


def _tell_each(lines: Iterable[str]) -> None:
    for line in lines:
        tell(line)
