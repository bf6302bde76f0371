"""Random programs: all statements and expressions, nested, in lines that go on at random.

Exceptions are raised everywhere, also in conditions, in iterators and in `__exit__`; generators and
coroutines are closed and thrown into midway; loops and `finally` are left in all ways.
"""

from __future__ import annotations

import dataclasses
import random
import textwrap
from typing import Final

_BEGINNING: Final = """
import asyncio, contextlib, threading
a = 1; b = 0; c = 2; d = {0: 1, 1: 2, False: 0}
N = 0
def t():
    global N
    N += 1
    if N > 2000: raise SystemExit
    return N % 3 == 0
def r(): return t() and N % 11 == 0
def h(x, y): return x
def fail(x):
    if x: raise ValueError
    return x
def decorate(f): return f
def decorating(*how):
    def inner(f):
        if how and how[0] is None: return None
        return f
    return inner
def in_thread(f):
    thread = threading.Thread(target=f)
    thread.start()
    thread.join()
async def wait(): return 1
class Pause:
    def __await__(self):
        yield
        return t()
class Truth:
    def __init__(self, x): self.x = x
    def __bool__(self):
        if self.x is None: raise TypeError
        return bool(self.x)
    def __eq__(self, other):
        if other == 2: return 1 // 0
        return self.x == other
class Point:
    __match_args__ = ("x", "y")
    def __init__(self, x=0, y=1): self.x, self.y = x, y
    @property
    def z(self):
        if r(): raise AttributeError
        return 3
class Color:
    red, green = 0, 1
class Swallow:
    def __init__(self, kind=ValueError, at_start=None): self.kind, self.at_start = kind, at_start
    def __enter__(self):
        if self.at_start: raise TypeError
        return self
    def __exit__(self, kind, error, trace):
        if kind is None: return t()
        for each in (self.kind, KeyError):
            if issubclass(kind, each):
                return True
        if kind is AssertionError: raise TypeError
class Managed:
    async def __aenter__(self): return await Pause()
    async def __aexit__(self, *error):
        if error[0] is AssertionError: await Pause()
        return error[0] is TypeError
@contextlib.contextmanager
def managed(x):
    if x == 2: raise ValueError
    try:
        yield x
    except TypeError:
        if x: raise
    finally:
        t()
class Countdown:
    def __init__(self, n): self.n = n
    def __iter__(self): return self
    def close(self): fail(r())
    def __next__(self):
        if self.n == 3: raise ValueError
        if self.n <= 0: raise StopIteration
        self.n -= 1
        return self.n
    def __aiter__(self): return self
    async def __anext__(self):
        if self.n <= 0: raise StopAsyncIteration
        if self.n == 3:
            self.n = 1
            raise ValueError
        if self.n == 2: await Pause()
        self.n -= 1
        return self.n
def run(coroutine, error=None):
    try:
        coroutine.send(None)
        if error: coroutine.throw(error)
        for _ in range(9): coroutine.send(None)
    except StopIteration: pass
"""

_DEEPEST: Final = 3
_DEEPEST_EXPRESSION: Final = 2

