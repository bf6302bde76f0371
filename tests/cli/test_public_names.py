"""The names that people import from hcoverage: all there, and loaded when one is wanted."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import hcoverage
import hdocker

if TYPE_CHECKING:
    from types import ModuleType


def names_that_mypy_reads(library: ModuleType) -> set[str]:
    tree = ast.parse(Path(str(library.__file__)).read_text(encoding="utf-8"))
    blocks = [node for node in tree.body if isinstance(node, ast.If)]
    imports = [node for node in blocks[0].body if isinstance(node, ast.ImportFrom)]
    ours = [node for node in imports if node.module != "typing"]
    return {alias.name for node in ours for alias in node.names}


@pytest.mark.parametrize("library", [hcoverage, hdocker])
def test_each_is_there(library: ModuleType) -> None:
    assert names_that_mypy_reads(library) == set(library._HOMES)
    for name in {*library.__all__, *library._HOMES}:
        assert getattr(library, name) is not None
    assert set(library.__all__) <= {*library._HOMES, "__version__"}
    assert set(library.__all__) <= set(dir(library))


def test_those_that_are_promised_are_few_and() -> None:
    assert len(hcoverage.__all__) <= 25
    assert hcoverage.__version__ == metadata.version("hcoverage")


def test_another_is_told_as_missing() -> None:
    asked = subprocess.run(
        [sys.executable, "-c", "import hcoverage; hcoverage.nothing"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "AttributeError: module 'hcoverage' has no attribute 'nothing'" in asked.stderr


@pytest.mark.parametrize("library", ["hcoverage", "hdocker"])
def test_importing_it_loads_none_of_them(library: str) -> None:
    said = subprocess.check_output(
        [
            sys.executable,
            "-c",
            "import sys; name = sys.argv[1] + '.'; __import__(name[:-1]); "  # noqa: ISC004
            "print(*(each for each in sys.modules if each.startswith(name)))",
            library,
        ],
        text=True,
        env=hcoverage.unmeasured_environment({}),
    )
    assert said.split() == []
