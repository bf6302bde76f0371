"""No test that a change breaks is left out, whatever it is that tests depend on.

The project is measured once. Each edit breaks some of its tests in a run of all of them, and those
are among the ones that are needed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Final

import pytest
from tests.forks import forked

import hcoverage

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.xdist_group("affected")  # the project is measured once for all edits

FILES: Final = {
    "pytest.ini": "[pytest]\npythonpath = . src\n",
    ".coveragerc": "[run]\nparallel = True\nsource = .\nomit = tests/*\n",
    "src/shop/__init__.py": "",
    "src/shop/prices.py": """\
import functools
import json
from pathlib import Path

RATE = 2

def plain(n):
    return n * RATE

def with_default(n=1):
    return n

@functools.cache
def table():
    return fill()

def fill():
    return {"a": 1}

def look_up(name):
    return table()[name]

_LOADED = None

def loaded():
    global _LOADED
    if _LOADED is None:
        _LOADED = load()
    return _LOADED

def load():
    return json.loads(Path(__file__).with_name("cached.json").read_text())

def made_of(n):
    '''Make of it.'''
    return [each for each in steps(n)]

def steps(n):
    for each in range(n):
        yield each

def help_text():
    return made_of.__doc__

class Cart:
    tax = 3

    def __init__(self):
        self.items = []
        self._sum = None

    def add(self, price):
        self.items.append(price)

    def total(self):
        if self._sum is None:
            self._sum = self.count()
        return self._sum

    def count(self):
        return sum(self.items)
""",
    "src/shop/kept.py": """\
import importlib
import linecache
import sys
from contextvars import ContextVar
from pathlib import Path

CHOSEN = ContextVar("CHOSEN", default=None)
ITEMS = []
NAMED = {}

class Shelf:
    books = {}

    def book(self, name):
        if name not in self.books:
            self.books[name] = written()
        return self.books[name]

def written():
    return 1

def chosen():
    if CHOSEN.get() is None:
        CHOSEN.set(choice())
    return CHOSEN.get()

def choice():
    return 1

def first_item():
    items = ITEMS
    if not items:
        items.append(item())
    return items[0]

def item():
    return 1

def named(names):
    if not names:
        names["a"] = name()
    return names["a"]

def own_name():
    return named(NAMED)

def name():
    return 1

def add_on():
    if "shop.added" not in sys.modules:
        importlib.import_module(which())
    return sys.modules.get("shop.added")

def which():
    return "shop.added"

def page():
    return linecache.getline(str(Path(__file__).with_name("page.txt")), 1)

# A comment.
def here():
    return sys._getframe().f_lineno
""",
    "src/shop/added.py": "",
    "src/shop/page.txt": "page\n",
    "src/shop/cached.json": '{"x": 1}\n',
    "src/shop/lazy.py": """\
def build():
    return [1]

BUILT = build()

def built():
    return BUILT
""",
    "src/shop/registry.py": """\
HANDLERS = {}

def handler(function):
    HANDLERS[function.__name__] = function
    return function

def call(name):
    return HANDLERS[name]()
""",
    "src/shop/plugin.py": """\
from shop.registry import handler

@handler
def hello():
    return "hello"
""",
    "src/shop/tool.py": """\
import sys

def main():
    print(words())

def words():
    return "tool"

if __name__ == "__main__":
    main()
""",
    "src/shop/service.py": """\
import socketserver

class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        word = self.rfile.readline().decode().strip()
        self.wfile.write(answer(word).encode())

def answer(word):
    if word == "one":
        return first()
    return second()

def first():
    return "1"

def second():
    return "2"

if __name__ == "__main__":
    server = socketserver.TCPServer(("127.0.0.1", 0), Handler)
    print(server.server_address[1], flush=True)
    server.serve_forever()
""",
    "tests/conftest.py": """\
import subprocess
import sys

import pytest

@pytest.fixture(scope="session")
def cart():
    from shop.prices import Cart
    cart = Cart()
    cart.add(5)
    return cart

@pytest.fixture(scope="session")
def service():
    process = subprocess.Popen(
        [sys.executable, "src/shop/service.py"], stdout=subprocess.PIPE, text=True
    )
    yield int(process.stdout.readline())
    process.kill()
    process.wait()
    process.stdout.close()
