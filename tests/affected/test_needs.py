"""Which tests a change needs, decided from facts alone: each kind of change, and of doubt."""

from __future__ import annotations

import dataclasses
import itertools
import subprocess
from typing import TYPE_CHECKING, Final

import pytest

from hcoverage._affected.blocks import shape_of
from hcoverage._affected.changes import changes
from hcoverage._affected.facts import NO_TEST, EarlierRun, FileFacts, KnownTest, ProjectState
from hcoverage._affected.naming import mentioned_files, namers
from hcoverage._affected.needs import Needs, needs
from hcoverage._affected.project_state import look_at_files, look_at_project
from hcoverage._affected.shared_state import Place

if TYPE_CHECKING:
    from pathlib import Path

LIB: Final = """\
import os

def one(a=1):
    '''Say it.'''
    return a

class Cart:
    limit = 3

    def total(self):
        prices = [1, 2]
        return sum(prices)
"""
TEST: Final = "def test_one():\n    assert one()\n"
ONE: Final = 1 << 5
TOTAL: Final = 1 << 11 | 1 << 12
ENVIRONMENT: Final = {"Python": "CPython 3.13.0", "six": "1.17"}
ALL: Final = "all"

FIRST: Final = "tests/test_a.py::test_first"
SECOND: Final = "tests/test_b.py::test_second"
THIRD: Final = "tests/test_b.py::test_third"


def facts(text: str, *, is_source: bool = True) -> FileFacts:
    return FileFacts(f"digest of {text}", shape_of(text.encode()) if is_source else None)


FILES: Final = {
    "lib.py": facts(LIB),
    "helper.py": facts("def help():\n    return 1\n"),
    "tests/test_a.py": facts(TEST),
    "tests/test_b.py": facts(TEST),
    "tests/conftest.py": facts(""),
    "read.json": facts("{}", is_source=False),
    "nobody.json": facts("{}", is_source=False),
    "early.json": facts("{}", is_source=False),
    "setup.cfg": facts("", is_source=False),
}
TESTS: Final = {
    FIRST: KnownTest("tests/test_a.py", opened=frozenset({"read.json"})),
    SECOND: KnownTest("tests/test_b.py"),
    THIRD: KnownTest("tests/test_b.py", went_outside=True),
}
RAN: Final = {"lib.py": {NO_TEST: 1 << 1 | 1 << 3 | 1 << 7 | 1 << 8, FIRST: ONE, SECOND: TOTAL}}
RUN: Final = EarlierRun(
    "yesterday", ProjectState(ENVIRONMENT, FILES), TESTS, RAN, frozenset({"early.json"})
)


def with_file(path: str, text: str | None, *, is_source: bool = True) -> ProjectState:
    files = dict(FILES)
    if text is None:
        del files[path]
    else:
        files[path] = facts(text, is_source=is_source)
    return ProjectState(ENVIRONMENT, files)


def names(found: Needs, run: EarlierRun = RUN) -> set[str]:
    if found.everything:
        return {ALL}
    of_files = {name for name, test in run.tests.items() if test.file in found.files}
    return {*found.tests, *of_files}


