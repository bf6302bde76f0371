"""Decides which tests are needed, from the records of all earlier runs."""

from __future__ import annotations

import dataclasses
import fnmatch
from typing import TYPE_CHECKING, Final

from hcoverage._affected.changes import Change, Kind, changes
from hcoverage._affected.facts import NOT_COLLECTED
from hcoverage._affected.naming import mentioned_files, namers
from hcoverage._affected.needs import TEST_FILES, needs
from hcoverage._affected.project_state import (
    facts_of,
    git,
    is_repository,
    look_at_project,
)
from hcoverage._affected.record import TestRecordError, read_record, record_path
from hcoverage._errors import HcoverageError

if TYPE_CHECKING:
    from collections.abc import Container, Mapping
    from pathlib import Path

    from hcoverage._affected.facts import FileFacts, ProjectState
    from hcoverage._affected.record import KnownRun

# Compared only in pytest itself, which knows its options.
PYTEST_OPTIONS: Final = "pytest's options"


class RevisionError(HcoverageError):
    """It is not known what has changed since a revision."""


@dataclasses.dataclass(frozen=True)
class Decision:
    """Which tests are needed, and why.

    Attributes:
        everything: The reasons why all tests are needed.
        tests: For node ids of tests, the reasons why they are needed.
        files: For paths of files, the reasons why all their tests are needed.
        known: The path of the file of each known test, by node id.
        began: When the last run began, in words; empty if none is known.
    """

    everything: tuple[str, ...]
    tests: Mapping[str, tuple[str, ...]]
    files: Mapping[str, tuple[str, ...]]
    known: Mapping[str, str]
    began: str = ""

    def reasons(self, test: str, path: str) -> tuple[str, ...]:
        """Return why a test is needed; empty if it is not.

        Args:
            test: Its node id.
            path: The path of its file, from the project's directory.
        """
        new = () if test in self.known else ("no earlier run is known to have had it",)
        return (*self.everything, *self.files.get(path, ()), *self.tests.get(test, ()), *new)

    def needed(self) -> list[str]:
        """Return arguments for pytest: node ids, and paths of files whose tests are all needed.

        Unknown tests are in those files, or pytest itself finds them.
        """
        if self.everything:
            return sorted({*self.known.values(), *self.files})
        tests = (name for name in self.tests if self.known.get(name) not in self.files)
        return sorted({*self.files, *tests})

    def count(self) -> int:
        """Count the known tests that are needed."""
        return sum(bool(self.reasons(test, path)) for test, path in self.known.items())


def decide(
    root: Path,
    data_file: Path,
    since: str | None = None,
    options: str | None = None,
) -> Decision:
    """Decide which tests are needed because of what has changed since they last ran.

    Args:
        root: The project's directory.
        data_file: The merged data file of the earlier runs.
        since: A revision of git; what has changed since the branch left it counts, too.
        options: The options of pytest now; None if they are not known.

    Raises:
        RevisionError: There is no such revision, or no git.
        OSError: The record cannot be read.
    """
    try:
        runs = read_record(data_file)
    except TestRecordError as error:
        return _all_new(str(error), root)
    if not runs:
        return _all_new(f"no earlier run is known: there is no {record_path(data_file)}", root)
    known_files = {path: facts for each in runs for path, facts in each.run.state.files.items()}
    now = look_at_project(root, known_files, known_files)
    if options is not None:
        now = dataclasses.replace(now, environment={**now.environment, PYTEST_OPTIONS: options})
    also = [] if since is None else changes_since(root, since, now)
    known_somewhere = {path for each in runs for path in _files_of(each)}
    found = [_of_run(each, now, root, also, known_somewhere) for each in runs]
    everything = dict.fromkeys(reason for one in found for reason in one.everything)
    return Decision(
        tuple(everything),
        {name: why for one in found for name, why in one.tests.items()},
        {path: why for one in found for path, why in one.files.items()},
        {name: path for one in found for name, path in one.known.items()},
        max(each.run.began for each in runs),
    )


