"""Finds the functions whose results may be kept for other tests, as in a cache.

The first test that needs a cache fills it; only that test runs what fills it, but later ones depend
on that, too. So for each *keeper*, a function that keeps something (`state_kept`) or a module's
frame, this finds what it can call, by name alone. That is too much rather than too little, since
functions may share a name; only names that are made at run time are missed. Pure.
"""

from __future__ import annotations

import dataclasses
import enum
from collections import defaultdict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from hcoverage._affected.blocks import Block, Shape


@dataclasses.dataclass(frozen=True, order=True)
class Place:
    """A function, or the frame of a module.

    Attributes:
        path: The file.
        name: The block's name; empty for the frame.
    """

    path: str
    name: str = ""


# Base classes that make a new object at each call.
_NEW_EACH_TIME: Final = frozenset(
    (
        *("dict", "list", "object", "set", "Exception", "RuntimeError", "TypeError", "ValueError"),
        *("ABC", "Mapping", "MutableMapping", "MutableSequence", "MutableSet", "Sequence"),
    )
)


class Finders(enum.Enum):
    """The tests that find what a keeper keeps."""

    ALL = "all that come later"
    THOSE_WHO_SHARE = "those that have the same object"
    THOSE_WHO_RUN_IT = "those that run a line of it"


@dataclasses.dataclass(frozen=True)
class Keeper:
    """A function or frame that keeps something.

    Attributes:
        place: The function or frame.
        finders: The tests that find what it keeps.
        keeps_results: Whether that may come of what it calls.
    """

    place: Place
    finders: Finders
    keeps_results: bool = True


class SharedState:
    """The keepers, and what they can call."""

    def __init__(
        self, shapes: Mapping[str, Shape], ran_at_import: Callable[[Place], bool | None]
    ) -> None:
        """Find the keepers.

        Args:
            shapes: All sources, by path.
            ran_at_import: Returns whether a function ran while modules were imported; None if that
                is not known.
        """
        self._functions: dict[str, list[tuple[Place, Block]]] = defaultdict(list)
        self._special: dict[str, list[tuple[Place, Block]]] = defaultdict(list)
        self._bases: dict[str, set[str]] = defaultdict(set)
        self._names: dict[Place, frozenset[str]] = {}
        self._plain = _plain_variables(shapes)
        self._keepers: list[Keeper] = []
        blocks = [
            (Place(path, block.name), block)
            for path, shape in shapes.items()
            for block in shape.blocks
        ]
        for path, shape in shapes.items():
            self._names[Place(path)] = self._called(shape.names)
            self._keepers.append(Keeper(Place(path), Finders.ALL))
            for name, bases in shape.bases:
                self._bases[name].update(bases)
        for place, block in blocks:
            self._take(place, block)
        self._ordinary = _ordinary_classes(shapes.values())
        self._shared = self._shared_by_class(shapes.values())
        self._giving = {_as_called(block) for _, block in blocks if block.handed.gives}
        self._changing = _changing_what_is_given(block for _, block in blocks)
        blocks = [(place, self._resolved(block)) for place, block in blocks]
        kept = self._made_to_stay(shapes.values(), blocks, ran_at_import)
        for place, block in blocks:
            self._keepers += _keepers_in(place, block, kept)
        self._reached: dict[Place, frozenset[Place]] = {}

    def keepers_of(self, place: Place) -> Iterator[Keeper]:
        """Yield the keepers that are a function, or can call it directly or indirectly."""
        for keeper in self._keepers:
            is_called = keeper.keeps_results and place in self._reach(keeper.place)
            if keeper.place == place or is_called:
                yield keeper

    def keepers(self) -> Iterator[Keeper]:
        """Yield the keepers of results whose state does not belong to one object."""
        for keeper in self._keepers:
            if keeper.keeps_results and keeper.finders is not Finders.THOSE_WHO_SHARE:
                yield keeper

    def _take(self, place: Place, block: Block) -> None:
        owner, name = _owner_and_name(block)
        self._functions[name].append((place, block))
        self._names[place] = self._called(block.names)
        if owner and name.startswith("__"):
            self._special[owner].append((place, block))

    def _resolved(self, block: Block) -> Block:
        """Let a block count as a keeper if what it changes may not be its own."""
        of_others = block.handed
        is_keeper = (
            not all(map(self._is_new, block.made))
            or not self._giving.isdisjoint(of_others.taken)
            or not self._changing.isdisjoint(of_others.lends)
            or not self._shared[_owner_and_name(block)[0]].isdisjoint(of_others.in_self)
        )
        return dataclasses.replace(block, keeps=True) if is_keeper and not block.keeps else block

    def _shared_by_class(self, shapes: Iterable[Shape]) -> defaultdict[str, set[str]]:
        """Return the variables that objects of a class have in common, also of related classes."""
        found: defaultdict[str, set[str]] = defaultdict(set)
        below: dict[str, set[str]] = defaultdict(set)
        for name, bases in self._bases.items():
            for base in bases:
                below[base].add(name)
        for name, shared in (each for shape in shapes for each in shape.shared):
            related = _reached([name], self._bases_of) | _reached(
                [name], lambda each: below.get(each, ())
            )
            for each in related:
                found[each].update(shared)
        return found

    def _is_new(self, name: str) -> bool:
        """Return whether a call of a name makes a new object."""
        known = _reached([name], lambda one: () if one in _NEW_EACH_TIME else self._bases_of(one))
        return known <= _NEW_EACH_TIME | self._ordinary

    def _bases_of(self, name: str) -> Collection[str]:
        return self._bases.get(name, ())

    def _called(self, names: Iterable[str]) -> frozenset[str]:
        """Return the names by which something of the project may be called."""
        found = set()
        for name in names:
            variable, _, attribute = name.partition(".")
            if not attribute:
                found.add(name)
            elif variable not in self._plain:
                found.add(attribute)
        return frozenset(found)

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
            for place, _ in (*self._functions.get(name, ()), *self._special.get(name, ())):
                if place not in found:
                    found.add(place)
                    waiting += self._names[place]
        return found

    def _made_to_stay(
        self,
        shapes: Iterable[Shape],
        blocks: Iterable[tuple[Place, Block]],
        ran_at_import: Callable[[Place], bool | None],
    ) -> set[str]:
        """Return the classes whose objects may stay: made at import, or by a keeper for all.

        If an object is made at import, a method of its class has run there, or the class has no
        measured `__init__` that would show it.
        """
        ran = {place: ran_at_import(place) for place, _ in blocks}
        tells = {_owner_and_name(block)[0] for place, block in blocks if ran[place] is not None}
        silent = {
            name
            for shape in shapes
            for name, _ in shape.bases
            if name not in tells or not self._has_init(name)
        }
        found = {_owner_and_name(block)[0] for place, block in blocks if ran[place]} - {""}
        frames = [name for shape in shapes for name in self._called(shape.calls)]
        may_run = [(place, block) for place, block in blocks if ran[place] is not False]
        found |= silent & self._closure(frames, may_run)
        keeping = [name for _, block in blocks if block.keeps for name in self._called(block.calls)]
        found |= self._closure(keeping, blocks)
        return _reached(found, self._bases_of)  # Methods of base classes may change an object.

    def _has_init(self, name: str) -> bool:
        special = (self._special.get(one, ()) for one in _reached([name], self._bases_of))
        return any(
            _owner_and_name(block)[1] == "__init__" for found in special for _, block in found
        )

    def _closure(self, names: Iterable[str], blocks: Iterable[tuple[Place, Block]]) -> set[str]:
        """Return some names, and the names that functions with these names call, and so on."""
        calls: dict[str, set[str]] = defaultdict(set)
        for _, block in blocks:
            calls[_owner_and_name(block)[1]].update(self._called(block.calls))
        return _reached(names, lambda name: calls.get(name, ()))


