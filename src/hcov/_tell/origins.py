"""Reports who ran what: prints a table, and writes a page beside coverage.py's own."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import hcoverage
from hcov._tell.messages import message_of, tell
from hcov._tell.origin_table import table
from hcov._tell.summary import short

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from hcov._tell.origin_counts import CountedOrigins, OriginsOfFile


def report_origins(
    counted: CountedOrigins | None, *, page_directory: Path | None, quiet: bool
) -> None:
    """Print who ran what, if there is more than one origin, and write the page about it.

    Args:
        counted: The origins, counted; None if the data has none.
        page_directory: The directory of coverage.py's HTML report; None for no page.
        quiet: Print only problems.
    """
    if page_directory is not None:
        from hcov._tell.origins_page import NAME  # noqa: PLC0415 - most runs write none

        # The page of an earlier run is outdated, and may not be overwritten below.
        with contextlib.suppress(OSError):
            (page_directory / NAME).unlink(missing_ok=True)
    if counted is None:
        return
    is_told = not quiet and len(counted.origins.names) > 1
    if not is_told and page_directory is None:
        return
    files = counted.files()
    if is_told:
        rows_shown = table(counted.origins, files)
        tell("\n".join(["who ran what:", *(f"  {row}" for row in rows_shown)]))
    if page_directory is not None and page_directory.is_dir():
        _write_page(counted.origins, files, page_directory, quiet=quiet)


def _write_page(
    origins: hcoverage.OriginData,
    files: Sequence[OriginsOfFile],
    directory: Path,
    *,
    quiet: bool,
) -> None:
    from hcov._tell.origins_page import write_page  # noqa: PLC0415 - most runs write none

    try:
        path = write_page(origins, files, directory)
    except (hcoverage.MissingExtraError, OSError) as error:
        tell(f"warning: {message_of(error)}")
    else:
        if not quiet:
            tell(f"wrote {short(path.absolute())}: who ran what, file by file")
