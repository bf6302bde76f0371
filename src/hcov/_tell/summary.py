"""Reports the outcome of combining: how much, who ran it, by which core, and what is missing."""

from __future__ import annotations

import collections
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Final

import hcoverage
from hcov._tell.messages import tell
from hcoverage import Page, with_slug

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_SHOWN: Final = 10
_UNATTRIBUTED_SHOWN: Final = 3
_LONGEST_COMMAND: Final = 200


def tell_result(
    result: hcoverage.CombineResult,
    opening: str,
    core: hcoverage.CoreChoice | None = None,
    into: str | None = None,
) -> None:
    """Print what was merged, and which core measured which processes.

    Args:
        result: The result of combining.
        opening: The first word of the message: `merged`, `so far`.
        core: The core of the run, to say why it was chosen.
        into: The name of the data file. [default: its path]
    """
    tell(f"{opening}: {_measured(result)}, into {into or short(result.data_file)}")
    for line in [*_recorded(result), *_saved(result), *_found(result)]:
        tell(f"  {_one_line(line)}")
    if core is not None:
        tell(f"core: {core.core}, since {core.reason}")


def tell_what_is_missing(result: hcoverage.CombineResult) -> None:
    """Print what is not in the result, and what to do about it."""
    for line in what_is_missing(result):
        tell(line)
    if result.paths_suggestion.text:
        _tell_unmapped(result)


def what_is_missing(result: hcoverage.CombineResult) -> list[str]:
    """Return what is not in the result, and what to do about it, in a few lines."""
    missing = list(_missing(result))
    more = [f"and {len(missing) - _SHOWN} more such files"] if missing[_SHOWN:] else []
    return [*(with_slug(_one_line(text), page) for text, page in missing[:_SHOWN]), *more]


def tell_unattributed(result: hcoverage.CombineResult, *, asked_for: bool) -> None:
    """Print which processes ran something, but nothing for a test, although others did.

    Also print which ran something for several tests at once, so that all of these get it.

    Args:
        result: The result of combining.
        asked_for: Whether contexts were requested, so that some processes should have them.
    """
    found = result.attribution
    if found.without_context and (asked_for or found.with_context):
        text = (
            "ran without a test's context, started outside of one or without the environment: "
            f"{_first(found.without_context)}"
        )
        tell(with_slug(f"{_processes(found.without_context)} {text}", Page.WITHOUT_CONTEXT))
    if found.together:
        text = (
            "answered requests of several tests at once, and what ran outside of them counts for "
            f"all of these: {_first(found.together)}"
        )
        tell(with_slug(f"{_processes(found.together)} {text}", Page.NOT_TOLD_APART))
    if found.mixed:
        text = (
            "answered requests of other tests than the one that what it ran counts for, as "
            f"coverage.py's core cannot tell requests apart: {_first(found.mixed)}"
        )
        tell(with_slug(f"{_processes(found.mixed)} {text}", Page.NOT_TOLD_APART))


def _processes(found: Sequence[str]) -> str:
    return _count(len(found), "process", "processes")


def _first(found: Sequence[str]) -> str:
    more = f", and {len(found) - _UNATTRIBUTED_SHOWN} more" if found[_UNATTRIBUTED_SHOWN:] else ""
    return _one_line(", ".join(found[:_UNATTRIBUTED_SHOWN])) + more


def what_is_unmeasured(
    problems: Sequence[str], unmeasured: Sequence[hcoverage.Unmeasured]
) -> list[str]:
    """Return what ran and was not measured, why, and what to do about it, in a few lines.

    Args:
        problems: The notes of processes and images themselves.
        unmeasured: Processes that were seen and left nothing; equal ones share a line.
    """
    alike = collections.defaultdict(list)
    for process in unmeasured:
        alike[process.argv[0], process.reason].append(process)
    lines = [*problems, *(_unmeasured(processes) for processes in alike.values())]
    more = [f"and {len(lines) - _SHOWN} more like these"] if lines[_SHOWN:] else []
    return [
        with_slug(f"not measured: {line}", Page.NOT_MEASURED)
        for line in [*map(_one_line, lines[:_SHOWN]), *more]
    ]


def short(path: str | Path) -> str:
    """Return a path as a person here would type it."""
    here = Path.cwd()
    return str(Path(path).relative_to(here) if Path(path).is_relative_to(here) else path)


def first_of(paths: Sequence[str], most: int) -> str:
    """Return the first of some paths, and how many more there are."""
    shown = ", ".join(short(path) for path in paths[:most])
    return f"{shown} and {len(paths) - most} more" if paths[most:] else shown


def _missing(result: hcoverage.CombineResult) -> Iterator[tuple[str, Page]]:
    yield from _lost(result)
    for source in _changed(result):
        yield f"left out: {short(source)} has changed since it ran", Page.CHANGED_SOURCE
    for other in result.other_versions:
        text = (
            f"left out: another version of {short(other.path)} ran in a container, as "
            f"{other.there}: build its image anew, with this text"
        )
        yield text, Page.OTHER_VERSION
    for source in result.outside:
        text = (
            f"left out: {short(source)} is outside the project: name its directory in `source` "
            "of the rcfile if it is to be reported"
        )
        yield text, Page.OUTSIDE_PROJECT
    if result.not_here:
        yield _not_here(result.not_here, "ran"), Page.NOT_HERE
    only_there = [source.path for source in result.unmapped if not source.candidates]
    if only_there:
        yield _not_here(only_there, "ran in a container"), Page.NOT_HERE
    yield from _what_settings_leave_out(result)
    for source, plugin in result.unknown_plugins.items():
        text = (
            f"left out: {short(source)} was measured by {plugin!r}, which is no plugin here: "
            "name its module in `plugins` of the rcfile, and have it installed"
        )
        yield text, Page.UNKNOWN_PLUGIN
    for item in result.set_aside:
        yield f"not merged: {short(item.path)}: {item.reason}", Page.NOT_MERGED


