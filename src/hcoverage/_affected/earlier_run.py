"""Makes a record of a run for later ones, from its merged data with contexts and pytest's notes."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import functools
import os
import re
import sqlite3
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hcoverage._affected.facts import (
    LEFT_OUT,
    NO_TEST,
    NOT_RUN,
    EarlierRun,
    FileFacts,
    KnownTest,
    ProjectState,
)
from hcoverage._affected.notes import merged_tests, read_notes
from hcoverage._affected.project_state import look_at_files
from hcoverage._affected.record import KnownRun, TestRecordError, add_run, read_record
from hcoverage._read.origins import place_of
from hcoverage._session.context_file import context_of
from hcoverage._settings.environment import SESSION_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping

    from hcoverage._result.outcome import CombineResult
    from hcoverage._session.session import Session


_INSTALLED: Final = r"(^|/)(site-packages|dist-packages|\.git|lib(64)?/python3\.\d+t?)/"


def record_tests(
    session: Session, result: CombineResult, root: Path, *, is_blind: bool
) -> Path | None:
    """Write a record of a run's tests, if it had contexts.

    Args:
        session: The session, still open.
        result: What its combine did.
        root: The project's directory, in which the session began.
        is_blind: Whether something ran that was not measured.

    Returns:
        The record's path; None if no pytest in this directory has noted anything.

    Raises:
        OSError: It cannot be written.
    """
    notes = read_notes(Path(session.environment[SESSION_VARIABLE]))
    states = (each.state for each in notes if each.state and each.root == str(root))
    began = next(states, None)
    if began is None:
        return None
    static = session.rcfile.settings.context or ""
    noted = merged_tests(notes)
    collected = _inside({path for each in notes for path in each.collected}, root)
    before: list[KnownRun] = []
    with contextlib.suppress(TestRecordError):
        before = [_still_there(each, noted, collected) for each in read_record(session.data_file)]
    tests = _without_left_out(noted, before)
    pids = {each.pid for each in notes}
    outside = _seen(result, pids, static)
    seen = set() if is_blind or _is_blind(result, pids, static) else outside
    tests = {
        name: dataclasses.replace(
            _relative(test, root),
            # A pool of processes that an earlier test started works for this one, too.
            went_outside=test.went_outside or context_of(name) in outside,
            seen_outside=context_of(name) in seen,
        )
        for name, test in tests.items()
    }
    ran = lines_by_test(result.data_file, tests, root, static)
    known = {path: facts for each in before for path, facts in each.run.state.files.items()}
    read = {path for each in notes for path in each.opened} | {str(session.rcfile.path or root)}
    opened = _not_installed(_inside(read, root))
    loaded = _not_installed(_inside({path for each in notes for path in each.loaded}, root))
    state = _unchanged(began, root, _beside(ran, tests, opened | loaded), session.began, known)
    run = EarlierRun(
        began=dt.datetime.now().astimezone().isoformat(" ", "seconds"),
        state=state,
        tests={name: _reading(test, state) for name, test in tests.items()},
        ran=ran,
        opened=opened,
        doubt=_doubt(result, state),
        went_outside=any(each.went_outside for each in notes),
    )
    return add_run(session.data_file, run, before)


def _still_there(known: KnownRun, noted: Container[str], collected: Container[str]) -> KnownRun:
    """Leave out tests that are gone from files that were collected."""
    tests = known.run.tests
    latest = (name for name in known.latest if name in noted or tests[name].file not in collected)
    return KnownRun(known.run, frozenset(latest))


def _without_left_out(
    tests: Mapping[str, KnownTest], before: Iterable[KnownRun]
) -> dict[str, KnownTest]:
    """Leave out the tests that were deselected; but those never known before count as not run."""
    known = {name for each in before for name in each.latest}
    never = {
        name: dataclasses.replace(test, outcome=NOT_RUN)
        for name, test in tests.items()
        if test.outcome == LEFT_OUT and name not in known
    }
    return {name: test for name, test in tests.items() if test.outcome != LEFT_OUT} | never


def lines_by_test(
    data_file: Path, tests: Iterable[str], root: Path, static: str
) -> dict[str, dict[str, int]]:
    """Read which lines each test ran.

    Args:
        data_file: A merged data file of our own.
        tests: The node ids.
        root: The project's directory.
        static: The rcfile's own context.

    Returns:
        For each file, by its path from there, the lines by test: bit n for line n. Lines that ran
        for no test, or for an unknown one, are under `NO_TEST`.
    """
    names: dict[str, list[str]] = defaultdict(list)
    for name in tests:
        names[_in_data(context_of(name), static)].append(name)
    found: dict[str, dict[str, int]] = {}
    with contextlib.closing(sqlite3.connect(data_file)) as database:
        for path, context, lines in _lines(database):
            by_test = found.setdefault(_from(path, root), {})
            for name in names.get(context, [NO_TEST]):
                by_test[name] = by_test.get(name, 0) | lines
    return found


def _in_data(context: str, static: str) -> str:
    return "|".join(filter(None, [static, context]))


def _lines(database: sqlite3.Connection) -> Iterator[tuple[str, str, int]]:
    paths: dict[int, str] = dict(database.execute("SELECT id, path FROM file"))
    contexts: dict[int, str] = dict(database.execute("SELECT id, context FROM context"))
    for file, context, bits in database.execute(
        "SELECT file_id, context_id, numbits FROM line_bits"
    ):
        yield paths[file], contexts[context], int.from_bytes(bits, "little")
    query = "SELECT file_id, context_id, fromno, tono FROM arc ORDER BY file_id, context_id"
    current, lines = None, 0
    for file, context, one, other in database.execute(query):
        if current != (file, context):
            if current is not None:
                yield paths[current[0]], contexts[current[1]], lines
            current, lines = (file, context), 0
        for line in (one, other):
            if line > 0:
                lines |= 1 << line
    if current is not None:
        yield paths[current[0]], contexts[current[1]], lines


def _is_blind(result: CombineResult, pids: set[int], static: str) -> bool:
    """Return whether something ran for an unknown test, or is not the source that is here."""
    nobody = {"", static}
    return bool(
        result.unmapped
        or result.other_versions
        or result.attribution.mixed
        or result.unsaved
        or (result.saved and result.attribution.without_context)
        or any(
            process.contexts and process.contexts <= nobody and process.pid not in pids
            for process in result.recorded
        )
    )


def _seen(result: CombineResult, pids: set[int], static: str) -> set[str]:
    """Return the contexts that processes other than pytest's own had."""
    found: set[str] = set()
    for process in result.recorded:
        if process.pid not in pids or place_of(process.origin):
            found |= {context.removeprefix(f"{static}|") for context in process.contexts}
    return found - {""}


