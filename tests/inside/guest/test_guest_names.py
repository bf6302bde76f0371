"""The check that a guest calls nothing by a name that can be replaced: it finds what is planted."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any, Final

import pytest

RULE: Final[dict[str, Any]] = runpy.run_path(str(Path(__file__).parents[3] / "dev/guest_names.py"))
SOURCES: Final = Path(__file__).parents[3] / "src/hcoverage/_inside"
BOUND: Final = "__builtins__ = {**__builtins__}\n"


@pytest.mark.parametrize("name", RULE["AT_START"])
def test_our_guests_keep_to_it(name: str) -> None:
    assert RULE["check"]((SOURCES / name).read_text(encoding="utf-8"), name) == []


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("import os\n" + BOUND + "def f():\n    os.getpid()\n", "os.getpid is looked up"),
        (
            "import sys\n" + BOUND + "def f():\n    return sys._getframe\n",
            "sys._getframe is looked",
        ),
        (
            "from os.path import join\n"
            + BOUND
            + "class C:\n    def f(self):\n        join('a')\n",
            "join calls others",
        ),
        (BOUND + "def f():\n    import os\n", "imports after"),
        (BOUND + "def f():\n    def g():\n        from os import open\n", "imports after"),
        (BOUND + "def f():\n    __import__('os')\n", "imports after"),
        ("def f():\n    return len([])\n", "builtins are not bound"),
        ("def f():\n    pass\n" + BOUND, "builtins are not bound"),
    ],
)
def test_planted_offences_are_found(text: str, what: str) -> None:
    (found,) = RULE["check"](text, "planted.py")
    assert what in found


def test_what_is_defined_at_the_start_and_runs_later_is_looked_at() -> None:
    text = (
        "import os\n" + BOUND + "def start():\n    os.getpid()\n"
        "    def later():\n        os.getppid()\n    return later, lambda: os.uname()\n"
    )
    found = RULE["check"](text, "startup.py")
    assert [line.split()[1] for line in found] == ["os.getppid", "os.uname"]


def test_what_is_bound_when_it_is_loaded_is_fine() -> None:
    text = (
        "from posix import getpid\nimport sys\n"
        + BOUND
        + "def f():\n    return getpid(), sys.path\n"
    )
    assert RULE["check"](text, "fine.py") == []
