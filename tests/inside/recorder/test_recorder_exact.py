"""The recorder's lines are coverage.py's lines, on the same program and the same Python.

Compared are real programs, tricky ones and generated ones. Of the standard library's own tests, the
released projects' and the generated programs only a few are run, unless HCOVERAGE_CORPUS is `full`:

    HCOVERAGE_CORPUS=full python -m pytest tests/inside/recorder/test_recorder_exact.py

On Python 3.14 and later arcs are compared too.
"""

from __future__ import annotations

import dis
import importlib
import os
import shutil
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import HealthCheck, Phase, given, settings, strategies as st
from tests.sampling import FULL

from hcoverage._inside import recorder_long_code

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.conftest import UnpackRelease
    from tests.inside.recorder.conftest import Bench, What

pytestmark = pytest.mark.skipif(sys.version_info < (3, 12), reason="needs sys.monitoring")

GENERATED_PROGRAMS: Final = 1000 if FULL else 12
# Of one program, measured; the slowest of the standard library's tests is full of subprocesses.
RUN_LIMIT: Final = 600.0  # seconds
ONLY_INSTRUCTIONS: Final = (
    "import hcrecorder\nhcrecorder._LONG_LINE_TABLES = (0, 0)\nhcrecorder.start()\n"
)

# With which of coverage.py's cores to compare: `branch` is `sysmon` with branches; `instructions`
# is `sysmon` with all code treated by the recorder as it treats long code before Python 3.14.
CORES: Final = ("sysmon", "ctrace", "branch", "instructions")


TRICKY = {
    # Their line tables are the same.
    "alike": """
        def f(x):
            if x:
                return 1
            return 2
        def g(x):
            if x:
                return 1
            return 2
        f(0), g(1)
    """,
    "docstrings": '''
        """Module."""
        class C:
            """Class."""
            x: int = 1
            def f(self):
                """Function."""
        C().f()
    ''',
    "multiline": """
        def f(a, b):
            return (
                a
                + b
            )
        x = f(
            1,
            f(
                2, 3
            ),
        )
        s = f'''
        {x}
        {f(
            1, 2)}
        '''
    """,
    "decorators": """
        def deco(f):
            return f
        @deco
        @deco
        def g():
            return [
                i
                for i in range(3)
                if i
            ]
        g()
        h = lambda: (
            1)
        h()
    """,
    "flow": """
        import contextlib
        def f(x):
            try:
                if x > 2:
                    raise ValueError
                elif x: pass
                else:
                    return 1
            except ValueError as e:
                del e
            except KeyError:
                pass
            finally:
                x = 0
            while x < 3:
                x += 1
                if x == 2:
                    continue
            else:
                x = 9
            with contextlib.suppress(KeyError):
                {}[1]
            match x:
                case 1:
                    pass
                case int() if x > 3:
                    x = 2
                case _:
                    pass
            return x
        for i in range(5): f(i)
    """,
    "generators": """
        import asyncio
        def g():
            a = yield 1
            yield from (
                i for i in range(2))
        for v in g():
            pass
        async def c():
            await asyncio.sleep(0)
            async with asyncio.Lock():
                return [x async for x in ag()]
        async def ag():
            yield 1
        asyncio.run(c())
        unfinished = g()
        next(unfinished)
    """,
    "exception at import": """
        a = 1
        def f():
            raise KeyError
        try:
            f()
        except KeyError: a = 2
        raise SystemExit(0)
        a = 3
    """,
    "exec": """
        code = compile("x = 1\\n\\ny = 2\\n", __file__, "exec")
        exec(code)
        exec(compile("\\n" * 70000 + "x = 1", __file__, "exec"))
        exec(compile("x = 1", "made-up.py", "exec"))
        exec(compile("x = 1", "<string>", "exec"))
        exec(compile("x = 1", "memory:x", "exec"))
        exec(compile("x = 1", "dir/../other.tmpl", "exec"), {"__file__": "/elsewhere/other.tmpl"})
        eval("1")
    """,
    "annotations": """
        from dataclasses import dataclass
        from typing import NamedTuple
        @dataclass
        class D:
            a: int
            b: "str" = ""
        class N(NamedTuple):
            a: int
            b: list[
                int
            ]
        def f(
            a: int,
            b: str = (
                ""
            ),
        ) -> D:
            v: int
            return D(a, b)
        f(1)
        type A[T] = list[T]
    """,
    "threads": """
        import threading
        def f(n):
            for i in range(n):
                x = i
        ts = [threading.Thread(target=f, args=(9,)) for _ in range(4)]
        for t in ts: t.start()
        for t in ts: t.join()
    """,
    "empty": "",
    "chdir": """
        import os, sys
        sys.path.insert(0, "sub")
        import rel
        os.chdir("/")
        rel.late()
    """,
}
# Two starts for each of them would take most of the time.
RUN_EACH: Final = """\
import glob, os, runpy
for file in map(os.path.abspath, sorted(glob.glob("programs/*.py"))):
    here = os.getcwd()
    try:
        runpy.run_path(file, run_name="__main__")
    except (Exception, SystemExit):
        pass
    os.chdir(here)
"""


