"""Notes what `hcov affected` needs to know of each test, beside the lines that it ran.

That is its outcome, the files that it opened in this process, whether it started a process or
talked to one, and which tests set up its fixtures. The interpreter's audit events show opened files
and started processes. What other processes and C code open is not seen.
"""

from __future__ import annotations

import dataclasses
import os
import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

import hcoverage

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

_OUTSIDE: Final = frozenset(
    [
        "os.exec",
        "os.fork",
        "os.forkpty",
        "os.posix_spawn",
        "os.spawn",
        "os.startfile",
        "os.system",
        "pty.spawn",
        "socket.connect",
        "socket.sendmsg",
        "socket.sendto",
        "subprocess.Popen",
    ]
)
# Options of pytest and its common plugins that change no test: what is shown, which tests run, in
# which order, in which processes.
_NEUTRAL: Final = (
    r"-([vqxl]+|[klmnr].*|(-(hcov|no-hcov|cov|no-cov|tb|maxfail|exitfirst|lf|last-failed|ff|nf|sw|"
    r"dist|tx|numprocesses|maxprocesses|durations|color|verbose|quiet|no-header|no-summary|junit|"
    r"show-capture|ignore|ignore-glob|deselect|collect-only|co|stepwise|failed-first|new-first|"
    r"basetemp|cache-clear|code-highlight|force-short-summary|rootdir|reruns)([-=].*)?))$"
)
_NARROW: Final = "function"
_SKIPPED: Final = "skipped"
_FAILED: Final = "failed"
_INTERRUPTED: Final = "interrupted"
# The outcome of a test is that of its worst phase. If the last phase is missing, the test was
# interrupted: by Ctrl-C, or by the end of its process.
_RANK: Final = (hcoverage.PASSED, _SKIPPED, _FAILED)
_LAST_PHASE: Final = "teardown"


def note_tests(config: pytest.Config, *, with_state: bool) -> None:
    """Note the outcomes of the tests that this process runs.

    Args:
        config: pytest's configuration, as far as it is known yet.
        with_state: Whether to note the state of the project; once in a run is enough.
    """
    notes = _TestNotes(config, _state(config) if with_state else None)
    config.pluginmanager.register(notes, "hcov-test-notes")


def _state(config: pytest.Config) -> hcoverage.ProjectState:
    state = hcoverage.look_at_project(Path.cwd(), split=False)
    environment = {**state.environment, hcoverage.PYTEST_OPTIONS: options_of(config)}
    return dataclasses.replace(state, environment=environment)


def options_of(config: pytest.Config) -> str:
    """Return the options that may change what tests do: all except those that surely do not."""
    given = list(map(str, config.invocation_params.args))
    found = []
    for option, following in zip(given, [*given[1:], ""], strict=True):
        if option.startswith("-") and not re.match(_NEUTRAL, option):
            is_value = following and not following.startswith("-")
            is_value = is_value and not Path(following.partition("::")[0]).exists()
            found.append(f"{option} {following}" if is_value else option)
    return " ".join([*sorted(found), *_options_of_python()])


def _options_of_python() -> list[str]:
    """Return Python's own options that may change what tests do, as `-X dev` and `-W error`."""
    # `-s`, `-P` and `-E` tell only where to import from.
    changing = ("bytes_warning", "dev_mode", "optimize", "utf8_mode")
    flags = [f"{name}={getattr(sys.flags, name)}" for name in changing if getattr(sys.flags, name)]
    return [*flags, *(f"-W{each}" for each in sys.warnoptions)]


