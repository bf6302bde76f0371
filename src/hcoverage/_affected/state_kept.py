"""Finds functions that leave something behind that outlives a test: caches, registries, flags.

A test that finds a full cache does not run what filled it, but depends on that. The text of a
function shows whether it can keep something: a decorator named like a cache, a `global`, a change
of something that is not the function's own. Too many are found rather than too few. Pure: syntax
trees in, yes or no out.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_KEEPING_DECORATOR: Final = r"(?i)cache|memo|lru|once|singleton|lazy"
_CHANGING: Final = frozenset(
    (
        *(
            "add",
            "append",
            "appendleft",
            "extend",
            "extendleft",
            "insert",
            "register",
            "setdefault",
        ),
        *("clear", "discard", "pop", "popitem", "popleft", "remove", "update", "__delitem__"),
        *("move_to_end", "reverse", "sort", "__setitem__"),
        # Of context variables, queues, signals and loggers.
        *(
            "set",
            "put",
            "put_nowait",
            "connect",
            "subscribe",
            "addHandler",
            "addFilter",
            "setLevel",
        ),
    )
)
# Functions that change something of the whole process, whoever has them.
_SETTING: Final = frozenset(
    (
        *("basicConfig", "dictConfig", "fileConfig", "captureWarnings", "simplefilter"),
        *("filterwarnings", "chdir", "putenv", "umask", "seed", "setlocale", "setcontext"),
        *("set_event_loop_policy", "set_start_method", "setdefaulttimeout", "setrecursionlimit"),
        *("register_dialect", "register_adapter", "register_converter", "addLevelName"),
    )
)
# Functions that import what is named at run time: a module that is imported stays.
_IMPORTING: Final = frozenset(
    ("import_module", "__import__", "exec_module", "load_module", "run_module", "import_string")
)
# What only gives something of a container.
_GIVING: Final = frozenset(("get", "setdefault", "values", "items"))
_FUNCTIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_UNPACKED: Final = (ast.Tuple, ast.List, ast.Starred)
_SELF: Final = "self"
_MADE: Final = "()"  # after the name of what was called
_CLASS: Final = "cls"
# Each question about a function walks its nodes, which takes most of the time. All questions about
# one function come together, so few walks need be remembered.
_MOST_SCOPES: Final = 256
_Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclasses.dataclass(frozen=True)
class Handed:
    """Where what a function changes may come from, and where what it has may be changed.

    Attributes:
        in_self: The attributes of its object that it changes in place; the class may have them.
        taken: What it calls, if it changes the result through a variable; with a dot before it if
            it is a method.
        gives: Whether it returns what its module or object has.
        changes_given: Whether it changes its arguments.
        passes: What it calls with its arguments.
        lends: What it calls with variables of its module.
        sets: Whether it leaves something behind that may be no result of what it calls.
    """

    in_self: tuple[str, ...] = ()
    taken: tuple[str, ...] = ()
    gives: bool = False
    changes_given: bool = False
    passes: tuple[str, ...] = ()
    lends: tuple[str, ...] = ()
    sets: bool = False


def keeps_state(function: _Function, module_names: frozenset[str]) -> bool:
    """Return whether a function can leave something behind for others.

    Args:
        function: An outermost function, with all that is nested in it.
        module_names: The names that its module assigns, or imports from other modules.
    """
    if any(_is_keeping_decorator(node) for node in _decorators(function)):
        return True
    if any(isinstance(node, ast.Global) for node in _nodes(function)):
        return True
    if any(_sets_a_result(node, function) for node in _nodes(function)):
        return True
    if _is_exposed(_kept_in(function), function):
        return True
    return any(_changes_outside(each, function, module_names) for each in _scopes(function))


def sets_something(function: _Function, module_names: frozenset[str]) -> bool:
    """Return whether a function can leave something behind, be it no result of what it calls.

    Args:
        function: As for `keeps_state`.
        module_names: As for `keeps_state`.
    """
    return (
        any(_is_call_of(node, _SETTING | _IMPORTING) for node in _nodes(function))
        or _imports_for_the_effect(function)
        or any(
            _changes_outside(scope, function, module_names, also_settings=True)
            for scope in _scopes(function)
        )
    )


def made_and_changed(function: _Function) -> set[str]:
    """Return the names of calls whose results a function changes."""
    of_function = _own_names(function)
    found = set()
    for scope in _scopes(function):
        roots = {root for node in _own_nodes(scope) for root, _ in _changed(node)}
        called = {root.removesuffix(_MADE) for root in roots if root.endswith(_MADE)}
        found |= called - of_function - _own_names(scope)
    return found


def keeps_for_itself(function: _Function) -> bool:
    """Return whether a function can leave something in its own variables.

    A nested function that lives longer has them in its closure. Only those who run a line of one of
    the two can find it there.
    """
    return bool(_kept_in(function))


def _kept_in(function: _Function) -> set[str]:
    """Return the variables of a function that a nested one, which may live longer, changes."""
    kept = set()
    for scope in _nodes(function):
        if isinstance(scope, ast.Nonlocal):
            kept.update(scope.names)
        elif isinstance(scope, _FUNCTIONS) and scope is not function:
            kept |= _changed_outermost(scope, function)
    return kept


def _is_exposed(names: set[str], function: _Function) -> bool:
    """Return whether others get a function's variables without running it or a nested function."""
    out = [
        node.value
        for node in _nodes(function)
        if isinstance(node, ast.Assign)
        and any(isinstance(each, ast.Attribute | ast.Subscript) for each in node.targets)
    ]
    out += [
        node.value
        for node in _own_nodes(function)
        if isinstance(node, ast.Return | ast.Yield) and node.value is not None
    ]
    found = {part.id for value in out for part in ast.walk(value) if isinstance(part, ast.Name)}
    return not names.isdisjoint(found)


