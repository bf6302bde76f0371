"""Whether a call is to measure: always, or only where a run is being measured.

Scripts that run a tool in a container are called in production as well as by tests. There they want
nothing of measuring; whether this is such a call is told by the environment.
"""

from __future__ import annotations

import os
from typing import Final, Literal, TypeAlias

from hcoverage import CONTAINERS_VARIABLE, SESSION_VARIABLE
from hdocker._errors import MeasureError

Measure: TypeAlias = Literal["always", "auto"]

# The default for call sites that nobody edits.
MEASURE_VARIABLE: Final = "HCOVERAGE_MEASURE"
_CHOICES: Final = ("always", "auto")


def is_automatic(measure: str | None) -> bool:
    """Return whether a call measures only where a run is being measured.

    Args:
        measure: `always` or `auto`; None for what HCOVERAGE_MEASURE says, else `always`.

    Raises:
        MeasureError: It is neither.
    """
    chosen = measure or os.environ.get(MEASURE_VARIABLE) or "always"
    if chosen not in _CHOICES:
        named = "measure" if measure else MEASURE_VARIABLE
        raise MeasureError(f"{named} is {chosen!r}: say {' or '.join(map(repr, _CHOICES))}")
    return chosen == "auto"


def is_measured(measure: str | None) -> bool:
    """Return whether a call is to measure; arguments and errors are those of `is_automatic`."""
    return not is_automatic(measure) or _is_in_measured_run()


def _is_in_measured_run() -> bool:
    if os.environ.get(CONTAINERS_VARIABLE) == "0":
        return False
    is_in_session = os.path.isdir(os.environ.get(SESSION_VARIABLE, ""))  # noqa: PTH112 - none: ""
    return is_in_session or bool(os.environ.get("COVERAGE_PROCESS_START"))