class _TestNotes:
    """The notes of one process."""

    def __init__(self, config: pytest.Config, state: hcoverage.ProjectState | None) -> None:
        self._config = config
        self._directory = Path(os.environ[hcoverage.SESSION_VARIABLE])
        self._owner = os.getpid()
        self._state = state
        self._root = str(Path.cwd())
        self._files: dict[str, str] = {}
        self._outcomes: dict[str, str] = {}
        self._ended: set[str] = set()
        self._left_out: set[str] = set()
        self._collected: frozenset[str] = frozenset()
        self._is_for_workers = False
        self._fixtures: dict[str, set[int]] = {}
        self._made: dict[int, tuple[object, set[str]]] = {}
        self._seen = _Audited()
        # pytest has read it already.
        self._seen.opened[""].update(map(str, filter(None, [config.inipath])))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> Generator[None]:
        """Note all tests, before some are deselected."""
        for item in items:
            self._files[item.nodeid] = str(item.path)
        self._collected = self._wholly_collected()
        return (yield)

    def pytest_deselected(self, items: list[pytest.Item]) -> None:
        """Note which tests are deselected: what was known of them still holds."""
        self._left_out.update(item.nodeid for item in items)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note what cannot be collected: its tests are not known."""
        if report.failed and report.nodeid:
            self._files[report.nodeid] = self._path_of(report.nodeid)
            self._outcomes[report.nodeid] = hcoverage.NOT_COLLECTED

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        """Note the tests of pytest-xdist's workers, which may crash before they write notes."""
        self._is_for_workers = True
        for name in ids:
            self._files.setdefault(name, self._path_of(name))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(
        self, item: pytest.Item, nextitem: pytest.Item | None
    ) -> Generator[None, object, object]:
        """Attribute what is opened and started to this test, until the next one."""
        self._files.setdefault(item.nodeid, str(item.path))
        self._seen.test = item.nodeid
        self._ended.discard(item.nodeid)
        self._outcomes.setdefault(item.nodeid, hcoverage.PASSED)
        try:
            return (yield)
        finally:
            if nextitem is None:
                self._seen.test = ""

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Generator[None, object, object]:  # noqa: ANN401 - private
        """Note in which test a fixture is set up that others may use."""
        if fixturedef.scope != _NARROW:
            _, tests = self._made.setdefault(id(fixturedef), (fixturedef, set()))
            tests.add(self._seen.test or "")
        return (yield)

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> None:
        """Note which fixtures a test has used."""
        used = getattr(getattr(item, "_request", None), "_fixture_defs", None)
        # If they are not known, all count.
        mine = set(self._made) if used is None else set(map(id, used.values()))
        self._fixtures[item.nodeid] = mine & self._made.keys()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note the outcome of a test."""
        passed = report.passed or (report.skipped and hasattr(report, "wasxfail"))
        outcome = hcoverage.PASSED if passed else _SKIPPED if report.skipped else _FAILED
        before = self._outcomes.get(report.nodeid, hcoverage.PASSED)
        self._outcomes[report.nodeid] = max(before, outcome, key=_RANK.index)
        if report.when == _LAST_PHASE:
            self._ended.add(report.nodeid)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        """Write the notes."""
        if os.getpid() != self._owner:
            return
        self._seen.test = None
        tests = {name: self._known(name, file) for name, file in self._files.items()}
        opened = frozenset(self._seen.opened.get("", ()))
        files = (getattr(module, "__file__", None) for module in [*sys.modules.values()])
        notes = hcoverage.Notes(
            self._owner,
            tests,
            opened,
            self._collected,
            self._state,
            self._root,
            frozenset(file for file in files if isinstance(file, str)),
            # pytest-xdist's controller talks to its workers.
            went_outside="" in self._seen.outside and not self._is_for_workers,
        )
        hcoverage.write_notes(self._directory, notes)

    def _known(self, name: str, file: str) -> hcoverage.KnownTest:
        makers = (self._made[fixture][1] for fixture in self._fixtures.get(name, ()))
        return hcoverage.KnownTest(
            file,
            self._outcome(name),
            frozenset(self._seen.opened.get(name, ())),
            went_outside=name in self._seen.outside,
            shares=frozenset(self._seen.found.get(name, ())).union(*makers) - {"", name},
        )

    def _outcome(self, name: str) -> str:
        if name in self._left_out or self._config.option.collectonly:
            return hcoverage.LEFT_OUT
        outcome = self._outcomes.get(name, hcoverage.NOT_RUN)
        if outcome != hcoverage.PASSED:
            return outcome
        if self._is_for_workers:  # Only a worker's notes tell what its tests depend on.
            return hcoverage.NOT_RUN
        return outcome if name in self._ended else _INTERRUPTED

    def _path_of(self, name: str) -> str:
        return str(self._config.rootpath / name.partition("::")[0])

    def _wholly_collected(self) -> frozenset[str]:
        """Return the files whose tests are all known now: any other test of theirs is gone."""
        option = self._config.option
        if getattr(option, "lf", False):  # `--lf` deselects tests during collection already.
            return frozenset()
        start = self._config.invocation_params.dir
        chosen = (str(each).partition("::") for each in self._config.args)
        in_part = {os.path.realpath(start / path) for path, test, _ in chosen if test}
        files = set(self._files.values())
        return frozenset(file for file in files if os.path.realpath(file) not in in_part)


class _Audited:
    """What the interpreter's audit events show, by test.

    Attributes:
        test: The test that is running; empty for none, None to ignore all events.
        opened: The files that were opened, by test.
        outside: The tests that started a process, or talked to one.
        found: For a test, those that wrote a file before which it has opened.
    """

    def __init__(self) -> None:
        self.test: str | None = ""
        self.opened: dict[str, set[str]] = defaultdict(set)
        self.outside: set[str] = set()
        self.found: dict[str, set[str]] = defaultdict(set)
        # An audit hook cannot be removed; at the end it ignores all events.
        sys.addaudithook(self._hook())

    def _hook(self) -> Any:  # noqa: ANN401
        outside, note = self.outside, self._opens()
        # Bound here, since tests replace such functions.
        kinds, texts, for_writing, for_both = _OUTSIDE, (str, bytes), os.O_WRONLY, os.O_RDWR

        def look(event: str, arguments: tuple[Any, ...]) -> None:
            test = self.test
            if test is None:
                return
            if event == "open":
                if isinstance(arguments[0], texts):
                    note(test, arguments[0], arguments[2])
                elif test:  # A descriptor, perhaps of a pipe to another process.
                    outside.add(test)
            elif event == "sqlite3.connect":  # It opens its files in C.
                note(test, arguments[0], for_both)
            elif event == "os.rename":
                note(test, arguments[1], for_writing)
            elif event in kinds:
                outside.add(test)

        return look

    def _opens(self) -> Callable[[str, Any, int], None]:
        """Return a function that notes that a test opens a file, and who wrote that before."""
        opened, outside, found = self.opened, self.outside, self.found
        writers: dict[str, set[str]] = defaultdict(set)
        join, isabs, getcwd, fsdecode = os.path.join, os.path.isabs, os.getcwd, os.fsdecode
        accesses, for_writing, empties = os.O_ACCMODE, os.O_WRONLY, os.O_TRUNC
        is_uri = re.compile("file:(?://)?([^?]*)").match

        def note(test: str, path: Any, flags: int) -> None:  # noqa: ANN401 - what was given
            try:
                name = fsdecode(path)
                uri = is_uri(name)
                name = uri[1] if uri else name
                name = name if isabs(name) else join(getcwd(), name)
            except (OSError, ValueError, TypeError):
                outside.add(test)
                return
            opened[test].add(name)
            if name.startswith("/dev/") or ".pyc" in name:
                return
            access = flags & accesses
            if access != for_writing and not flags & empties and name in writers:
                found[test].update(writers[name])
            if access:
                writers[name].add(test)

        return note