def test_nothing_has_changed_and_nothing_is_needed() -> None:
    assert needs(RUN, RUN.state, ()) == Needs()


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        ("lib.py", LIB.replace("return a", "return a + 1"), {FIRST}),
        ("lib.py", LIB.replace("return sum", "return max"), {SECOND}),
        ("lib.py", LIB.replace("return a", "return a  # as it is"), set()),
        ("lib.py", f"# a comment\n\n{LIB}", set()),
        ("lib.py", LIB.replace("a=1", "a=2"), {ALL}),
        ("lib.py", LIB.replace("one(a=1)", "one(a=1, b=2)"), {ALL}),
        ("lib.py", LIB.replace("return a", "yield a"), {ALL}),
        ("lib.py", LIB.replace("def one", "async def one"), {ALL}),
        ("lib.py", LIB.replace("def one", "@decorated\ndef one"), {ALL}),
        ("lib.py", LIB.replace("Say it", "Tell it"), {ALL}),
        ("lib.py", LIB.replace("limit = 3", "limit = 4"), {ALL}),
        ("lib.py", LIB.replace("import os", "import sys"), {ALL}),
        ("lib.py", f"{LIB}\ndef two():\n    return 2\n", {ALL}),
        ("lib.py", LIB.replace("def total", "def sum"), {ALL}),
        ("lib.py", LIB.replace("return a", "return ("), {ALL}),
        ("lib.py", None, {ALL}),
        ("helper.py", "def help():\n    return 2\n", {ALL}),
        ("helper.py", "def help():\n    return 1  # one\n", set()),
        ("other.py", "", {ALL}),
        ("lib/__init__.py", "", {ALL}),
        ("tests/test_a.py", TEST.replace("assert", "assert not"), {FIRST}),
        ("tests/test_a.py", f"{TEST}\ndef test_two():\n    pass\n", {FIRST}),
        ("tests/test_a.py", None, {FIRST} - {FIRST}),
        ("tests/test_new.py", TEST, set()),
        ("tests/conftest.py", "import os\n", {ALL}),
        ("tests/more/conftest.py", "", {ALL}),
    ],
)
def test_a_source_changes(path: str, text: str | None, expected: set[str]) -> None:
    assert names(needs(RUN, with_file(path, text), ())) == expected


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        ("read.json", "[]", {FIRST, THIRD}),
        ("read.json", None, {ALL}),
        ("nobody.json", "[]", {ALL}),
        ("early.json", "[]", {ALL}),
        ("setup.cfg", "[x]", {ALL}),
        ("new.json", "{}", {ALL}),
    ],
)
def test_another_file_changes(path: str, text: str | None, expected: set[str]) -> None:
    """Who had something run outside may have had it read there."""
    assert names(needs(RUN, with_file(path, text, is_source=False), ())) == expected


def test_a_new_test_file_is_needed_by_itself() -> None:
    found = needs(RUN, with_file("tests/test_new.py", TEST), ())
    assert list(found.files) == ["tests/test_new.py"]
    assert not found.everything


def test_a_test_file_whose_name_another_source_has_is_for_all() -> None:
    now = with_file("tests/test_a.py", TEST.replace("assert", "assert not"))
    assert names(needs(RUN, now, {"tests/test_a.py"})) == {ALL}


@pytest.mark.parametrize(
    "environment",
    [{**ENVIRONMENT, "six": "1.18"}, {**ENVIRONMENT, "new": "1"}, {"Python": "CPython 3.13.0"}],
)
def test_what_tests_run_with_changes(environment: dict[str, str]) -> None:
    assert names(needs(RUN, ProjectState(environment, FILES), ())) == {ALL}


@pytest.mark.parametrize("outcome", ["failed", "skipped", "not run"])
def test_what_did_not_pass_is_needed(outcome: str) -> None:
    tests = {**TESTS, SECOND: dataclasses.replace(TESTS[SECOND], outcome=outcome)}
    assert names(needs(dataclasses.replace(RUN, tests=tests), RUN.state, ())) == {SECOND}


def test_what_lost_data_tells_nothing() -> None:
    assert names(needs(dataclasses.replace(RUN, doubt="data was lost"), RUN.state, ())) == {ALL}


def test_what_changed_while_tests_ran_is_not_known() -> None:
    files = {**FILES, "lib.py": dataclasses.replace(FILES["lib.py"], digest="")}
    run = dataclasses.replace(RUN, state=ProjectState(ENVIRONMENT, files))
    assert names(needs(run, RUN.state, ())) == {ALL}


def test_what_ran_outside_of_tests_is_for_all() -> None:
    ran = {"lib.py": {**RAN["lib.py"], NO_TEST: RAN["lib.py"][NO_TEST] | ONE}}
    now = with_file("lib.py", LIB.replace("return a", "return a + 1"))
    assert names(needs(dataclasses.replace(RUN, ran=ran), now, ())) == {ALL}