def _coverage_measures(bench: Bench, core: str, command: Sequence[str]) -> tuple[int, What]:
    """Give how the program ends, and what coverage.py records, started as its manual says."""
    rcfile = bench.root / "rcfile"
    rcfile.write_text(f"[run]\nbranch = {core == 'branch'}\n")
    with TemporaryDirectory() as site:
        Path(site, "sitecustomize.py").write_text("import coverage\ncoverage.process_startup()\n")
        env = bench.coverage_env
        env |= {
            "COVERAGE_CORE": "ctrace" if core == "ctrace" else "sysmon",
            "COVERAGE_PROCESS_START": str(rcfile),
            "PYTHONPATH": os.pathsep.join([site, env["PYTHONPATH"]]),
        }
        returncode = _run(bench, command, env)
    what = bench.measured_by_coverage().what
    ours = (site, str(bench.site))
    return returncode, {name: ran for name, ran in what.items() if not name.startswith(ours)}


def _recorder_measures(bench: Bench, core: str, command: Sequence[str]) -> tuple[int, What]:
    if core == "instructions":
        bench.customize(ONLY_INSTRUCTIONS)
    env = {**bench.env, "HCOVERAGE_RECORD_BRANCH": str(int(core == "branch"))}
    returncode = _run(bench, command, env)
    recordings = bench.read().recordings
    assert not any(part.damage or part.loss for each in recordings for part in each.segments)
    selected, measured = bench.measured(bench.root / "rcfile")
    assert not selected.stale
    return returncode, measured.what


def _run(bench: Bench, command: Sequence[str], env: dict[str, str]) -> int:
    # Some of the standard library's tests fail where they are now, measured or not.
    return subprocess.run(
        command, cwd=bench.root, env=env, check=False, capture_output=True, timeout=RUN_LIMIT
    ).returncode


def _assert_same(bench: Bench, core: str, arguments: list[str]) -> None:
    if core == "branch" and sys.version_info < (3, 14):
        pytest.skip("branches need Python 3.14")
    if core == "instructions" and sys.version_info >= (3, 14):
        pytest.skip("LINE events are fast from Python 3.14 on")
    command = [sys.executable, *arguments]
    expected_end, expected = _coverage_measures(bench, core, command)
    assert expected, "coverage.py measured nothing"
    end, actual = _recorder_measures(bench, core, command)
    assert end == expected_end
    assert actual.keys() == expected.keys()
    # Told as differences: a whole file's line numbers say nothing.
    differ = {name: actual[name] ^ expected[name] for name in expected}
    assert not any(differ.values()), differ


