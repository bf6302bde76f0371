"""Programs in which branches go all ways, one for each construct.

Each is a function that is called with arguments such that its conditions are always true, always
false, or both, since what the recorder can do without differs by that.
"""

from __future__ import annotations

import textwrap
from typing import Final

# Bodies of `def f(x, y=0)`.
CONSTRUCTS: Final = {
    "if": """
        if x:
            a = 1
        b = 2
    """,
    "ifelse": """
        if x:
            a = 1
        else:
            a = 2
        b = 2
    """,
    "if_end": """
        if x:
            a = 1
    """,
    "if_one": """
        if x: a = 1
        b = 2
    """,
    "if_one_end": """
        if x: a = 1
    """,
    "if_one_raise": """
        if x: raise ValueError
        b = 2
    """,
    "if_raise": """
        if x:
            raise ValueError
        b = 2
    """,
    "if_one_ret": """
        if x: return 1
        b = 2
    """,
    "elif": """
        if x == 5:
            a = 1
        elif x:
            a = 2
        b = 2
    """,
    "and": """
        if x and y:
            a = 1
        b = 2
    """,
    "or_multi": """
        if (x or
            y):
            a = 1
        b = 2
    """,
    "andmulti": """
        if (x and
            y and
            x != 7):
            a = 1
        b = 2
    """,
    "while": """
        n = 0
        while x and n < 3:
            n += 1
        b = 2
    """,
    "while_else": """
        n = 0
        while n < 3:
            n += 1
            if x:
                break
        else:
            c = 1
        b = 2
    """,
    "while_one": """
        while x: x = 0
        b = 2
    """,
    "while_true": """
        while True:
            if x:
                break
            x = 1
        b = 2
    """,
    "for": """
        for i in range(x):
            a = i
        b = 2
    """,
    "for_end": """
        for i in range(x):
            a = i
    """,
    "for_one": """
        for i in range(x): a = i
        b = 2
    """,
    "for_break": """
        for i in range(3):
            if x:
                break
        b = 2
    """,
    "for_continue": """
        for i in range(3):
            if x:
                continue
            a = 1
        b = 2
    """,
    "for_else": """
        for i in range(3):
            if x:
                break
        else:
            c = 3
        b = 2
    """,
    "for_if_last": """
        for i in range(3):
            if x:
                a = 1
        b = 2
    """,
    "for_while": """
        for i in range(2):
            while x:
                x -= 1
        b = 2
    """,
    "for_whiletrue": """
        for i in range(2):
            while True:
                if x: break
                x = 1
        b = 2
    """,
    "for_tuple": """
        for (i,
             j) in [(1, 2)] * x:
            while j:
                j -= 1
                if j == 1:
                    continue
        b = 2
    """,
    "for_return": """
        for i in range(3):
            if x:
                return i
        return 4
    """,
    "nested": """
        if x:
            if y:
                a = 1
            else:
                a = 2
        else:
            a = 3
    """,
    "nested2": """
        if x:
            if y:
                a = 1
        b = 3
    """,
    "match": """
        match x:
            case 0:
                a = 1
            case 1 | 2:
                a = 2
            case _:
                a = 3
        b = 1
    """,
    "match_guard": """
        match x:
            case 1 if y:
                a = 1
            case [p, q]:
                a = 1
            case int(z) if z > 5:
                a = 2
            case {'k': v}:
                a = 5
        b = 1
    """,
    "match_nodefault": """
        match x:
            case 1:
                a = 1
    """,
    "match_one": """
        match x:
            case 1: a = 1
            case 0: a = 2
        b = 3
    """,
    "try": """
        try:
            1 // x
        except ZeroDivisionError:
            a = 1
        else:
            c = 1
        b = 2
    """,
    "try_if": """
        try:
            if 1 // x:
                a = 1
        except ValueError:
            a = 1
        b = 2
    """,
    "if_exc": """
        if 1 // x:
            a = 1
    """,
    "while_exc": """
        while 1 // x:
            x -= 1
    """,
    "for_exc": """
        for i in [1, 0]:
            if 1 // i:
                a = 1
    """,
    "finally": """
        try:
            if x:
                return 1
        finally:
            a = 1
        b = 2
    """,
    "finally_if": """
        try:
            if x:
                return 1
        finally:
            if y:
                a = 1
        b = 2
    """,
    "finally_exc": """
        try:
            1 // x
        finally:
            if y:
                a = 1
        b = 2
    """,
    "finally_one": """
        try:
            1 // x
        finally:
            if y: a = 1
        b = 2
    """,
    "finally_loop": """
        for i in range(3):
            try:
                if x:
                    continue
                if i == 1:
                    break
            finally:
                a = 1
        b = 2
    """,
    "bare_finally": """
        try:
            a = 1 // x
            return 1
        except:
            b = 1
        finally:
            c = 1
        d = 1
    """,
    "with": """
        import contextlib
        with contextlib.suppress(ZeroDivisionError):
            1 // x
        b = 2
    """,
    "with_if": """
        import contextlib
        with contextlib.nullcontext():
            if x:
                a = 1
        b = 2
    """,
    "with_ret": """
        import contextlib
        with contextlib.nullcontext():
            if x:
                return 1
        b = 2
    """,
    "with_loop": """
        import contextlib
        for i in range(3):
            with contextlib.nullcontext(), contextlib.nullcontext():
                if x:
                    continue
                if y:
                    break
        b = 2
    """,
    "with_exc_if": """
        import contextlib
        with contextlib.suppress(ZeroDivisionError):
            if 1 // x:
                a = 1
        b = 2
    """,
    "comp": """
        a = [i for i in range(3) if i > x]
        if any(i > x for i in range(2)):
            b = 1
        c = 2
    """,
    "comp_multi": """
        a = [
            i
            for i in range(3)
            if x
        ]
        b = {
            i: 1 for i in range(3)
            if x}
        c = 2
    """,
    "ternary": """
        a = 1 if x else 2
        b = (1
            if x
            else 2)
        if (1 if x else
            0):
            c = 1
        d = 1
    """,
    "assert": """
        assert x
        b = 2
    """,
    "assert_msg": """
        assert x, (
            'm')
        b = 2
    """,
    "lambda": """
        g = lambda: 1 if x else 2
        if g():
            a = 1
        if (lambda: x)(): a = 2
        b = 3
    """,
    "gen": """
        def g():
            for i in range(3):
                if x:
                    yield i
            if y: yield 1
        for v in g():
            if v:
                break
        for v in g(): pass
        b = 1
    """,
    "gen_throw": """
        def g():
            while x:
                try:
                    yield 1
                except ValueError:
                    if x: return
        t = g()
        next(t)
        t.throw(ValueError)
        b = 1
    """,
    "gen_close": """
        def g():
            if (yield 1):
                a = 1
            for i in (yield
                ):
                b = 1
        t = g()
        next(t)
        if x: t.close()
        else: t.send(1)
        t.close()
        b = 1
    """,
    "yieldfrom": """
        def g():
            if (yield from range(x)):
                a = 1
            b = 1
        for i in g():
            if i: a = 1
        b = 1
    """,
    "async": """
        import asyncio
        class A:
            def __init__(self, n): self.n = n
            def __aiter__(self): return self
            async def __anext__(self):
                if self.n <= 0: raise StopAsyncIteration
                self.n -= 1
                return self.n
            async def __aenter__(self): return 1
            async def __aexit__(self, *a): return y
        async def m():
            async for i in A(x):
                if i:
                    a = 1
            async with A(1):
                if x:
                    raise ValueError
            async for i in A(2):
                if x: break
            else:
                c = 1
            q = [i async for i in A(3) if i]
            if [i async for i in A(3)]:
                d = 1
            return 1
        asyncio.run(m())
    """,
    "async_end": """
        import asyncio
        class A:
            def __init__(self, n): self.n = n
            def __aiter__(self): return self
            async def __anext__(self):
                await asyncio.sleep(0)
                if self.n <= 0: raise StopAsyncIteration
                self.n -= 1
                return self.n
        async def m():
            async for i in A(x):
                if y: return 1
        async def k():
            while x:
                async for i in A(x):
                    if y: continue
                break
            try:
                async for i in A(x):
                    1 // y
            except ZeroDivisionError:
                c = 1
        asyncio.run(m())
        asyncio.run(k())
    """,
    "exception_in_except_star": """
        def g():
            yield 5
            1 // 0
        try:
            raise TypeError
        except* TypeError:
            for a in g():
                if y:
                    break
        z = 1
    """,
    "exstar": """
        try:
            if x:
                raise ExceptionGroup('e', [ValueError(1), TypeError(2)])
        except* ValueError:
            a = 1
        except* TypeError as e:
            if y: a = 2
        b = 2
    """,
    "exstar2": """
        for i in range(2):
            try:
                raise ExceptionGroup('e', [ValueError(1), OSError(2)])
            except* ValueError:
                if x:
                    raise
            except* TypeError as e:
                a = 2
        b = 2
    """,
    "except_chain": """
        try:
            if x: raise KeyError
            if y: raise OSError
        except ValueError:
            a = 1
        except KeyError as e:
            if y:
                raise
            a = 2
        finally:
            if x: c = 1
        b = 2
    """,
    "except_continue": """
        for i in range(3):
            try:
                1 // i
            except ZeroDivisionError:
                if x: continue
            except ValueError: pass
            a = 1
        b = 1
    """,
    "except_break": """
        while True:
            try:
                1 // 0
            except ZeroDivisionError:
                if x: break
                x = 1
        b = 1
    """,
    "except_last": """
        for i in range(3):
            try:
                1 // (i * x)
            except ZeroDivisionError:
                if y:
                    a = 1
        b = 1
    """,
    "one_store": """
        d = ()
        try:
            if x: d[0] = 1
        except TypeError:
            a = 1
        b = 1
    """,
    "one_multi": """
        if x: del y, \\
            x
        b = 1
    """,
    "one_boolop": """
        if x: a = (x or
            y)
        b = 1
    """,
    "class": """
        class C:
            if x:
                a = 1
            for i in range(x):
                b = 1
            while x: break
        c = C()
    """,
    "chain": """
        if 0 < x < 5:
            a = 1
        if (0
            < x <
            y):
            b = 1
        c = 1
    """,
    "walrus": """
        if (n := x) and (m :=
            y):
            b = 1
        while (z := x):
            x = 0
        c = 1
    """,
    "not": """
        if not x:
            b = 1
        if not (x and y):
            c = 1
        if x is None:
            d = 1
        if x is not None:
            e = 1
    """,
    "const": """
        if True:
            a = 1
        if 0:
            b = 1
        if not 0:
            b = 2
        while 1:
            if x: break
            x = 1
        if __debug__:
            c = 1
    """,
    "ret_try": """
        try:
            return 1 // x
        except ZeroDivisionError:
            if y: return 5
        finally:
            b = 1
        return 2
    """,
    "deco": """
        def d(g):
            if x: return g
            return lambda: 1
        @d
        @d
        def g(a=1 if x else 2):
            if x: return 3
        if g():
            b = 1
    """,
    "semicolon": """
        if x: a = 1; b = 2
        for i in range(x): c = 1; d = 2
        while x: x = 0; e = 1
        z = 1
    """,
    "pass": """
        if x:
            pass
        else:
            pass
        for i in range(x): pass
        while x:
            x = 0
            pass
        if x: pass
        b = 1
    """,
    "raise_in_turns": """
        def g(k):
            if k == 1: raise KeyError
            if k == 2:
                raise OSError
            return {}[k]
        for k in (0, 0, 1, 1, 2, 2, 0) * (1 + y):
            try:
                g(k + x)
                if y: g(3)
                [][k]
            except (KeyError,
                    IndexError):
                a = 1
            except OSError:
                if y: b = 1
    """,
    "raise_again_elsewhere": """
        def again(): raise
        def last(k):
            if k:
                raise
            a = 1
        def g(k):
            try:
                {}[k]
            except KeyError:
                if k % 4 == 0: again()
                if k % 4 == 1: raise
                last(x)
            finally:
                if y: c = 1
        for k in range(9):
            try: g(k)
            except KeyError:
                b = 1
    """,
    "raise_far": """
        def g(n):
            if n:
                g(n - 1)
            else:
                raise ValueError
            c = 1
        for k in range(4):
            try: g(k)
            except ValueError: a = 1
            try:
                g(k); a = 2
                if x: a = 3
            except ValueError: pass
        g(y)
    """,
    "raise_same": """
        error = ValueError()
        def g(k):
            try:
                if k % 3 == 0: raise error
                if k % 3 == 1:
                    raise error
                if x: raise error
            except KeyError: pass
            finally:
                if y: a = 1
        for k in range(9):
            try: g(k)
            except ValueError as e: e.__traceback__ = None
    """,
    "throw": """
        def g(n):
            if n: yield 1
            try:
                yield 2
            finally:
                if y: a = 1
            yield 3
        for k in range(12):
            each = g(k % 2 * x)
            try:
                for _ in range(k % 4): next(each)
                each.throw(ValueError)
            except (ValueError, StopIteration):
                if y: b = 1
    """,
    "with_error": """
        class M:
            def __enter__(self): pass
            def __exit__(self, kind, error, trace):
                if error: error.__traceback__ = None if x else trace
                return y
        def g(): raise ValueError
        def f(k):
            with M():
                if k: g()
                {}[k]
            if x: a = 1
        for k in (0, 0, 1, 1, 0):
            try: f(k)
            except (ValueError, KeyError): pass
            with M(), M(): g()
        b = 1
    """,
    "raise_async": """
        async def g(k):
            if k == 1: raise ValueError
            if k > 1:
                {}[k]
        async def f(k):
            try:
                await g(k)
            except KeyError:
                if x: raise
            a = 1
        for k in (0, 1, 1, 2, 2, 0):
            try: f(k).send(None)
            except StopIteration: pass
            except ValueError:
                if y: b = 1
            except KeyError: b = 1
    """,
    "finally_ret": """
        for i in range(2):
            try:
                1 // x
            finally:
                if y:
                    return 3
                c = 1
        b = 1
    """,
    "nestfin": """
        try:
            try:
                if x:
                    raise ValueError
            finally:
                if y:
                    a = 1
        except ValueError:
            if x: b = 1
        else:
            c = 1
        finally:
            d = 1
        e = 1
    """,
    "type": """
        type A = int if x else str
        def g[T](a: T) -> T:
            if x: return a
            return None
        g(1)
        if A.__value__:
            b = 1
    """,
    "fstr": """
        a = f'{1 if x else 2} {x!r}'
        if f'{x
            }' == '1':
            b = 1
        c = 1
    """,
}

# What conditions are, in the order of the calls.
_TRUTHS: Final = {"true": (1, 1), "false": (0,), "both": (1, 0, 1)}

_CALLS: Final = """
for arguments in {arguments}:
    try:
        f(*arguments)
    except Exception:
        pass
"""


def construct_programs() -> dict[str, str]:
    """Give a program for each construct and each way its conditions can be."""
    programs = {}
    for name, body in CONSTRUCTS.items():
        function = "def f(x, y=0):\n" + _indented(textwrap.dedent(body).strip("\n")) + "\n"
        for truth, values in _TRUTHS.items():
            arguments: list[tuple[object, ...]] = [(x, y) for x in values for y in (0, 1)]
            if truth == "both":
                arguments += [([1, 2],), (9,), ({"k": 1},), (None,)]
            programs[f"{name}_{truth}"] = function + _CALLS.format(arguments=arguments)
    return programs


def _indented(block: str) -> str:
    return textwrap.indent(block, "    ")
