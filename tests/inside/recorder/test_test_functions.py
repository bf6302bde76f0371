"""The contexts of test functions are those of coverage.py's `dynamic_context = test_function`.

Whole JSON reports with contexts are compared with those of the C tracer, with lines and with
branches, of programs written to be tricky and of random ones; in full with more of these, and on
other Pythons, as `test_branches_exact.py` tells.
"""

from __future__ import annotations

import sys
import textwrap
from typing import TYPE_CHECKING, Final

import pytest
from tests.inside.recorder.random_programs import random_programs
from tests.inside.recorder.test_branches_exact import (
    PYTHONS as WITH_BRANCHES,
    assert_same_report,
)
from tests.sampling import FULL

if TYPE_CHECKING:
    from tests.inside.recorder.conftest import Bench

# Of later Pythons the coverage core measures branches.
LINES_ALONE: Final = [sys.executable] if sys.version_info >= (3, 14) else []
PYTHONS: Final = [*WITH_BRANCHES, *LINES_ALONE]
RANDOM_PROGRAMS: Final = 600 if FULL else 20

FOLLOWING: Final = """\
import hcrecorder, hcrecorder_contexts, hcrecorder_test_functions
hcrecorder.start()
hcrecorder_test_functions.follow(hcrecorder, hcrecorder_contexts)
"""

# All in one process, and each in a module of its own name.
RUN_ALL: Final = """\
import contextlib, glob, io, os
for file in sorted(glob.glob("programs/*.py")):
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            with open(file) as source:
                code = compile(source.read(), os.path.abspath(file), "exec")
            exec(code, {"__name__": file[9:-3], "__file__": os.path.abspath(file)})
        except (Exception, SystemExit):
            pass
"""

