"""Which functions may have run on behalf of what is kept, and so for all tests.

Who fills a cache does so in the test that comes first: only that test ran what was needed for it.
So of each function that keeps something (`state_kept`), and of each module's frame, it is told what
they can call, by name alone: too much, as two functions may have one name, and never too little but
for names that are made up while it runs. Pure.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from hcoverage._affected.blocks import Block, Shape


@dataclasses.dataclass(frozen=True, order=True)
class Place:
    """A function, or with an empty name the frame of a module.

    Attributes:
        path: The file.
        name: The block's name.
    """

    path: str
    name: str = ""


@dataclasses.dataclass(frozen=True)
class Keeper:
    """Something that keeps what it has done.

    Attributes:
        place: What it is.
        is_for_all: Whether it is found by all that comes later; else by who has the same object.
    """

    place: Place
    is_for_all: bool


class SharedState:
    """What keeps something, and what that can call."""

    def __init__(self, shapes: Mapping[str, Shape]) -> None:
        """Take all sources that there are, by path."""
        self._functions: dict[str, list[tuple[Place, Block]]] = defaultdict(list)
        self._special: dict[str, list[tuple[Place, Block]]] = defaultdict(list)
        self._bases: dict[str, set[str]] = defaultdict(set)
        self._names: dict[Place, frozenset[str]] = {}
        kept = _made_to_stay(shapes.values())
        self._keepers: list[Keeper] = []
        for path, shape in shapes.items():
            self._names[Place(path)] = frozenset(shape.names)
            self._keepers.append(Keeper(Place(path), is_for_all=True))
            for name, bases in shape.bases:
                self._bases[name].update(bases)
            for block in shape.blocks:
                self._add(Place(path, block.name), block, kept)
        self._reached: dict[Place, frozenset[Place]] = {}

    def _add(self, place: Place, block: Block, kept: set[str]) -> None:
        qualified = block.name.partition("#")[0]
        owner, _, name = qualified.rpartition(".")
        self._functions[name].append((place, block))
        self._names[place] = frozenset(block.names)
        owner = owner.rpartition(".")[2]
        if owner and name.startswith("__"):
            self._special[owner].append((place, block))
        changes_its_object = block.keeps_in_self and name != "__init__"
        if block.keeps or changes_its_object:
            is_for_all = block.keeps or owner in kept
            self._keepers.append(Keeper(place, is_for_all=is_for_all))

    def keepers_of(self, place: Place) -> Iterator[Keeper]:
        """Give what keeps something and can have a function called for it; itself, if it keeps."""
        for keeper in self._keepers:
            if keeper.place == place or place in self._reach(keeper.place):
                yield keeper

    def keepers(self) -> Iterator[Place]:
        """Give what keeps something for whoever comes later."""
        return (keeper.place for keeper in self._keepers if keeper.is_for_all)

    def _reach(self, keeper: Place) -> frozenset[Place]:
        if keeper not in self._reached:
            self._reached[keeper] = frozenset(self._calls(self._names[keeper]))
        return self._reached[keeper]

    def _calls(self, names: Iterable[str]) -> set[Place]:
        known: set[str] = set()
        found: set[Place] = set()
        waiting = list(names)
        while waiting:
            name = waiting.pop()
            if name in known:
                continue
            known.add(name)
            waiting += self._bases.get(name, ())
            for place, block in (*self._functions.get(name, ()), *self._special.get(name, ())):
                if place not in found:
                    found.add(place)
                    waiting += block.names
        return found


def _made_to_stay(shapes: Iterable[Shape]) -> set[str]:
    """The names of what is called where objects are made that stay: at import, and in keepers.

    That is a class, or a function that makes the object, and so what that calls.
    """
    calls: dict[str, set[str]] = defaultdict(set)
    waiting: list[str] = []
    for shape in shapes:
        waiting += shape.calls
        for block in shape.blocks:
            if block.keeps:
                waiting += block.calls
            calls[block.name.partition("#")[0].rpartition(".")[2]].update(block.calls)
    found: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += calls.get(name, ())
    return found
