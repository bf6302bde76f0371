"""Respects pytest-cov's variable and its `no_cover`, in the processes that pytest-cov measures.

These are pytest's own process and pytest-xdist's workers, under `--cov --hcov`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import pytest

import hcoverage

if TYPE_CHECKING:
    from collections.abc import Generator

DATA_FILE_VARIABLE: Final = "COVERAGE_FILE"
_NO_COVER: Final = "no_cover"


class MeasuredByPytestCov:
    """Keeps a session out of pytest-cov's way."""

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionstart(self) -> Generator[None, object, object]:
        """Remove the data file's name from the environment, once pytest-cov has read it everywhere.

        Otherwise coverage.py in processes that tests start would write the session's data there.
        """
        result = yield
        os.environ.pop(DATA_FILE_VARIABLE, None)
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Keep a test's processes out of the session, if the test itself is left out."""
        is_left_out = item.get_closest_marker(_NO_COVER) is not None
        if not is_left_out and _NO_COVER not in getattr(item, "fixturenames", ()):
            return (yield)
        outside = hcoverage.unmeasured_environment(os.environ)
        with hcoverage.joined(outside, measured=False):
            return (yield)