def test_what_ran_unmeasured_for_a_test_is_a_reason_at_any_change() -> None:
    tests = {**TESTS, THIRD: dataclasses.replace(TESTS[THIRD], seen_outside=False)}
    now = with_file("lib.py", f"# a comment\n{LIB}")
    assert names(needs(dataclasses.replace(RUN, tests=tests), now, ())) == {THIRD}


@pytest.mark.parametrize("maker", [FIRST, SECOND])
def test_a_fixture_brings_what_set_it_up(maker: str) -> None:
    """Whoever uses a fixture depends on what ran where it was set up."""
    tests = {**TESTS, THIRD: dataclasses.replace(TESTS[THIRD], shares=frozenset({maker}))}
    run = dataclasses.replace(RUN, tests=tests)
    now = with_file("lib.py", LIB.replace("return a", "return a + 1"))
    assert names(needs(run, now, ())) == ({FIRST, THIRD} if maker == FIRST else {FIRST})


def test_a_fixture_that_another_one_asked_for_brings_what_set_it_up() -> None:
    """It may have asked while it was set up, so that its users are not known to use the first."""
    tests = {
        **TESTS,
        SECOND: dataclasses.replace(TESTS[SECOND], shares=frozenset({FIRST})),
        THIRD: dataclasses.replace(TESTS[THIRD], shares=frozenset({SECOND})),
    }
    run = dataclasses.replace(RUN, tests=tests)
    now = with_file("lib.py", LIB.replace("return a", "return a + 1"))
    assert names(needs(run, now, ())) == {*TESTS}


def test_who_may_execute_a_file_is_for_all() -> None:
    files = {**FILES, "read.json": dataclasses.replace(FILES["read.json"], manner="another")}
    assert names(needs(RUN, ProjectState(ENVIRONMENT, files), ())) == {ALL}


def test_what_was_started_outside_of_tests_may_read_all_data() -> None:
    run = dataclasses.replace(RUN, went_outside=True)
    now = with_file("read.json", "[]", is_source=False)
    assert names(needs(run, now, ())) == {ALL}
    assert names(needs(run, with_file("lib.py", f"{LIB}# more\n"), ())) == set()


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        (Place("lib.py", "Cart.total"), {SECOND}),
        (Place("lib.py"), {FIRST, SECOND}),
        (Place("tests/test_b.py"), {SECOND}),
        (Place("tests/conftest.py"), set()),
    ],
)
def test_who_names_a_data_file_may_read_it(place: Place, expected: set[str]) -> None:
    """A library may keep it in memory, or read it in C."""
    now = with_file("read.json", "[]", is_source=False)
    found = needs(RUN, now, (), named={"read.json": {place}})
    assert names(found) == {FIRST, THIRD} | expected


@pytest.mark.parametrize(
    ("path", "line", "expected"),
    [
        ("lib.py", "return a", {FIRST}),
        ("tests/test_b.py", "assert one()", {SECOND, THIRD}),
        ("tests/conftest.py", "", {ALL}),
    ],
)
def test_who_looks_at_numbers_of_lines_needs_each_edit(
    path: str, line: str, expected: set[str]
) -> None:
    """A comment may move all that is below it."""
    text = {"lib.py": LIB, "tests/test_b.py": TEST}.get(path, "def look():\n    pass\n")
    looking = text.replace(line or "pass", f"error.tb_lineno; {line or 'pass'}")
    before = {**FILES, path: facts(looking), "other.py": facts("# one\n")}
    run = dataclasses.replace(RUN, state=ProjectState(ENVIRONMENT, before))
    now = ProjectState(ENVIRONMENT, {**before, "other.py": facts("# one\n# two\n")})
    assert names(needs(run, now, ())) == expected


