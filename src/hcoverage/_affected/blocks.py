"""Splits a source into what a change of it can be attributed to: its functions, and the rest.

A function's body runs for whoever calls it, so a change there concerns the tests that ran a line of
it. All else, the *frame*, runs when the module is imported, and what came of that is everybody's:
class bodies, decorators, defaults, annotations, docstrings, and which functions there are at all.
Nested functions belong to the outermost one, which makes them. Comments and layout are no part.

Beside that it notes what tells where a function's work may outlive the test that it was done for
(`shared_state` makes use of it). Pure: text in, facts out.
"""

from __future__ import annotations

import ast
import dataclasses
import warnings
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from hcoverage._affected.state_kept import (
    keeps_for_itself,
    keeps_state,
    made_and_changed,
    mutates_self,
)
from hcoverage._affected.statements import Body, digest_of, split

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_Function = ast.FunctionDef | ast.AsyncFunctionDef
_SCOPES: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)


@dataclasses.dataclass(frozen=True)
class Block:
    """The body of an outermost function or method.

    Attributes:
        name: `function`, `Class.method`; with `#2` for the second one of a name.
        first: The first line of the body, behind the docstring, counted from 1.
        last: Its last line; less than `first` where there is nothing but a docstring.
        digest: Tells it from another body; comments and layout do not count.
        names: All names that it reads, of variables and attributes; `module:variable.attribute` of
            a variable that is taken out of another module.
        calls: Those of them that it calls.
        keeps: Whether it can leave something behind that others find, as in a cache.
        keeps_in_self: Whether it changes the object that it is a method of.
        keeps_for_itself: Whether it can leave something that only itself finds, in a closure.
        made: The names of what it calls to change what that gives, an object that may be shared.
        body: It, split up further.
    """

    name: str
    first: int
    last: int
    digest: str
    names: tuple[str, ...]
    calls: tuple[str, ...]
    keeps: bool
    keeps_in_self: bool
    keeps_for_itself: bool
    made: tuple[str, ...]
    body: Body


@dataclasses.dataclass(frozen=True)
class Shape:
    """A source, split up.

    Attributes:
        frame: Tells from another what runs at import.
        blocks: The functions, in their order.
        names: All names that the frame reads, but for what runs only as a script.
        calls: Those of them that it calls.
        bases: The names of each class's bases, by its name.
        plain: The variables that are lists, dictionaries or sets, and nothing else.
        ordinary: The classes of which a call makes a new object, if that is so of their bases.
    """

    frame: str
    blocks: tuple[Block, ...] = ()
    names: tuple[str, ...] = ()
    calls: tuple[str, ...] = ()
    bases: tuple[tuple[str, tuple[str, ...]], ...] = ()
    plain: tuple[str, ...] = ()
    ordinary: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class _Known:
    """What is known of a module's variables.

    Attributes:
        plain: Those that are lists, dictionaries or sets: their methods are nobody's.
        taken: Those that come out of other modules, as `_taken_out` has them.
    """

    plain: frozenset[str] = frozenset()
    taken: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def name_of(self, attribute: ast.Attribute) -> Iterator[str]:
        """Give what an attribute may be found by, if it may be one of the project's."""
        owner = attribute.value.id if isinstance(attribute.value, ast.Name) else ""
        if owner not in self.plain:
            origin = self.taken.get(owner)
            yield f"{origin}.{attribute.attr}" if origin else attribute.attr


_NOTHING_KNOWN: Final = _Known()


def shape_of(source: bytes) -> Shape | None:
    """Split a source.

    Args:
        source: The content of a Python file.

    Returns:
        Its shape; None if this Python cannot compile it.
    """
    tree = _parsed(source)
    if tree is None:
        return None
    module_names = frozenset(_assigned(tree))
    plain = frozenset(_plain_containers(tree))
    known = _Known(plain, _taken_out(tree))
    seen: Counter[str] = Counter()
    blocks = []
    for name, function in list(_functions(tree, "")):
        seen[name] += 1
        unique = name if seen[name] == 1 else f"{name}#{seen[name]}"
        blocks.append(_block(unique, function, module_names, known))
        _empty(function)
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    bases = tuple((node.name, tuple(sorted(_read_in(node.bases)))) for node in classes)
    frame = _digest(tree)
    at_import = [node for node in tree.body if not _is_script_part(node)]
    names = tuple(sorted(_read_in(at_import, known)))
    calls = tuple(sorted(_called_in(at_import, known)))
    variables = tuple(sorted(plain))
    return Shape(frame, tuple(blocks), names, calls, bases, variables, _ordinary(classes))


def _parsed(source: bytes) -> ast.Module | None:
    with warnings.catch_warnings():
        # Python tells them to whoever imports the source.
        warnings.simplefilter("ignore")
        try:
            tree = ast.parse(source)
            # Only the compiler finds an `await` in a plain function: nobody can import it then.
            compile(tree, "<source>", "exec", dont_inherit=True)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None
    return tree


