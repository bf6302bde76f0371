"""What tests on real input share: they tell their figures at the end of the run."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

_FIGURES: Final = "figures"


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Have a line of figures shown at the end of the run, also if the test passes."""
    return functools.partial(record_property, _FIGURES)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")]
    figures = {
        str(value)
        for report in reports
        for name, value in report.user_properties
        if name == _FIGURES
    }
    if figures:
        terminalreporter.section("real input")
    for line in sorted(figures):
        terminalreporter.write_line(line)