def _unchanged(
    began: ProjectState,
    root: Path,
    beside: Mapping[str, bool],
    since: int,
    known: Mapping[str, FileFacts],
) -> ProjectState:
    """Return the project as it was during all of the run; files that changed have no digest.

    Sources are split only now. When the run began only digests were taken, so that nobody has to
    wait for the tests.
    """
    now = look_at_files(root, beside, known)
    files: dict[str, FileFacts] = {}
    for path, facts in began.files.items():
        then = now.get(path, FileFacts(""))
        same = path in now and (then.digest, then.manner) == (facts.digest, facts.manner)
        files[path] = now[path] if same else FileFacts("")
    for path, is_source in beside.items():
        if path in now and path not in files:
            if (root / path).stat().st_mtime_ns < since:
                files[path] = now[path]
            elif is_source:
                files[path] = FileFacts("", now[path].shape)
    return ProjectState(began.environment, files)


def _doubt(result: CombineResult, state: ProjectState) -> str:
    """Return why a run's record is incomplete; empty if it is complete."""
    if result.set_aside or result.losses:
        return "the last run lost data, so it does not tell who ran what"
    # Their content during the run is lost, and so what it could call.
    changed = (path for path, facts in state.files.items() if facts == FileFacts(""))
    source = next((path for path in changed if path.endswith(".py")), None)
    return "" if source is None else f"{source} has changed while the last run's tests ran"


def _beside(
    ran: Mapping[str, object], tests: Mapping[str, KnownTest], outside: Iterable[str]
) -> dict[str, bool]:
    """Return the files to look at beside git's, and whether each was measured.

    They are generated sources, modules of the project that are not measured, and data that was
    opened in tests or outside of them.
    """
    opened = {path: False for test in tests.values() for path in test.opened}
    return {**opened, **dict.fromkeys(outside, False), **dict.fromkeys(ran, True)}


def _not_installed(paths: frozenset[str]) -> frozenset[str]:
    """Leave out what is known otherwise: installed packages by their versions, and git's own."""
    return frozenset(path for path in paths if not re.search(_INSTALLED, path))


def _reading(test: KnownTest, state: ProjectState) -> KnownTest:
    return dataclasses.replace(test, opened=test.opened & state.files.keys())


def _relative(test: KnownTest, root: Path) -> KnownTest:
    return dataclasses.replace(test, file=_from(test.file, root), opened=_inside(test.opened, root))


def _inside(paths: Iterable[str], root: Path) -> frozenset[str]:
    """Return those of some paths that are in the project's repository, relative to its directory.

    The project may be one of several in it, and they may have data and configuration in common.
    """
    above = _from(str(_repository(root)), root)
    outside = f"{above}/{os.pardir}" if above.startswith(os.pardir) else os.pardir
    relative = (_from(path, root) for path in paths)
    return frozenset(path for path in relative if not path.startswith((outside, os.sep)))


@functools.lru_cache(1)
def _repository(root: Path) -> Path:
    """Return the directory of git's repository; without one, the project's."""
    return next((each for each in (root, *root.parents) if (each / ".git").exists()), root)


@functools.lru_cache(1 << 16)  # asked for each file of each test
def _from(path: str, root: Path) -> str:
    """Return a path relative to the project's directory: the same in every checkout."""
    inside = path.removeprefix(f"{root}/")
    if inside != path and "/." not in path and "//" not in f"{path}/":
        return inside
    return os.path.relpath(root / path, root)