@pytest.mark.parametrize(
    "core",
    [CORES[0], *(pytest.param(core, marks=pytest.mark.thorough) for core in CORES[1:])],
)
def test_tricky_programs(bench: Bench, core: str) -> None:
    bench.write("def late():\n    return (1,\n        2)\n", "sub/rel.py")
    for name, text in TRICKY.items():
        # The C tracer also sees annotations evaluated, which sysmon leaves out.
        if name != "annotations" or core != "ctrace" or sys.version_info < (3, 14):
            bench.write(textwrap.dedent(text), f"programs/{name}.py")
    bench.write(RUN_EACH)
    _assert_same(bench, core, ["app.py"])


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="used before Python 3.14")
def test_instructions_without_lines_are_those_of_this_python() -> None:
    names = ("RESUME", "END_FOR", "END_SEND", "END_ASYNC_FOR")
    assert tuple(dis.opmap[name] for name in names) == recorder_long_code._NO_LINE_STARTS


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="used before Python 3.14")
@pytest.mark.parametrize(
    "tracing",
    [
        "sys.settrace(lambda *_: None)",
        "sys.setprofile(lambda *_: None)",
        "sys._getframe().f_trace = lambda *_: None; sys.settrace(lambda *_: None)",
        "sys._getframe().f_trace_opcodes = True; sys.settrace(lambda *_: None); sys.settrace(None)",
        "m = sys.monitoring; m.use_tool_id(2, 'x'); m.set_events(2, m.events.INSTRUCTION)",
    ],
)
def test_instructions_are_told_whatever_traces_them_later(bench: Bench, tracing: str) -> None:
    bench.customize(ONLY_INSTRUCTIONS)
    after = "for i in range(2):\n    x = i\ny = [\n    x]\nsys.settrace(None)\n"
    bench.write(f"import sys\n{tracing}\n{after}")
    bench.run("app.py")
    assert bench.lines() == {1, 2, 3, 4, 5, 6, 7}


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="used before Python 3.14")
@pytest.mark.parametrize("branch", [False, True])
def test_long_code_loses_no_line_to_a_tool_that_ends_line_events(
    bench: Bench, *, branch: bool
) -> None:
    bench.customize(
        f"{ONLY_INSTRUCTIONS}m = hcrecorder.sys.monitoring; m.use_tool_id(2, 'debugger')\n"
        "m.register_callback(2, m.events.LINE, lambda *_: m.DISABLE)\n"
        "m.set_events(2, m.events.LINE)\n"
    )
    bench.env["HCOVERAGE_RECORD_BRANCH"] = str(int(branch))
    loop = "for i in range(2):\n    if i:\n        break\n    else:\n        pass\n"
    bench.write(f"{loop}try:\n    1 // 0\nexcept ZeroDivisionError:\n    pass\n")
    bench.run("app.py")
    _, measured = bench.measured(bench.write(f"[run]\nbranch = {branch}\n", "rcfile"))
    (what,) = measured.what.values()
    if branch:
        assert {(1, 2), (2, 3), (2, 5), (5, 1), (3, 6), (8, 9), (9, -1)} <= what
    else:
        assert what == {1, 2, 3, 5, 6, 7, 8, 9}


@pytest.mark.skipif(sys.version_info < (3, 14), reason="branches need Python 3.14")
def test_jumps_are_those_of_this_python() -> None:
    metadata = importlib.import_module("_opcode_metadata")
    specialized = getattr(metadata, "_specialized_opmap", ())

    def real(names: Iterable[str]) -> set[str]:
        """Those that compiled code has: not the interpreter's own variants, nor the compiler's."""
        return {
            name
            for name in names
            if metadata.opmap[name] < 256
            and not name.startswith("INSTRUMENTED")
            and name not in specialized
        }

    taken_for_jumps = real(
        name
        for name in metadata.opmap
        if "JUMP" in name or name in ("FOR_ITER", "SEND", "END_ASYNC_FOR")
    )
    assert taken_for_jumps == real(dis.opname[code] for code in {*dis.hasjrel, *dis.hasjabs})


def test_module_option_and_package(bench: Bench) -> None:
    bench.write("from . import other\n", "pkg/__init__.py")
    bench.write("x = 1\n", "pkg/other.py")
    bench.write("import pkg.other\nprint(__name__)\n", "pkg/__main__.py")
    _assert_same(bench, "sysmon", ["-m", "pkg"])


def test_symbolic_links_are_resolved(bench: Bench) -> None:
    bench.write("import link, linked.inner\n")
    bench.write("x = 1\n", "real/one.py")
    bench.write("x = 1\n", "real/pkg/inner.py")
    (bench.root / "link.py").symlink_to("real/one.py")
    (bench.root / "linked").symlink_to("real/pkg")
    _assert_same(bench, "sysmon", ["app.py"])