def _all_new(reason: str, root: Path) -> Decision:
    files = look_at_project(root).files
    return Decision((reason,), {}, {path: (reason,) for path in files if _is_test(path)}, {})


def _is_test(path: str) -> bool:
    return any(fnmatch.fnmatch(path.rpartition("/")[2], each) for each in TEST_FILES)


def _files_of(known: KnownRun) -> set[str]:
    """Return the files of the tests whose last run this is."""
    return {known.run.tests[name].file for name in known.latest}


def _of_run(
    known: KnownRun,
    now: ProjectState,
    root: Path,
    also: list[Change],
    known_somewhere: Container[str],
) -> Decision:
    """Decide for the tests whose last run this is."""
    run = known.run
    if PYTEST_OPTIONS not in now.environment:
        before = {
            name: what for name, what in run.state.environment.items() if name != PYTEST_OPTIONS
        }
        run = dataclasses.replace(run, state=dataclasses.replace(run.state, environment=before))
    files = {test.file for test in run.tests.values()}
    found_changes = (*changes(run.state.files, now.files), *also)
    changed = {change.path for change in found_changes}
    data = {change.path for change in found_changes if change.kind is Kind.CONTENT}
    named = {path: namers(root, path, now.files) for path in data}
    mentioned = mentioned_files(root, sorted(files), now.files) if changed else frozenset()
    found = needs(run, now, mentioned, also, named)
    existing = {
        name: run.tests[name].file
        for name in known.latest
        if run.tests[name].file in now.files and run.tests[name].outcome != NOT_COLLECTED
    }
    tests = {name: why for name, why in found.tests.items() if name in existing}
    # If the tests of a file have run since, a later run decides about them.
    mine = _files_of(known)
    whole = {
        path: why
        for path, why in found.files.items()
        if path in mine or path not in known_somewhere
    }
    return Decision(found.everything, tests, whole, existing)


def changes_since(root: Path, revision: str, now: ProjectState) -> list[Change]:
    """Return what has changed since a branch left a revision, committed or not.

    Args:
        root: The project's directory.
        revision: The revision.
        now: The project as it is now.

    Raises:
        RevisionError: There is no such revision, or no git.
    """
    base = merge_base(root, revision)
    listed = git(root, "diff", "--name-only", "-z", "--no-renames", "--relative", base, "--")
    others = git(root, "ls-files", "-z", "--others", "--exclude-standard")
    if listed is None or others is None:
        raise RevisionError(f"git cannot tell what has changed since {revision}")
    paths = {name.decode(errors="surrogateescape") for name in (listed + others).split(b"\0")}
    before: dict[str, FileFacts] = {}
    for path in paths - {""}:
        content = git(root, "show", f"{base}:./{path}")
        if content is not None:
            is_source = path in now.files and now.files[path].shape is not None
            before[path] = facts_of(content, is_source=is_source or path.endswith(".py"))
    after = {path: facts for path, facts in now.files.items() if path in paths}
    # git has only the content; and a file that it lists, but whose content is the same, has changed
    # otherwise. Of a submodule it lists only the directory.
    same = [path for path in before if path in after and before[path].digest == after[path].digest]
    found = [Change(path, Kind.MANNER) for path in same]
    found += [Change(path, Kind.CONTENT) for path in paths - {""} if is_repository(root / path)]
    before = {
        path: dataclasses.replace(facts, manner=after[path].manner) if path in after else facts
        for path, facts in before.items()
    }
    return [*found, *changes(before, after)]


def merge_base(root: Path, revision: str) -> str:
    """Return the commit at which the current branch left a revision.

    Raises:
        RevisionError: There is no such revision, or no git.
    """
    if revision.startswith("-"):
        raise RevisionError(f"no such revision: {revision}")
    found = git(root, "merge-base", revision, "HEAD")
    if not found:
        raise RevisionError(
            f"git knows no {revision}, or nothing that it has in common with what is here: "
            "a shallow clone needs `git fetch --unshallow`"
        )
    return found.decode().strip()