def _lost(result: hcoverage.CombineResult) -> Iterator[tuple[str, Page]]:
    for loss in result.losses:
        yield f"not recorded: {loss}", Page.NOT_RECORDED
    if result.unsaved:
        text = (
            f"what {_processes(result.unsaved)} ran in the last second may be missing, killed or "
            f"still running where coverage.py's data is saved each second: {_first(result.unsaved)}"
        )
        yield text, Page.LAST_SECOND


def _what_settings_leave_out(result: hcoverage.CombineResult) -> Iterator[tuple[str, Page]]:
    if result.never_imported:
        yield _never_imported(result.never_imported), Page.MODULE_NOT_IMPORTED
    if result.only_own.files or result.only_own.branches:
        yield _only_own(result.only_own), Page.OWN_OPTIONS


def _not_here(paths: Sequence[str], what: str) -> str:
    have = "has" if len(paths) == 1 else "have"
    shown = first_of(paths, _SHOWN) if len(paths) <= _SHOWN else first_of(_trees(paths), _SHOWN)
    return f"left out: {shown} {what}, but {have} no source here that a report could show"


def _never_imported(names: Sequence[str]) -> str:
    is_one = len(names) == 1
    source, module = ("a source", "that module") if is_one else ("sources", "these modules")
    return (
        f"nothing ran of {first_of(names, _SHOWN)}, named as {source} in the rcfile: no directory "
        f"here, and nobody imported {module}; put the name right, or name the directory of its code"
    )


def _only_own(own: hcoverage.OnlyOwn) -> str:
    what = ["branches"] if own.branches else []
    if own.files:
        what.append(first_of(own.files, _SHOWN))
    return (
        f"not in this report: {' and '.join(what)}, which the command measured by options of its "
        "own; put `source`, `branch` and the like into the rcfile, where they count for all"
    )


def _trees(paths: Iterable[str]) -> list[str]:
    """Return how many of some files are below which directories, none of them below another."""
    counts: dict[str, int] = {}
    for directory in sorted(path.rpartition("/")[0] for path in paths):
        tree = next((each for each in counts if f"{directory}/".startswith(f"{each}/")), directory)
        counts[tree] = counts.get(tree, 0) + 1
    return [f"{_count(number, 'file')} below {short(tree)}" for tree, number in counts.items()]


def _tell_unmapped(result: hcoverage.CombineResult) -> None:
    """Print which sources of containers were not found here, and what to write into the rcfile."""
    first, *others = [source for source in result.unmapped if source.candidates]
    places = " or ".join(short(place) for place in first.candidates[:_SHOWN])
    more = f" (and {_count(len(others), 'more source')})" if others else ""
    suggestion = result.paths_suggestion
    text = (
        f"{first.path!r} of a container may be {places} here{more}. If it is, paste this into "
        f"{suggestion.place}:\n{suggestion.text}"
    )
    tell(with_slug(text, Page.UNMAPPED))


def _changed(result: hcoverage.CombineResult) -> list[str]:
    """Return the stale sources that ran here."""
    elsewhere = {source.path for source in result.other_versions}
    return [source for source in result.stale if source not in elsewhere]


def _found(result: hcoverage.CombineResult) -> Iterator[str]:
    for tree in result.mapped[:_SHOWN]:
        how = "content" if tree.by_content else "names and lines"
        sources = _count(tree.sources, "source")
        yield f"{tree.there} of containers is {short(tree.here)} here: {sources} alike by {how}"


def _one_line(text: str) -> str:
    """Escape newlines, so that no name can look like a message of ours."""
    return hcoverage.printable(text)


def _unmeasured(processes: Sequence[hcoverage.Unmeasured]) -> str:
    first, *others = processes
    command = shlex.join(first.argv)
    if len(command) > _LONGEST_COMMAND:
        command = f"{command[:_LONGEST_COMMAND]}…"
    more = f" and {len(others)} like it" if others else ""
    return f"process {first.pid}{more}, `{command}`: {first.cause}; {first.remedy}"


def _measured(result: hcoverage.CombineResult) -> str:
    counts = []
    if result.recorded:
        counts.append(_count(len(result.recorded), "recorded process", "recorded processes"))
    if result.data_files:
        counts.append(f"{_count(len(result.data_files), 'data file')} of coverage.py")
    return " and ".join(counts) or "nothing"


def _recorded(result: hcoverage.CombineResult) -> Iterator[str]:
    by_origin = collections.Counter(
        (_place(process.origin), process.python) for process in result.recorded if not process.core
    )
    for (place, python), number in by_origin.most_common(_SHOWN):
        yield f"recorder: {_count(number, 'process', 'processes')} {place}, Python {python}"


def _saved(result: hcoverage.CombineResult) -> Iterator[str]:
    of_kills = [process.origin for process in result.recorded if process.core]
    by_place = collections.Counter(map(_place, [*result.saved, *of_kills]))
    for place, number in by_place.most_common(_SHOWN):
        yield f"coverage.py: {_count(number, 'process', 'processes')} {place}"


def _place(origin: str) -> str:
    return hcoverage.place_of(origin) or "on this host"


def _count(number: int, noun: str, nouns: str | None = None) -> str:
    return f"{number} {noun if number == 1 else nouns or noun + 's'}"
