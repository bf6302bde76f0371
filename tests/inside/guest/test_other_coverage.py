"""A program may have a module by the name of coverage.py: it gets its own, at the usual time."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import pytest

from hcoverage._data_directory.notes import problems

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.inside.guest.conftest import Guests

PROGRAM: Final = "print('begun')\nimport coverage\nprint(coverage.__file__)\n"
OWN: Final = "print('imported')\n"
WAYS: Final = [
    # The module, the program, the command, PYTHONPATH.
    ("tools/coverage.py", "tools/app.py", ["tools/app.py"], ""),
    ("tools/coverage/__init__.py", "tools/app.py", ["-W", "ignore", "tools/app.py", "-c"], ""),
    ("tools/coverage.py", "tools/__main__.py", ["-u", "tools"], ""),
    ("coverage.py", "app.py", ["-Wignore", "-um", "app"], ""),
    ("lib/coverage.py", "app.py", ["app.py"], "lib"),
]


@pytest.mark.parametrize(("module", "program", "command", "path"), WAYS)
def test_a_program_that_has_one_is_left_alone_and_that_is_told(
    covered: Guests, module: str, program: str, command: Sequence[str], path: str
) -> None:
    covered.write(module, OWN)
    covered.write(program, PROGRAM)
    for environment in (covered.bare, covered.measured):
        _extend(environment, path)
    bare, measured = covered.both(*command)
    assert measured == bare
    assert bare.out.startswith("begun\nimported\n")
    (problem,) = problems(covered.data)
    assert f"own module {covered.project / module} has the name of coverage.py" in problem


@pytest.mark.parametrize("command", [["app.py"], ["-I", "tools/app.py"], ["-c", "import app"]])
def test_one_that_the_program_does_not_import_and_a_directory_do_no_harm(
    covered: Guests, command: Sequence[str]
) -> None:
    """As of reports: `coverage/index.html`."""
    covered.write("coverage/index.html", "")
    covered.write("tools/coverage.py", OWN)
    for file in ("app.py", "tools/app.py"):
        covered.write(file, "print('ran')\n")
    for environment in (covered.bare, covered.measured):
        _extend(environment, ".")
    bare, measured = covered.both(*command)
    assert measured == bare
    assert not problems(covered.data)
    assert [*covered.data.glob(".coverage.*"), *covered.data.glob("*.hcrec")]


def _extend(environment: dict[str, str], path: str) -> None:
    # As in containers: without them coverage.py's own hook, if there is one, leaves it to us.
    for name in ("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG"):
        environment.pop(name, None)
    entries = [environment.get("PYTHONPATH", ""), path]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, entries))
