"""Writes and reads pytest's notes on the tests of a run; its end makes a record of them.

The notes lie in the session's private directory, where no container and no other user writes.
"""

from __future__ import annotations

import dataclasses
import json
import os
from typing import TYPE_CHECKING, Any

from hcoverage._affected.facts import LEFT_OUT, NOT_RUN, PASSED, KnownTest, ProjectState
from hcoverage._affected.noted import PREFIX, notes_in
from hcoverage._affected.record import packed_state, unpacked_state
from hcoverage._atomic_write import write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Notes:
    """What one pytest knows of its tests.

    Attributes:
        pid: Its process id.
        tests: The tests, by node id; paths are absolute.
        opened: The files that were opened outside of tests.
        loaded: The files of the modules that were imported.
        went_outside: Whether a process was started, or talked to, outside of tests.
        collected: The files whose tests are all among them; paths are absolute.
        state: The project when it began; None in pytest-xdist's workers.
        root: The project's directory.
    """

    pid: int
    tests: dict[str, KnownTest]
    opened: frozenset[str] = frozenset()
    collected: frozenset[str] = frozenset()
    state: ProjectState | None = None
    root: str = ""
    loaded: frozenset[str] = frozenset()
    went_outside: bool = False


def write_notes(directory: Path, notes: Notes) -> None:
    """Write notes into the session's private directory.

    Raises:
        OSError: They cannot be written.
    """
    content = {
        "pid": notes.pid,
        "root": notes.root,
        "opened": sorted(notes.opened),
        "loaded": sorted(notes.loaded),
        "outside": notes.went_outside,
        "collected": sorted(notes.collected),
        "state": None if notes.state is None else packed_state(notes.state),
        "tests": {name: _packed(test) for name, test in notes.tests.items()},
    }
    write_atomically(directory / f"{PREFIX}{os.urandom(6).hex()}", json.dumps(content))


def read_notes(directory: Path) -> list[Notes]:
    """Read all notes of a session.

    Raises:
        OSError: They cannot be read.
    """
    return [_notes(json.loads(path.read_bytes())) for path in notes_in(directory)]


def _packed(test: KnownTest) -> list[Any]:
    return [test.file, test.outcome, sorted(test.opened), test.went_outside, sorted(test.shares)]


def _notes(content: Any) -> Notes:  # noqa: ANN401 - JSON
    tests = {
        name: KnownTest(file, outcome, frozenset(opened), outside, True, frozenset(shares))  # noqa: FBT003
        for name, (file, outcome, opened, outside, shares) in content["tests"].items()
    }
    state = content["state"]
    return Notes(
        content["pid"],
        tests,
        frozenset(content["opened"]),
        frozenset(content["collected"]),
        None if state is None else unpacked_state(state),
        content["root"],
        frozenset(content["loaded"]),
        content["outside"],
    )


def merged_tests(all_notes: Iterable[Notes]) -> dict[str, KnownTest]:
    """Merge the tests of several notes; one that ran twice has passed if it did both times."""
    found: dict[str, KnownTest] = {}
    for notes in all_notes:
        for name, test in notes.tests.items():
            before = found.get(name)
            found[name] = test if before is None else _both(before, test)
    return found


def _both(one: KnownTest, other: KnownTest) -> KnownTest:
    # Each worker of pytest-xdist collects all tests, but runs only some.
    for less in (LEFT_OUT, NOT_RUN):
        if less in (one.outcome, other.outcome):
            return other if one.outcome == less else one
    return dataclasses.replace(
        one,
        outcome=one.outcome if one.outcome != PASSED else other.outcome,
        opened=one.opened | other.opened,
        went_outside=one.went_outside or other.went_outside,
        shares=one.shares | other.shares,
    )
