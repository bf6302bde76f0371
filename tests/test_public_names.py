"""The names that people import from hcoverage: all there, and loaded when one is wanted."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import hcoverage


def names_that_mypy_reads() -> set[str]:
    tree = ast.parse(Path(hcoverage.__file__).read_text(encoding="utf-8"))
    blocks = [node for node in tree.body if isinstance(node, ast.If)]
    imports = [node for node in blocks[0].body if isinstance(node, ast.ImportFrom)]
    return {alias.name for node in imports for alias in node.names}


def test_each_is_there() -> None:
    assert set(hcoverage.__all__) == names_that_mypy_reads() == set(hcoverage._HOMES)
    for name in hcoverage.__all__:
        assert getattr(hcoverage, name) is not None
    assert set(hcoverage.__all__) <= set(dir(hcoverage))


def test_another_is_told_as_missing() -> None:
    asked = subprocess.run(
        [sys.executable, "-c", "import hcoverage; hcoverage.nothing"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "AttributeError: module 'hcoverage' has no attribute 'nothing'" in asked.stderr


def test_importing_it_loads_none_of_them() -> None:
    said = subprocess.check_output(
        [
            sys.executable,
            "-c",
            "import hcoverage, sys; print(*(n for n in sys.modules if n.startswith('hcoverage.')))",
        ],
        text=True,
        env=hcoverage.unmeasured_environment({}),
    )
    assert said.split() == []
