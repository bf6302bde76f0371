"""Completes a result: adds the files that nothing ran, removes those that must not be reported.

It imports much of coverage.py, so it is imported late itself.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hcoverage._read.part import Kind
from hcoverage._result.merged import moved
from hcoverage._result.outcome import OnlyOwn
from hcoverage._sources.choice import counted, is_here
from hcoverage._sources.roots import of_unknown_plugins, outside, reportable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from coverage.config import CoverageConfig

    from hcoverage._combine.gathering import Found
    from hcoverage._combine.inputs import Inputs
    from hcoverage._combine.selection import Selection
    from hcoverage._read.data_file_batch import Batch
    from hcoverage._read.part import Part
    from hcoverage._sources.choice import Choice


class Completed(NamedTuple):
    """The files that were removed from a result, and what it lacks.

    Attributes:
        not_here: Files that ran on this machine and no longer exist.
        outside: Files outside the project.
        of_no_plugin: Files whose plugin is not here, each with that plugin's name.
        never_imported: Sources that are no directories, and of which nothing ran.
    """

    not_here: tuple[str, ...]
    outside: tuple[str, ...] = ()
    never_imported: tuple[str, ...] = ()
    of_no_plugin: Mapping[str, str] = {}


def complete(
    selection: Selection,
    found: Found,
    existing: Batch | None,
    inputs: Inputs,
    imported: Collection[str],
    *,
    is_run_here: bool,
) -> Completed:
    """Add the files that nothing ran, and remove those that must not or cannot be reported."""
    merged = selection.merged
    never_imported = found.choice.never_imported(_seen(merged.part))
    kept = {path for each in (existing.parts.values() if existing else ()) for path in each.paths}
    absolute = {path: os.path.abspath(path) for path in merged.part.paths}  # noqa: PTH100
    gone = {path for path, place in absolute.items() if not is_here(place)}
    if len(gone) == len(absolute) and not is_run_here:  # merged on a machine without the sources
        gone = set()
    gone -= {*kept, *merged.part.tracers}
    merged.part = merged.part.without(gone)
    foreign, of_no_plugin = _untrusted(merged.part, inputs, found.settings)
    merged.part = merged.part.without({*foreign, *of_no_plugin})
    ran = {absolute[path] for path in merged.part.paths}
    never_ran = found.choice.never_ran(ran) | (counted(imported, found.settings) - ran)
    # These did run, and are reported as left out.
    never_ran -= {*selection.recorded.stale, *(other.path for other in selection.other_versions)}
    merged.part = _named(merged.part, never_ran, found.choice)
    merged.origins = _named(merged.origins, set(), found.choice)
    return Completed(
        not_here=tuple(sorted(gone - found.finder.not_found)),
        outside=foreign,
        of_no_plugin=of_no_plugin,
        never_imported=never_imported,
    )


def only_own(own: Batch, selection: Selection, completed: Completed) -> OnlyOwn:
    """Find what the command's own data has, and the result lacks without a word about it."""
    merged = selection.merged.part
    told = {*completed.not_here, *completed.outside, *completed.of_no_plugin}
    told |= {*selection.recorded.stale, *(other.path for other in selection.other_versions)}
    known = {os.path.abspath(path) for path in (*merged.paths, *told)}  # noqa: PTH100
    here = f"{Path.cwd()}/"
    files = {os.path.abspath(path) for part in own.parts.values() for path in part.paths}  # noqa: PTH100
    return OnlyOwn(
        tuple(sorted(path for path in files - known if path.startswith(here) and is_here(path))),
        branches=Kind.ARCS in own.parts and not merged.arcs,
    )


def _seen(part: Part) -> Iterator[str]:
    """Find the files that ran; of an empty one no line does, and most of these are packages'."""
    ran = {path for path, _ in (*part.lines, *part.arcs)}
    yield from (path for path in part.paths if path in ran or path.endswith("/__init__.py"))


def _untrusted(
    part: Part, inputs: Inputs, settings: CoverageConfig
) -> tuple[tuple[str, ...], Mapping[str, str]]:
    """Find the files that are not the project's, in data from directories that others can write to.

    Returns:
        The files outside the project; and files of plugins that are not here, with the plugin.
    """
    if inputs.is_trusted:
        return (), {}
    here = Path.cwd()
    found = outside(
        part.paths, reportable(settings, here), here, foreign=inputs.foreign_directories
    )
    inside = {path: plugin for path, plugin in part.tracers.items() if path not in found}
    return tuple(sorted(found)), of_unknown_plugins(inside, settings)


def _named(part: Part, never_ran: set[str], choice: Choice) -> Part:
    part.paths.update(dict.fromkeys(sorted(never_ran), ("", 0)))
    return moved(part, choice.name_of)
