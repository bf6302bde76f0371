"""Which rows of a test with many rows `make test` runs: so few that each value is still met.

A test says how thinly by its marker: `@pytest.mark.sampled` keeps each value of each axis in one
row at least, `@pytest.mark.sampled(2)` each two values of different axes. The choice is always the
same. All rows:

    HCOVERAGE_CORPUS=full python -m pytest ...
"""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence

FULL: Final = os.environ.get("HCOVERAGE_CORPUS") == "full"

_T = TypeVar("_T")


def sample(rows: Iterable[tuple[_T, Sequence[Hashable]]], strength: int) -> list[_T]:
    """Choose rows, the earlier ones where there is a choice.

    Args:
        rows: Each row, and its value on each axis.
        strength: How many values of different axes have to meet, in each combination that there is.

    Returns:
        The chosen ones, in their order.
    """
    left = {number: _Row(*each, strength) for number, each in enumerate(rows)}
    met: set[object] = set()
    chosen = {}
    while left := {number: row for number, row in left.items() if row.wanted - met}:
        # Where there is a choice, the one in which more meet.
        number = max(left, key=lambda each: (*left[each].gain(met), -each))
        row = left.pop(number)
        met |= row.wanted | row.more
        chosen[number] = row.what
    return [chosen[number] for number in sorted(chosen)]


class _Row(Generic[_T]):
    def __init__(self, what: _T, values: Sequence[Hashable], strength: int) -> None:
        self.what = what
        axes = [*enumerate(values)]
        self.wanted = {*itertools.combinations(axes, min(strength, len(axes)))}
        self.more = {*itertools.combinations(axes, min(strength + 1, len(axes)))}

    def gain(self, met: set[object]) -> tuple[int, int]:
        return len(self.wanted - met), len(self.more - met)
