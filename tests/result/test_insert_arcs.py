"""Arcs are written as they were read, whatever SQLite can do."""

from __future__ import annotations

import contextlib
import sqlite3

import pytest
from hypothesis import given, strategies as st

from hcoverage._read.part import number_of
from hcoverage._result import merged

LINES = st.integers(-(2**31) + 1, 2**31 - 1)


@pytest.mark.parametrize("has_json", [True, False])
@given(st.sets(st.tuples(LINES, LINES)), st.sets(st.tuples(LINES, LINES)))
def test_arcs_are_written_as_they_were_read(
    has_json: bool,  # noqa: FBT001
    one: set[tuple[int, int]],
    other: set[tuple[int, int]],
) -> None:
    arcs = [(1, 1, set(map(number_of, one))), (2, 7, set(map(number_of, other)))]
    with (
        contextlib.closing(sqlite3.connect(":memory:")) as database,
        pytest.MonkeyPatch.context() as patched,
    ):
        database.execute("CREATE TABLE arc (file_id, context_id, fromno, tono)")
        if not has_json:
            patched.setattr(merged, "_has_json", lambda _: False)
        merged.insert_arcs(database, arcs)
        found = set(database.execute("SELECT * FROM arc"))
    assert found == {(1, 1, *arc) for arc in one} | {(2, 7, *arc) for arc in other}