_ATOMS: Final = (
    *("a", "b", "c", "a", "b", "c", "a", "b", "c", "0", "1", "1", "2", "True", "t()", "t()"),
    *("a", "b", "c", "__debug__", "None", "''", "Point()", "d.get(1)"),
)
_EXPRESSIONS: Final = (
    *("({0} {operator}{gap}{1})", "({0} {operator}{gap}{1} {operator}{gap}{2})"),
    *("({0} {operator}{gap}{1})", "({0} {operator}{gap}{1} {operator}{gap}{2})"),
    *("({0} if{gap}{1} else{gap}{2})", "(not {0})", "(not{gap}({0} and{gap}{1}))"),
    *("h({0},{gap}{1})", "h(*({0},{gap}{1}))", "h(**{{'x': {0},{gap}'y': {1}}})"),
    *("(1 // (1 + {0}))", "fail(r() and{gap}{0})", "fail({gap}{0} and r())", "Truth({gap}{0})"),
    *("(0 <{gap}{0} <={gap}{1})", "({0} <{gap}{1} <{gap}{2})", "(d.get({0}) is{gap}None)"),
    *("(h({0}, 1) is not{gap}None)", "({0} in{gap}({1}, 1))", "({0} not in{gap}[{1}])"),
    *("[*range(3),{gap}{0}][{number}]", "len([1, 2,{gap}3][{0}:{gap}{1}])"),
    *("len(f'{{ {0} }}')", "len(f'''{{ {gap}{0}{gap}}} {{ {1}!r}}''')", "({0},{gap}*range(2))[0]"),
    *("Point({0}).x", "Point({0}{gap}).z", "{{**d, 1: {0}}}[{gap}1]", "(-(a < {0}))", "(1 // {0})"),
)
# Those with a scope of their own, which cannot wait or yield.
_SCOPES: Final = (
    *("len([{gap}{0}{gap}for i in range(2){gap}if {1}])", "any({gap}{0} for i in range({number}))"),
    "len([i for i in range(3) if {0} for j in range(i){gap}if{gap}{1}])",
    *("len({{i: {0}{gap}for i in d}})", "len({{{0} for i in (a, b)}})"),
    "len([[j{gap}for j in range(2) if {0}] for i in range(2){gap}if {1}])",
    "all({0} if{gap}i else{gap}{1} for i in range(3))",
    "sum(i{gap}for i in Countdown(4) if {0})",
    *("(lambda: {gap}{0})()", "(lambda x={gap}{0}, *y:{gap}x if {1} else y)()"),
    *("(lambda x: x and{gap}{0})({1})", "len([i or{gap}j for i, j in{gap}[(0, a)] if{gap}{0}])"),
)
_OPERATORS: Final = ("+", "-", "<", "==", "and", "or", "and not", "or not", "and", "or")

_SIMPLE: Final = (
    *("{name} = {0}", "{name} = {0}", "{name} += (\n    {0})", "h({0},\n    {1})", "pass", "..."),
    *("d[1] = {1}", "d[{0}] = d[\n    1] = a", "'text'", "{0}", "a = 1; b = {0}", "a = {number}"),
    *("{name}, *e = a,\\\n    {0}", "d[1], c = (\n    a, {0})", "c: int = {0}", "del a; a = 1"),
    *("g = lambda x={0}: x if x else b; g()", "d[1]: (\n    int) = {1}", "Point().x = {0}"),
    *("import os, \\\n    sys", "from os import (\n    sep,\n    path)"),
    *("type A = int if {name} else str", "type A[T] = (\n    {name}); A.__value__"),
    "exec(compile('\\n' * {number} + 'if a: b = 1\\nfor c in d: pass', __file__, 'exec'))",
)
_RAISING: Final = (
    *("raise ValueError", "raise TypeError(\n    {0}) from None", "raise", "raise Point({0})"),
    *("raise ValueError from (\n    KeyError({0}))", "assert {0}", "assert {0}, (\n    {1})"),
    *("assert {0} and \\\n    {1}, 'text'", "fail({0})", "fail(r())", "{name} = {0}; fail(r())"),
    *("del d[{0}]", "del {name}", "a, b = {0}, 1", "1 // (not r())", "d[r()]", "fail(\n    r())"),
)
_WAYS_OUT: Final = {
    "def": ("return", "return {0}", "return (\n    {0},\n    {1})"),
    "generator": ("return", "yield 1", "a = yield b", "yield from range(2)", "yield {0}"),
    "async": ("return", "await wait()", "await Pause()", "a = await wait()", "return {0}"),
    "async generator": ("return", "yield 1", "await Pause()", "a = yield (\n    {0})", "yield b"),
}
_AWAITING: Final = (
    *("a = len([x async for x in Countdown(2)\n    if {0}])", "return await wait()"),
    *("a = [await wait() for _ in range(2) if {0}][0]", "a = [x async for x in Countdown(3)]"),
    *("async with Managed(), \\\n    Managed() as b: {name} = {0}", "return (\n    await Pause())"),
)

