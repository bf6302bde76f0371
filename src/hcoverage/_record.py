"""Records: frozen dataclasses in all that one sees of them, but for what making the class takes.

`dataclasses.dataclass` writes a program for each class and compiles it, whenever its module is
imported. That is most of a millisecond each, and ours together took a fifth of what a run of one
test takes beside the test. Here all classes share the same methods. A type checker knows their
fields by PEP 681, and `dataclasses` takes them for its own (`replace`, `asdict`). What is to be
ordered, or checked as it is made, is left to it.
"""

from __future__ import annotations

import dataclasses
from operator import attrgetter
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Final,
    NamedTuple,
    NoReturn,
    cast,
    dataclass_transform,
)

if TYPE_CHECKING:
    from collections.abc import Callable

_put: Final = object.__setattr__


class _Fields(NamedTuple):
    """The fields of a class, in their order, by their names; and what gives the values of one."""

    types: dict[str, Any]
    defaults: dict[str, Any]
    factories: dict[str, Callable[[], Any]]
    values: Callable[[Any], Any]


class _AsDataclass:
    """What `dataclasses` knows a class by, made for a class when it is asked of it."""

    def __get__(self, _: object, owner: type[Record]) -> dict[str, dataclasses.Field[Any]]:
        types, defaults, factories, _ = owner._fields
        fields = [
            (name, kind, dataclasses.field(default_factory=factories[name]))
            if name in factories
            else (name, kind, dataclasses.field(default=defaults.get(name, dataclasses.MISSING)))
            for name, kind in types.items()
        ]
        alike: Any = dataclasses.make_dataclass(
            owner.__name__, fields, init=False, repr=False, eq=False
        )
        owner.__dataclass_fields__ = found = alike.__dataclass_fields__
        return cast("dict[str, dataclasses.Field[Any]]", found)


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
class Record:
    """What has named fields: those that the body of a class annotates that has this for its base.

    A class may say `frozen=False`, and can then be changed and not be hashed; or `eq=False`, and
    then none is equal to another.
    """

    _fields: ClassVar = _Fields({}, {}, {}, repr)
    __match_args__: Any = ()
    __dataclass_fields__: ClassVar[Any] = _AsDataclass()

    def __init_subclass__(cls, *, frozen: bool = True, eq: bool = True) -> None:
        types, defaults, factories = map(dict, cls._fields[:3])
        types.update(cls.__annotations__)
        for name in [name for name in cls.__annotations__ if name in vars(cls)]:
            default = vars(cls)[name]
            if isinstance(default, dataclasses.Field):
                if default.default_factory is dataclasses.MISSING:
                    raise TypeError(f"{cls.__name__}.{name}: a field has only a default_factory")
                delattr(cls, name)
                factories[name] = default.default_factory
            else:
                defaults[name] = default
        cls._fields = _Fields(types, defaults, factories, attrgetter(*types))
        cls.__match_args__ = tuple(types)  # type: ignore[misc]
        if not frozen:
            cls.__setattr__ = object.__setattr__  # type: ignore[assignment]
            cls.__delattr__ = object.__delattr__  # type: ignore[assignment]
            cls.__hash__ = None  # type: ignore[assignment]
        if not eq:
            cls.__eq__ = object.__eq__  # type: ignore[method-assign]
            cls.__hash__ = object.__hash__  # type: ignore[method-assign]

    def __init__(self, *values: Any, **named: Any) -> None:  # noqa: ANN401 - of the fields' types
        names = self.__match_args__
        if named or len(values) != len(names):
            values = self._of_each(values, named)
        for name, value in zip(names, values, strict=True):
            _put(self, name, value)

    def _of_each(self, values: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, ...]:
        """Give the values of all fields, where they are given by name, or not given."""
        types, defaults, factories, _ = self._fields
        given = dict(zip(types, values, strict=False), **named)
        times = len(given)
        if times < len(types):
            made = {name: make() for name, make in factories.items() if name not in given}
            given = {**defaults, **made, **given}
        if given.keys() != types.keys() or times != len(values) + len(named):
            raise TypeError(
                f"{type(self).__name__} has the fields ({', '.join(types)}); "
                f"given are {len(values)}, and ({', '.join(named)})"
            )
        return tuple([given[name] for name in types])

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__match_args__)
        return f"{type(self).__qualname__}({fields})"

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        values = self._fields.values
        return bool(values(self) == values(other))

    def __hash__(self) -> int:
        return hash(self._fields.values(self))

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")

    def __delattr__(self, name: str) -> NoReturn:
        raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")