def test_module_in_a_zip_file(bench: Bench) -> None:
    module = bench.write("x = 1\ny = 2\n", "inside.py")
    shutil.make_archive(str(bench.root / "bundle"), "zip", bench.root, "inside.py")
    module.unlink()
    bench.write("import sys\nsys.path.insert(0, 'bundle.zip')\nimport inside\n")
    _assert_same(bench, "sysmon", ["app.py"])


# A slice of the standard library's own tests, by constructs: classes, generators, comprehensions,
# exceptions, matching, decorators. They are copied out of the standard library, so that coverage.py
# measures them.
STDLIB_TESTS: Final = ("test_contextlib", "test_generators", "test_patma", "test_textwrap")
MORE_STDLIB_TESTS: Final = (
    "test_abc",
    "test_argparse",
    "test_asyncgen",
    "test_bisect",
    "test_class",
    "test_collections",
    "test_configparser",
    "test_copy",
    "test_coroutines",
    "test_csv",
    "test_dataclasses",
    "test_decorators",
    "test_deque",
    "test_dict",
    "test_dictcomps",
    "test_enum",
    "test_except_star",
    "test_exception_group",
    "test_exceptions",
    "test_fractions",
    "test_functools",
    "test_genericalias",
    "test_grammar",
    "test_graphlib",
    "test_heapq",
    "test_ipaddress",
    "test_itertools",
    "test_json",
    "test_listcomps",
    "test_named_expressions",
    "test_pprint",
    "test_property",
    "test_raise",
    "test_re",
    "test_reprlib",
    "test_richcmp",
    "test_scope",
    "test_shlex",
    "test_string",
    "test_type_params",
    "test_types",
    "test_unpack_ex",
    "test_urlparse",
    "test_with",
    "test_yield_from",
)
# What is not compared. test_patma and test_scope call `sys.settrace`, which ends the C tracer.
# test_generators raises a signal, and collects garbage, in the very instruction that starts a
# function, where a tracer in C and callbacks in Python differ (coverage.py's own two cores differ
# there in the same lines).
# test_exceptions, test_property and test_richcmp switch the C tracer off in some tests
# (`support.no_tracing`). A test of test_types fails under the C tracer, which subinterpreters
# cannot import.
NOT_COMPARED: Final = {
    "ctrace": {
        "test_exceptions",
        "test_generators",
        "test_patma",
        "test_property",
        "test_richcmp",
        "test_scope",
        "test_types",
    },
    "instructions": {"test_generators"},
}


@pytest.mark.thorough
@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("name", STDLIB_TESTS + MORE_STDLIB_TESTS * FULL)
def test_standard_library_tests(bench: Bench, name: str, core: str) -> None:
    if name in NOT_COMPARED.get(core, ()):
        pytest.skip("cannot be compared with this core; see NOT_COMPARED")
    if core == "ctrace" and name == "test_dataclasses" and sys.version_info >= (3, 14):
        pytest.skip("the C tracer also sees annotations evaluated, which sysmon leaves out")
    directory = Path(os.__file__).parent / "test"
    if not directory.is_dir():
        pytest.skip("this Python comes without its tests")
    if (directory / name).is_dir():
        shutil.copytree(directory / name, bench.root / name)
    elif (directory / f"{name}.py").is_file():
        shutil.copy(directory / f"{name}.py", bench.root)
    else:
        pytest.skip("not in this version")
    _assert_same(bench, core, ["-m", "unittest", "-q", name])


@dataclass(frozen=True)
class Release:
    """A released project with a test suite that runs the same lines each time.

    Attributes:
        name: The project.
        version: Its version.
        source: The directory to import it from.
        tests: The directory of its tests.
    """

    name: str
    version: str
    source: str
    tests: str


RELEASES: Final = (Release("pluggy", "1.7.0", "src", "testing"),)
MORE_RELEASES: Final = (
    Release("iniconfig", "2.3.1", "src", "testing"),
    Release("tomlkit", "0.15.2", ".", "tests"),
    Release("toolz", "1.2.0", ".", "toolz"),
)