PROGRAMS: Final = {
    "functions": """
        def helper(x):
            if x:
                return 1
            return 2
        def test_one():
            helper(1)
            test_two()
            helper(0)
        def test_two():
            for _ in range(2):
                helper(0)
        def other():
            test_two()
            helper(1)
        helper(0)
        test_one()
        other()
        test_one()
        runTest = test_two
        def runTest():
            helper(1)
        runTest()
        testing = lambda: helper(1)
        testing()
    """,
    "recursion": """
        def test_recursion(n):
            if n:
                test_recursion(n - 1)
                return 1
            return 0
        test_recursion(3)
        def outer():
            def test_inner(n):
                if n:
                    test_inner(n - 1)
                x = 1
            test_inner(2)
            test_recursion(1)
            y = 1
        outer()
    """,
    "edge": """
        def test_deep(n):
            return test_deep(n + 1) + 1
        def helper():
            return 1
        for _ in range(2):
            try:
                test_deep(0)
            except RecursionError:
                helper()
        test_other = helper
        helper()
    """,
    "methods": """
        import functools
        def helper(x):
            if x: return 1
            return 2
        def wrapped(function):
            @functools.wraps(function)
            def inside(*args):
                helper(1)
                return function(*args)
            return inside
        class Base:
            def test_base(self):
                helper(0)
            @classmethod
            def test_of_class(cls):
                helper(1)
            @staticmethod
            def test_static(x=1):
                helper(x)
            @wrapped
            def test_wrapped(self):
                helper(0)
            @property
            def test_property(self):
                return 5
            def runTest(self):
                return helper(0)
            @functools.lru_cache
            def test_cached(self):
                return helper(1)
        class Derived(Base):
            def test_base(self):
                super().test_base()
                helper(1)
            class Inner:
                def test_inner(self): helper(1)
                @staticmethod
                def test_static(): helper(0)
        for kind in (Base, Derived):
            each = kind()
            each.test_base(); each.test_of_class(); each.test_static(); each.test_wrapped()
            each.test_cached()
            each.runTest()
            helper(each.test_property)
            kind.test_static(0)
        Derived.Inner().test_inner(); Derived.Inner.test_static()
        class Slotted:
            __slots__ = ("test_own",)
            def test_method(self):
                def inside(): return self
                return inside()
        Slotted().test_method()
        def test_free(self):
            helper(1)
        test_free(1)
        test_free(None)
        test_free(Base())
        def test_of_another(self):
            helper(0)
        own = Base()
        own.test_of_another = lambda: 1
        test_of_another(own)
        own.test_of_another = Derived().test_base
        test_of_another(own)
        Base.test_renamed = test_free
        own.test_renamed()
        class Meta(type):
            def test_meta(self): helper(1)
        class Made(metaclass=Meta): pass
        Made.test_meta()
        class test_class:
            def __init__(self): helper(1)
            def test_class(self): helper(0)
        test_class().test_class()
        local = {}
        exec("def test_nowhere(): helper(1)", {"helper": helper}, local)
        local["test_nowhere"]()
        def make():
            class Local:
                def test_local(self): helper(1)
                @staticmethod
                def test_local_static(): helper(0)
            return Local
        make()().test_local(); make().test_local_static()
    """,
    "exceptions": """
        def helper(x):
            if x: raise ValueError
            return 1
        def test_raises():
            helper(1)
        def test_catches():
            try:
                test_raises()
            except ValueError:
                helper(0)
            finally:
                a = 1
        def test_finally():
            try:
                helper(1)
            finally:
                helper(0)
        for each in (test_raises, test_catches, test_finally):
            try:
                each()
            except ValueError:
                b = 1
            helper(0)
        def test_wrong(x, y): pass
        try: test_wrong()
        except TypeError: helper(0)
        try: test_of_no_such()
        except NameError: helper(0)
    """,
    "generators": """
        def helper(x):
            if x: return 1
            return 2
        def numbers(n):
            for each in range(n):
                helper(each)
                yield each
            helper(0)
        def test_numbers():
            for each in numbers(2): helper(each)
        test_numbers()
        def test_generator():
            a = 1
            b = yield 1
            if b:
                helper(b)
            try:
                yield 2
            except ValueError:
                helper(0)
                yield 3
            finally:
                helper(1)
        each = test_generator()
        next(each)
        helper(0)
        each.send(1)
        helper(1)
        each.throw(ValueError)
        helper(0)
        next(each, None)
        each = test_generator()
        next(each)
        each.close()
        each = test_generator()
        next(each); next(each); each.close()
        helper(0)
        shared = numbers(4)
        next(shared)
        def test_shared():
            next(shared)
            helper(1)
        test_shared()
        next(shared)
        test_shared()
        def waits():
            x = yield 1
            y = (yield 2,
                 yield 3)
            if y: helper(1)
            yield 4
        each = waits()
        next(each)
        def test_waits():
            next(each)
        test_waits(); test_waits()
        next(each)
        def test_closes(): each.close()
        test_closes()
        def plain():
            yield 1
            a = 1
            b = yield 2
            yield 3
        each = plain()
        next(each)
        def test_plain():
            next(each)
        test_plain(); test_plain(); next(each, None)
        def test_delegates():
            yield from numbers(2)
            yield from test_generator()
        for each in test_delegates(): helper(each)
        def test_expression():
            return sum(helper(each) for each in range(3)) + len([helper(x) for x in range(2)])
        test_expression()
    """,
    "contexts": """
        import contextlib
        def helper(x):
            if x: return 1
            return 2
        @contextlib.contextmanager
        def managed(x):
            helper(x)
            try:
                yield
            finally:
                helper(0)
        def test_managed():
            with managed(1):
                helper(1)
            with managed(0), contextlib.suppress(ValueError):
                raise ValueError
        test_managed()
        with managed(1): test_managed()
        manager = managed(1)
        manager.__enter__()
        def test_leaves(): manager.__exit__(None, None, None)
        test_leaves()
        for each in range(3):
            def test_again():
                if each: helper(each)
            test_again()
        import testing_of_us
    """,
    "asynchronous": """
        import asyncio
        async def helper(x):
            if x:
                await asyncio.sleep(0)
            return 1
        async def other():
            for each in range(4):
                await helper(each % 2)
        async def test_task():
            a = await helper(1)
            async def inside():
                await helper(1)
            await inside()
            await asyncio.gather(helper(0), helper(1))
            async for each in numbers():
                if each: await helper(each)
            try:
                await asyncio.wait_for(asyncio.sleep(0), 5)
            except ValueError:
                pass
            return a
        async def numbers():
            for each in range(3):
                yield each
                await helper(1)
        async def main():
            task = asyncio.ensure_future(other())
            await test_task()
            await asyncio.gather(test_task(), test_task(), other())
            await task
        asyncio.run(main())
        import unittest
        class Tests(unittest.IsolatedAsyncioTestCase):
            async def asyncSetUp(self):
                await helper(1)
            def tearDown(self):
                a = 1
            async def test_async(self):
                await helper(1)
                self.assertEqual(await helper(0), 1)
            def test_plain(self):
                with self.assertRaises(ValueError):
                    raise ValueError
            async def test_fails(self):
                await helper(0)
                assert await helper(1) == 2
            def test_skipped(self):
                self.skipTest("no")
            def test_parts(self):
                for each in range(2):
                    with self.subTest(each):
                        self.assertTrue(each)
        suite = unittest.defaultTestLoader.loadTestsFromTestCase(Tests)
        suite.run(unittest.TestResult())
    """,
    "threads": """
        import threading
        def helper(x):
            if x: return 1
            return 2
        def work():
            helper(0)
            test_in_thread()
            helper(1)
        def run(function):
            thread = threading.Thread(target=function)
            thread.start() or thread.join()
        def test_in_thread():
            helper(0)
        def test_starts():
            run(work)
            helper(1)
        run(work)
        test_starts()
        helper(0)
        run(test_starts)
        run(test_in_thread)
        def test_pool():
            from concurrent.futures import ThreadPoolExecutor
            with ThreadPoolExecutor(1) as pool:
                pool.submit(work).result()
                pool.submit(helper, 1).result()
        test_pool()
    """,
    "long": "def test_long(x=1):\n" + "    a = 1\n" * 3000 + "    if x: return 1\n    return 2\n"
    "test_long()\ntest_long(0)\n",
    "many": """
        def helper(x):
            if x: return 1
            return 2
        def test_bit(n):
            return n % 2
        for each in range(300):
            helper(test_bit(each))
    """,
}

