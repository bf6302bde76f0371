"""Finds functions and classes in one line, for which coverage.py counts two exits.

``def f(): return 1`` goes on to the next statement, and its body has an exit of its own.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_LARGEST_SOURCE: Final = 16 << 20  # bytes
_DEFINITIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


class Definition(NamedTuple):
    """A function or class in one line.

    Attributes:
        line: That line.
        following: The line of the statement that follows in the same body.
        first: Its first line, including decorators.
        last: Its last line: a line can be continued.
    """

    line: int
    following: int
    first: int
    last: int


def definitions_in(path: str) -> Sequence[Definition]:
    """Return the one-line definitions that a statement follows.

    Args:
        path: A source; if it cannot be read or is no Python, the result is empty.
    """
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - a str for thousands
            text = file.read(_LARGEST_SOURCE)
        tree = ast.parse(text)
    except (OSError, ValueError, SyntaxError, RecursionError, MemoryError):
        return ()
    return tuple(_definitions(tree, text.splitlines()))


def _definitions(tree: ast.Module, lines: list[bytes]) -> Iterator[Definition]:
    for node in ast.walk(tree):
        # All other bodies have branches, and there the bytecode shows it.
        if isinstance(node, (ast.Module, *_DEFINITIONS)):
            for statement, following in zip(node.body, node.body[1:], strict=False):
                if isinstance(statement, _DEFINITIONS) and _is_in_one_line(statement, lines):
                    last = statement.end_lineno or statement.lineno
                    first = _first_line(statement)
                    yield Definition(statement.lineno, _first_line(following), first, last)


def _is_in_one_line(
    definition: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, lines: list[bytes]
) -> bool:
    first = definition.body[0]
    line = _first_line(first)
    if line > len(lines):
        return False
    return bool(lines[line - 1][: first.col_offset].strip())


def _first_line(statement: ast.stmt) -> int:
    decorators = getattr(statement, "decorator_list", None)
    return decorators[0].lineno if decorators else statement.lineno