def mutates_self(function: _Function) -> bool:
    """Return whether a method changes its own object."""
    return any(root == _SELF for scope in _scopes(function) for root, _ in _changed_in(scope))


def handed(function: _Function, module_names: frozenset[str]) -> Handed:
    """Return where what a function changes may come from.

    Args:
        function: An outermost function, with all that is nested in it.
        module_names: The names that its module assigns, or imports from other modules.
    """
    given = _arguments(function)
    aliases = _aliases(function)
    changed = {root for root, _ in _changed_in(function)}
    of_module = module_names - _own_names(function)
    through = {root for node in _own_nodes(function) for root, _ in _changed(node)}
    taken = set()
    for name, call in _results(function):
        if name in through and isinstance(call.func, ast.Name):
            taken.add(call.func.id)
        elif name in through and _leads(call.func) and _root(call.func) in of_module:
            taken.add(f".{_called_name(call)}")
    passes, lends = set(), set()
    for node in _own_nodes(function):
        if isinstance(node, ast.Call) and (called := _called_name(node)):
            roots = {_followed(_root(each), aliases) for each in _given_to(node) if _leads(each)}
            if roots & given:
                passes.add(called)
            if roots & of_module:
                lends.add(called)
    return Handed(
        tuple(sorted(_in_self(function))),
        tuple(sorted(taken)),
        any(
            _followed(_root(node.value), aliases) in of_module | {_SELF}
            for node in _own_nodes(function)
            if isinstance(node, ast.Return) and node.value is not None and _leads(node.value)
        ),
        not given.isdisjoint(changed),
        tuple(sorted(passes)),
        tuple(sorted(lends)),
        sets_something(function, module_names),
    )


def _in_self(function: _Function) -> set[str]:
    """Return the attributes of `self` that a method changes in place."""
    found = set()
    for node in _nodes(function):
        places = [each.value for each in _targets(node) if isinstance(each, ast.Subscript)]
        if isinstance(node, ast.AugAssign):
            places.append(node.target)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            places += [node.func.value] if node.func.attr in _CHANGING else []
        for place in places:
            match place:
                case ast.Attribute(attr=attr, value=ast.Name(id="self")):
                    found.add(attr)
    return found


def shared_in_class(node: ast.ClassDef) -> set[str]:
    """Return the variables of a class that all its objects have in common, and can change."""
    found = set()
    for statement in node.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                found |= {name} if _may_change(value) else set()
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                found |= {name} if _may_change(value) else set()
    assigned = {
        target.attr
        for part in ast.walk(node)
        for target in _targets(part)
        if isinstance(target, ast.Attribute)
        and isinstance(target.value, ast.Name)
        and target.value.id == _SELF
        and not isinstance(part, ast.AugAssign)
    }
    return found - assigned


def _may_change(value: ast.expr) -> bool:
    displays = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)
    if isinstance(value, ast.Call):  # Fields of dataclasses and the like are each object's own.
        return not re.search(r"(?i)field|attr|^ib$|column|property", _called_name(value))
    return isinstance(value, displays)


def _is_call_of(node: ast.AST, names: frozenset[str]) -> bool:
    return isinstance(node, ast.Call) and _called_name(node) in names


def _called_name(node: ast.Call) -> str:
    match node.func:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def _given_to(call: ast.Call) -> list[ast.expr]:
    return [*call.args, *(each.value for each in call.keywords)]