def test_a_file_is_named_by_a_source_or_by_another_file_that_is(tmp_path: Path) -> None:
    texts = {
        "base.html": "",
        "page.html": "{% extends 'base.html' %}",
        "app.py": "def page():\n    return render('page.html')\n",
        "other.py": "XPAGE = 'xpage.html'\n",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    files = look_at_files(tmp_path)
    for path in ("base.html", "page.html"):
        assert namers(tmp_path, path, files) == {Place("app.py", "page")}


def test_test_files_of_one_name_are_all_mentioned(tmp_path: Path) -> None:
    paths = ["a/test_x.py", "b/test_x.py", "c/__init__.py"]
    for path in paths:
        (tmp_path / path).parent.mkdir()
        (tmp_path / path).write_text("")
    (tmp_path / "test_y.py").write_text("from a.test_x import one\nimport c\n")
    assert mentioned_files(tmp_path, paths, ["test_y.py"]) == {*paths}


def test_a_file_of_a_repository_inside_and_how_it_may_be_used_are_seen(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "inner"):
        subprocess.run(["git", "init", "--quiet", str(place)], check=True)
    (tmp_path / "inner" / "data.txt").write_text("1")
    (tmp_path / "inner" / "data.txt").chmod(0o755)
    (tmp_path / "link").symlink_to("inner")
    files = look_at_files(tmp_path)
    manners = {path: facts.manner for path, facts in files.items()}
    assert manners == {"inner/data.txt": "may be executed", "link": "a link to inner"}


KEEPERS: Final = {
    "cached": "@functools.cache\ndef keep():\n    return make()\n",
    "cached with arguments": "@functools.lru_cache(maxsize=1)\ndef keep():\n    return make()\n",
    "global": "def keep():\n    global SEEN\n    SEEN = make()\n",
    "item": "def keep():\n    SEEN['x'] = make()\n",
    "append": "def keep():\n    SEEN.append(make())\n",
    "attribute of a module": "def keep():\n    os.seen = make()\n",
    "list of a module": "def keep():\n    sys.path.append(make())\n",
    "attribute of a class": (
        "class A:\n    @classmethod\n    def keep(cls):\n        cls.seen = make()\n"
    ),
    "attribute of its class": "class A:\n    def keep(self):\n        type(self).seen = make()\n",
    "default": "def keep(seen={}):\n    seen['x'] = make()\n",
    "setattr": "def keep():\n    setattr(SEEN, 'x', make())\n",
    "decorator by hand, with its cache": (
        "def keep(f):\n    seen = {}\n"
        "    def inner(x):\n        seen[x] = make()\n    inner.seen = seen\n    return inner\n"
    ),
    "object of a class that has one": (
        "class A:\n    def __new__(cls):\n        return THE_ONE\n"
        "def keep():\n    A().update(make())\n"
    ),
    "object of an enumeration": (
        "class A(enum.Enum):\n    pass\ndef keep():\n    A('x').update(make())\n"
    ),
    "attribute of a new object": (
        "class A(dict):\n    all = []\ndef keep():\n    A().all.append(make())\n"
    ),
    "list out of a function": "def keep():\n    all_of_them().append(make())\n",
    "dict of a class": (
        "class A:\n    seen = {}\n    def keep(self):\n        self.seen['x'] = make()\n"
    ),
    "list of a base": (
        "class Base:\n    seen = []\n"
        "class A(Base):\n    def keep(self):\n        self.seen.append(make())\n"
    ),
    "context variable": "def keep():\n    SEEN.set(make())\n",
    "setting of the process": "def keep():\n    random.seed(make())\n",
    "by another name": "def keep():\n    seen = SEEN\n    seen['x'] = make()\n",
    "object in it": "def keep():\n    one = SEEN['x']\n    one.y = make()\n",
    "each object in it": "def keep():\n    for one in SEEN.values():\n        one.y = make()\n",
    "by who is given it": (
        "def keep():\n    fill(SEEN)\n"
        "def fill(seen):\n    fill_it(seen)\n"
        "def fill_it(seen):\n    seen['x'] = make()\n"
    ),
    "out of a function, by a name": (
        "def keep():\n    seen = whole()\n    seen['x'] = make()\ndef whole():\n    return SEEN\n"
    ),
    "module": "def keep():\n    importlib.import_module(make())\n",
    "object of the module": (
        "class A:\n    def keep(self):\n        self.seen = make()\nTHE_ONE = A()\n"
    ),
}
# What these leave behind is no result of what they call.
SETTERS: Final = {
    "module for its effect": "def keep():\n    import add_on\n    return make()\n",
    "module that is named": (
        "def keep():\n    importlib.import_module('add_on')\n    return make()\n"
    ),
    "setting by a constant": "def keep():\n    random.seed(7)\n    return make()\n",
    "constant in an object": "def keep():\n    one = SEEN['x']\n    one.y = 1\n    return make()\n",
}
OTHERS: Final = {
    "local": "def keep():\n    seen = []\n    seen.append(make())\n    return seen\n",
    "argument": "def keep(seen):\n    return make()\n",
    "object": "class A:\n    def keep(self):\n        self.seen = make()\n",
    "object of its base": ("class A(dict):\n    def keep(self):\n        super().update(make())\n"),
    "object that it makes": (
        "class A(dict):\n    pass\ndef keep():\n    A().update(make())\n    A()['x'] = make()\n"
    ),
    "helper": (
        "def keep():\n    seen = []\n    def add(x):\n        seen.append(x)\n    add(make())\n"
    ),
    "function of a module": "def keep():\n    os.remove(make())\n",
    "module that it uses": "def keep():\n    import add_on\n    return add_on.one(make())\n",
    "local by another name": (
        "def keep():\n    seen = []\n    more = seen\n    more.append(make())\n    return seen\n"
    ),
    "given a local": "def keep():\n    fill([])\ndef fill(seen):\n    seen.append(make())\n",
    "field": (
        "class A:\n    seen: list = field(default_factory=list)\n"
        "    def keep(self):\n        self.seen.append(make())\n"
    ),
    "list of each object": (
        "class A:\n    seen = []\n    def __init__(self):\n        self.seen = []\n"
        "    def keep(self):\n        self.seen.append(make())\n"
    ),
}
# What is called for it: directly, through another function, as a method, in another file.
MADE_BY: Final = {
    "directly": ("def make():\n    return 1\n", "return 1", "make"),
    "through another": (
        "def make():\n    return deep()\n\ndef deep():\n    return 1\n",
        "return 1",
        "deep",
    ),
    "as a method": (
        "def make():\n    return B().x()\n\nclass B:\n    def x(self):\n        return 1\n",
        "return 1",
        "B.x",
    ),
    "in making an object": (
        "def make():\n    return B()\n\nclass B:\n    def __init__(self):\n        self.x = 1\n",
        "self.x = 1",
        "B.__init__",
    ),
}


@pytest.mark.parametrize("made_by", MADE_BY)
@pytest.mark.parametrize("keeper", [*KEEPERS, *SETTERS, *OTHERS])
def test_what_is_made_for_something_that_is_kept_is_for_all(keeper: str, made_by: str) -> None:
    """The first test alone runs what fills a cache; the others find it full."""
    known = {**KEEPERS, **SETTERS, **OTHERS}
    keeping = "import functools, os, sys\nSEEN = {}\n" + known[keeper]
    text, part, block = MADE_BY[made_by]
    before = {"keep.py": facts(keeping), "make.py": facts(text), **FILES}
    shape = before["make.py"].shape
    kept = before["keep.py"].shape
    assert shape is not None
    assert kept is not None
    ran = {
        "make.py": {FIRST: sum(1 << each.last for each in shape.blocks)},
        "keep.py": {FIRST: sum(1 << each.last for each in kept.blocks), NO_TEST: 1 << 1},
    }
    assert block in {each.name for each in shape.blocks}
    run = dataclasses.replace(RUN, state=ProjectState(ENVIRONMENT, before), ran=ran)
    now = {**before, "make.py": facts(text.replace(part, f"{part} + 1"))}
    found = names(needs(run, ProjectState(ENVIRONMENT, now), ()))
    assert found == ({ALL} if keeper in KEEPERS else {FIRST})


def test_what_a_closure_keeps_is_for_those_that_run_a_line_of_it() -> None:
    """A decorator's own cache: who finds it full runs the function that looks."""
    text = (
        "def keep(f):\n    seen = {}\n    def inner(x):\n        if x not in seen:\n"
        "            seen[x] = make()\n        return seen[x]\n    return inner\n"
        "def make():\n    return 1\n"
    )
    before = {**FILES, "keep.py": facts(text)}
    ran = {"keep.py": {FIRST: 0b1001110000, SECOND: 0b1010000, NO_TEST: 0b110000110}}
    run = dataclasses.replace(RUN, state=ProjectState(ENVIRONMENT, before), ran=ran)
    now = {**before, "keep.py": facts(text.replace("return 1", "return 2"))}
    assert names(needs(run, ProjectState(ENVIRONMENT, now), ())) == {FIRST, SECOND}


@pytest.mark.parametrize("variable", ["SEEN = []\n", "SEEN = make_it()\n"])
def test_methods_of_another_modules_plain_list_are_nobodys(variable: str) -> None:
    """Else a class with a method `append` is called wherever something is registered."""
    register = "from pkg.seen import SEEN\ndef register(x):\n    SEEN.append(x)\n"
    cart = "class Cart:\n    def append(self, x):\n        return 1\n"
    before = {
        **FILES,
        "pkg/seen.py": facts(variable),
        "register.py": facts(register),
        "cart.py": facts(cart),
    }
    ran = {
        "pkg/seen.py": {NO_TEST: 1 << 1},
        "register.py": {FIRST: 1 << 3, NO_TEST: 1 << 1 | 1 << 2},
        "cart.py": {FIRST: 1 << 3, NO_TEST: 1 << 1 | 1 << 2},
    }
    run = dataclasses.replace(RUN, state=ProjectState(ENVIRONMENT, before), ran=ran)
    now = {**before, "cart.py": facts(cart.replace("return 1", "return 2"))}
    found = names(needs(run, ProjectState(ENVIRONMENT, now), ()))
    assert found == ({FIRST} if variable == "SEEN = []\n" else {ALL})


KEPT_AT_IMPORT: Final = {
    "it was made at import": (1 << 1 | 1 << 3 | 1 << 8, ALL),
    "it was not": (1 << 1, FIRST),
}


@pytest.mark.parametrize("case", KEPT_AT_IMPORT)
def test_an_object_that_stays_ran_its_methods_at_import(case: str) -> None:
    """By name alone `read` at import could make one; what ran there tells better."""
    text = (
        "class Cart:\n    def __init__(self):\n        self.x = 1\n"
        "    def add(self):\n        self.x = make()\n"
        "class Reader:\n    def read(self):\n        return Cart()\n"
        "def make():\n    return 1\n"
        "TEXT = open('x').read()\n"
    )
    at_import, expected = KEPT_AT_IMPORT[case]
    before = {**FILES, "cart.py": facts(text)}
    ran = {"cart.py": {FIRST: 1 << 3 | 1 << 5 | 1 << 10, NO_TEST: at_import}}
    run = dataclasses.replace(RUN, state=ProjectState(ENVIRONMENT, before), ran=ran)
    now = {**before, "cart.py": facts(text.replace("return 1", "return 2"))}
    assert names(needs(run, ProjectState(ENVIRONMENT, now), ())) == {expected}


@pytest.mark.parametrize("keeper", [*KEEPERS, *SETTERS])
def test_what_keeps_something_is_for_all(keeper: str) -> None:
    text = "import functools, os, sys\nSEEN = {}\n" + {**KEEPERS, **SETTERS}[keeper]
    before = {**FILES, "keep.py": facts(text)}
    shape = before["keep.py"].shape
    assert shape is not None
    ran = {"keep.py": {FIRST: sum(1 << each.last for each in shape.blocks)}}
    run = dataclasses.replace(RUN, state=ProjectState(ENVIRONMENT, before), ran=ran)
    now = {**before, "keep.py": facts(text.replace("make()", "make(2)"))}
    assert names(needs(run, ProjectState(ENVIRONMENT, now), ())) == {ALL}


def test_an_object_of_a_fixture_is_for_all_who_have_it() -> None:
    """What one test leaves in it the next one finds."""
    text = "class A:\n    def load(self):\n        self.x = make()\n\ndef make():\n    return 1\n"
    before = {**FILES, "a.py": facts(text)}
    shared = frozenset({"tests/test_a.py::test_maker"})
    tests = {name: dataclasses.replace(test, shares=shared) for name, test in TESTS.items()}
    tests[SECOND] = TESTS[SECOND]
    run = dataclasses.replace(
        RUN,
        state=ProjectState(ENVIRONMENT, before),
        tests={**tests, "tests/test_a.py::test_maker": TESTS[SECOND]},
        ran={"a.py": {FIRST: 1 << 3 | 1 << 6, NO_TEST: 1 << 1}},
    )
    now = {**before, "a.py": facts(text.replace("return 1", "return 2"))}
    found = names(needs(run, ProjectState(ENVIRONMENT, now), ()), run)
    assert found == {FIRST, THIRD, "tests/test_a.py::test_maker"}


def test_more_changes_never_need_fewer_tests() -> None:
    edits = {
        "lib.py": LIB.replace("return a", "return a + 1"),
        "tests/test_b.py": TEST.replace("assert", "assert not"),
        "helper.py": "def help():\n    return 2\n",
    }
    known = {*TESTS}

    def needed(paths: tuple[str, ...]) -> set[str]:
        files = {**FILES, **{path: facts(edits[path]) for path in paths}}
        found = names(needs(RUN, ProjectState(ENVIRONMENT, files), ()))
        return known if ALL in found else found

    for one, two in itertools.permutations(edits, 2):
        assert needed((one,)) | needed((two,)) <= needed((one, two))


UNMEASURED: Final = {
    "tests/test_a.py": ("def test_first():\n    LIB.seen = make()\n", {ALL}),
    "tests/test_b.py": ("def test_third():\n    LIB.seen = make()\n", {FIRST}),
    "tests/helper.py": ("def keep():\n    LIB.seen = make()\n", {ALL}),
}


@pytest.mark.parametrize("path", UNMEASURED)
def test_what_is_not_measured_may_keep_for_those_that_may_have_run_it(path: str) -> None:
    """A test file that is not measured is run by its own tests; another file by anybody."""
    text, expected = UNMEASURED[path]
    make = "def make():\n    return 1\n"
    before = {**FILES, path: facts(text), "make.py": facts(make)}
    ran = {"make.py": {FIRST: 1 << 2, NO_TEST: 1 << 1}}
    run = dataclasses.replace(RUN, state=ProjectState(ENVIRONMENT, before), ran=ran)
    now = {**before, "make.py": facts(make.replace("return 1", "return 2"))}
    assert names(needs(run, ProjectState(ENVIRONMENT, now), ())) == expected


BRANCHY: Final = """\
def choose(n):
    total = 0
    if n > 1:
        total = (
            n
        )
    else:
        for each in [n]:
            total += each
    try:
        return 1 / total
    except ZeroDivisionError:
        pass
    return total
"""
# What three tests ran of it; the third one in another process.
CHOSEN: Final = {
    FIRST: {2, 3, 4, 5, 10, 11},
    SECOND: {2, 3, 8, 9, 10, 11, 12, 13, 14},
    THIRD: {2, 3, 4, 5, 10, 11},
}


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("n > 1", "n > 2", {FIRST, SECOND, THIRD}),
        ("            n\n", "            -n\n", {FIRST, THIRD}),
        ("[n]", "[n, n]", {SECOND, THIRD}),
        (
            "total += each",
            "pass",
            {FIRST, SECOND, THIRD},
        ),  # no variable of its own any more, it may be
        ("total += each", "total -= each", {SECOND, THIRD}),
        ("total += each", "total += (each := 1)", {SECOND, THIRD}),
        ("total += each", "total += (n := 1)", {FIRST, SECOND, THIRD}),
        ("total += each", "total += each; n", {FIRST, SECOND, THIRD}),
        ("    return total\n", '    return "\\d"\n', {SECOND, THIRD}),
        ("ZeroDivisionError", "ValueError", {SECOND, THIRD}),
        ("        pass\n", "        raise\n", {FIRST, SECOND, THIRD}),
        ("    return total\n", "    return None\n", {SECOND, THIRD}),
        ("    total = 0\n", "", {FIRST, SECOND, THIRD}),
        ("    total = 0\n", "    total = 1\n", {FIRST, SECOND, THIRD}),
    ],
)
def test_who_ran_no_changed_part_of_a_function_is_not_concerned(
    old: str, new: str, expected: set[str]
) -> None:
    assert branchy(old, new) == expected
    # Commented and moved, it is the same; and the lines of another change are not those that ran.
    assert branchy(old, new, also=True) == {FIRST, SECOND, THIRD}