""",
    "tests/values.py": "VALUES = [1, 2]\n\ndef value():\n    return 7\n",
    "tests/data/read.txt": "read\n",
    "tests/data/listed/one.txt": "1\n",
    "tests/data/parameters.txt": "1 2\n",
    ".gitignore": "ignored.txt\nmade-*.txt\n",
    "ignored.txt": "1",
    "run.sh": "#!/bin/sh\n",
    "tests/test_kept.py": """\
import os
import pathlib
import traceback

import pytest

from shop import kept

IGNORED = pathlib.Path("ignored.txt").read_text()

@pytest.fixture(scope="session")
def shelf():
    return kept.Shelf().book("other")

@pytest.fixture(scope="session")
def shelves(request):
    return request.getfixturevalue("shelf")

def test_ignored():
    assert IGNORED == "1"

def test_shelf_first():
    assert kept.Shelf().book("a")

def test_shelf_second():
    assert kept.Shelf().book("a") == 1

def test_chosen_first():
    assert kept.chosen()

def test_chosen_second():
    assert kept.chosen() == 1

def test_item_first():
    assert kept.first_item()

def test_item_second():
    assert kept.first_item() == 1

def test_name_first():
    assert kept.own_name()

def test_name_second():
    assert kept.own_name() == 1

def test_add_on_first():
    kept.add_on()

def test_add_on_second():
    assert kept.add_on()

def test_page_first():
    assert kept.page()

def test_page_second():
    assert kept.page() == "page\\n"

def test_line():
    assert kept.here() == 63

def test_size():
    assert os.path.getsize("tests/data/read.txt") == 5

def test_configuration():
    assert pathlib.Path("pytest.ini").read_text()

def test_runs():
    assert os.access("run.sh", os.X_OK)

def made():
    path = pathlib.Path(f"made-{os.getpid()}.txt")  # each worker's own
    if not path.exists():
        path.write_text(str(kept.item()))
    return path.read_text()

def test_made_first():
    assert made()

def test_made_second():
    assert made() == "1"
""",
    "tests/test_prices.py": """\
import pathlib

import pytest

from shop import prices
from values import VALUES, value

DATA = pathlib.Path(__file__).with_name("data")

@pytest.mark.parametrize("n", VALUES)
def test_plain(n):
    assert prices.plain(n) == n * 2

def test_default():
    assert prices.with_default() == 1

def test_cache_first():
    assert prices.look_up("a")

def test_cache_second():
    assert prices.look_up("a") == 1

def test_global_first():
    assert prices.loaded()

def test_global_second():
    assert prices.loaded() == {"x": 1}

def test_steps():
    assert prices.made_of(2) == [0, 1]

def test_help():
    assert prices.help_text() == "Make of it."

def test_value():
    assert value() == 7

def test_tax():
    assert prices.Cart.tax == 3

def test_read():
    assert (DATA / "read.txt").read_text() == "read\\n"

def test_listed():
    assert len(list((DATA / "listed").iterdir())) == 1

@pytest.mark.parametrize("n", (DATA / "parameters.txt").read_text().split())
def test_parameters(n):
    assert n in "12"
""",
    "tests/test_shared.py": """\
import pytest

class TestCart:
    def test_begins(self, cart):
        assert cart.items

    def test_total_first(self, cart):
        assert cart.total()

    def test_total_second(self, cart):
        assert cart.total() == 5

def test_lazy_first():
    from shop.lazy import built
    assert built()

def test_lazy_second():
    from shop.lazy import built
    assert built() == [1]

@pytest.fixture(scope="module", autouse=True)
def plugins():
    import shop.plugin

def test_registry_first():
    from shop.registry import call
    assert call("hello")

def test_registry_second():
    from shop.registry import call
    assert call("hello") == "hello"

class TestOld:
    @classmethod
    def setup_class(cls):
        from shop.prices import plain
        cls.price = plain(2)

    def test_old_first(self):
        assert self.price

    def test_old_second(self):
        assert self.price == 4
""",
    "tests/test_outside.py": """\
import socket
import subprocess
import sys

