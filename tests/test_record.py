"""Records are frozen dataclasses, to those who use them and to `dataclasses`."""

from __future__ import annotations

import copy
import dataclasses
import pickle

import pytest

from hcoverage._record import Record

pytestmark = pytest.mark.any_python


class Place(Record):
    """One of ours."""

    name: str
    number: int = 3
    more: list[int] = dataclasses.field(default_factory=list)


class Town(Place):
    """One with more fields."""

    people: int = 0


class Page(Record):
    """One that can be hashed."""

    name: str
    number: int


class Open(Record, frozen=False):
    """One that changes."""

    name: str


class Itself(Record, eq=False):
    """One that is equal to itself alone."""

    name: str


@dataclasses.dataclass(frozen=True)
class Alike:
    """What `Place` is held to."""

    name: str
    number: int = 3
    more: list[int] = dataclasses.field(default_factory=list)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        (("a",), {}),
        (("a", 4), {}),
        (("a", 4, [1]), {}),
        (("a",), {"more": [1]}),
        ((), {"more": [1], "name": "a"}),
    ],
)
def test_it_is_made_and_shown_as_a_dataclass(
    values: tuple[object, ...], named: dict[str, object]
) -> None:
    made, alike = Place(*values, **named), Alike(*values, **named)  # type: ignore[arg-type]
    assert vars(made) == vars(alike)
    assert repr(made) == repr(alike).replace("Alike", "Place")
    assert dataclasses.asdict(made) == dataclasses.asdict(alike)
    assert dataclasses.astuple(made) == dataclasses.astuple(alike)
    assert dataclasses.replace(made, name="b") == Place("b", alike.number, alike.more)
    assert [field.name for field in dataclasses.fields(made)] == ["name", "number", "more"]
    assert copy.deepcopy(made) == made == pickle.loads(pickle.dumps(made))  # noqa: S301 - our own


@pytest.mark.parametrize(
    ("values", "named"),
    [((), {}), (("a", 4, [], 5), {}), (("a",), {"name": "b"}), (("a",), {"other": 1})],
)
def test_what_a_dataclass_refuses_is_refused(
    values: tuple[object, ...], named: dict[str, object]
) -> None:
    for kind in (Place, Alike):
        with pytest.raises(TypeError, match=kind.__name__):
            kind(*values, **named)  # type: ignore[arg-type]


def test_nothing_that_is_made_for_one_is_another_ones() -> None:
    assert Place("a").more is not Place("a").more


def test_it_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Place("a").name = "b"  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        del Place("a").name


def test_one_that_is_open_can_be_changed_and_has_no_hash() -> None:
    changed = Open("a")
    changed.name = "b"
    assert changed == Open("b")
    with pytest.raises(TypeError, match="unhashable"):
        hash(changed)


def test_equal_are_those_of_one_class_with_the_same_values() -> None:
    assert Town("a") == Town("a", people=0) != Town("a", people=1)
    assert Town("a") != Place("a")
    assert len({Itself("a"), Itself("a")}) == 2
    assert len({Page("a", 1), Page("a", 1), Page("a", 2)}) == 2


def test_fields_are_matched_by_their_places() -> None:
    match Town("a", people=7):
        case Town(name, number, _, people):
            assert (name, number, people) == ("a", 3, 7)


def test_a_field_that_only_dataclasses_have_is_refused_with_the_class() -> None:
    with pytest.raises(TypeError, match="default_factory"):

        class _Wrong(Record):
            name: str = dataclasses.field(default="a", compare=False)
