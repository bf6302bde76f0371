"""Splits a function's body into *parts*, statements and conditions, and a *skeleton*, the rest.

Whether a part ran shows in its lines. If only one part has changed, a test that did not run it does
what it did before. The skeleton is the order of the parts, the function's variables, and what is in
no part: statements without a line that surely runs (`pass`, `global`), nested functions and
classes, imports, and `match`. Pure: syntax trees in, facts out.
"""

from __future__ import annotations

import ast
import dataclasses
import hashlib
from typing import Final

# One of these anywhere makes the function a generator.
_YIELDS: Final = (ast.Yield, ast.YieldFrom)


@dataclasses.dataclass(frozen=True)
class Part:
    """A statement or condition; it has run if one of its lines has.

    Attributes:
        first: Its first line, counted from 1.
        last: Its last line.
        digest: A hash of its content.
    """

    first: int
    last: int
    digest: str


@dataclasses.dataclass(frozen=True)
class Body:
    """A function's body.

    Attributes:
        skeleton: A hash of all that is in no part.
        parts: The parts, in their order.
    """

    skeleton: str
    parts: tuple[Part, ...]


def split(statements: list[ast.stmt]) -> Body:
    """Split a function's body.

    Args:
        statements: The body, without its docstring.
    """
    splitter = _Splitter()
    splitter.take(statements)
    # A variable that is assigned anywhere is the function's own everywhere.
    nodes = [part for each in statements for part in ast.walk(each)]
    variables = {
        part.id
        for part in nodes
        if isinstance(part, ast.Name) and not isinstance(part.ctx, ast.Load)
    }
    yields = any(isinstance(part, _YIELDS) for part in nodes)
    skeleton = digest_of(*splitter.skeleton, *sorted(variables), f"yields {yields}")
    return Body(skeleton, tuple(splitter.parts))


def changed_parts(before: Body, after: Body) -> tuple[tuple[int, int], ...]:
    """Return which parts of a body have changed.

    Returns:
        The first and the last line of each in the old file; empty if anything else has changed.
    """
    if before.skeleton != after.skeleton or len(before.parts) != len(after.parts):
        return ()
    pairs = zip(before.parts, after.parts, strict=True)
    return tuple((was.first, was.last) for was, now in pairs if was.digest != now.digest)


def digest_of(*texts: str) -> str:
    """Return a hash of some texts."""
    text = "\n".join(texts)
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]


class _Splitter:
    def __init__(self) -> None:
        self.skeleton: list[str] = []
        self.parts: list[Part] = []

    def take(self, statements: list[ast.stmt]) -> None:
        self.skeleton.append("(")
        for each in statements:
            self._statement(each)
        self.skeleton.append(")")

    def _statement(self, statement: ast.stmt) -> None:
        match statement:
            case ast.Expr() | ast.Assign() | ast.AugAssign() | ast.Return() | ast.Raise():
                self._part(statement.lineno, statement)
            case ast.Assert() | ast.Delete():
                self._part(statement.lineno, statement)
            case ast.If(test=test) | ast.While(test=test) if not isinstance(test, ast.Constant):
                self._headed(statement, test)
                self.take(statement.orelse)
            case ast.For() | ast.AsyncFor():
                self._headed(statement, statement.target, statement.iter)
                self.take(statement.orelse)
            case ast.With() | ast.AsyncWith():
                found = [(each.context_expr, each.optional_vars) for each in statement.items]
                self._headed(statement, *(part for pair in found for part in pair if part))
            case ast.Try() | ast.TryStar():
                self._try(statement)
            case _:
                self.skeleton.append(ast.dump(statement))

    def _headed(
        self,
        statement: ast.If | ast.While | ast.For | ast.AsyncFor | ast.With | ast.AsyncWith,
        *header: ast.expr,
    ) -> None:
        self.skeleton.append(f"{type(statement).__name__} {len(header)}")
        self._part(statement.lineno, *header)
        self.take(statement.body)

    def _try(self, statement: ast.Try | ast.TryStar) -> None:
        self.skeleton.append(type(statement).__name__)
        self.take(statement.body)
        for handler in statement.handlers:
            self.skeleton.append(f"except {handler.type is not None} {handler.name}")
            if handler.type is not None:
                self._part(handler.lineno, handler.type)
            self.take(handler.body)
        self.take(statement.orelse)
        self.take(statement.finalbody)

    def _part(self, first: int, *nodes: ast.stmt | ast.expr) -> None:
        last = max(node.end_lineno or first for node in nodes)
        self.parts.append(Part(first, last, digest_of(*map(ast.dump, nodes))))
        self.skeleton.append(".")
