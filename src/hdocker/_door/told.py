"""Words for a line that tells a person of several containers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_SHOWN: Final = 3


@dataclass(frozen=True, order=True)
class Told:
    """What identifies a container to a person.

    Attributes:
        name: Its name.
        image: Its image.
    """

    name: str
    image: str

    def __str__(self) -> str:
        """Return both."""
        return f"{self.name} ({self.image})"


def several(number: int, one: str, more: str) -> str:
    """Return the words for a number of things.

    Args:
        number: How many there are.
        one: The words for one.
        more: The words for several.
    """
    return f"{number} {one if number == 1 else more}"


def first_of(things: Sequence[object]) -> str:
    """Return the names of the first of some things, and how many more there are."""
    more = f" and {len(things) - _SHOWN} more" if things[_SHOWN:] else ""
    return ", ".join(map(str, things[:_SHOWN])) + more