def _imports_for_the_effect(function: _Function) -> bool:
    """Return whether a function imports something and does not use it."""
    imported = {
        (alias.asname or alias.name).partition(".")[0]
        for node in _nodes(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    used = {node.id for node in _nodes(function) if isinstance(node, ast.Name)}
    return bool(imported - used)


def _changed_in(scope: ast.AST, *, also_settings: bool = True) -> Iterator[tuple[str, bool]]:
    """Yield what a function changes in place, also through another name, as `_changed` does.

    Args:
        scope: The function.
        also_settings: Also where an attribute gets what is no result of a call.
    """
    aliases, own = _aliases(scope), _own_names(scope)
    for node in _own_nodes(scope):
        is_setting = isinstance(node, ast.Assign) and not _may_be_a_result(node.value, own)
        for root, is_deep in _changed(node):
            followed = _followed(root, aliases)
            if also_settings or followed == root or not is_setting:
                yield followed, is_deep or followed != root


def _sets_a_result(node: ast.AST, function: _Function) -> bool:
    """Return whether a call sets something of the process that may be a result of another call."""
    if not (isinstance(node, ast.Call) and _is_call_of(node, _SETTING | _IMPORTING)):
        return False
    own = _own_names(function)
    return any(_may_be_a_result(value, own) for value in _given_to(node))


def _may_be_a_result(value: ast.expr, own: frozenset[str]) -> bool:
    return any(
        isinstance(part, ast.Call | ast.Await | ast.Yield | ast.YieldFrom)
        or (isinstance(part, ast.Name) and part.id in own)
        for part in ast.walk(value)
    )


@functools.lru_cache(_MOST_SCOPES)
def _aliases(scope: ast.AST) -> dict[str, str]:
    """Return the variables of a function that are other names for what something else has."""
    found = {}
    for node in _own_nodes(scope):
        match node:
            case ast.Assign(targets=targets, value=value):
                pass
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                targets = [target]
            case ast.NamedExpr(target=target, value=value):
                targets = [target]
            case ast.For(target=target, iter=value) | ast.AsyncFor(target=target, iter=value):
                targets = [target]
            case _:
                continue
        if _leads(value):
            for part in (part for target in targets for part in ast.walk(target)):
                if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
                    found[part.id] = _root(value)
    return found


def _followed(root: str, aliases: dict[str, str]) -> str:
    seen = {root}
    while root in aliases and aliases[root] not in seen:
        root = aliases[root]
        seen.add(root)
    return root


def _leads(node: ast.expr) -> bool:
    """Return whether an expression is a variable, or something that a variable has."""
    while True:
        match node:
            case ast.Attribute(value=value) | ast.Subscript(value=value):
                node = value
            case ast.Call(func=ast.Attribute(attr=attr, value=value)) if attr in _GIVING:
                node = value
            case _:
                return isinstance(node, ast.Name)


def _results(scope: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Yield variables that are results of calls, and these calls."""
    for node in _own_nodes(scope):
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call() as call):
                yield name, call


def _arguments(function: _Function) -> set[str]:
    arguments = function.args
    every = (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
    return {each.arg for each in every} - {_SELF, _CLASS}


def _scopes(function: _Function) -> Iterator[ast.AST]:
    """Yield a function and all that are nested in it."""
    return (node for node in _nodes(function) if isinstance(node, _FUNCTIONS))


def _decorators(function: _Function) -> Iterator[ast.expr]:
    for node in _nodes(function):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from node.decorator_list


def _is_keeping_decorator(decorator: ast.expr) -> bool:
    names = (
        part.id if isinstance(part, ast.Name) else part.attr
        for part in ast.walk(decorator)
        if isinstance(part, ast.Name | ast.Attribute)
    )
    return any(re.search(_KEEPING_DECORATOR, name) for name in names)


def _changes_outside(
    scope: ast.AST,
    function: _Function,
    module_names: frozenset[str],
    *,
    also_settings: bool = False,
) -> bool:
    """Return whether a function, or one nested in it, changes what it did not make itself."""
    own = {_SELF, *_own_names(scope)}
    of_function = frozenset() if scope is function else _own_names(function)
    found = set(_changed_in(scope, also_settings=also_settings))
    roots = {root for root, _ in found}
    if _CLASS in roots or not roots.isdisjoint(_changeable_defaults(scope)):
        return True
    return any(
        root in module_names or is_deep
        for root, is_deep in found
        if root not in own and root not in of_function and not root.endswith(_MADE)
    )


def _changed_outermost(scope: ast.AST, function: _Function) -> set[str]:
    """Return the variables of a function that a nested one changes, if that may live longer."""
    roots = {root for node in _own_nodes(scope) for root, _ in _changed(node)}
    changed = (roots - {_SELF, *_own_names(scope)}) & _own_names(function)
    return changed if changed and _is_handed_out(scope, function) else set()


def _changed(node: ast.AST) -> Iterator[tuple[str, bool]]:
    """Yield what a statement or call changes in place.

    Yields:
        The first name of the expression, and whether an object surely changes: a call such as
        `os.remove()` may be of a function in a module.
    """
    for target in _targets(node):
        if isinstance(target, ast.Attribute | ast.Subscript):
            yield _object(target.value), True
    match node:
        case ast.Call(func=ast.Attribute(attr=attr, value=value)) if attr in _CHANGING:
            yield _object(value), not isinstance(value, ast.Name)
        case ast.Call(func=ast.Name(id="setattr" | "delattr"), args=[value, *_]):
            yield _object(value), True


def _targets(node: ast.AST) -> list[ast.expr]:
    targets: list[ast.expr] = []
    if isinstance(node, ast.Assign | ast.Delete):
        targets = list(node.targets)
    elif isinstance(node, ast.AugAssign | ast.AnnAssign | ast.For | ast.AsyncFor):
        targets = [node.target]
    elif isinstance(node, ast.withitem) and node.optional_vars is not None:
        targets = [node.optional_vars]
    return [
        part
        for target in targets
        for part in (ast.walk(target) if isinstance(target, _UNPACKED) else [target])
        if isinstance(part, ast.expr)
    ]


def _object(node: ast.expr) -> str:
    """Return the first name of an expression; with `_MADE` after it if it is called."""
    root = _root(node)
    is_call = isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    return f"{root}{_MADE}" if is_call and root not in (_SELF, _CLASS) else root


def _root(node: ast.expr) -> str:
    """Return the first name of an expression; `cls` for classes, and for `globals()`."""
    while True:
        match node:
            case ast.Attribute(attr="__class__"):
                return _CLASS
            case ast.Call(func=ast.Name(id="type" | "globals" | "vars")):
                return _CLASS
            case ast.Call(func=ast.Name(id="super")):
                return _SELF
            case ast.Attribute(value=value) | ast.Subscript(value=value) | ast.Call(func=value):
                node = value
            case ast.Name(id=name):
                return name
            case _:
                return _SELF  # A value that nobody else has.


@functools.lru_cache(_MOST_SCOPES)
def _own_names(scope: ast.AST) -> frozenset[str]:
    return frozenset(_assigned_or_taken(scope))


def _assigned_or_taken(scope: ast.AST) -> Iterator[str]:
    for node in _own_nodes(scope):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.ExceptHandler) and node.name:
            yield node.name
        elif isinstance(node, ast.alias):
            yield (node.asname or node.name).partition(".")[0]
    if isinstance(scope, _FUNCTIONS):
        arguments = scope.args
        for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
            if each.arg != _CLASS:
                yield each.arg
        yield from (each.arg for each in (arguments.vararg, arguments.kwarg) if each)


def _changeable_defaults(scope: ast.AST) -> Iterator[str]:
    if not isinstance(scope, _FUNCTIONS):
        return
    arguments = scope.args
    positional = [*arguments.posonlyargs, *arguments.args]
    pairs = [*zip(reversed(positional), reversed(arguments.defaults), strict=False)]
    pairs += [
        (name, value)
        for name, value in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        if value is not None
    ]
    for name, value in pairs:
        if not isinstance(value, ast.Constant | ast.Name | ast.Attribute):
            yield name.arg


def _is_handed_out(scope: ast.AST, function: _Function) -> bool:
    """Return whether a nested function may outlive the outermost one's call, as a decorator's."""
    name = getattr(scope, "name", None)
    if name is None:
        return True
    return any(
        isinstance(node, ast.Return | ast.Yield)
        and node.value is not None
        and any(isinstance(part, ast.Name) and part.id == name for part in ast.walk(node.value))
        for node in _nodes(function)
    )


@functools.lru_cache(_MOST_SCOPES)
def _nodes(function: ast.AST) -> tuple[ast.AST, ...]:
    """Return the nodes of a function and of its nested functions."""
    return tuple(ast.walk(function))


@functools.lru_cache(_MOST_SCOPES)
def _own_nodes(scope: ast.AST) -> tuple[ast.AST, ...]:
    """Return the nodes of a function without those of its nested functions."""
    found: list[ast.AST] = []
    left = [scope]
    while left:
        children = [*ast.iter_child_nodes(left.pop())]
        found += children
        left += [child for child in children if not isinstance(child, _FUNCTIONS)]
    return tuple(found)