@pytest.mark.parametrize("new", ["total += yield each", "total += await each"])
def test_a_part_that_makes_the_whole_another_is_not_alone(new: str) -> None:
    """It is a generator then; or Python cannot compile it, and nobody can import the file."""
    assert branchy("total += each", new) == {ALL}


def branchy(old: str, new: str, *, also: bool = False) -> set[str]:
    assert old in BRANCHY
    before = {**FILES, "branchy.py": facts(BRANCHY)}
    after = {**FILES, "branchy.py": facts("# moved\n\n" + BRANCHY.replace(old, new))}
    ran = {name: sum(1 << line for line in lines) for name, lines in CHOSEN.items()}
    state = ProjectState(ENVIRONMENT, before)
    run = dataclasses.replace(RUN, state=state, ran={"branchy.py": {NO_TEST: 1 << 1, **ran}})
    if also:
        return names(needs(run, state, (), changes(before, after)))
    return names(needs(run, ProjectState(ENVIRONMENT, after), ()))


def test_a_part_that_nobody_is_known_to_have_run_is_of_the_function() -> None:
    before = {**FILES, "branchy.py": facts(BRANCHY)}
    after = {**FILES, "branchy.py": facts(BRANCHY.replace("total += each", "total -= each"))}
    run = dataclasses.replace(
        RUN, state=ProjectState(ENVIRONMENT, before), ran={"branchy.py": {FIRST: 1 << 2 | 1 << 3}}
    )
    assert names(needs(run, ProjectState(ENVIRONMENT, after), ())) == {FIRST}


