"""Tells which Pythons install or build packages, so that nobody misses their data.

pip, virtualenv, tox, nox, hatch, poetry, pdm and uv start Pythons in environments of their own, out
of reach of a run, in nearly every run that uses them. They run their own code only. A build is
apart: it runs code of the project where that has a build script, such as `setup.py`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from hcoverage._watch.command_line import command_line

if TYPE_CHECKING:
    from collections.abc import Sequence

# What setuptools, hatchling and pdm-backend run of a project.
BUILD_SCRIPTS: Final = frozenset({"setup.py", "hatch_build.py", "pdm_build.py"})

_MODULES: Final = frozenset({"pip", "ensurepip"})
# How virtualenv and ensurepip start pip, and how uv asks an interpreter what it is.
_CODE: Final = (
    r"""runpy\.run_module\(["']pip["']|\bfrom python\.get_interpreter_info import main\b"""
)
# pip, also as it starts itself again; and how virtualenv and pdm ask an interpreter what it is.
_SCRIPTS: Final = (
    r"(.*/)?(pip[0-9.]*|pip/__main__\.py|__pip-runner__\.py)"
    r"|.*/_?py_info\.py|.*/pdm/models/in_process/\w+\.py"
)
# How poetry asks an interpreter what it is, before the code, and so does findpython.
_QUERIES: Final = (("-I", "-W", "ignore", "-c"), ("-EsSc",))
# How pip and build, and tox, call a build backend.
_BACKENDS: Final = r".*/pyproject_hooks/_in_process/_in_process\.py|.*/pyproject_api/_backend\.py"


def installs(argv: Sequence[str]) -> bool:
    """Return whether a Python, by its command line, installs packages or asks where to."""
    python = command_line(argv)
    if "m" in python.options:
        return python.main in _MODULES
    if "c" in python.options:
        asks = any(tuple(argv[1 : 1 + len(query)]) == query for query in _QUERIES)
        return asks or bool(re.search(_CODE, python.main))
    return bool(re.fullmatch(_SCRIPTS, python.main))


def builds(argv: Sequence[str]) -> bool:
    """Return whether a Python, by its command line, calls a build backend."""
    return bool(re.fullmatch(_BACKENDS, command_line(argv).main))
