"""Data types for what is known of an earlier run, and of the project."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hcoverage._affected.blocks import Shape

# In place of a test, for what ran outside of tests: at import, during collection, in a hook.
NO_TEST: Final = ""
PASSED: Final = "passed"
NOT_RUN: Final = "not run"
# It was deselected (`-k`, `--hcov-affected`): what was known of it before still holds.
LEFT_OUT: Final = "left out"
# For a file, as if it were a test: its tests are not known.
NOT_COLLECTED: Final = "not collected"


@dataclasses.dataclass(frozen=True)
class FileFacts:
    """A file at one time.

    Attributes:
        digest: A hash of its content; empty if it changed while tests ran.
        shape: The parts of a Python source; None for other files, and if it cannot be compiled.
        manner: Whether it may be executed, and for a link where that leads.
    """

    digest: str
    shape: Shape | None = None
    manner: str = ""


@dataclasses.dataclass(frozen=True)
class ProjectState:
    """The project, and what its tests run with, at one time.

    Attributes:
        environment: What the tests run with, by name: Python, the system, each distribution.
        files: The files of the project, and others that were measured, by path.
    """

    environment: Mapping[str, str]
    files: Mapping[str, FileFacts]


@dataclasses.dataclass(frozen=True)
class KnownTest:
    """A test of an earlier run.

    Attributes:
        file: The path of its file.
        outcome: `PASSED`, or another word for its outcome.
        opened: The paths of the files that it opened.
        went_outside: Whether it started a process, or talked to one.
        seen_outside: Whether another process than pytest's was measured for it.
        shares: The tests that set up fixtures, or wrote files, which it uses.
    """

    file: str
    outcome: str = PASSED
    opened: frozenset[str] = frozenset()
    went_outside: bool = False
    seen_outside: bool = True
    shares: frozenset[str] = frozenset()


@dataclasses.dataclass(frozen=True)
class EarlierRun:
    """A run whose tests may not be needed again.

    Attributes:
        began: When it began, in words.
        state: The project, as it was during all of the run.
        tests: Its tests, by node id.
        ran: For each measured file, by test or `NO_TEST`, the lines that ran: bit n for line n.
        opened: The files that were opened outside of tests.
        doubt: Why this is incomplete; empty if it is complete.
        went_outside: Whether a process was started, or talked to, outside of tests.
    """

    began: str
    state: ProjectState
    tests: Mapping[str, KnownTest]
    ran: Mapping[str, Mapping[str, int]]
    opened: frozenset[str] = frozenset()
    doubt: str = ""
    went_outside: bool = False