def test_a_project_that_an_outer_repository_ignores_has_its_files(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    (tmp_path / ".gitignore").write_text("/inner/\n")
    (tmp_path / "inner" / "tests").mkdir(parents=True)
    (tmp_path / "inner" / "tests" / "test_it.py").write_text("def test(): pass\n")
    assert look_at_files(tmp_path / "inner").keys() == {"tests/test_it.py"}


def test_the_projects_own_metadata_is_none_of_its_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`python -m pytest` has the project's directory in its path, `pytest` and `hcov` have not."""
    (tmp_path / "It.egg-info").mkdir()
    (tmp_path / "It.egg-info" / "PKG-INFO").write_text("Name: it\nVersion: 1\n")
    without = look_at_project(tmp_path).environment
    monkeypatch.chdir(tmp_path)
    for place in ("", str(tmp_path)):
        with monkeypatch.context() as context:
            context.syspath_prepend(place)
            assert look_at_project(tmp_path).environment == without


@pytest.mark.parametrize(
    ("line", "is_another"),
    [
        ("it.py,sha256=b,1", True),
        ("it-1.dist-info/entry_points.txt,sha256=b,1", True),
        ("it-1.dist-info/direct_url.json,sha256=b,1", False),
        ("../../bin/it,sha256=b,1", False),
        ("__editable__.it.pth,sha256=b,1", False),
        ("__pycache__/it.cpython-313.pyc,,", False),
    ],
)
def test_a_version_that_is_installed_again_is_another_if_its_files_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, *, is_another: bool
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "it-1.dist-info").mkdir()
    (tmp_path / "it-1.dist-info" / "METADATA").write_text("Name: it\nVersion: 1\n")
    record = tmp_path / "it-1.dist-info" / "RECORD"
    record.write_text("it.py,sha256=a,1\n")
    before = look_at_project(tmp_path / "none").environment
    record.write_text(f"it.py,sha256=a,1\n{line}\n")
    after = look_at_project(tmp_path / "none").environment
    assert (before["it"] != after["it"]) == is_another
