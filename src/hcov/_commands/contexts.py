"""`hcov context` and `hcov mark`: set a run's context, and report what ran in the last one."""

from __future__ import annotations

import re

import hcoverage
from hcov._commands.run import report_live
from hcov._tell.messages import tell


def mark(name: str | None, rcfile: hcoverage.Rcfile) -> int:
    """End a run's present phase, begin the next, and report the one that ended.

    Args:
        name: The name of the next phase; None for the present name with the next number.
        rcfile: The rcfile for the report.

    Returns:
        coverage.py's exit status.

    Raises:
        ContextError: No run follows a context.
        NoDataError: Nothing has been recorded yet.
        OSError: The run's data directory cannot be read or written.
    """
    file = hcoverage.followed_file()
    ended = hcoverage.read_context(file)
    begun = name or next_phase(ended)
    hcoverage.context(begun)
    tell(f"{ended or 'the unnamed phase'} has ended, {begun} begins")
    return report_live(file.parent, rcfile, ended)


def next_phase(name: str) -> str:
    """Return the name of the phase after another: after `login` comes `login 2`, then `login 3`."""
    found = re.fullmatch(r"(.*?)(\d+)", name)
    if found:
        return f"{found[1]}{int(found[2]) + 1}"
    return f"{name} 2" if name else "phase 1"