_PATTERNS: Final = (
    *("0", "1 | 2", "[x, y]", "int(z) if z > 1", "{'k': v}", "None", "bool() as z", "[x, *_]"),
    *("(1 |\n    0)", "Point(0, y)", "Point(x=0 | 1 as x,\n    y=y)", "{'k': [x, *_], **rest}"),
    *("'text'", "Color.red", "Color.green | None", "[Point(z=3), 0 | 1 as x]", "(0, *x,\n    1)"),
    *("-1", "str() | [] | {}", "[[x, y], *_] | [_, x, y]", "{1: _, 2: x}", "(True)"),
)
_SUBJECTS: Final = (
    *("{0}", "({0},\n    {1})", "Point({0})", "[{0}, *range(2)]", "{{'k': {0}, 1: 2}}"),
)

_MANAGERS: Final = (
    *("contextlib.suppress(TypeError, ValueError)", "contextlib.nullcontext()", "Swallow()"),
    *("Swallow(ZeroDivisionError)", "Swallow(at_start={0})", "managed({0})", "managed(1)"),
    *("contextlib.ExitStack()", "contextlib.closing(r() or Countdown(0))"),
)

_GENERATOR_CALLS: Final = (
    *("for a in {name}():\n    if t(): break", "g = {name}(); next(g); g.close()"),
    *("g = {name}(); next(g); g.throw(ValueError)", "g = {name}(); next(g); del g"),
    *("g = {name}(); next(g); g.send(2); g.throw(TypeError)", "a = [*{name}()]", "any({name}())"),
    *("g = {name}(); g.throw(ValueError)", "for a in {name}(): fail(a); t()", "a, *b = {name}()"),
)
_COROUTINE_CALLS: Final = (
    *("run({name}())", "run({name}())", "run({name}(), TypeError)", "asyncio.run({name}())"),
    *("x = {name}(); x.send(None); x.close()", "x = {name}(); x.send(None); del x"),
)
_ASYNC_GENERATOR_CALLS: Final = (
    "async def use():\n    async for a in {name}():\n        if t(): break\nrun(use())",
    "async def use(): return [a async for a in {name}() if a]\nrun(use())",
    "async def use():\n    async for a in {name}(): fail(a)\n    else: b = 1\nasyncio.run(use())",
    "x = {name}(); run(x.__anext__()); run(x.athrow(ValueError))",
    "x = {name}(); run(x.__anext__()); run(x.aclose())",
    "x = {name}(); run(x.asend(None)); run(x.asend(1)); del x",
)
_CALLS: Final = ("{name}()", "{name}()", "{name}({0})", "in_thread({name})", "{name}(); {name}(0)")


@dataclasses.dataclass(frozen=True)
class _Place:
    """Where a statement stands: how deep, and in what."""

    depth: int = 0
    in_loop: bool = False
    function: str = ""

    def deeper(self) -> _Place:
        return dataclasses.replace(self, depth=self.depth + 1)

    def in_a_loop(self) -> _Place:
        return dataclasses.replace(self, in_loop=True)

    def in_a(self, function: str) -> _Place:
        return _Place(self.depth, function=function)


def random_programs(count: int, outer: str = "M", inner: str = "F") -> dict[str, str]:
    """Give so many random programs, each time the same.

    Args:
        count: How many.
        outer: What the names of their functions begin with.
        inner: Likewise of those that are defined in others, and of classes.
    """
    programs: dict[str, str] = {}
    seed = 0
    while len(programs) < count:
        seed += 1
        source = random_program(seed, outer, inner)
        if source is not None:
            programs[f"random_{seed}"] = source
    return programs


def random_program(seed: int, outer: str = "M", inner: str = "F") -> str | None:
    """Give one of them, or nothing if it is not valid, as with a `nonlocal` that a walrus makes."""
    source = _RandomProgram(seed, outer, inner).source()
    try:
        compile(source, "program", "exec")
    except SyntaxError:
        return None
    return source


