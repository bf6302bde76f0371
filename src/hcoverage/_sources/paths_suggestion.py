"""What to paste into the rcfile for sources of containers whose place here is not certain.

Written as the rcfile at hand is, so that it works as it is pasted. Which sources these are, and
which files here they may be, is `finder`'s to say.
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from hcoverage._settings.rcfile import Rcfile
    from hcoverage._sources.finder import UnmappedSource

_NEW_RCFILE: Final = ".coveragerc"
# Of files that are not coverage.py's alone; it takes these sections from its own as well.
_HEADERS: Final = {".toml": "[tool.coverage.paths]", ".cfg": "[coverage:paths]"}
_HEADERS_OF: Final = {"tox.ini": "[coverage:paths]"}
_PLAIN_HEADER: Final = "[paths]"
# `$` begins a variable, and a comma ends an item, for which there is no other way to be written.
_AS_ITEM: Final = str.maketrans({"$": "$$", ",": "?"})

# A directory here, and the one that a container has.
_Entry = tuple[str, str]


@dataclasses.dataclass(frozen=True)
class PathsSuggestion:
    """Something to paste.

    Attributes:
        text: What, in one or more lines; empty where there is nothing to suggest.
        place: Where to, in words for a person.
    """

    text: str = ""
    place: str = ""


NOTHING: Final = PathsSuggestion()


def suggest_paths(unmapped: Iterable[UnmappedSource], rcfile: Rcfile) -> PathsSuggestion:
    """Return entries of `[paths]` that map sources to the first of the files that each may be.

    Args:
        unmapped: The sources.
        rcfile: Where the entries are to go.
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
    if rcfile.settings.paths:  # a file must not have a section twice
        return PathsSuggestion("\n".join(lines), f"the section of paths in {name}")
    return PathsSuggestion("\n".join([header, *lines]), name)


def _without_those_below(entries: set[_Entry]) -> list[_Entry]:
    """Leave out what follows from another entry: a directory stands for all that is below it."""
    return sorted(
        (here, there)
        for here, there in entries
        if not any((here, str(above)) in entries for above in Path(there).parents)
    )


def _entry(path: str, candidate: str) -> _Entry:
    """Return the directories of two files, without the end that their paths have in common."""
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
