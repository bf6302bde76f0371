"""Combine: merges data files and recordings into one data file, and loses none of them.

Files that cannot be merged are set aside and reported; they do not end the merge. Nothing is
removed before the result is on disk. This module has the order of the steps, and their outcome:
`gathering` finds and reads files, `selection` decides what is merged, `completion` adds files that
nothing ran, and `_result.target` puts the result in place.
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
    written_since,
)
from hcoverage._combine.inputs import Inputs, opened
from hcoverage._errors import CombineError, NoDataError
from hcoverage._result.outcome import NOTHING_OWN, CombineResult
from hcoverage._result.target import held
from hcoverage._sources.paths_suggestion import suggest_paths
from hcoverage._untrusted.file import stamp
from hcoverage._untrusted.set_aside import SetAside

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
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
    imported: Collection[str] = (),
    began: int | None = None,
    hand_on: Path | None = None,
    executor: Executor | None = None,
    on_progress: OnProgress | None = None,
) -> CombineResult:
    """Merge data files into one that coverage.py's reports read.

    The rcfile decides what counts, as coverage.py would decide in the current directory; files of
    `source` that nothing ran are included. If any measured file exists here, those that do not
    are left out, since no report could be made with them.

    If two processes merge into the same data file at once, it ends up with the data of both. If
    one is killed, all data is still where it was or in the result; merge again to get it all.

    Args:
        paths: Data files and recordings, directories that hold some, archives (`.zip`, `.tar`,
            `.tar.gz`, `.tar.xz`, `.tar.bz2`, with Python 3.14 `.tar.zst`), and URLs for fsspec
            such as `s3://bucket/run-42/`, which need the extra `hcoverage[remote]`.
        coveragerc: The rcfile, as a path or already read. By default the one that coverage.py finds
            in the current directory, else coverage.py's defaults.
        data_file: Where the result goes.
        append: Also keep what `data_file` already contains.
        keep: Leave the merged files where they are. Otherwise they are removed once the result is
            safely on disk. Archives and URLs are never changed.
        command: The process id of the measured command, to tell its own data from that of its
            subprocesses.
        known: The state of sources when the run began: sizes, times and CRC-32s, by absolute path.
            A source that was written again since, with the same text, counts as unchanged.
        imported: Files that were imported before measuring began. Those that count are in the
            result, also if no line of them ran since.
        began: When the measured command began, in nanoseconds since the epoch. What it has written
            to `data_file` since is compared with the result.
        hand_on: A data directory that gets the merged files, instead of their removal.
        executor: Reads the files, in batches; its workers need hcoverage and the same file system.
            By default processes on all CPUs do, if there is enough to read.
        on_progress: Called with the number of files read so far, and the number of all files.

    Returns:
        What was merged into what, and what was set aside.

    Raises:
        NoInputError: One of the paths does not exist.
        MissingExtraError: A URL is given, and the library to read it is not installed.
        NoDataError: There is no data file in the paths.
        CombineError: None of the data files could be merged, or the file to append to cannot be
            read; nothing has been changed.
        OSError: The result cannot be written; nothing has been removed.
    """
    # A symbolic link is replaced, not followed.
    absolute = Path(os.path.abspath(data_file))  # noqa: PTH100
    with opened(paths) as inputs, held(absolute) as target:
        listed = listed_in(inputs.paths)
        progress = Progress(on_progress or _no_progress, len(listed))
        reading = Reading(
            origins_in(inputs.paths, listed, command), executor, progress, known or {}
        )
        found = gather(inputs.paths, listed, target, coveragerc, reading)
        # Imported here: it imports much of coverage.py.
        from hcoverage._combine.completion import complete, only_own  # noqa: PLC0415
        from hcoverage._combine.selection import select  # noqa: PLC0415

        existing = existing_data(target) if append or target.must_keep else None
        selection = select(found, existing, is_of_run=command is not None)
        shown = [*inputs.set_aside, *_shown(selection.set_aside, inputs)]
        if not selection.has_data:
            raise _nothing_to_merge(shown, found.recorded.losses)
        completed = complete(
            selection, found, existing, inputs, imported, is_run_here=command is not None
        )
        own = None if existing else written_since(target, began)
        selection.merged.write(target.result)
        _write_origins(selection, target)
        target.put_in_place()
        changed = [] if keep else _remove(selection, inputs, target, hand_on)
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
            never_imported=completed.never_imported,
            only_own=only_own(own, selection, completed) if own else NOTHING_OWN,
            other_versions=(*selection.recorded.other_versions, *selection.other_versions),
            attribution=attribution(
                selection.recorded.processes,
                selection.files,
                found.settings,
                command,
                found.asked_for_others,
            ),
            unsaved=tuple(f"{pid} on {host}" for host, pid in found.unsaved),
            saved=tuple(file.origin for file in selection.files if file.origin),
            sole_origin=_sole_origin(selection),
            paths_suggestion=suggest_paths(found.finder.unmapped, found.rcfile),
        )


def _shown(set_aside: Iterable[SetAside], inputs: Inputs) -> list[SetAside]:
    return [dataclasses.replace(item, path=inputs.shown(item.path)) for item in set_aside]


def _write_origins(selection: Selection, target: Target) -> None:
    """Write what each origin ran, after everything else is written."""
    from hcoverage._result.origin_data import write_origins, write_sole_origin  # noqa: PLC0415

    processes, merged = selection.processes, selection.merged
    if merged.sole_origin:
        write_sole_origin(merged.sole_origin, processes, target.result)
        return
    write_origins(merged.by_origin(), processes, target.result)


def _sole_origin(selection: Selection) -> str:
    sole = selection.merged.sole_origin
    return sole if sole and selection.processes.keys() <= {sole} else ""


def _no_progress(_done: int, _total: int, /) -> None:
    pass


def _remove(
    selection: Selection, inputs: Inputs, target: Target, hand_on: Path | None
) -> list[SetAside]:
    """Remove or hand on the merged files, except those that were written to since the reading."""
    changed = [file for file in selection.files if not _is_as_read(file)]
    kept = {file.path for file in changed}
    merged = [Path(file.path) for file in selection.files if file.path not in kept]
    removed = [*merged, *selection.recorded.merged, *selection.outlived]
    target.remove((file for file in removed if inputs.may_be_removed(file)), hand_on)
    reason = "it was written to while it was merged: combine again with --append"
    return [SetAside(Path(path), reason) for path in sorted(kept)]


def _is_as_read(file: ReadFile) -> bool:
    try:
        return stamp(os.lstat(file.path)) == file.stamp
    except FileNotFoundError:
        return True  # nothing is lost: its content is merged


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
    return CombineError("\n  ".join(["none of the files could be used:", *reasons]))
