"""`hcov affected`: which tests a change needs, and why."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

import hcoverage
from hcov._tell.messages import tell

if TYPE_CHECKING:
    from collections.abc import Iterable

UNKNOWN_TEST: Final = 1
_SHOWN: Final = 5
_EVERYTHING: Final = "."


def affected(since: str | None, rcfile: hcoverage.Rcfile) -> None:
    """Print the tests that are needed, one a line, as pytest takes them.

    Raises:
        HcoverageError, OSError: It is not known what has changed.
    """
    decision = _decide(since, rcfile)
    for test in decision.needed() or ([_EVERYTHING] if decision.everything else []):
        click.echo(hcoverage.printable(test))
    if decision.everything:
        tell(f"all tests are needed:{_listed(decision.everything)}")
    else:
        new = len(decision.files)
        files = f", and all tests of {new} file{'s' * (new != 1)}" if new else ""
        tell(f"{decision.count()} of {len(decision.known)} known tests are needed{files}")


def why(test: str, since: str | None, rcfile: hcoverage.Rcfile) -> int:
    """Print why a test is needed, or that it is not.

    Returns:
        `UNKNOWN_TEST` if there is no such test, else 0.

    Raises:
        HcoverageError, OSError: It is not known what has changed.
    """
    decision = _decide(since, rcfile)
    path = test.partition("::")[0]
    found = [name for name in decision.known if name == test or name.startswith(f"{test}[")]
    if not found and not Path(path).exists():
        tell(f"error: no test {test} is known")
        return UNKNOWN_TEST
    for name in found or [test]:
        reasons = decision.reasons(name, decision.known.get(name, path))
        if reasons:
            click.echo(f"{hcoverage.printable(name)} is needed:{_listed(reasons, len(reasons))}")
        else:
            click.echo(
                f"{hcoverage.printable(name)} is not needed: it passed, and nothing that it is "
                f"known to depend on has changed since {decision.began}"
            )
    return 0


def _decide(since: str | None, rcfile: hcoverage.Rcfile) -> hcoverage.Decision:
    here = Path.cwd()
    return hcoverage.decide(here, here / rcfile.settings.data_file, since)


def _listed(reasons: Iterable[str], most: int = _SHOWN) -> str:
    lines = [f"\n  {hcoverage.printable(reason)}" for reason in reasons]
    more = f"\n  and {len(lines) - most} more reasons" if lines[most:] else ""
    return "".join(lines[:most]) + more
