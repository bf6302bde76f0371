"""Suggests `[paths]` entries for sources of containers whose place here is not certain.

The text has the rcfile's own syntax, so that it works when pasted. `finder` says which sources
these are, and which files here they may be.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from hcoverage._settings.rcfile import Rcfile
    from hcoverage._sources.finder import UnmappedSource

_NEW_RCFILE: Final = ".coveragerc"
# For files that are not coverage.py's alone; its own files may have these sections, too.
_HEADERS: Final = {".toml": "[tool.coverage.paths]", ".cfg": "[coverage:paths]"}
_HEADERS_OF: Final = {"tox.ini": "[coverage:paths]"}
_PLAIN_HEADER: Final = "[paths]"
# `$` begins a variable. A comma ends an item, and cannot be escaped.
_AS_ITEM: Final = str.maketrans({"$": "$$", ",": "?"})

# A directory here, and the same one in a container.
_Entry = tuple[str, str]


class PathsSuggestion(NamedTuple):
    """Something to paste.

    Attributes:
        text: The lines to paste; empty if there is nothing to suggest.
        place: Where to paste them, in words for a person.
    """

    text: str = ""
    place: str = ""


NOTHING: Final = PathsSuggestion()


def suggest_paths(unmapped: Iterable[UnmappedSource], rcfile: Rcfile) -> PathsSuggestion:
    """Return entries of `[paths]` that map sources to the first of the files that each may be.

    Args:
        unmapped: The sources.
        rcfile: The rcfile for the entries.
    """
    entries = _without_those_below(
        {_entry(source.path, source.candidates[0]) for source in unmapped if source.candidates}
    )
    if not entries:
        return NOTHING
    file = rcfile.path or Path(_NEW_RCFILE)
    name = os.path.relpath(file) if file.is_relative_to(Path.cwd()) else str(file)
    lines = list(_lines(entries, rcfile, is_toml=file.suffix == ".toml"))
    header = _HEADERS_OF.get(file.name) or _HEADERS.get(file.suffix, _PLAIN_HEADER)
    if rcfile.settings.paths:  # a file must not have the same section twice
        return PathsSuggestion("\n".join(lines), f"the section of paths in {name}")
    return PathsSuggestion("\n".join([header, *lines]), name)


def _without_those_below(entries: set[_Entry]) -> list[_Entry]:
    """Leave out entries that follow from another one: a directory covers everything below it."""
    return sorted(
        (here, there)
        for here, there in entries
        if not any((here, str(above)) in entries for above in Path(there).parents)
    )


def _entry(path: str, candidate: str) -> _Entry:
    """Return the directories of two files, without the common end of their paths."""
    there, here = Path(path).parent, Path(os.path.relpath(candidate)).parent
    while here.name and here.name == there.name:
        here, there = here.parent, there.parent
    return str(here), str(there)


def _lines(entries: Iterable[_Entry], rcfile: Rcfile, *, is_toml: bool) -> Iterator[str]:
    number = 0
    for entry in entries:
        number += 1
        while f"source{number}" in rcfile.settings.paths:
            number += 1
        if is_toml:
            yield f"source{number} = {json.dumps(entry, ensure_ascii=False)}"
        else:
            items = "".join(f"\n    {side.translate(_AS_ITEM)}" for side in entry)
            yield f"source{number} ={items}"
