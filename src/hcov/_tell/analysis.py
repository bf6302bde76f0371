"""Runs coverage.py's analysis of a merged data file, once for all output about it.

Each of coverage.py's reports analyses every file again, which takes most of its time. Here the
report, the tables, the summary and the pages share one analysis. The data has executed lines: often
all three of a three-line statement, and lines that the rcfile excludes. So all output about lines
is counted by this analysis, too, and for the same files as in the reports.

It imports most of coverage.py, so it is imported late itself.
"""

from __future__ import annotations

import contextlib
import io
import re
import shutil
import sqlite3
import sys
import tempfile
import warnings
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import coverage
from coverage.exceptions import CoverageException, CoverageWarning, NoDataError
from coverage.files import flat_rootname
from coverage.report_core import get_analysis_to_report
from coverage.results import should_fail_under
from coverage.version import __url__

from hcov._tell.formats import UNDER_THRESHOLD
from hcov._tell.messages import tell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from coverage.plugin import FileReporter
    from coverage.results import Analysis as AnalysisOfFile

    import hcoverage

_FAILED: Final = 1  # like coverage.py's command
# Where coverage.py's reports look at contexts.
_SHOWING_CONTEXTS: Final = ("report:contexts", "html:show_contexts", "json:show_contexts")


class ReportedFile(NamedTuple):
    """A file in coverage.py's reports.

    Attributes:
        measured: Its path in the data.
        name: Its name in the reports.
        page: Its page in coverage.py's HTML report.
        statements: The first lines of statements, without the excluded ones.
        missing: Those of them that did not run.
        reporter: coverage.py's knowledge of its source.
    """

    measured: str
    name: str
    page: str
    statements: frozenset[int]
    missing: frozenset[int]
    reporter: FileReporter

    def statements_in(self, lines: Iterable[int]) -> frozenset[int]:
        """Return the statements that contain some lines."""
        return self.statements.intersection(self.reporter.translate_lines(lines))

    def branches_in(self, arcs: Iterable[tuple[int, int]]) -> frozenset[tuple[int, int]]:
        """Return the arcs that are one of several ways on from a statement."""
        exits = self.reporter.exit_counts()
        found = self.reporter.translate_arcs(arcs)
        possible = self.reporter.arcs()
        return frozenset(arc for arc in found if arc in possible and exits.get(arc[0], 0) > 1)


class Said(NamedTuple):
    """The output of coverage.py when it made a report, and its exit status."""

    text: str
    status: int

    @property
    def reason(self) -> str:
        """Why the status is not 0; empty if it is."""
        return "".join(self.text.splitlines(keepends=True)[-1:]) if self.status else ""


