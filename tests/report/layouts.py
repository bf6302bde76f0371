"""How projects lay out their code: small ones, each with tests that pass.

Each has a file that nothing imports, one of which half runs, an empty one, and lines that are
excluded. Its tests run by a plain script, which is quick to start, and by pytest.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

HALF: Final = '''\
"""Half of it runs."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def choose(number: int) -> str:
    if number > 1:
        return "many"
    elif number == 1:
        return "one"
    return "none"


def total(numbers: "Iterable[int]") -> int:
    result = 0
    for number in numbers:
        if number < 0:
            continue
        result += number
    return result


class Kept:
    """Something with a name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return (
            f"Kept("
            f"{self.name!r})"
        )

    def later(self) -> None:
        raise NotImplementedError


def show() -> None:  # pragma: no cover
    if choose(1):
        print("not here")


if __name__ == "__main__":
    show()
'''
NEVER: Final = '''\
"""Nothing imports it."""

import os


def home(default: str) -> str:
    if "HOME" in os.environ:
        return os.environ["HOME"]
    return default
'''
INIT: Final = '"""The package."""\n\nVERSION = "1.0"\n'
FULL: Final = "def double(number: int) -> int:\n    return 2 * number\n"
TESTS: Final = """\
from {package}full import double
from {package}half import Kept, choose, total


def test_choose():
    assert choose(2) == "many"


def test_total():
    assert total([1, 2]) == 3


def test_kept():
    assert Kept("a").name == "a"
    assert double(2) == 4
"""
RUN_TESTS: Final = """\
from {module} import test_choose, test_kept, test_total

if __name__ == "__main__":
    test_choose()
    test_total()
    test_kept()
"""
CHILD: Final = """\
import sys

from app.half import total

if __name__ == "__main__":
    if sys.argv[1:] == ["deep"]:
        from app.sub import deep

        sys.exit(deep.home("") == "")
    sys.exit(total([-1, 1]) != 1)
"""
# One child in the directory of the tests, one in another. coverage.py takes relative patterns from
# the directory of each process, so what it is to be compared with has both children in this one.
TESTS_WITH_CHILDREN: Final = """\

import os
import pathlib
import subprocess
import sys


def test_children():
    root = str(pathlib.Path(__file__).parents[1])
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path}
    command = [sys.executable, "-m", "app"]
    subprocess.run(command, env=environment, check=True)
    elsewhere = os.environ.get("MATRIX_ELSEWHERE", ".")
    subprocess.run([*command, "deep"], env=environment, check=True, cwd=elsewhere)
"""
TESTS_WITH_WORKERS: Final = """\

import multiprocessing
import multiprocessing.resource_tracker

from app.sub import deep


def test_workers():
    process = multiprocessing.get_context("spawn").Process(target=deep.home, args=[""])
    process.start()
    process.join()
    assert process.exitcode == 0
    # A Python of its own, which would end after everything else.
    multiprocessing.resource_tracker._resource_tracker._stop()
"""
# It does not come back, and what it imports then was never imported before.
TESTS_THAT_MOVE: Final = """\

import os


def test_moves():
    os.chdir(os.environ["MATRIX_ELSEWHERE"])
    from app.sub import deep

    assert deep.home("") != ""
"""
TESTS_WITH_THREADS: Final = """\

from concurrent.futures import ThreadPoolExecutor

from app.sub import deep


