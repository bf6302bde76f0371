"""Containers, as a person is told of several of them in a line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_SHOWN: Final = 3


@dataclass(frozen=True, order=True)
class Told:
    """What a person knows a container by.

    Attributes:
        name: Its name.
        image: Its image.
    """

    name: str
    image: str

    def __str__(self) -> str:
        """Give both."""
        return f"{self.name} ({self.image})"


def several(number: int, one: str, more: str) -> str:
    """Count things.

    Args:
        number: How many there are.
        one: What to say of one.
        more: What to say of several.
    """
    return f"{number} {one if number == 1 else more}"


def first_of(things: Sequence[object]) -> str:
    """Name the first of some things, and tell how many more there are."""
    more = f" and {len(things) - _SHOWN} more" if things[_SHOWN:] else ""
    return ", ".join(map(str, things[:_SHOWN])) + more
