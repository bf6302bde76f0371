"""The content of data files in numbers: a bit for each line, one integer for each arc.

Others read, write and interpret it (`data_file_batch`, `_result.merged`).
"""

from __future__ import annotations

import dataclasses
import enum
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

# An arc is one integer, so that sets of arcs are small; see `arc_of`.
ARC_BITS: Final = 32
_MOST_LINES: Final = 1 << (ARC_BITS - 1)

Key: TypeAlias = tuple[str, str]
"""A path and a context."""


class Kind(enum.Enum):
    """The kind of data in a data file."""

    LINES = "line data"
    ARCS = "branch data"
    NOTHING = "no data"


@dataclasses.dataclass
class Part:
    """The joined content of data files of one kind, under the paths and contexts that these have.

    Attributes:
        paths: The measured files. For each, the place where coverage.py would meet it first, since
            the order of paths can change how they are mapped.
        contexts: The contexts, here and below as labels (`origins.label`) if several origins are
            merged.
        lines: By path and context, a number whose bit *n* is set if line *n* ran.
        arcs: By path and context, arcs encoded as for `arc_of`.
        tracers: The plugin of each path that has one.
    """

    paths: dict[str, tuple[str, int]] = dataclasses.field(default_factory=dict)
    contexts: dict[str, str] = dataclasses.field(default_factory=dict)
    lines: dict[Key, int] = dataclasses.field(default_factory=dict)
    arcs: dict[Key, set[int]] = dataclasses.field(default_factory=dict)
    tracers: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def kind(self) -> Kind:
        """The kind of its data."""
        if self.lines:
            return Kind.LINES
        return Kind.ARCS if self.arcs else Kind.NOTHING

    def add(self, other: Part) -> None:
        """Add another part, which must not be used afterwards."""
        for path, place in other.paths.items():
            self.paths[path] = min(place, self.paths.get(path, place))
        self.contexts.update(other.contexts)
        lines = self.lines
        for key, numbers in other.lines.items():
            lines[key] = lines.get(key, 0) | numbers
        for key, arcs in other.arcs.items():
            self.arcs.setdefault(key, arcs).update(arcs)
        for path, tracer in other.tracers.items():
            self.tracers.setdefault(path, tracer)

    def lines_of(self, paths: Collection[str]) -> dict[str, int]:
        """Return the lines of some files that ran in any context, in the form of `lines`."""
        found = dict.fromkeys(paths, 0)
        for (path, _), numbers in self.lines.items():
            if path in found:
                found[path] |= numbers
        for (path, _), arcs in self.arcs.items():
            if path in found:
                found[path] |= _lines_of(arcs)
        return found

    def as_lines(self) -> Part:
        """Return the part with the lines of its arcs in place of these."""
        made = Part(self.paths, self.contexts, dict(self.lines), tracers=self.tracers)
        for key, arcs in self.arcs.items():
            made.lines[key] = made.lines.get(key, 0) | _lines_of(arcs)
        return made

    def without(self, paths: Collection[str]) -> Part:
        """Return the part without some measured files."""
        return Part(
            paths={path: place for path, place in self.paths.items() if path not in paths},
            contexts=self.contexts,
            lines={key: numbers for key, numbers in self.lines.items() if key[0] not in paths},
            arcs={key: arcs for key, arcs in self.arcs.items() if key[0] not in paths},
            tracers={path: name for path, name in self.tracers.items() if path not in paths},
        )

    def with_contexts(self, name_of: Callable[[str], str]) -> Part:
        """Return the part with other names of contexts; several may get the same name.

        Sets of arcs may be large, so those to which nothing is added are shared, not copied.
        """
        names = {old: name_of(old) for old in self.contexts}
        made = Part(self.paths, {name: name for name in names.values()}, tracers=self.tracers)
        for (path, old), numbers in self.lines.items():
            key = (path, names[old])
            made.lines[key] = made.lines.get(key, 0) | numbers
        for (path, old), arcs in self.arcs.items():
            key = (path, names[old])
            made.arcs[key] = made.arcs[key] | arcs if key in made.arcs else arcs
        return made


def _lines_of(arcs: Iterable[int]) -> int:
    """Return the lines of arcs, as `CoverageData.lines` does: they begin or end there."""
    return bits_of({end for arc in arcs for end in arc_of(arc) if end > 0})


def arc_of(number: int) -> tuple[int, int]:
    """Decode an arc from one integer: the lines it goes from and to."""
    tono = (number + _MOST_LINES) % (1 << ARC_BITS) - _MOST_LINES
    return (number - tono) >> ARC_BITS, tono


def number_of(arc: tuple[int, int]) -> int:
    """Encode an arc as one integer, see `arc_of`."""
    return arc[0] * (1 << ARC_BITS) + arc[1]


def bits_of(numbers: Collection[int]) -> int:
    """Return a number whose bit *n* is set for each given *n*."""
    content = bytearray(max(numbers, default=0) // 8 + 1)
    for number in numbers:
        content[number >> 3] |= 1 << (number & 7)
    return int.from_bytes(content, "little")
