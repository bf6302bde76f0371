"""Decides whether a call measures: always, or only while a run is being measured.

Scripts that run a tool in a container are called by tests and in production, where they must not
measure. The environment shows which of the two a call is.
"""

from __future__ import annotations

import os
from typing import Final, Literal, TypeAlias

from hcoverage import CONTAINERS_VARIABLE, SESSION_VARIABLE
from hdocker._errors import MeasureError

Measure: TypeAlias = Literal["always", "auto"]

# The default for calls that nobody edits.
MEASURE_VARIABLE: Final = "HCOVERAGE_MEASURE"
_CHOICES: Final = ("always", "auto")


def is_automatic(measure: str | None) -> bool:
    """Return whether a call measures only while a run is being measured.

    Args:
        measure: `always` or `auto`; None for the value of HCOVERAGE_MEASURE, else `always`.

    Raises:
        MeasureError: The value is neither.
    """
    chosen = measure or os.environ.get(MEASURE_VARIABLE) or "always"
    if chosen not in _CHOICES:
        named = "measure" if measure else MEASURE_VARIABLE
        raise MeasureError(f"{named} is {chosen!r}: say {' or '.join(map(repr, _CHOICES))}")
    return chosen == "auto"


def is_measured(measure: str | None) -> bool:
    """Return whether a call measures; arguments and errors are those of `is_automatic`."""
    return not is_automatic(measure) or _is_in_measured_run()


def _is_in_measured_run() -> bool:
    if os.environ.get(CONTAINERS_VARIABLE) == "0":
        return False
    is_in_session = os.path.isdir(os.environ.get(SESSION_VARIABLE, ""))  # noqa: PTH112 - none: ""
    return is_in_session or bool(os.environ.get("COVERAGE_PROCESS_START"))