def test_threads():
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(deep.home, ["", ""])) != ["", ""]
"""


@dataclass(frozen=True)
class Layout:
    """A project.

    Attributes:
        name: What to call it.
        files: Its texts, by path.
        code: The directory that its packages or modules are in.
        package: The directory of its package; the root where it has none.
        module: What is imported: its package, or one of its modules.
        tests: A pattern of the tests' files.
        script: What Python is given to run the tests.
        pytest: Which tests pytest is given.
        path: What `PYTHONPATH` is to hold.
        editable: Which directory a `.pth` file in site-packages is to name.
        installed: Whether a copy of the code is in site-packages, which is what runs.
        children: Whether the tests start other Pythons.
        threads: Whether the tests run some of the code in threads alone.
        links: Links, and what they lead to, from where they are.
    """

    name: str
    files: Mapping[str, str]
    code: str = "."
    package: str = "app"
    module: str = "app"
    tests: str = "tests/*"
    script: Sequence[str] = ("-m", "tests")
    pytest: Sequence[str] = ("tests",)
    path: Sequence[str] = ()
    editable: str = ""
    installed: bool = False
    children: bool = False
    threads: bool = False
    links: Mapping[str, str] = field(default_factory=dict)

    @property
    def testdir(self) -> str:
        """The directory that the tests are in."""
        return str(PurePath(self.tests).parent)

    def filled(self, text: str) -> str:
        """Put the names of this project into the text of an rcfile."""
        for name in ("code", "package", "module", "tests", "testdir"):
            text = text.replace(f"<{name}>", getattr(self, name))
        return text.replace("<top>", self.module.split(".", maxsplit=1)[0])


def _package(directory: str) -> dict[str, str]:
    return {
        f"{directory}/__init__.py": INIT,
        f"{directory}/half.py": HALF,
        f"{directory}/never.py": NEVER,
        f"{directory}/full.py": FULL,
        f"{directory}/sub/__init__.py": "",
        f"{directory}/sub/deep.py": NEVER,
    }


def _tests(
    package: str, directory: str = "tests", module: str = "tests.test_half", *, init: bool = True
) -> dict[str, str]:
    files = {f"{directory}/__init__.py": ""} if init else {}
    return {
        **files,
        f"{directory}/test_half.py": TESTS.format(package=package),
        f"{directory}/__main__.py": RUN_TESTS.format(module=module),
    }


def _more_tests(text: str, name: str) -> dict[str, str]:
    tests = _tests("app.")
    tests["tests/test_half.py"] += text
    tests["tests/__main__.py"] = tests["tests/__main__.py"].replace(
        "import test_choose", f"import {name}, test_choose"
    )
    tests["tests/__main__.py"] += f"    {name}()\n"
    return tests


ORDINARY_LAYOUTS: Final = (
    Layout("flat-package", {**_package("app"), **_tests("app.")}),
    Layout(
        "flat-modules",
        {
            "half.py": HALF,
            "never.py": NEVER,
            "empty.py": "",
            "full.py": FULL,
            "test_half.py": TESTS.format(package=""),
            "run_tests.py": RUN_TESTS.format(module="test_half"),
        },
        package=".",
        module="half",
        tests="test_*.py",
        script=("run_tests.py",),
        pytest=("test_half.py",),
    ),
    Layout(
        "src-by-path",
        {
            **_package("src/app"),
            **_tests("app.", init=False),
            "pytest.ini": "[pytest]\npythonpath = src\n",
        },
        code="src",
        package="src/app",
        path=("src",),
    ),
    Layout(
        "src-editable",
        {**_package("src/app"), **_tests("app.", init=False)},
        code="src",
        package="src/app",
        editable="src",
    ),
    Layout(
        "namespace",
        {
            "space/app/half.py": HALF,
            "space/app/never.py": NEVER,
            "space/app/full.py": FULL,
            "space/app/inner/__init__.py": "",
            "space/app/inner/deep.py": NEVER,
            **_tests("space.app.", init=False),
        },
        package="space/app",
        module="space.app",
    ),
    Layout(
        "two-packages",
        {
            **_package("app"),
            **_package("lib"),
            **_tests("app."),
            "tests/test_lib.py": TESTS.format(package="lib."),
            "tests/__main__.py": RUN_TESTS.format(module="tests.test_half")
            + "    import tests.test_lib\n",
        },
    ),
    Layout(
        "below",
        {
            **_package("backend/app"),
            **_tests("app.", "backend/tests", "backend.tests.test_half"),
            "tools/never.py": NEVER,
            "backend/conftest.py": "",
        },
        code="backend",
        package="backend/app",
        tests="backend/tests/*",
        script=("-m", "backend.tests"),
        pytest=("backend/tests",),
        path=("backend",),
    ),
    Layout(
        "tests-inside",
        {**_package("app"), **_tests("app.", "app/tests", "app.tests.test_half")},
        tests="app/tests/*",
        script=("-m", "app.tests"),
        pytest=("app/tests",),
    ),
    Layout(
        "script",
        {
            "app.py": RUN_TESTS.format(module="test_all"),
            "half.py": HALF,
            "never.py": NEVER,
            "full.py": FULL,
            "test_all.py": TESTS.format(package=""),
        },
        package=".",
        module="half",
        tests="test_*.py",
        script=("app.py",),
        pytest=("test_all.py",),
    ),
    Layout(
        "children",
        {
            **_package("app"),
            "app/__main__.py": CHILD,
            **_more_tests(TESTS_WITH_CHILDREN, "test_children"),
        },
        children=True,
    ),
    Layout(
        "workers",
        {**_package("app"), **_more_tests(TESTS_WITH_WORKERS, "test_workers")},
        children=True,
    ),
)
# Where code is what its place does not tell, or runs where nobody looks.
ODD_LAYOUTS: Final = (
    Layout("moves", {**_package("app"), **_more_tests(TESTS_THAT_MOVE, "test_moves")}),
    Layout(
        "threads",
        {**_package("app"), **_more_tests(TESTS_WITH_THREADS, "test_threads")},
        threads=True,
    ),
    Layout(
        "installed",
        {**_package("src/shop"), **_tests("shop.", init=False)},
        code="src",
        package="src/shop",
        module="shop",
        installed=True,
    ),
    Layout(
        "links",
        {
            **_package("packages/app"),
            **_tests("app."),
            "shared/never.py": NEVER,
            "shared/full.py": FULL,
        },
        links={
            "app": "packages/app",
            "packages/app/linked.py": "full.py",
            "packages/app/out.py": "../../shared/full.py",
        },
    ),
    Layout(
        "odd-files",
        {
            **_package("app"),
            **_tests("app."),
            "app/half.py": HALF.replace("Half of it", "Ein schönes Stück"),
            "app/latin.py": "# coding: latin-1\nNAME = 'Jürgen'\n",
            "app/windows.py": "def one():\r\n    return 1\r\n",
            "app/open-end.py": "if True:\n    x = 1",
            "app/page.py": "def one():\n    return 1\n\x0c\nx = 1\n",
            "app/only_comment.py": "# nothing\n",
            "app/data.txt": "x = 1\n",
            "app/no_package/inner.py": NEVER,
            "app/über.py": NEVER,
            "setup.py": NEVER,
        },
    ),
)