def run_tool():
    command = [sys.executable, "src/shop/tool.py"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout

def ask(port, word):
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(word.encode() + b"\\n")
        with connection.makefile() as answer:
            return answer.read()

def test_tool():
    assert run_tool() == "tool\\n"

def test_service_first(service):
    assert ask(service, "one") == "1"

def test_service_second(service):
    assert ask(service, "two") == "2"

def test_other_process():
    text = subprocess.run(["cat", "tests/data/read.txt"], capture_output=True).stdout
    assert text == b"read\\n"
""",
}
MODE: Final = "the mode"  # what is changed of a file, in place of a part
KEPT: Final = "src/shop/kept.py"
PRICES: Final = "src/shop/prices.py"
# What is replaced by what, where; with None for the text the file goes, without a part it comes.
EDITS: Final = {
    "a function": (PRICES, "return n * RATE", "return n * RATE + 1"),
    "a constant": (PRICES, "RATE = 2", "RATE = 3"),
    "a default": (PRICES, "n=1", "n=2"),
    "what fills a cache": (PRICES, '{"a": 1}', '{"a": 2}'),
    "a key of a cache": (PRICES, '{"a": 1}', '{"b": 1}'),
    "the cached function": (PRICES, "return fill()", "return {'a': 2}"),
    "what is kept in a global": (PRICES, "json.loads(", "list("),
    "a file that is kept": ("src/shop/cached.json", "1", "2"),
    "a generator": (PRICES, "yield each", "yield each + 1"),
    "a docstring": (PRICES, "Make of it", "Do it"),
    "an attribute of a class": (PRICES, "tax = 3", "tax = 4"),
    "an object of a fixture": (PRICES, "sum(self.items)", "sum(self.items) + 1"),
    "what makes it": (PRICES, "self.items = []", "self.items = [1]"),
    "a source that is imported late": ("src/shop/lazy.py", "return [1]", "return [2]"),
    "what it gives": ("src/shop/lazy.py", "return BUILT", "return None"),
    "a registry": ("src/shop/registry.py", "HANDLERS[name]()", "HANDLERS[name]"),
    "who registers": ("src/shop/registry.py", "= function", "= str"),
    "who is registered": ("src/shop/plugin.py", '"hello"', '"hi"'),
    "the name of who is registered": ("src/shop/plugin.py", "def hello", "def hi"),
    "a tool": ("src/shop/tool.py", '"tool"', '"spanner"'),
    "the beginning of a tool": ("src/shop/tool.py", "import sys", "import no_such_module"),
    "an answer of a service": ("src/shop/service.py", '"2"', '"3"'),
    "what a service begins with": ("src/shop/service.py", "answer(word)", "answer(word + '!')"),
    "a helper of tests": ("tests/values.py", "return 7", "return 8"),
    "parameters": ("tests/values.py", "[1, 2]", "[1, None]"),
    "data": ("tests/data/read.txt", "read", "written"),
    "more data": ("tests/data/listed/two.txt", "", "2"),
    "less data": ("tests/data/listed/one.txt", "1", None),
    "parameters in a file": ("tests/data/parameters.txt", "2", "3"),
    "a fixture": ("tests/conftest.py", "add(5)", "add(6)"),
    "a test": ("tests/test_shared.py", '== "hello"', '== "hi"'),
    "the configuration": ("pytest.ini", "src", "lib"),
    "a module that hides another": ("tests/json.py", "", "raise ImportError\n"),
    "what a class keeps for its objects": (
        KEPT,
        "written():\n    return 1",
        "written():\n    return 2",
    ),
    "what a context variable keeps": (KEPT, "choice():\n    return 1", "choice():\n    return 2"),
    "what is kept by another name, or in a file": (
        KEPT,
        "item():\n    return 1",
        "item():\n    return 2",
    ),
    "what is kept by a function that is given it": (
        KEPT,
        "name():\n    return 1",
        "name():\n    return 2",
    ),
    "an import for its effect": (KEPT, 'return "shop.added"', 'return "shop.plugin"'),
    "a file that a library keeps": ("src/shop/page.txt", "page", "paper"),
    "numbers of lines": (KEPT, "# A comment.", "# A\n# comment."),
    "a file that git ignores": ("ignored.txt", "1", "2"),
    "whether a file may be executed": ("run.sh", MODE, ""),
    "a missing module": ("src/shop/plugin.py", "", None),
}
# These concern few, and few are needed.
FEW: Final = {
    "a generator": {"tests/test_prices.py::test_steps"},
    "what it gives": {f"tests/test_shared.py::test_lazy_{each}" for each in ("first", "second")},
    "a tool": {"tests/test_outside.py::test_tool"},
    "data": {
        "tests/test_prices.py::test_read",
        "tests/test_kept.py::test_size",
        *(f"tests/test_outside.py::test_{each}" for each in ("tool", "other_process")),
        *(f"tests/test_outside.py::test_service_{each}" for each in ("first", "second")),
    },
}
# What `cat` did was not seen; and any edit may move the lines that a test looks at.
FEW_ALWAYS: Final = {
    "tests/test_outside.py::test_other_process",
    *(f"tests/test_kept.py::test_{each}" for each in ("line", "page_first", "page_second")),
}
PYTEST: Final = ("pytest", "-q", "-p", "no:cacheprovider")
WAYS: Final = {"one process": (), "two workers": ("-n2", "--dist=load")}
FAILED: Final = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)


def write(directory: Path) -> None:
    for name, text in FILES.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (directory / "run.sh").chmod(0o755)
    subprocess.run(["git", "init", "--quiet", str(directory)], check=True)


def run(directory: Path, *options: str) -> subprocess.CompletedProcess[str]:
    environment = hcoverage.unmeasured_environment(os.environ)
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    # A run of its own, whatever is around the tests.
    del environment[hcoverage.SESSION_VARIABLE]
    return forked(*PYTEST, *options, env=environment, directory=directory)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The project, once measured in one process and once by two workers."""
    projects: dict[str, Path] = {}
    for way, options in WAYS.items():
        directory = projects[way] = tmp_path_factory.mktemp("measured")
        write(directory)
        done = run(directory, "--hcov", "--hcov-context=test", "--hcov-report=", *options)
        assert done.returncode == 0, done.stdout + done.stderr
    return projects


def decide(directory: Path) -> hcoverage.Decision:
    return hcoverage.decide(directory, directory / ".coverage")


def needed(decision: hcoverage.Decision) -> set[str]:
    return {test for test, path in decision.known.items() if decision.reasons(test, path)}


@pytest.mark.parametrize("way", WAYS)
def test_nothing_is_needed_where_nothing_has_changed(measured: dict[str, Path], way: str) -> None:
    decision = decide(measured[way])
    assert decision.everything == ()
    # What `cat` did for it was not seen, which is a reason only where something has changed.
    assert needed(decision) == set()


@pytest.mark.parametrize(
    "edit",
    [
        pytest.param(edit, marks=[pytest.mark.thorough] if number % 6 else [])
        for number, edit in enumerate(EDITS)
    ],
)
def test_what_an_edit_breaks_is_needed(
    measured: dict[str, Path], tmp_path: Path, edit: str
) -> None:
    for way, directory in measured.items():
        apply(edit, shutil.copytree(directory, tmp_path / way))
    # What it breaks is the same, however the project was measured before.
    done = run(tmp_path / "one process", "-rfE")
    broken = {name.partition(" - ")[0] for name in FAILED.findall(done.stdout)}
    assert broken or "hides" in edit
    for way in WAYS:
        decision = decide(tmp_path / way)
        found = needed(decision)
        # Where a file of tests cannot be collected, all of its tests are broken.
        assert {
            test for test in decision.known if test in broken or test.partition("::")[0] in broken
        } <= found
        # Of workers it is chance which test sets up a fixture, and so who needs that one.
        if edit in FEW and way == "one process":
            assert FEW[edit] <= found <= FEW[edit] | FEW_ALWAYS


def apply(edit: str, project: Path) -> None:
    name, part, replacement = EDITS[edit]
    path = project / name
    if part == MODE:
        path.chmod(0o644)
        return
    if replacement is None:
        path.unlink()
        return
    text = path.read_text() if part else ""
    assert part in text
    path.write_text(text.replace(part, replacement) if part else replacement)


def test_a_source_that_changes_while_tests_run_makes_all_needed(tmp_path: Path) -> None:
    (tmp_path / "lib.py").write_text("def one():\n    return 1\n")
    (tmp_path / "test_it.py").write_text(
        "import pathlib\n\n"
        "def test_it():\n"
        '    path = pathlib.Path("lib.py")\n'
        '    path.write_text(path.read_text() + "# more\\n")\n'
    )
    (tmp_path / ".coveragerc").write_text("[run]\nsource = .\n")
    done = run(tmp_path, "--hcov", "--hcov-context=test", "--hcov-report=")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "lib.py has changed while the last run's tests ran" in decide(tmp_path).everything