class Analysis:
    """The analysis of one merged data file; see `analysed`."""

    def __init__(self, measuring: _AnalysingOnce) -> None:
        self._measuring = measuring

    def look_with(self, look: Callable[[ReportedFile], object]) -> None:
        """Call a function with each file as it is analysed, which is when most is known of it."""
        self._measuring.look = look

    def report(
        self,
        layout: str | None = None,
        fail_under: float | None = None,
        context: str | None = None,
    ) -> Said:
        """Make coverage.py's report.

        Args:
            layout: `text`, `markdown` or `total`; None for the rcfile's own.
            fail_under: The total, in percent, under which the status is `UNDER_THRESHOLD`; None for
                the rcfile's own.
            context: Report only what ran in this context.
        """
        said = io.StringIO()
        # The rcfile's static context may stand before it.
        contexts = None if context is None else [rf"(^|\|){re.escape(context)}$"]
        with self._reporting(said) as outcome:
            total = self._measuring.report(file=said, output_format=layout, contexts=contexts)
            if fail_under is None:
                fail_under = float(str(self._measuring.get_option("report:fail_under")))
            precision = int(str(self._measuring.get_option("report:precision")))
            if should_fail_under(total, fail_under, precision):
                said.write(f"Coverage failure: {_under(total, fail_under, precision)}\n")
                outcome.append(UNDER_THRESHOLD)
        return Said(said.getvalue(), *outcome[-1:])

    def write(self, kind: str) -> Said:
        """Write one of coverage.py's other reports, to the rcfile's or coverage.py's default path.

        Args:
            kind: `html`, `xml`, `json` or `lcov`.
        """
        said = io.StringIO()
        with self._reporting(said) as outcome, contextlib.redirect_stdout(said):
            getattr(self._measuring, f"{kind}_report")()
        return Said(said.getvalue(), *outcome[-1:])

    def files(self) -> Iterator[ReportedFile]:
        """Yield the files in the reports, as the reports count them.

        Files whose source is not here, or does not parse, are left out.
        """
        before = self._measuring.get_option("report:ignore_errors")
        self._measuring.set_option("report:ignore_errors", value=True)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                for reporter, analysis in get_analysis_to_report(self._measuring, None):
                    yield _reported(reporter, analysis)
        except NoDataError:
            return
        except CoverageException:
            # An error that `ignore_errors` does not cover; the report itself has shown it.
            return
        finally:
            self._measuring.set_option("report:ignore_errors", before)

    @contextlib.contextmanager
    def _reporting(self, said: io.StringIO) -> Iterator[list[int]]:
        """Turn errors into output and an exit status, like the command `coverage`."""
        outcome = [0]
        with warnings.catch_warnings(record=True) as warned:
            # Inside pytest, warnings may be errors, even those about the sources' own text.
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", CoverageWarning)
            try:
                yield outcome
            except CoverageException as error:
                slug = getattr(error, "slug", None)
                page = f"; see {__url__}/messages.html#error-{slug}" if slug else ""
                text = str(error.args[0])
                said.write(f"{text.rstrip('.') if page else text}{page}\n")
                outcome.append(_FAILED)
            except Exception as error:  # noqa: BLE001 - of a plugin: what was measured is merged
                said.write(f"{type(error).__name__}: {error}\n")
                outcome.append(_FAILED)
        for text in dict.fromkeys(str(warning.message) for warning in warned):
            if text not in self._measuring.told:
                self._measuring.told.add(text)
                tell(f"warning: coverage.py: {text}")


class _AnalysingOnce(coverage.Coverage):
    """Caches the analysis of each file; if coverage.py calls it differently, there is no cache."""

    def __init__(self, **arguments: Any) -> None:  # noqa: ANN401 - coverage.py's
        super().__init__(**arguments)
        self.look: Callable[[ReportedFile], object] | None = None
        self.told: set[str] = set()
        self._known: dict[Any, AnalysisOfFile] = {}

    def _prepare_data_for_reporting(self) -> None:
        """Close the old data, which coverage.py replaces if `[paths]` maps it."""
        before = self.get_data()
        super()._prepare_data_for_reporting()
        if self.get_data() is not before:
            before.close(force=True)

    def _analyze(self, morf: Any, *arguments: Any, **named: Any) -> AnalysisOfFile:  # noqa: ANN401
        if morf not in self._known:
            reporter = named.get("file_reporter") or self._get_file_reporter(morf)
            with self._named_if_it_fails(reporter):
                analysis = super()._analyze(morf, *arguments, **named)
            if self.look is not None:
                self.look(_reported(reporter, analysis))
            self._known[morf] = analysis
        return self._known[morf]

    @contextlib.contextmanager
    def _named_if_it_fails(self, reporter: FileReporter) -> Iterator[None]:
        """Name the file in an error in which coverage.py does not: of its encoding, or a plugin's.

        With `ignore_errors` coverage.py names it itself.
        """
        try:
            yield
        except CoverageException:
            raise
        except Exception as error:
            if self.get_option("report:ignore_errors"):
                raise
            text = f"Couldn't parse '{reporter.filename}': {type(error).__name__}: {error}"
            raise CoverageException(text) from error