def _ordinary(classes: list[ast.ClassDef]) -> tuple[str, ...]:
    """The names of classes that have no metaclass, decorator or `__new__` to give an old object."""
    strange = {
        node.name
        for node in classes
        if node.keywords
        or node.decorator_list
        or any(isinstance(part, _Function) and part.name == "__new__" for part in node.body)
    }
    return tuple(sorted({node.name for node in classes} - strange))


def _functions(node: ast.AST, prefix: str) -> Iterator[tuple[str, _Function]]:
    """The functions outside of functions, wherever in the module, by qualified name."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, _Function):
            yield f"{prefix}{child.name}", child
        elif isinstance(child, ast.ClassDef):
            yield from _functions(child, f"{prefix}{child.name}.")
        elif not isinstance(child, ast.expr):
            yield from _functions(child, prefix)


def _block(name: str, function: _Function, module_names: frozenset[str], known: _Known) -> Block:
    body = [] if _is_overload(function) else _behind_docstring(function)
    first = min((_first_line(node) for node in body), default=0)
    last = (function.end_lineno or 0) if body else -1
    parts = split(body)
    return Block(
        name,
        first,
        last,
        digest_of(parts.skeleton, *(part.digest for part in parts.parts)),
        tuple(sorted(_read_in(body, known))),
        tuple(sorted(_called_in(body, known))),
        keeps_state(function, module_names),
        mutates_self(function),
        keeps_for_itself(function),
        tuple(sorted(made_and_changed(function))),
        parts,
    )


def _is_overload(function: _Function) -> bool:
    """Tell whether it is for type checkers, and never runs."""
    return any(
        isinstance(each, ast.Name | ast.Attribute) and ast.unparse(each).endswith("overload")
        for each in function.decorator_list
    )


def _behind_docstring(function: _Function) -> list[ast.stmt]:
    return function.body[1 if ast.get_docstring(function, clean=False) is not None else 0 :]


def _first_line(node: ast.stmt) -> int:
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min([node.lineno, *(each.lineno for each in decorators)])


def _empty(function: _Function) -> None:
    """Leave of a function what its definition evaluates, and what calling it gives."""
    kinds = {type(node).__name__ for node in _own_nodes(function.body)}
    kind = ast.Constant(bool(kinds & {"Yield", "YieldFrom"}))
    function.body = [*function.body[: len(function.body) - len(_behind_docstring(function))]]
    function.body.append(ast.Expr(kind))


def _own_nodes(nodes: list[Any]) -> Iterator[ast.AST]:
    for node in nodes:
        yield node
        if not isinstance(node, _SCOPES):
            yield from _own_nodes(list(ast.iter_child_nodes(node)))


def _digest(*nodes: ast.AST) -> str:
    return digest_of(*map(ast.dump, nodes))


def _read_in(nodes: list[Any], known: _Known = _NOTHING_KNOWN) -> set[str]:
    """The names in some nodes, but for the methods of the plain containers of the module."""
    names = set()
    for part in (part for node in nodes for part in ast.walk(node)):
        if isinstance(part, ast.Name):
            names.add(part.id)
        elif isinstance(part, ast.Attribute):
            names.update(known.name_of(part))
        elif isinstance(part, ast.alias):
            names.add(part.name.rpartition(".")[2])
    return names


def _called_in(nodes: list[Any], known: _Known) -> set[str]:
    names = set()
    for part in (part for node in nodes for part in ast.walk(node)):
        match part:
            case ast.Call(func=ast.Name(id=name)):
                names.add(name)
            case ast.Call(func=ast.Attribute() as called):
                names.update(known.name_of(called))
    return names


def _taken_out(tree: ast.Module) -> dict[str, str]:
    """What a module takes out of others by name: `module:variable`, by the name that it has here.

    Names that are given to anything else as well are left out.
    """
    stored = {
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    stored |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    taken = {
        alias.asname or alias.name: f"{node.module.rpartition('.')[2]}:{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }
    return {name: origin for name, origin in taken.items() if name not in stored}


def _plain_containers(tree: ast.Module) -> Iterator[str]:
    """The variables that a module makes lists, dictionaries or sets, and nothing else."""
    displays = (ast.List, ast.Dict, ast.Set)
    made: dict[str, list[bool]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            made.setdefault(node.id, []).append(False)
    for node in tree.body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                made[name].append(isinstance(value, displays))
            case ast.AnnAssign(target=ast.Name(id=name), value=value):
                made[name].append(isinstance(value, displays))
    # Once stored, and that a display.
    return (name for name, found in made.items() if found == [False, True])


def _assigned(tree: ast.Module) -> Iterator[str]:
    """The names that a module has of its own, or takes out of others; modules are none of them."""
    for node in _own_nodes(list(tree.body)):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.ImportFrom):
            yield from (alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.ClassDef):
            yield node.name


def _is_script_part(node: ast.stmt) -> bool:
    """Tell `if __name__ == "__main__":`, which runs in a process of its own."""
    return isinstance(node, ast.If) and any(
        isinstance(part, ast.Name) and part.id == "__name__" for part in ast.walk(node.test)
    )
