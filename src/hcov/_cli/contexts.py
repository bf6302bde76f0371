"""The command lines of `hcov context` and `hcov mark`."""

from __future__ import annotations

from pathlib import Path

import click

import hcoverage

# As in `main`: the work of a command is imported only when it runs.
# ruff: noqa: PLC0415


@click.command(short_help="Name what a run executes from now on.")
@click.argument("name")
def context(name: str) -> None:
    """Name what a run executes from now on: set coverage.py's context.

    \b
    hcov run --context start -- ./serve      in one terminal
    hcov context login                       in another, or in a script
    hcov context checkout

    The name holds for all processes of the run, also for those in containers and those that already
    run. Use it for everything but pytest: Playwright, Robot, Behave, a person who clicks. Call it
    inside the run, or in the directory in which the run was started. An empty NAME removes the
    name. In Python: `hcoverage.context(NAME)`.
    """
    hcoverage.context(name)


@click.command(short_help="End a phase of a run: report what it ran, and begin the next.")
@click.argument("name", required=False)
@click.option(
    "--rcfile",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="coverage.py configuration. [default: the one that coverage.py finds]",
)
@click.pass_context
def mark(ctx: click.Context, /, name: str | None, rcfile: Path | None) -> None:
    """End the current phase of a run, report what ran in it, and begin the phase NAME.

    \b
    hcov run --context login -- ./serve      in one terminal
    hcov mark checkout                       in another: prints what the login ran
    hcov mark                                prints what the checkout ran

    Nothing is restarted, and the report at the end of the run covers all phases. Without NAME, the
    next phase gets the name of this one with the next number.
    """
    from hcov._commands import contexts as command

    ctx.exit(command.mark(name, hcoverage.read_rcfile(rcfile)))