pytestmark = pytest.mark.skipif(not PYTHONS, reason="needs sys.monitoring")


@pytest.fixture(params=["lines", "branches"] if WITH_BRANCHES else ["lines"])
def measured(bench: Bench, request: pytest.FixtureRequest) -> Bench:
    """Gives what measures lines, or branches, by test functions."""
    bench.customize(FOLLOWING)
    bench.write("def test_module():\n    return 1\ntest_module()\n", "testing_of_us.py")
    bench.write(
        f"[run]\nbranch = {request.param == 'branches'}\ndynamic_context = test_function\n"
        "[json]\nshow_contexts = True\n",
        "rcfile",
    )
    bench.write(RUN_ALL, "run_all.py")
    return bench


@pytest.mark.parametrize("python", PYTHONS)
def test_each_kind_of_function(measured: Bench, python: str) -> None:
    for name, source in PROGRAMS.items():
        measured.write(textwrap.dedent(source), f"programs/{name}.py")
    assert_same_report(measured, python, "run_all.py")


@pytest.mark.thorough
@pytest.mark.timeout(3600 if FULL else 300)
@pytest.mark.parametrize("python", PYTHONS)
def test_random_programs(measured: Bench, python: str) -> None:
    for outer, inner in (("test_", "F"), ("M", "test_"), ("test_M", "test_F")):
        programs = random_programs(RANDOM_PROGRAMS // 3, outer, inner)
        for name, source in programs.items():
            measured.write(source, f"programs/{name}_{outer}{inner}.py")
    assert_same_report(measured, python, "run_all.py")
