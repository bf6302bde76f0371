"""Which lines of a file are statements, as coverage.py's reports count them.

Data has the lines that ran: of a statement of three lines often all three, and lines that the
rcfile excludes. So what is told of lines is counted by coverage.py's own analysis, and for the
files that its reports are about.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

# coverage.py is imported late: where it is missing, `hcov` has to live long enough to say so.

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import coverage
    from coverage.plugin import FileReporter

    import hcoverage


@dataclass(frozen=True)
class ReportedFile:
    """A file that coverage.py's reports are about.

    Attributes:
        measured: Its path in the data.
        name: What the reports call it.
        page: Its page in coverage.py's HTML report.
        statements: The lines that are the first of a statement, without the excluded ones.
    """

    measured: str
    name: str
    page: str
    statements: frozenset[int]
    _reporter: FileReporter

    def statements_in(self, lines: Iterable[int]) -> frozenset[int]:
        """Give the statements that some lines are of."""
        return self.statements.intersection(self._reporter.translate_lines(lines))

    def branches_in(self, arcs: Iterable[tuple[int, int]]) -> frozenset[tuple[int, int]]:
        """Give the arcs that are one of several ways on from a statement."""
        exits = self._reporter.exit_counts()
        found = self._reporter.translate_arcs(arcs)
        possible = self._reporter.arcs()
        return frozenset(arc for arc in found if arc in possible and exits.get(arc[0], 0) > 1)


@contextlib.contextmanager
def reported_files(data_file: Path, rcfile: hcoverage.Rcfile) -> Iterator[Iterator[ReportedFile]]:
    """Give the files that reports of a data file are about, as they say, one after the other.

    Files whose source is not here, or does not parse, are left out.

    Args:
        data_file: The data file.
        rcfile: The rcfile, whose `[report]` settings count.
    """
    import coverage  # noqa: PLC0415
    from coverage.exceptions import CoverageWarning  # noqa: PLC0415

    with tempfile.TemporaryDirectory(prefix="hcov-") as directory, warnings.catch_warnings():
        warnings.simplefilter("ignore", CoverageWarning)
        # A copy: what else lies beside the data file is not part of it.
        alone = Path(directory) / ".coverage"
        shutil.copyfile(data_file, alone)
        measuring = coverage.Coverage(data_file=str(alone), config_file=rcfile.config_file)
        measuring.set_option("report:ignore_errors", value=True)
        measuring.load()
        yield _reported(measuring)
        measuring.get_data().close(force=True)


def _reported(measuring: coverage.Coverage) -> Iterator[ReportedFile]:
    from coverage.exceptions import CoverageException, NoDataError  # noqa: PLC0415
    from coverage.files import flat_rootname  # noqa: PLC0415
    from coverage.report_core import get_analysis_to_report  # noqa: PLC0415

    try:
        for reporter, analysis in get_analysis_to_report(measuring, None):
            name = reporter.relative_filename()
            yield ReportedFile(
                measured=analysis.filename,
                name=name,
                page=f"{flat_rootname(name)}.html",
                statements=frozenset(analysis.statements),
                _reporter=reporter,
            )
    except NoDataError:
        return
    except CoverageException:
        # One that `ignore_errors` does not cover; the report itself has told it.
        return