class _RandomProgram:
    """A program, by what random numbers say."""

    def __init__(self, seed: int, outer: str, inner: str) -> None:
        self._random = random.Random(seed)  # noqa: S311 - the same each time
        self._outer, self._inner = outer, inner

    def source(self) -> str:
        parts = []
        for number in range(3):
            kind = self._random.random()
            if kind < 0.4:
                parts.append(self._guarded(self._block(_Place())))
            elif kind < 0.6:  # often long enough for INSTRUCTION events
                place = _Place(_DEEPEST - 1)
                parts += [self._guarded(self._block(place)) for _ in range(6)]
            else:
                name = f"{self._outer}{number}"
                block = _indented(self._block(_Place(function="def")))
                parts.append(
                    f"def {name}(a=1, b=0, c=2):\n{block}\nfor z in range(3):\n"
                    f"    try: {name}(z)\n    except Exception: pass"
                )
        if self._chance(0.3):
            parts.append(self._block(_Place(1)))
        return _BEGINNING + "\n".join(parts) + "\n"

    def _guarded(self, block: str) -> str:
        return f"try:\n{_indented(block)}\nexcept (Exception, SystemExit): pass"

    def _chance(self, share: float) -> bool:
        return self._random.random() < share

    def _name(self) -> str:
        return self._random.choice("abc")

    def _fill(self, form: str, place: _Place, depth: int = 0, *, own_scope: bool = False) -> str:
        parts = [
            self._expression(place, depth, own_scope=own_scope) if f"{{{number}}}" in form else ""
            for number in range(3)
        ]
        return form.format(
            *parts,
            operator=self._random.choice(_OPERATORS),
            gap=self._random.choice([" ", " ", "\n    ", "\n"]),
            name=self._name(),
            number=self._random.randrange(3),
        )

    def _expression(self, place: _Place, depth: int = 0, *, own_scope: bool = False) -> str:
        if depth > _DEEPEST_EXPRESSION or self._chance(0.25 + 0.1 * depth):
            return self._random.choice(_ATOMS)
        if self._chance(0.2):
            form = self._random.choice(_SCOPES)
            return self._fill(form, place, depth + 1, own_scope=True)
        forms = [*_EXPRESSIONS]
        if not (own_scope and place.function == "class"):
            forms += ["({name} :={gap}{0})"] * 2
        if not own_scope and place.function.startswith("async"):
            forms += ["(await{gap}wait())", "(await Pause())"] * 2
        if not own_scope and place.function.endswith("generator"):
            forms += ["(yield)", "(yield{gap}{0})"] * 2
        return self._fill(self._random.choice(forms), place, depth + 1, own_scope=own_scope)

    def _simple(self, place: _Place) -> str:
        if place.in_loop and self._chance(0.2):
            return self._random.choice(["break", "continue"])
        forms: tuple[str, ...] = _RAISING if self._chance(0.12) else _SIMPLE
        if self._chance(0.2):
            forms = _WAYS_OUT.get(place.function, _SIMPLE)
            if place.function == "async" and self._chance(0.5):
                forms = _AWAITING
        return self._fill(self._random.choice(forms), place)

    def _block(self, place: _Place) -> str:
        count = self._random.randrange(1, 4)
        return "\n".join(self._statement(place) for _ in range(count))

    def _body(self, place: _Place) -> str:
        if self._chance(0.2):
            text = self._simple(place)
            # No compound statement, nor what Python would take for one.
            if not text.startswith("async"):
                return f" {text}"
        return "\n" + _indented(self._block(place.deeper()))

    def _statement(self, place: _Place) -> str:
        if place.depth > _DEEPEST or self._chance(0.42):
            return self._simple(place)
        forms = [self._if, self._if, self._for, self._while, self._try, self._try]
        forms += [self._match, self._with, self._definition, self._definition, self._try_star]
        return self._random.choice(forms)(place)

    def _condition(self, place: _Place) -> str:
        form = self._random.choice(["{0}", "{0}", "{0}", "{0} and \\\n    {1}", "not {0}"])
        return self._fill(form, place)

    def _else(self, place: _Place, share: float) -> str:
        return f"\nelse:{self._body(place)}" if self._chance(share) else ""

    def _if(self, place: _Place) -> str:
        text = f"if {self._condition(place)}:{self._body(place)}"
        while self._chance(0.3):
            text += f"\nelif {self._condition(place)}:{self._body(place)}"
        return text + self._else(place, 0.4)

    def _for(self, place: _Place) -> str:
        count = self._random.choice(["0", "2", "3", "4", self._expression(place)])
        over = [f"range({count})", f"range({count})", f"Countdown({count})", "(a,\n    b)"]
        over += [f"[\n    (1, {count})]", f"enumerate(\n    range({count}))", "d", "[*'ab']"]
        target = self._random.choice([*"abc", "d[0]", "a, *b", "(a,\n    b)", "Point().x"])
        begin = "for"
        if place.function.startswith("async") and self._chance(0.5):
            begin, over = "async for", [f"Countdown({self._random.randrange(5)})"]
        body = self._body(place.in_a_loop())
        text = f"{begin} {target} in {self._random.choice(over)}:{body}"
        return text + self._else(place, 0.3)

    def _while(self, place: _Place) -> str:
        condition, kind = self._condition(place), self._random.random()
        if kind < 0.2:
            text = f"while not t() and {condition}:{self._body(place.in_a_loop())}"
        elif kind < 0.4:
            form = (
                "while (a :=\n    not t()) and (\n    {}):"
                if kind < 0.3
                else "while not (\n    t()):"
            )
            text = form.format(condition) + self._body(place.in_a_loop())
        else:
            condition = self._random.choice(["True", "1", condition])
            block = _indented(self._block(place.deeper().in_a_loop()))
            text = f"while {condition}:\n    if t(): break\n{block}"
        text += self._else(place, 0.3)
        if self._chance(0.3):
            text = f"for _ in range(3):\n{_indented(text)}"
        return text

    def _try(self, place: _Place) -> str:
        text = f"try:{self._body(place)}"
        kind = self._random.random()
        if kind < 0.7:
            caught = ["ValueError", "ZeroDivisionError as e", "(TypeError, AssertionError)"]
            caught += ["(KeyError,\n    AttributeError) as e", "Exception", "fail(r())"]
            for each in self._random.sample(caught, self._random.randrange(1, 3)):
                text += f"\nexcept {each}:{self._body(place)}"
            if self._chance(0.2):
                text += f"\nexcept:{self._body(place)}"
            text += self._else(place, 0.3)
        if kind > 0.5:
            text += f"\nfinally:{self._body(place)}"
        return text

    def _try_star(self, place: _Place) -> str:
        text = f"try:{self._body(place)}"
        groups = ["ValueError", "(TypeError,\n    KeyError) as e", "Exception"]
        # It cannot be left by `return`, `break` or `continue`.
        inner = place.in_a("async, to its end" if place.function.startswith("async") else "")
        for caught in self._random.sample(groups, self._random.randrange(1, 3)):
            block = _indented(self._block(inner.deeper()))
            text += f"\nexcept* {caught}:\n{block}"
        text += self._else(place, 0.2)
        if self._chance(0.2):
            text += f"\nfinally:{self._body(place)}"
        return text

    def _match(self, place: _Place) -> str:
        chosen = self._random.sample(_PATTERNS, self._random.randrange(1, 5))
        text = f"match {self._fill(self._random.choice(_SUBJECTS), place)}:"
        if self._chance(0.5):
            chosen.append("_")
        for pattern in chosen:
            guard = ""
            if " if " not in pattern and self._chance(0.2):
                guard = self._fill(self._random.choice([" if {0}", " if (\n    {0})"]), place)
            text += "\n" + _indented(f"case {pattern}{guard}:{self._body(place)}")
        return text

    def _with(self, place: _Place) -> str:
        count = self._random.choice((1, 1, 2, 3))
        managers = [self._fill(each, place) for each in self._random.sample(_MANAGERS, count)]
        managers = [f"{each} as {self._name()}" if self._chance(0.3) else each for each in managers]
        text = f"with {', '.join(managers)}"
        if count > 1 and self._chance(0.7):
            text = "with (\n    " + ",\n    ".join(managers) + ")"
        if place.function.startswith("async") and self._chance(0.5):
            text = "async with Managed()" + self._random.choice(["", ", \\\n    Managed() as a"])
        return f"{text}:{self._body(place)}"

    def _definition(self, place: _Place) -> str:
        name = f"{self._inner}{self._random.randrange(1000)}"
        forms = ["", "", "@decorate\n", "@decorating({0})\n"]
        forms += ["@decorate\n@decorating(\n    {0},\n    b)\n"]
        decorator = self._fill(self._random.choice(forms), place)
        kinds = [self._function, self._function, self._recursive, self._generator, self._generator]
        kinds += [self._coroutine, self._async_generator, self._class]
        return decorator + self._random.choice(kinds)(name, place)

    def _function(self, name: str, place: _Place) -> str:
        forms = ["(a={0}, b=1)", "(a=1, b=1, c=0)", "(a=(\n    {0}), *b)"]
        forms += ["[T](a: (\n    T)=1, *, b=2) -> (\n    int)"]
        body = self._body(place.in_a("def"))
        if self._chance(0.3):
            block = _indented(self._block(place.in_a("def").deeper()))
            body = f"\n    'text'\n    global G; G = 1\n{block}"
        heading = self._fill(self._random.choice(forms), place)
        return f"def {name}{heading}:{body}\n{self._call(_CALLS, name, place)}"

    def _recursive(self, name: str, place: _Place) -> str:
        block = _indented(self._block(place.in_a("def").deeper()))
        call = self._random.choice(["if n > 0: {0}(n - 1)", "a = n and (\n        {0}(n - 1))"])
        return f"def {name}(n=3, a=0, b=1, c=2):\n    {call.format(name)}\n{block}\n{name}()"

    def _generator(self, name: str, place: _Place) -> str:
        block = _indented(self._block(place.in_a("generator").deeper()))
        first = self._random.choice(["c = 1\n    yield 5", "yield", "if t(): yield 1"])
        call = self._call(_GENERATOR_CALLS, name, place)
        if place.function == "generator" and self._chance(0.4):
            call = f"a = yield from {name}()"
        return f"def {name}(a=1, b=1, c=0):\n    {first}\n{block}\n{call}"

    def _coroutine(self, name: str, place: _Place) -> str:
        block = _indented(self._block(place.in_a("async").deeper()))
        call = self._call(_COROUTINE_CALLS, name, place)
        if place.function.startswith("async") and self._chance(0.4):
            call = f"{self._name()} = await {name}()"
        return f"async def {name}(a=1, b=1, c=0):\n    c = 1\n{block}\n{call}"

    def _async_generator(self, name: str, place: _Place) -> str:
        block = _indented(self._block(place.in_a("async generator").deeper()))
        call = self._call(_ASYNC_GENERATOR_CALLS, name, place)
        if place.function.startswith("async") and self._chance(0.4):
            call = f"async for a in {name}():\n    if t(): break"
        return f"async def {name}(a=1, b=1, c=0):\n    yield 1\n{block}\n{call}"

    def _class(self, name: str, place: _Place) -> str:
        bases = self._random.choice(["", "", "(Point)", "(\n    Point,\n    Color)", "[T](Point)"])
        if self._chance(0.3):
            return f"class {name}{bases}:{self._body(place.in_a('class'))}"
        block = _indented(self._block(place.in_a("class").deeper()))
        method = _indented(_indented(self._block(place.deeper().in_a("def").deeper())))
        method = f"    def __init__(self, a=1, b=0, c=2):\n{method}"
        return f"class {name}{bases}:\n{block}\n{method}\n{name}()"

    def _call(self, forms: tuple[str, ...], name: str, place: _Place) -> str:
        call = self._random.choice(forms).format(self._expression(place), name=name)
        if self._chance(0.5):
            call = f"try:\n{_indented(call)}\nexcept (ValueError, TypeError, StopIteration): pass"
        return call


def _indented(block: str) -> str:
    return textwrap.indent(block, "    ")
