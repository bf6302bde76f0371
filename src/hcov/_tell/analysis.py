"""coverage.py's analysis of a merged data file, made once for all that is told of it.

Each of coverage.py's reports analyses each file again, which is most of what it takes. Here the
report, the tables, the summary and the pages share one analysis. Data has the lines that ran: of a
statement of three lines often all three, and lines that the rcfile excludes. So what is told of
lines is counted by this analysis, too, and for the files that the reports are about.

It imports most of coverage.py, so it is itself imported late.
"""

from __future__ import annotations

import contextlib
import io
import re
import shutil
import sys
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

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

_FAILED: Final = 1  # as coverage.py's command has it


@dataclass(frozen=True)
class ReportedFile:
    """A file that coverage.py's reports are about.

    Attributes:
        measured: Its path in the data.
        name: What the reports call it.
        page: Its page in coverage.py's HTML report.
        statements: The lines that are the first of a statement, without the excluded ones.
        missing: Those of them that did not run.
    """

    measured: str
    name: str
    page: str
    statements: frozenset[int]
    missing: frozenset[int]
    _reporter: FileReporter

    def statements_in(self, lines: Iterable[int]) -> frozenset[int]:
        """Return the statements that some lines are of."""
        return self.statements.intersection(self._reporter.translate_lines(lines))

    def branches_in(self, arcs: Iterable[tuple[int, int]]) -> frozenset[tuple[int, int]]:
        """Return the arcs that are one of several ways on from a statement."""
        exits = self._reporter.exit_counts()
        found = self._reporter.translate_arcs(arcs)
        possible = self._reporter.arcs()
        return frozenset(arc for arc in found if arc in possible and exits.get(arc[0], 0) > 1)


@dataclass(frozen=True)
class Said:
    """What coverage.py said, making a report, and its exit status."""

    text: str
    status: int


class Analysis:
    """The analysis of one merged data file; see `analysed`."""

    def __init__(self, measuring: _AnalysingOnce) -> None:
        self._measuring = measuring

    def look_with(self, look: Callable[[ReportedFile], object]) -> None:
        """Have something look at each file as it is analysed, which is when most of it is known."""
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
            context: What ran in this context alone.
        """
        said = io.StringIO()
        # A static context of the rcfile stands before it.
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
        """Write one of coverage.py's other reports, to where the rcfile or coverage.py says.

        Args:
            kind: `html`, `xml`, `json` or `lcov`.
        """
        said = io.StringIO()
        with self._reporting(said) as outcome, contextlib.redirect_stdout(said):
            getattr(self._measuring, f"{kind}_report")()
        return Said(said.getvalue(), *outcome[-1:])

    def files(self) -> Iterator[ReportedFile]:
        """Return the files that the reports are about, as they say, one after the other.

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
            # One that `ignore_errors` does not cover; the report itself has told it.
            return
        finally:
            self._measuring.set_option("report:ignore_errors", before)

    @contextlib.contextmanager
    def _reporting(self, said: io.StringIO) -> Iterator[list[int]]:
        """Have what goes wrong be said, and be the status, as the command `coverage` has it."""
        outcome = [0]
        with warnings.catch_warnings(record=True) as warned:
            # Inside pytest others may be errors, also those that the sources' own text gives.
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
    """Keeps what it found out of each file; a coverage.py that asks otherwise does without."""

    def __init__(self, **arguments: Any) -> None:  # noqa: ANN401 - coverage.py's
        super().__init__(**arguments)
        self.look: Callable[[ReportedFile], object] | None = None
        self.told: set[str] = set()
        self._known: dict[Any, AnalysisOfFile] = {}

    def _prepare_data_for_reporting(self) -> None:
        """Close the data that coverage.py puts another in place of, where `[paths]` maps it."""
        before = self.get_data()
        super()._prepare_data_for_reporting()
        if self.get_data() is not before:
            before.close(force=True)

    def _analyze(self, morf: Any, *arguments: Any, **named: Any) -> AnalysisOfFile:  # noqa: ANN401
        if morf not in self._known:
            analysis = super()._analyze(morf, *arguments, **named)
            if self.look is not None:
                reporter = named.get("file_reporter") or self._get_file_reporter(morf)
                self.look(_reported(reporter, analysis))
            self._known[morf] = analysis
        return self._known[morf]


@contextlib.contextmanager
def analysed(data_file: Path, rcfile: hcoverage.Rcfile) -> Iterator[Analysis]:
    """Have the analysis of a merged data file, and of nothing beside it.

    Args:
        data_file: The data file.
        rcfile: The rcfile, whose `[report]` settings count.
    """
    with tempfile.TemporaryDirectory(prefix="hcov-") as directory, _plugins_of_here(rcfile):
        # A copy: what else lies beside the data file is not part of it.
        alone = Path(directory) / ".coverage"
        shutil.copyfile(data_file, alone)
        with _this_process_still_measured():
            measuring = _AnalysingOnce(
                data_file=str(alone), config_file=rcfile.config_file, messages=True
            )
        try:
            measuring.load()
            yield Analysis(measuring)
        finally:
            measuring.get_data().close(force=True)


@contextlib.contextmanager
def _plugins_of_here(rcfile: hcoverage.Rcfile) -> Iterator[None]:
    """Have plugins of the project be found, as the command `coverage` finds them."""
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
    """Keep coverage.py from ending the measuring of this process, where it does that."""
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
        _reporter=reporter,
    )


def _under(total: float, fail_under: float, precision: int) -> str:
    try:
        from coverage.results import format_fail_under_msg  # noqa: PLC0415 - of newer ones
    except ImportError:
        return f"total of {total:.{precision}f} is less than fail-under={fail_under:.{precision}f}"
    return format_fail_under_msg(total, fail_under, precision)