def _changing_what_is_given(blocks: Iterable[Block]) -> set[str]:
    """Return the names of functions that change their arguments, or let others do that."""
    known = list(blocks)
    found = {_owner_and_name(block)[1] for block in known if block.handed.changes_given}
    passing = [
        (name, block.handed.passes) for block in known for _, name in [_owner_and_name(block)]
    ]
    more = found
    while more:
        more = {name for name, passes in passing if not found.isdisjoint(passes)} - found
        found = found | more
    return found


def _reached(names: Iterable[str], following: Callable[[str], Iterable[str]]) -> set[str]:
    """Return some names, and all that follow from them."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += following(name)
    return found


def _ordinary_classes(shapes: Collection[Shape]) -> set[str]:
    """Return the names that in all modules mean classes that make a new object at each call."""
    ordinary = {name for shape in shapes for name in shape.ordinary}
    classes = [(name, shape) for shape in shapes for name, _ in shape.bases]
    strange = {name for name, shape in classes if name not in shape.ordinary}
    functions = {block.name for shape in shapes for block in shape.blocks}
    return ordinary - strange - functions


def _owner_and_name(block: Block) -> tuple[str, str]:
    """Return the class of a method, empty for a function, and the name."""
    owner, _, name = block.name.partition("#")[0].rpartition(".")
    return owner.rpartition(".")[2], name


def _as_called(block: Block) -> str:
    owner, name = _owner_and_name(block)
    return f".{name}" if owner else name


def _keepers_in(place: Place, block: Block, kept: set[str]) -> Iterator[Keeper]:
    owner, name = _owner_and_name(block)
    changes_its_object = block.keeps_in_self and name != "__init__"
    if block.keeps or (changes_its_object and owner in kept):
        yield Keeper(place, Finders.ALL)
        return
    if block.handed.sets:
        yield Keeper(place, Finders.ALL, keeps_results=False)
    if changes_its_object:
        yield Keeper(place, Finders.THOSE_WHO_SHARE)
    if block.keeps_for_itself:
        yield Keeper(place, Finders.THOSE_WHO_RUN_IT)


def _plain_variables(shapes: Mapping[str, Shape]) -> frozenset[str]:
    """Return the plain containers of all modules, as `module:variable`.

    If two modules have the same name, only containers of both count.
    """
    by_module: dict[str, set[str]] = {}
    for path, shape in shapes.items():
        module = path.removesuffix(".py").removesuffix("/__init__").rpartition("/")[2]
        known = by_module.setdefault(module, set(shape.plain))
        known.intersection_update(shape.plain)
    return frozenset(f"{module}:{name}" for module, names in by_module.items() for name in names)
