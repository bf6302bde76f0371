"""Splits a source into blocks, the bodies of its functions, and the *frame*, all the rest.

A change in a function's body concerns the tests that ran a line of it. The frame runs when the
module is imported, and all tests use the result: class bodies, decorators, defaults, annotations,
docstrings, and which functions there are. A nested function belongs to its outermost one. Comments
and layout belong to neither.

It also notes how a function's work may outlive the test that ran it, for `shared_state`. Pure: text
in, facts out.
"""

from __future__ import annotations

import ast
import dataclasses
import warnings
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from hcoverage._affected.state_kept import (
    Handed,
    handed,
    keeps_for_itself,
    keeps_state,
    made_and_changed,
    mutates_self,
    shared_in_class,
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
        name: `function` or `Class.method`; with `#2` for the second one of that name.
        first: The first line of the body, after the docstring, counted from 1.
        last: Its last line; less than `first` if there is only a docstring.
        digest: A hash of the body, without comments and layout.
        names: The variables and attributes that it reads; `module:variable.attribute` if the
            variable is imported from another module.
        calls: Those of them that it calls.
        keeps: Whether it can leave something behind for others, as in a cache.
        keeps_in_self: Whether it is a method that changes its object.
        keeps_for_itself: Whether it can leave something in a closure, for itself only.
        made: What it calls and whose result it changes: such an object may be shared.
        handed: Where else what it changes may come from.
        body: The body, split further.
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
    handed: Handed
    body: Body


@dataclasses.dataclass(frozen=True)
class Shape:
    """A source, split into frame and blocks.

    Attributes:
        frame: A hash of what runs at import.
        blocks: The functions, in their order.
        names: The names that the frame reads, except in what runs only as a script.
        calls: Those of them that it calls.
        bases: Each class, and the names in its bases.
        plain: The variables that are always lists, dictionaries or sets.
        ordinary: The classes that make a new object at each call, if their bases do.
        shared: Each class, and its variables that its objects have in common and can change.
    """

    frame: str
    blocks: tuple[Block, ...] = ()
    names: tuple[str, ...] = ()
    calls: tuple[str, ...] = ()
    bases: tuple[tuple[str, tuple[str, ...]], ...] = ()
    plain: tuple[str, ...] = ()
    ordinary: tuple[str, ...] = ()
    shared: tuple[tuple[str, tuple[str, ...]], ...] = ()


@dataclasses.dataclass(frozen=True)
class _Known:
    """What is known of a module's variables.

    Attributes:
        plain: The lists, dictionaries and sets: their methods are not the project's.
        taken: The ones imported from other modules, as `_taken_out` returns them.
    """

    plain: frozenset[str] = frozenset()
    taken: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def name_of(self, attribute: ast.Attribute) -> Iterator[str]:
        """Yield the name to record for an attribute, if it may be one of the project's."""
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
    # Before functions are emptied: they show what is each object's own, and may have classes.
    in_common = [(node.name, shared_in_class(node)) for node in _classes(tree)]
    blocks = []
    for name, function in list(_functions(tree, "")):
        seen[name] += 1
        unique = name if seen[name] == 1 else f"{name}#{seen[name]}"
        blocks.append(_block(unique, function, module_names, known))
        _empty(function)
    classes = _classes(tree)
    shared = tuple((name, tuple(sorted(variables))) for name, variables in in_common if variables)
    bases = tuple((node.name, tuple(sorted(_read_in(node.bases)))) for node in classes)
    frame = _digest(tree)
    at_import = [node for node in tree.body if not _is_script_part(node)]
    names = tuple(sorted(_read_in(at_import, known)))
    calls = tuple(sorted(_called_in(at_import, known)))
    variables = tuple(sorted(plain))
    ordinary = _ordinary(classes)
    return Shape(frame, tuple(blocks), names, calls, bases, variables, ordinary, shared)


def _classes(tree: ast.Module) -> list[ast.ClassDef]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]


def _parsed(source: bytes) -> ast.Module | None:
    with warnings.catch_warnings():
        # Whoever imports the source gets these warnings.
        warnings.simplefilter("ignore")
        try:
            tree = ast.parse(source)
            # Only the compiler finds errors such as `await` in a plain function.
            compile(tree, "<source>", "exec", dont_inherit=True)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None
    return tree


def _ordinary(classes: list[ast.ClassDef]) -> tuple[str, ...]:
    """Return the classes that have no metaclass, decorator or `__new__` to return an old object."""
    strange = {
        node.name
        for node in classes
        if node.keywords
        or node.decorator_list
        or any(isinstance(part, _Function) and part.name == "__new__" for part in node.body)
    }
    return tuple(sorted({node.name for node in classes} - strange))


def _functions(node: ast.AST, prefix: str) -> Iterator[tuple[str, _Function]]:
    """Yield the outermost functions of a module, and their qualified names."""
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
        handed(function, module_names),
        parts,
    )


def _is_overload(function: _Function) -> bool:
    """Return whether a function is for type checkers, and never runs."""
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
    """Remove a function's body, but keep its docstring, and whether it is a generator."""
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
    """Return the names in some nodes, without methods of the module's plain containers."""
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
    """Map names that a module imports from others to `module:variable`.

    Names that the module assigns as well are left out.
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
    """Yield the variables of a module that are always lists, dictionaries or sets."""
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
    # Stored only once, and then a display.
    return (name for name, found in made.items() if found == [False, True])


def _assigned(tree: ast.Module) -> Iterator[str]:
    """Yield the names that a module assigns or imports from others, but not imported modules."""
    for node in _own_nodes(list(tree.body)):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.ImportFrom):
            yield from (alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.ClassDef):
            yield node.name


def _is_script_part(node: ast.stmt) -> bool:
    """Return whether it is `if __name__ == "__main__":`, which runs in a process of its own."""
    return isinstance(node, ast.If) and any(
        isinstance(part, ast.Name) and part.id == "__name__" for part in ast.walk(node.test)
    )
