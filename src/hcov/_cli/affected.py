"""The command line of `hcov affected`."""

from __future__ import annotations

from pathlib import Path

import click

import hcoverage

# As in `main`: the work of a command is imported only when it runs.
# ruff: noqa: PLC0415


@click.command(short_help="Tell which tests a change needs.")
@click.option(
    "--rcfile",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="coverage.py configuration. [default: the one that coverage.py finds]",
)
@click.option(
    "--since",
    metavar="REV",
    help="Also print the tests for all changes since this git revision, even if they have passed.",
)
@click.option("--why", metavar="TEST", help="Print why this test is needed, or that it is not.")
@click.pass_context
def affected(
    ctx: click.Context, /, rcfile: Path | None, since: str | None, why: str | None
) -> None:
    """Print the tests that a change needs, from what an earlier run recorded.

    \b
    pytest --hcov --hcov-context=test    once, and whenever you like
    hcov affected                        after an edit
    hcov affected --why tests/test_cart.py::test_total
    pytest --hcov-affected               runs only these tests

    A test is left out only if it passed, and nothing that it is known to depend on has changed
    since: the functions that it ran in any process or container, its file, files that it opened,
    fixtures, configuration, dependencies. Anything unknown is a reason to run it.

    \b
    Exit status:
      0  success
      1  there is no such test (--why), or it is unknown what has changed
    """
    from hcov._commands import affected as command

    chosen = hcoverage.read_rcfile(rcfile)
    if why is not None:
        ctx.exit(command.why(why, since, chosen))
    command.affected(since, chosen)
