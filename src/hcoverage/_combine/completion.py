"""Completes a result: adds the files that nothing ran, takes out what must not be reported.

Imports much of coverage.py, so it is itself imported late.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING

from hcoverage._result.merged import moved
from hcoverage._sources.choice import is_here
from hcoverage._sources.roots import of_unknown_plugins, outside, reportable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from coverage.config import CoverageConfig

    from hcoverage._combine.gathering import Found
    from hcoverage._combine.inputs import Inputs
    from hcoverage._combine.selection import Selection
    from hcoverage._read.data_file_batch import Batch
    from hcoverage._read.part import Part
    from hcoverage._sources.choice import Choice


@dataclasses.dataclass(frozen=True)
class Completed:
    """What has become of a result beside what ran.

    Attributes:
        not_here: The files that ran on this machine and are not here any more, and so not in it.
        outside: Files that are not in it since they are outside the project.
        of_no_plugin: Those that are not in it since their plugin is not here; and that plugin.
    """

    not_here: tuple[str, ...]
    outside: tuple[str, ...] = ()
    of_no_plugin: Mapping[str, str] = dataclasses.field(default_factory=dict)


def complete(
    selection: Selection,
    found: Found,
    existing: Batch | None,
    inputs: Inputs,
    *,
    is_run_here: bool,
) -> Completed:
    """Add the files that nothing ran, and take out those that must not or cannot be reported."""
    merged = selection.merged
    kept = {path for each in (existing.parts.values() if existing else ()) for path in each.paths}
    absolute = {path: os.path.abspath(path) for path in merged.part.paths}  # noqa: PTH100
    gone = {path for path, place in absolute.items() if not is_here(place)}
    if len(gone) == len(absolute) and not is_run_here:  # merged where no source is
        gone = set()
    gone -= {*kept, *merged.part.tracers}
    merged.part = merged.part.without(gone)
    foreign, of_no_plugin = _untrusted(merged.part, inputs, found.settings)
    merged.part = merged.part.without({*foreign, *of_no_plugin})
    ran = {absolute[path] for path in merged.part.paths}
    never_ran = found.choice.never_ran(ran)
    # They are told to be left out, since they did run.
    never_ran -= {*selection.recorded.stale, *(other.path for other in selection.other_versions)}
    merged.part = _named(merged.part, never_ran, found.choice)
    merged.origins = _named(merged.origins, set(), found.choice)
    return Completed(tuple(sorted(gone - found.finder.not_found)), foreign, of_no_plugin)


def _untrusted(
    part: Part, inputs: Inputs, settings: CoverageConfig
) -> tuple[tuple[str, ...], Mapping[str, str]]:
    """Find what is not the project's in what is merged from places that others write to.

    Returns:
        The files that are outside the project; and those of plugins that are not here, with these.
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