@contextlib.contextmanager
def analysed(
    data_file: Path, rcfile: hcoverage.Rcfile, *, by_context: bool = False
) -> Iterator[Analysis]:
    """Provide the analysis of one merged data file, and of no file beside it.

    Args:
        data_file: The data file.
        rcfile: The rcfile, whose `[report]` settings count.
        by_context: Whether it is asked what ran in one context.
    """
    with tempfile.TemporaryDirectory(prefix="hcov-") as directory, _plugins_of_here(rcfile):
        # A copy: other files beside the data file do not belong to it.
        alone = Path(directory) / ".coverage"
        shutil.copyfile(data_file, alone)
        with _this_process_still_measured():
            measuring = _AnalysingOnce(
                data_file=str(alone), config_file=rcfile.config_file, messages=True
            )
        if not (by_context or any(map(measuring.get_option, _SHOWING_CONTEXTS))):
            _put_contexts_together(alone)
        try:
            measuring.load()
            yield Analysis(measuring)
        finally:
            measuring.get_data().close(force=True)


def _put_contexts_together(data_file: Path) -> None:
    """Have what ran in all contexts in one: coverage.py would read each, again for each question.

    What is wrong with the file coverage.py tells.
    """
    with (
        contextlib.suppress(sqlite3.Error),
        contextlib.closing(sqlite3.connect(data_file)) as database,
        database,
    ):
        contexts = [number for (number,) in database.execute("SELECT id FROM context")]
        if len(contexts) < 2:  # noqa: PLR2004 - nothing to put together
            return
        lines: dict[int, int] = defaultdict(int)
        for file, bits in database.execute("SELECT file_id, numbits FROM line_bits"):
            lines[file] |= int.from_bytes(bits, "little")
        arcs = database.execute("SELECT DISTINCT file_id, fromno, tono FROM arc").fetchall()
        database.execute("DELETE FROM line_bits")
        database.execute("DELETE FROM arc")
        database.executemany(
            f"INSERT INTO line_bits VALUES (?, {contexts[0]}, ?)",  # noqa: S608 - a number
            [(file, _as_bytes(bits)) for file, bits in lines.items()],
        )
        database.executemany(f"INSERT INTO arc VALUES (?, {contexts[0]}, ?, ?)", arcs)  # noqa: S608
        database.execute("DELETE FROM context WHERE id != ?", contexts[:1])


def _as_bytes(bits: int) -> bytes:
    return bits.to_bytes((bits.bit_length() + 7) // 8, "little")


@contextlib.contextmanager
def _plugins_of_here(rcfile: hcoverage.Rcfile) -> Iterator[None]:
    """Make the project's plugins importable, as for the command `coverage`."""
    if not rcfile.settings.plugins:
        yield
        return
    sys.path.append("")
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove("")


@contextlib.contextmanager
def _this_process_still_measured() -> Iterator[None]:
    """Keep coverage.py from ending the measuring of this process."""
    started = getattr(coverage.process_startup, "coverage", None)
    saves = getattr(started, "_auto_save", None)
    try:
        yield
    finally:
        if saves is not None:
            started._auto_save = saves  # type: ignore[union-attr]  # noqa: SLF001


def _reported(reporter: FileReporter, analysis: AnalysisOfFile) -> ReportedFile:
    name = reporter.relative_filename()
    return ReportedFile(
        measured=analysis.filename,
        name=name,
        page=f"{flat_rootname(name)}.html",
        statements=frozenset(analysis.statements),
        missing=frozenset(analysis.missing),
        reporter=reporter,
    )


def _under(total: float, fail_under: float, precision: int) -> str:
    try:
        from coverage.results import format_fail_under_msg  # noqa: PLC0415 - of newer ones
    except ImportError:
        return f"total of {total:.{precision}f} is less than fail-under={fail_under:.{precision}f}"
    return format_fail_under_msg(total, fail_under, precision)
