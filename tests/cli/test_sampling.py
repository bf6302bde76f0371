"""What `make test` runs of many rows: each value is met, whatever is left out."""

from __future__ import annotations

import itertools

import pytest
from tests.sampling import sample

AXES = (range(3), "abcd", (True, False), (True, False))
ROWS = [*itertools.product(*AXES)]


@pytest.mark.any_python
@pytest.mark.parametrize(("strength", "least"), [(1, 4), (2, 12)])
def test_all_combinations_of_so_many_values_are_met(strength: int, least: int) -> None:
    chosen = sample(((row, row) for row in ROWS), strength)
    assert len(chosen) == least
    assert chosen == sorted(chosen, key=ROWS.index)
    for axes in itertools.combinations(range(len(AXES)), strength):
        wanted = {*itertools.product(*(AXES[axis] for axis in axes))}
        assert {tuple(row[axis] for axis in axes) for row in chosen} == wanted


def test_a_combination_that_there_is_not_is_not_missed() -> None:
    assert sample([("a", "xy"), ("b", "xz"), ("c", "wz")], 1) == ["a", "c"]


def test_a_row_without_axes_is_run() -> None:
    assert sample([("alone", ())], 1) == ["alone"]
