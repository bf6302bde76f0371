"""Combine: merge data files and recordings into one data file, and lose none of them.

What cannot be merged is set aside and told instead of ending the merge, and nothing is removed
before the result is on disk. Here is the order of it, and what is told at the end. Finding and
reading files is `gathering`'s, deciding what of them is merged `selection`'s, what else is in the
result `completion`'s, and putting it in place `_result.target`'s.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING

from hcoverage._combine.attribution import attribution
from hcoverage._combine.gathering import (
    Progress,
    Reading,
    existing_data,
    gather,
    listed_in,
    origins_in,
)
from hcoverage._combine.inputs import Inputs, opened
from hcoverage._errors import CombineError, NoDataError
from hcoverage._result.outcome import CombineResult
from hcoverage._result.target import held
from hcoverage._sources.paths_suggestion import suggest_paths
from hcoverage._untrusted.file import stamp
from hcoverage._untrusted.set_aside import SetAside

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from concurrent.futures import Executor

    from hcoverage._combine.selection import Selection
    from hcoverage._progress import OnProgress
    from hcoverage._read.data_file_batch import ReadFile
    from hcoverage._result.target import Target
    from hcoverage._settings.rcfile import Rcfile
    from hcoverage._sources.identity import Known


def combine(
    paths: Iterable[str | os.PathLike[str]],
    *,
    coveragerc: str | os.PathLike[str] | Rcfile | None = None,
    data_file: str | os.PathLike[str] = ".coverage",
    append: bool = False,
    keep: bool = False,
    command: int | None = None,
    known: Mapping[str, Known] | None = None,
    executor: Executor | None = None,
    on_progress: OnProgress | None = None,
) -> CombineResult:
    """Merge data files into one that coverage.py's reports read.

    What counts in it is chosen by the rcfile, as coverage.py would have chosen in the current
    directory; what nothing ran of its `source` is in it, too. Where any of the files is here that
    are in it, those that are not are left out, since no report could be made with them.

    Two that merge into the same data file at the same time give what both have together. One that
    is killed leaves all data where it was or in the result; merge again to have it all.

    Args:
        paths: Data files and recordings, directories that hold some, archives (`.zip`, `.tar`,
            `.tar.gz`, `.tar.xz`, `.tar.bz2`, with Python 3.14 `.tar.zst`), and URLs for fsspec
            such as `s3://bucket/run-42/`, which need the extra `hcoverage[remote]`.
        coveragerc: The rcfile, or what was read of it; without one, what coverage.py finds in the
            current directory, else its defaults.
        data_file: Where the result goes.
        append: Merge what is in `data_file` already, too.
        keep: Leave the merged files where they are. Otherwise they are removed, once the result is
            safely on disk. What is in archives and at URLs stays in any case.
        command: The process id of the command that all of it comes from, to tell its own data from
            that of its subprocesses.
        known: What sources were when the run began: their sizes, times and CRC-32s, by absolute
            paths. One that was written again since with the same text is still the same.
        executor: Who reads the files, in batches; its workers need hcoverage and the same file
            system. Without one, processes on all CPUs, where there is enough to read.
        on_progress: Called with how many files have been read, and how many there are.

    Returns:
        What was merged into what, and what was set aside.

    Raises:
        NoInputError: One of the paths is not there.
        MissingExtraError: A URL is given, and what reads it is not installed.
        NoDataError: There is no data file in the paths.
        CombineError: None of the data files could be merged, or what is appended to cannot be read;
            nothing has been changed.
        OSError: The result cannot be written; nothing has been removed.
    """
    # A link is replaced, not followed.
    absolute = Path(os.path.abspath(data_file))  # noqa: PTH100
    with opened(paths) as inputs, held(absolute) as target:
        listed = listed_in(inputs.paths)
        progress = Progress(on_progress or _no_progress, len(listed))
        reading = Reading(
            origins_in(inputs.paths, listed, command), executor, progress, known or {}
        )
        found = gather(inputs.paths, listed, target, coveragerc, reading)
        # Imported here, with much of coverage.py.
        from hcoverage._combine.completion import complete  # noqa: PLC0415
        from hcoverage._combine.selection import select  # noqa: PLC0415

        existing = existing_data(target) if append or target.must_keep else None
        selection = select(found, existing)
        shown = [*inputs.set_aside, *_shown(selection.set_aside, inputs)]
        if not selection.has_data:
            raise _nothing_to_merge(shown, found.recorded.losses)
        completed = complete(selection, found, existing, inputs, is_run_here=command is not None)
        selection.merged.write(target.result)
        _write_origins(selection, target)
        target.put_in_place()
        changed = [] if keep else _remove(selection, inputs, target)
        merged = selection.merged_files(target.path if existing else None)
        return CombineResult(
            data_file=target.path,
            merged=tuple(inputs.shown(file) for file in merged),
            set_aside=(*shown, *_shown(changed, inputs)),
            recorded=selection.recorded.processes,
            stale=selection.recorded.stale,
            losses=selection.recorded.losses,
            duplicates=tuple(inputs.shown(file) for file in _duplicates(selection.files)),
            outside=completed.outside,
            unknown_plugins=completed.of_no_plugin,
            mapped=found.finder.trees,
            unmapped=found.finder.unmapped,
            not_here=completed.not_here,
            other_versions=(*selection.recorded.other_versions, *selection.other_versions),
            attribution=attribution(
                selection.recorded.processes, selection.files, found.settings, command
            ),
            saved=tuple(file.origin for file in selection.files if file.origin),
            paths_suggestion=suggest_paths(found.finder.unmapped, found.rcfile),
        )


def _shown(set_aside: Iterable[SetAside], inputs: Inputs) -> list[SetAside]:
    return [dataclasses.replace(item, path=inputs.shown(item.path)) for item in set_aside]


def _write_origins(selection: Selection, target: Target) -> None:
    """Write what each origin ran, when all else is written."""
    from hcoverage._result.origin_data import write_origins, write_sole_origin  # noqa: PLC0415

    processes, merged = selection.processes, selection.merged
    if merged.sole_origin:
        write_sole_origin(merged.sole_origin, processes, target.result)
        return
    write_origins(merged.by_origin(), processes, target.result)


def _no_progress(_done: int, _total: int, /) -> None:
    pass


def _remove(selection: Selection, inputs: Inputs, target: Target) -> list[SetAside]:
    """Remove what is in the result, but for what has been written to since it was read."""
    changed = [file for file in selection.files if not _is_as_read(file)]
    kept = {file.path for file in changed}
    merged = [Path(file.path) for file in selection.files if file.path not in kept]
    removed = [*merged, *selection.recorded.merged, *selection.outlived]
    target.remove(file for file in removed if inputs.may_be_removed(file))
    reason = "it was written to while it was merged: combine again with --append"
    return [SetAside(Path(path), reason) for path in sorted(kept)]


def _is_as_read(file: ReadFile) -> bool:
    try:
        return stamp(os.lstat(file.path)) == file.stamp
    except FileNotFoundError:
        return True  # nothing is lost with it: what it held is merged


def _duplicates(files: Iterable[ReadFile]) -> Iterable[Path]:
    seen: set[bytes] = set()
    for file in files:
        if file.digest in seen:
            yield Path(file.path)
        seen.add(file.digest)


def _nothing_to_merge(set_aside: list[SetAside], losses: tuple[str, ...]) -> CombineError:
    if not set_aside and not losses:
        return NoDataError(
            "no data to combine: no Python process was measured, or none has ended yet. "
            "Run it with `hcov run`, or with the variables that `hcov inject` prints"
        )
    reasons = [*(f"{item.path}: {item.reason}" for item in set_aside), *losses]
    return CombineError("\n  ".join(["nothing of what was found could be used:", *reasons]))
