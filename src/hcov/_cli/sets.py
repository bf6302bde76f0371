"""The command line of `hcov diff`, `hcov only` and `hcov common`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import hcoverage

if TYPE_CHECKING:
    from collections.abc import Callable

    from hcov._commands.sets import Place

# As in `main`: the work of a command is imported only when it runs.
# ruff: noqa: PLC0415

_PATH = click.Path(path_type=Path)


def _with_place(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say where to read and write."""
    options = (
        click.option(
            "--rcfile",
            type=_PATH,
            metavar="FILE",
            help="coverage.py configuration. [default: the one that coverage.py finds]",
        ),
        click.option(
            "--data-file",
            type=_PATH,
            default=".coverage",
            show_default=True,
            help="The merged data file that contains the origins.",
        ),
        click.option(
            "-o",
            "--output",
            type=_PATH,
            metavar="FILE",
            help="Also write the result as a data file, which coverage.py's reports can read.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _place(rcfile: Path | None, data_file: Path, output: Path | None) -> Place:
    from hcov._commands.sets import Place

    return Place(hcoverage.read_rcfile(rcfile), data_file, output)


@click.command(short_help="Print what a change lost and gained, or compare two origins.")
@_with_place
@click.option("--fail-on-loss", is_flag=True, help="Exit with 1 if B lacks something that A has.")
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@click.pass_context
def diff(
    ctx: click.Context,
    /,
    first: str,
    second: str,
    *,
    fail_on_loss: bool,
    **place: Any,  # noqa: ANN401 - as click passes it
) -> None:
    """Print the lines that only A has, and those that only B has: what a change lost and gained.

    A and B are data files, or origins of the last run: origin:main, origin:NAME.

    \b
    hcov diff main.coverage .coverage --fail-on-loss
    hcov diff origin:main origin:shop -o unit-only.coverage

    Lines are statements, as in coverage.py's report. A branch is printed if A and B both have its
    line. -o writes what only A has.
    """
    from hcov._commands import sets

    ctx.exit(sets.diff(first, second, _place(**place), fail_on_loss=fail_on_loss))


@click.command(short_help="Print the lines that only one origin, such as an image, ran.")
@_with_place
@click.argument("origin")
def only(origin: str, **place: Any) -> None:  # noqa: ANN401
    """Print the lines that only ORIGIN ran: what container tests add to the unit tests.

    ORIGIN is a name in the table at the end of `hcov run`, or a part of it that no other has.

    \b
    hcov only shop:1 -o shop.coverage
    coverage html --data-file shop.coverage
    """
    from hcov._commands import sets

    sets.only(origin, _place(**place))


@click.command(short_help="Print what two data files, or origins, have in common.")
@_with_place
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
def common(first: str, second: str, **place: Any) -> None:  # noqa: ANN401
    """Print what A and B have in common; each is a data file, or origin:NAME of the last run.

    \b
    hcov common origin:main origin:shop
    """
    from hcov._commands import sets

    sets.common(first, second, _place(**place))
