"""Decides which tests a change needs, and says why. Pure: facts in, reasons out.

Safety comes first: a test is left out only if an earlier run shows that nothing it depends on has
changed. Anything unknown or uncertain is a reason to run it.

Not seen: environment variables, the clock and the network; a file that only C code opens for a
test, by a name that is made at run time, while another test opens it in Python; state that a test
leaves behind in a way that `state_kept` does not know.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import functools
from collections import defaultdict
from typing import TYPE_CHECKING, Final

from hcoverage._affected.changes import Change, Kind, changes
from hcoverage._affected.facts import (
    NO_TEST,
    NOT_COLLECTED,
    PASSED,
    EarlierRun,
    KnownTest,
    ProjectState,
)
from hcoverage._affected.shared_state import Finders, Keeper, Place, SharedState

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from hcoverage._affected.blocks import Block, Shape

_CONFTEST: Final = "conftest.py"
# What gives the text of sources, or the numbers of lines that run.
_LOOKING: Final = frozenset(
    (
        *("tb_lineno", "f_lineno", "co_firstlineno", "co_lines", "co_positions"),
        *("getsource", "getsourcelines", "findsource", "getcomments", "getline", "getlines"),
        *("extract_tb", "extract_stack", "walk_tb", "walk_stack", "TracebackException"),
        *("format_exc", "format_tb", "format_stack", "format_exception", "print_exc"),
        *("print_exception", "print_stack", "print_tb", "getframeinfo", "getouterframes"),
    )
)
_LOOKING_IN_TESTS: Final = frozenset(("lineno", "reprcrash", "reprtraceback"))
# pytest's defaults. A new file with another name counts as unknown.
TEST_FILES: Final = ("test_*.py", "*_test.py")


@dataclasses.dataclass(frozen=True)
class Needs:
    """The tests that are needed.

    Attributes:
        everything: The reasons why all tests are needed; empty if not all are.
        tests: For node ids of tests, the reasons why they are needed.
        files: For paths of test files, also new ones, the reasons why all their tests are needed.
    """

    everything: tuple[str, ...] = ()
    tests: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    files: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)


def needs(
    run: EarlierRun,
    now: ProjectState,
    mentioned: Collection[str],
    also: Iterable[Change] = (),
    named: Mapping[str, Collection[Place]] | None = None,
) -> Needs:
    """Decide which tests of an earlier run are needed.

    Args:
        run: The earlier run.
        now: The project as it is now.
        mentioned: The paths of test files whose names occur in other sources.
        also: Changes to heed beside those since the run, such as a branch's.
        named: Where files are named that are no sources.
    """
    deciding = _Deciding(run, now, mentioned, named or {})
    if run.doubt:
        deciding.everything.append(run.doubt)
    deciding.compare_environments()
    # Line numbers of other changes do not fit the run's.
    others = (dataclasses.replace(change, parts=()) for change in also)
    found = dict.fromkeys([*changes(run.state.files, now.files), *others])
    for change in found:
        deciding.heed(change)
    if found:
        deciding.heed_what_is_out_of_sight()
    deciding.heed_outcomes()
    deciding.heed_shared_fixtures()
    return deciding.result()


class _Deciding:
    """The reasons so far."""

    def __init__(
        self,
        run: EarlierRun,
        now: ProjectState,
        mentioned: Collection[str],
        named: Mapping[str, Collection[Place]],
    ) -> None:
        self.everything: list[str] = []
        self._tests: dict[str, dict[str, None]] = defaultdict(dict)
        self._files: dict[str, dict[str, None]] = defaultdict(dict)
        self._run = run
        self._now = now
        self._mentioned = mentioned
        self._named = named
        self._tests_of: dict[str, list[str]] = defaultdict(list)
        for name, test in run.tests.items():
            self._tests_of[test.file].append(name)
        self._makers = {maker for test in run.tests.values() for maker in test.shares}
        self._outside = self._who_went_outside()

    def result(self) -> Needs:
        return Needs(
            tuple(dict.fromkeys(self.everything)),
            {name: tuple(reasons) for name, reasons in self._tests.items()},
            {path: tuple(reasons) for path, reasons in self._files.items()},
        )

    def compare_environments(self) -> None:
        before, after = self._run.state.environment, self._now.environment
        for name in sorted({*before, *after}):
            was, now = before.get(name), after.get(name)
            if was != now:
                self.everything.append(f"{name} was {was or 'not there'}, is {now or 'not there'}")

    def heed(self, change: Change) -> None:
        """Add the reasons that a change gives."""
        path, kind = change.path, change.kind
        if kind is Kind.MANNER:
            self.everything.append(f"{path} {kind.value}")
            return
        self._heed_readers(change)
        name = path.rpartition("/")[2]
        if kind is Kind.TEXT:
            self._heed_who_looks_at_sources(path)
            return
        if name == _CONFTEST:
            self.everything.append(f"{path} {kind.value}")
        elif path in self._tests_of:
            self._heed_test_file(change)
        elif kind is Kind.ADDED and any(fnmatch.fnmatch(name, each) for each in TEST_FILES):
            self._files[path][f"{path} is new"] = None
        elif kind in (Kind.ADDED, Kind.DELETED):
            self.everything.append(f"{path} {kind.value}: nobody knows who looks for it")
        elif kind is Kind.CONTENT:
            self._heed_data_file(change)
        else:
            self._heed_module(change)

    def heed_what_is_out_of_sight(self) -> None:
        """Add the tests for which something unmeasured ran."""
        for name, test in self._run.tests.items():
            if test.went_outside and not test.seen_outside:
                self._need(name, "it started, or talked to, what was not measured")

    def heed_outcomes(self) -> None:
        """Add the tests that did not pass."""
        for name, test in self._run.tests.items():
            if test.outcome == NOT_COLLECTED:
                self._heed_what_was_not_collected(name, test.file)
            elif test.outcome != PASSED:
                self._need(name, f"it was {test.outcome} in the run of {self._run.began}")

    def _heed_what_was_not_collected(self, name: str, path: str) -> None:
        told = f"{name} could not be collected in the run of {self._run.began}"
        if path in self._now.files:
            self._files[path][told] = None
        else:  # a directory
            self.everything.append(told)

    def heed_shared_fixtures(self) -> None:
        """Add the tests that use a fixture which a needed test set up."""
        told = (
            "it uses a fixture that was set up, or a file that was written, in {}, which is needed"
        )
        users: dict[str, list[str]] = defaultdict(list)
        for name, test in self._run.tests.items():
            for maker in sorted(test.shares - {name}):
                users[maker].append(name)
        waiting = [name for name in self._makers if self._is_affected(name)]
        done = set(waiting)
        while waiting:
            maker = waiting.pop()
            for name in users[maker]:
                self._need(name, told.format(maker))
                if name in self._makers and name not in done:
                    done.add(name)
                    waiting.append(name)

    def _is_affected(self, name: str) -> bool:
        test = self._run.tests.get(name)
        return name in self._tests or test is None or test.file in self._files

    def _need(self, test: str, reason: str) -> None:
        self._tests[test][reason] = None

    def _heed_readers(self, change: Change) -> None:
        if change.kind is Kind.BODY:  # `TEXT` is another change of the same file.
            return
        if change.path in self._run.opened and change.kind not in (Kind.TEXT, Kind.FRAME):
            reason = f"{change.path} {change.kind.value}, and was opened outside of any test"
            self.everything.append(reason)
        for name, test in self._run.tests.items():
            if change.path in test.opened:
                self._need(name, f"it opened {change.path}, which {change.kind.value}")

    def _heed_test_file(self, change: Change) -> None:
        path = change.path
        if change.kind is Kind.DELETED and path not in self._mentioned:
            return
        if change.kind is not Kind.DELETED:
            self._files[path][f"{path} {change.kind.value}"] = None
        if path in self._mentioned:
            self.everything.append(f"{path} {change.kind.value}, and others may use it")
        for name, test in self._run.tests.items():
            if name in self._run.ran.get(path, ()) and test.file != path:
                self._need(name, f"it ran some of {path}, which {change.kind.value}")

    def _heed_data_file(self, change: Change) -> None:
        path = change.path
        if path in self._run.opened:
            return  # `_heed_readers` has given a reason for all tests.
        if not any(path in test.opened for test in self._run.tests.values()):
            self.everything.append(f"{path} has changed: nobody knows who reads it")
            return
        readers = {name for name, test in self._run.tests.items() if path in test.opened}
        for keeper in self._before.keepers():
            finders = self._who_ran(keeper.place)
            if readers.isdisjoint(finders):
                continue
            told = f"{path} has changed, and {_words(keeper.place)} may keep what was read of it"
            if keeper.finders is Finders.ALL:
                self.everything.append(told)
                return
            self._need_each(finders, told)
        for place in self._named.get(path, ()):
            told = f"{_words(place)} names {path}, which has changed"
            self._need_each(self._who_uses(place), told)
        if self._run.went_outside:
            told = "what was started, or talked to, outside of any test may read it"
            self.everything.append(f"{path} has changed, and {told}")
        for name in self._outside:
            self._need(name, f"what it started, or talked to, may read {path}, which has changed")

    def _who_uses(self, place: Place) -> set[str]:
        """Return the tests that may use what a place names; what `conftest.py` opens is seen."""
        if place.path in self._tests_of:
            who = self._who_may_have_run(place)
            return set(self._tests_of[place.path]) if NO_TEST in who else who
        if place.name and place.path in self._run.ran:
            return self._who_ran(place)
        return {name for name, lines in self._run.ran.get(place.path, {}).items() if lines}

    def _heed_who_looks_at_sources(self, path: str) -> None:
        """Add the tests that look at the text of sources or at numbers of lines, as of errors."""
        told = f"it looks at the text of sources or at lines' numbers, and {path} has changed"
        if NO_TEST in self._looking:
            self.everything.append(f"{told}, outside of any test")
        self._need_each(self._looking, told)

    @functools.cached_property
    def _looking(self) -> set[str]:
        found: set[str] = set()
        for path, shape in _shapes(self._run.state).items():
            names = _LOOKING | _LOOKING_IN_TESTS if path in self._tests_of else _LOOKING
            for block in shape.blocks:
                if not names.isdisjoint(name.rpartition(".")[2] for name in block.names):
                    found |= self._who_ran(Place(path, block.name))
        return found

    def _heed_module(self, change: Change) -> None:
        path = change.path
        if path not in self._run.ran:
            self.everything.append(f"{path} has changed: it was not measured")
        elif change.kind is Kind.FRAME:
            self.everything.append(f"{path} {change.kind.value}")
        else:
            block = self._block(path, change.block)
            if block is None:
                self.everything.append(f"{path}: {change.block} is new")
            else:
                self._heed_body(path, block, change.parts)

    def _heed_body(self, path: str, block: Block, parts: Collection[tuple[int, int]]) -> None:
        if block.last < block.first:
            return
        who = self._who_ran_parts(path, block, parts)
        what = f"{path}: {block.name}()"
        if NO_TEST in who:
            self.everything.append(f"{what} has changed, and ran outside of any test")
            return
        place = Place(path, block.name)
        self._need_each(who, f"it ran {what}, which has changed")
        for keeper in self._keepers(place, who):
            told = f"{what} has changed, and {_words(keeper.place)} may keep what comes of it"
            if keeper.finders is Finders.ALL:
                self.everything.append(told)
                return
            if keeper.finders is Finders.THOSE_WHO_RUN_IT:
                self._need_each(self._who_ran(keeper.place), told)
            else:
                told = f"it has a fixture in common with one that ran {what}"
                self._need_who_shares_with(who, told)

    def _who_ran_parts(
        self, path: str, block: Block, parts: Collection[tuple[int, int]]
    ) -> set[str]:
        """Return the tests that ran some parts of a function, or may have.

        Other processes than pytest's notice late that the test has changed, and attribute lines to
        the test before. So a test that used one counts if it ran any line of the function.
        """
        lines = _mask(block)
        ran = {name: found for name, found in self._run.ran[path].items() if found & lines}
        if not parts:
            return set(ran)
        who = {name for name in ran if name == NO_TEST or name in self._outside}
        for first, last in parts:
            of_part = {name for name, found in ran.items() if found & _lines(first, last)}
            if not of_part:  # Nobody ran it, or Python reports no line of it.
                return set(ran)
            who |= of_part
        return who

    def _keepers(self, place: Place, who: set[str]) -> Iterator[Keeper]:
        """Yield the keepers that may have called a function in one of some tests."""
        for states in (self._before, self._after):
            for keeper in states.keepers_of(place):
                if keeper.place == place or not who.isdisjoint(self._who_ran(keeper.place)):
                    yield keeper

    def _need_each(self, tests: Iterable[str], reason: str) -> None:
        for name in tests:
            if name != NO_TEST:
                self._need(name, reason)

    def _need_who_shares_with(self, tests: set[str], reason: str) -> None:
        known = self._run.tests
        makers = {maker for name in tests if name in known for maker in known[name].shares}
        makers |= tests & self._makers
        for name, test in known.items():
            if name in makers or not makers.isdisjoint(test.shares):
                self._need(name, reason)

    def _who_ran(self, place: Place) -> set[str]:
        if place.path not in self._run.ran:
            return self._who_may_have_run(place)
        ran = self._run.ran[place.path]
        facts = self._run.state.files.get(place.path)
        if facts is None or facts.shape is None:
            return set(ran)
        if place.name:
            block = self._block(place.path, place.name)
            lines = _mask(block) if block is not None else 0
        else:
            lines = ~_lines_of_blocks(facts.shape) & ~1
        return {name for name, found in ran.items() if found & lines}

    def _who_may_have_run(self, place: Place) -> set[str]:
        """Return the tests that may have run a place that was not measured, as in test files."""
        if not place.name:
            return {NO_TEST}  # Like all that is imported during collection.
        if place.path not in self._tests_of or place.path in self._mentioned:
            return {NO_TEST, *self._run.tests}
        in_file = self._tests_of[place.path]
        beginning = f"{place.path}::{place.name.replace('.', '::')}"
        owner = beginning.rpartition("::")[0]
        own = {name for name in in_file if name == beginning or name.startswith(f"{beginning}[")}
        own = own or {name for name in in_file if name.startswith(f"{owner}::")}
        return own or set(in_file)

    @functools.cached_property
    def _importing(self) -> set[str]:
        """The tests that imported modules, and `NO_TEST`."""
        paths = self._run.state.files
        return {NO_TEST}.union(
            *(self._who_ran(Place(path)) for path in paths if path in self._run.ran)
        )

    def _ran_at_import(self, place: Place) -> bool | None:
        ran = self._run.ran.get(place.path)
        if ran is None or NO_TEST not in ran:
            return None  # It was not measured, or was imported before measuring began.
        return not self._importing.isdisjoint(self._who_ran(place))

    def _block(self, path: str, name: str) -> Block | None:
        facts = self._run.state.files.get(path)
        blocks = facts.shape.blocks if facts is not None and facts.shape is not None else ()
        return next((block for block in blocks if block.name == name), None)

    @functools.cached_property
    def _before(self) -> SharedState:
        return SharedState(_shapes(self._run.state), self._ran_at_import)

    @functools.cached_property
    def _after(self) -> SharedState:
        return SharedState(_shapes(self._now), self._ran_at_import)

    def _who_went_outside(self) -> list[str]:
        tests = self._run.tests
        return [name for name, test in tests.items() if _went_outside(test, tests)]


def _went_outside(test: KnownTest, tests: Mapping[str, KnownTest]) -> bool:
    makers = (tests.get(name) for name in test.shares)
    return test.went_outside or any(maker is None or maker.went_outside for maker in makers)


def _mask(block: Block) -> int:
    return _lines(block.first, block.last) if block.first <= block.last else 0


def _lines(first: int, last: int) -> int:
    return (1 << last + 1) - (1 << first)


def _lines_of_blocks(shape: Shape) -> int:
    return functools.reduce(lambda lines, block: lines | _mask(block), shape.blocks, 0)


def _shapes(state: ProjectState) -> dict[str, Shape]:
    files = state.files.items()
    return {path: facts.shape for path, facts in files if facts.shape is not None}


def _words(place: Place) -> str:
    return f"{place.path}: {place.name}()" if place.name else f"the import of {place.path}"
