"""`--hcov-affected`: leave out the tests that a change does not need.

The process that begins the run decides this once, and tells pytest-xdist's workers.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

import hcoverage
from hcov._pytest.test_notes import options_of
from hcov._tell.messages import message_of

if TYPE_CHECKING:
    from collections.abc import Iterator

_TOLD: Final = "hcov_affected"
_SHOWN: Final = 3


def choose(config: pytest.Config) -> None:
    """Leave out the tests that a change does not need.

    Args:
        config: pytest's configuration.

    Raises:
        UsageError: It is not known what has changed.
    """
    told = getattr(config, "workerinput", {}).get(_TOLD)
    if told is not None:
        decision = hcoverage.Decision(**told)
    else:
        try:
            rcfile = hcoverage.read_rcfile(_rcfile(config))
            data_file = Path.cwd() / rcfile.settings.data_file
            since = config.option.hcov_since
            decision = hcoverage.decide(Path.cwd(), data_file, since, options_of(config))
        except (hcoverage.HcoverageError, OSError) as error:
            raise pytest.UsageError(f"--hcov-affected: {message_of(error)}") from error
    config.pluginmanager.register(_Affected(decision), "hcov-affected")


def _rcfile(config: pytest.Config) -> Path | None:
    given = config.option.hcov_rcfile
    if given is not None:
        return Path(given)
    named = config.getini("hcov_rcfile")
    return config.rootpath / named if named else None


class _Affected:
    """Deselects the tests that are not needed."""

    def __init__(self, decision: hcoverage.Decision) -> None:
        self._decision = decision
        self._root = Path.cwd()
        self._left_out = 0

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:  # noqa: ANN401 - pytest-xdist's
        """Tell a worker which tests are needed."""
        decision = self._decision
        node.workerinput[_TOLD] = {
            "everything": list(decision.everything),
            "tests": {name: list(why) for name, why in decision.tests.items()},
            "files": {path: list(why) for path, why in decision.files.items()},
            "known": dict(decision.known),
            "began": decision.began,
        }

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """Deselect the tests that are not needed."""
        needed: list[pytest.Item] = []
        left_out: list[pytest.Item] = []
        for item in items:
            path = os.path.relpath(item.path, self._root)
            is_needed = self._decision.reasons(item.nodeid, path)
            (needed if is_needed else left_out).append(item)
        if left_out:
            self._left_out = len(left_out)
            items[:] = needed
            config.hook.pytest_deselected(items=left_out)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Succeed without a test, if none is needed."""
        nothing = session.exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED
        if nothing and not self._decision.everything:
            session.exitstatus = pytest.ExitCode.OK

    def pytest_report_header(self) -> list[str]:
        """Return how many tests run, or why all do."""
        return list(self._words())

    def _words(self) -> Iterator[str]:
        decision = self._decision
        if not decision.everything:
            yield (
                f"hcov: {decision.count()} of {len(decision.known)} known tests are needed, "
                f"for what has changed since {decision.began}"
            )
            return
        yield "hcov: all tests are needed:"
        yield from (f"  {hcoverage.printable(why)}" for why in decision.everything[:_SHOWN])
        if decision.everything[_SHOWN:]:
            yield f"  and {len(decision.everything) - _SHOWN} more reasons"
