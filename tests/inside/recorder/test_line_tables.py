"""Line tables tell what CPython says that they tell, and nothing else is believed."""

from __future__ import annotations

import ast
import contextlib
import random
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING

import pytest

from hcoverage._read.line_tables import lines_of_instructions

if TYPE_CHECKING:
    from collections.abc import Iterator


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _lines_by_cpython(code: CodeType) -> tuple[int | None, ...]:
    lines: list[int | None] = []
    for start, end, line in code.co_lines():
        lines += [line] * ((end - start) // 2)
    return tuple(lines)


def test_they_are_read_as_cpython_reads_them() -> None:
    for module in ("argparse", "ast", "dataclasses", "enum", "inspect", "tarfile", "typing"):
        file = Path(ast.__file__).with_name(f"{module}.py")
        for code in _codes(compile(file.read_bytes(), file, "exec")):
            count = len(code.co_code) // 2
            found = lines_of_instructions(code.co_linetable, code.co_firstlineno, count)
            assert found == _lines_by_cpython(code)


def test_a_jump_over_many_lines_is_read() -> None:
    code = compile("a = 1\n" + "\n" * 100_000 + "b = (\n1)\nc = [\n\n2, a,\n]\n", "x", "exec")
    count = len(code.co_code) // 2
    found = lines_of_instructions(code.co_linetable, code.co_firstlineno, count)
    assert found == _lines_by_cpython(code)
    assert 100_002 in found


@pytest.mark.parametrize("table", [b"", b"\xd8\x00\x00", b"\xdf\x00\x00" * 10])
def test_a_table_of_another_length_than_its_code_is_read_as_far_as_it_goes(table: bytes) -> None:
    code = compile("a = 1\n", "x", "exec").replace(co_linetable=table)
    count = len(code.co_code) // 2
    expected = (*_lines_by_cpython(code), *[None] * count)[:count]
    assert lines_of_instructions(table, code.co_firstlineno, count) == expected


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        (b"\x00\xf8", "begins in the middle"),
        (b"\xe8", "does not end"),
        (b"\xe8" + b"\x7f" * 20, "does not end"),
    ],
)
def test_what_is_no_table_is_refused(table: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        lines_of_instructions(table, 1, 1)


def test_whatever_is_in_a_table_nothing_but_a_refusal_comes_of_it() -> None:
    choose = random.Random(1)  # noqa: S311 - the same tables each time
    for _ in range(2_000):
        table = choose.randbytes(choose.randint(0, 60))
        with contextlib.suppress(ValueError):
            assert len(lines_of_instructions(table, 1, 20)) == 20


def test_no_more_is_read_than_there_are_instructions() -> None:
    assert lines_of_instructions(b"\xff" * (1 << 20), 1, 5) == (None,) * 5
