"""What is known of an earlier run, and of the project now: facts, without what follows of them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hcoverage._affected.blocks import Shape

# What ran, or opened a file, for no test: at import, in collecting, in a hook.
NO_TEST: Final = ""
PASSED: Final = "passed"
NOT_RUN: Final = "not run"
# Somebody chose other tests (`-k`, `--hcov-affected`): what was known of it before still holds.
LEFT_OUT: Final = "left out"
# Of a file, as if it were a test: nobody knows which tests are in it.
NOT_COLLECTED: Final = "not collected"


@dataclasses.dataclass(frozen=True)
class FileFacts:
    """A file at one time.

    Attributes:
        digest: Tells its content from another; empty where it changed while tests ran.
        shape: What is in it, of a Python source; None for others and for what does not parse.
    """

    digest: str
    shape: Shape | None = None


@dataclasses.dataclass(frozen=True)
class ProjectState:
    """The project, and what its tests run with, at one time.

    Attributes:
        environment: What the tests run with, by what to call it: Python, each distribution.
        files: The files of the project, and those beside it that were measured, by path.
    """

    environment: Mapping[str, str]
    files: Mapping[str, FileFacts]


@dataclasses.dataclass(frozen=True)
class KnownTest:
    """A test of an earlier run.

    Attributes:
        file: The path of the file that it is in.
        outcome: `PASSED`, or another word for what became of it.
        opened: The paths of the files that it opened.
        went_outside: Whether it started a process, or talked to one.
        seen_outside: Whether a process that is not pytest's was measured for it.
        shares: The tests in which fixtures were set up that it uses.
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
        began: When, for a person.
        state: The project, as it was for all of the run.
        tests: The tests that were there, by node id.
        ran: For each measured file the lines that ran, bit n for line n, by test, `NO_TEST` too.
        opened: The files that were opened for no test.
        doubt: Why what it tells is not all there is; empty if it is.
    """

    began: str
    state: ProjectState
    tests: Mapping[str, KnownTest]
    ran: Mapping[str, Mapping[str, int]]
    opened: frozenset[str] = frozenset()
    doubt: str = ""