@pytest.mark.index
@pytest.mark.timeout(2 * RUN_LIMIT)
@pytest.mark.parametrize("core", CORES if FULL else ("sysmon", "ctrace", "branch"))
@pytest.mark.parametrize("release", RELEASES + MORE_RELEASES * FULL, ids=lambda each: each.name)
def test_released_projects(
    bench: Bench, unpack_release: UnpackRelease, release: Release, core: str
) -> None:
    unpack_release(release.name, release.version, bench.root).rename(bench.root / "top")
    # This interpreter's own pytest runs them; it is a user of some of them itself.
    bench.write(
        "import os, sys\n"
        "os.chdir('top')\n"
        f"sys.path[:0] = [os.path.abspath({release.source!r}), os.getcwd()]\n"
        "import pytest\n"
        "options = ['-q', '-p', 'no:cacheprovider', '-p', 'no:hypothesispytest']\n"
        f"sys.exit(pytest.main([*options, {release.tests!r}]))\n"
    )
    for env in (bench.env, bench.plain_env):
        env |= {"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    _assert_same(bench, core, ["app.py"])
    assert bench.lines(f"top/{release.source}/{release.name}/__init__.py")


names = st.sampled_from("abc")
expressions = st.recursive(
    st.one_of(names, st.integers(0, 3).map(str)),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "<", "and", "or"]), inner).map(
            lambda three: f"({three[0]} {three[1]}\n {three[2]})"
        ),
        inner.map(lambda each: f"[\n{each}\n for c in range(2)][0]"),
        st.tuples(inner, inner, inner).map(lambda t: f"({t[0]} if {t[1]} else\n {t[2]})"),
    ),
    max_leaves=4,
)


def _indented(block: str) -> str:
    return textwrap.indent(block, "    ")


simple = st.one_of(
    st.tuples(names, expressions).map(lambda two: f"{two[0]} = {two[1]}"),
    expressions.map(lambda each: f"f(\n{each},\n)"),
    st.just("pass"),
    st.just("raise ValueError"),
)


def _compound(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    block = st.lists(inner, min_size=1, max_size=3).map("\n".join).map(_indented)
    pair = st.tuples(expressions, block, block)
    return st.one_of(
        pair.map(lambda t: f"if {t[0]}:\n{t[1]}\nelse:\n{t[2]}"),
        pair.map(lambda t: f"for a in range(int(bool({t[0]})) + 1):\n{t[1]}\nelse:\n{t[2]}"),
        pair.map(lambda t: f"try:\n{t[1]}\nexcept (ValueError, {t[0]} and KeyError):\n{t[2]}"),
        pair.map(lambda t: f"try:\n{t[1]}\nfinally:\n{t[2]}"),
        pair.map(
            lambda t: (
                f"match {t[0]}:\n    case 0:\n{_indented(t[1])}\n    case _:\n{_indented(t[2])}"
            )
        ),
        pair.map(
            lambda t: (
                f"def g(b={t[0]}):\n    global a, c\n{t[1]}\ng()\n{t[2].lstrip()}"
                if "\n" not in t[2]
                else f"class G:\n{t[1]}"
            )
        ),
        block.map(lambda each: f"with contextlib.suppress(TypeError):\n{each}"),
    )


programs = st.lists(st.recursive(simple, _compound, max_leaves=8), min_size=1, max_size=5).map(
    lambda parts: "import contextlib\na = b = c = 1\ndef f(x):\n    return x\n" + "\n".join(parts)
)


def _generated(count: int) -> list[str]:
    """Write programs by chance, the same each time."""
    written: list[str] = []

    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
    @given(source=programs)
    def write(source: str) -> None:
        written.append(source)

    write()
    return written


@pytest.mark.thorough
@pytest.mark.timeout(60 * 60 if FULL else 300)
@pytest.mark.parametrize("core", CORES)
def test_generated_programs(bench: Bench, core: str) -> None:
    for number, source in enumerate(_generated(GENERATED_PROGRAMS)):
        bench.write(source, f"programs/{number}.py")
    bench.write(RUN_EACH)
    _assert_same(bench, core, ["app.py"])
