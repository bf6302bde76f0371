"""Arcs are one integer each in what is merged; made and read, they are the same arcs."""

from __future__ import annotations

from hypothesis import given, strategies as st

from hcoverage._read.part import arc_of, number_of

LINES = st.integers(-(2**31) + 1, 2**31 - 1)


@given(st.lists(st.tuples(LINES, LINES)))
def test_arcs_are_read_as_they_were_made(arcs: list[tuple[int, int]]) -> None:
    numbers = [number_of(arc) for arc in arcs]
    assert [arc_of(number) for number in numbers] == arcs
