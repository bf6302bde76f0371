"""The command line: options, help and exit statuses; what commands do is in the other modules."""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

import hcoverage
from hcov._cli.affected import affected
from hcov._cli.contexts import context, mark
from hcov._cli.docker import docker, engine_option, sudo_option
from hcov._cli.sets import common, diff, only
from hcov._tell.formats import FILE_REPORTS, FORMATS
from hcov._tell.messages import message_of, tell

# The work of a command is imported only when it runs: help and completion need none of it.
# ruff: noqa: PLC0415

if TYPE_CHECKING:
    from collections.abc import Iterator

SETUP_FAILED: Final = 125  # as env(1), timeout(1) and `docker run` have it
CORES: Final = ("auto", "recorder", "coverage")
_EXISTING: Final = click.Path(path_type=Path)
# Since click 8.2 a group without arguments raises its help, as an error of usage.
_HELP_ASKED_FOR: Final = getattr(click.exceptions, "NoArgsIsHelpError", ())

_rcfile_option = click.option(
    "--rcfile",
    type=_EXISTING,
    metavar="FILE",
    help="coverage.py configuration. [default: the one that coverage.py finds]",
)
_data_dir_option = click.option(
    "--data-dir",
    type=_EXISTING,
    default=hcoverage.DEFAULT_DATA_DIR,
    show_default=True,
    metavar="DIR",
    help="Where processes and containers write their data.",
)
_data_dir_of_run_option = click.option(
    "--data-dir",
    type=_EXISTING,
    metavar="DIR",
    help="Where processes and containers write their data. "
    "[default: coverage_data if it exists, else a private directory below TMPDIR]",
)

_core_option = click.option(
    "--core",
    type=click.Choice(CORES),
    help="What measures. [default: HCOVERAGE_CORE, else the rcfile's core, else auto]",
)


class _Group(click.Group):
    """Shows the errors that users can do something about as one message, not as a traceback."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:  # noqa: ANN401
        with _usage_explained():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - as click has it
        with warnings.catch_warnings():
            warnings.simplefilter("always", hcoverage.HcoverageWarning)
            warnings.showwarning = _show_warning  # type: ignore[assignment]
            try:
                with _usage_explained():
                    return super().invoke(ctx)
            except (hcoverage.HcoverageError, ImportError, OSError) as error:
                if isinstance(error, BrokenPipeError) and _nobody_reads_on():
                    raise  # click ends with status 1 then, without a word
                tell(f"error: {message_of(error)}")
                ctx.exit(SETUP_FAILED if ctx.invoked_subcommand == "run" else 1)


def _nobody_reads_on() -> bool:
    """Return whether who read our output has ended, as `head` does."""
    try:
        waiting = select.poll()
        waiting.register(sys.stdout.fileno(), 0)
        return bool(waiting.poll(0))
    except (OSError, ValueError):
        return False


@contextlib.contextmanager
def _usage_explained() -> Iterator[None]:
    """Add the slug of their page to click's own errors, too."""
    try:
        yield
    except _HELP_ASKED_FOR:
        raise
    except click.UsageError as error:
        text = hcoverage.with_slug(error.format_message(), hcoverage.Page.USAGE)
        raise click.UsageError(text, error.ctx) from error


def _show_warning(message: Warning | str, *_: object) -> None:
    tell(f"warning: {message_of(message) if isinstance(message, Warning) else message}")


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="hcoverage")
def main() -> None:
    """Measure the coverage of a whole test run: main process, subprocesses and containers.

    \b
    hcov init                      write a .coveragerc for this project
    hcov run -- python -m pytest   set up, run, merge, report, clean up
    hcov doctor                    find out why something is not measured
    pytest --hcov                  what `hcov run -- pytest` does, from inside

    The other commands do single steps, for CI scripts, or answer questions about a result.

    Completion in bash (in zsh and fish with their names):

    \b
    eval "$(_HCOV_COMPLETE=bash_source hcov)"
    """


@main.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@_rcfile_option
@_data_dir_of_run_option
@click.option("--append", is_flag=True, help="Keep the contents of the data file, and add to them.")
@click.option(
    "--fail-under",
    type=click.FloatRange(0, 100),
    metavar="PERCENT",
    help="Exit with 2 if the total is below. [default: the rcfile's fail_under]",
)
@click.option(
    "--format",
    "layout",
    type=click.Choice(FORMATS),
    help="The format of the printed report. [default: the rcfile's format, else text]",
)
@click.option(
    "--html",
    is_flag=True,
    help="Also write coverage.py's HTML report, and origins.html: who ran what.",
)
@click.option("--xml", is_flag=True, help="Also write coverage.py's XML report.")
@click.option("--json", is_flag=True, help="Also write coverage.py's JSON report.")
@click.option("--lcov", is_flag=True, help="Also write coverage.py's LCOV report.")
@_core_option
@click.option(
    "--containers/--no-containers",
    default=True,
    envvar=hcoverage.CONTAINERS_VARIABLE,
    help=f"Measure containers, or not. [default: yes, unless {hcoverage.CONTAINERS_VARIABLE}=0]",
)
@click.option(
    "--context",
    metavar="NAME",
    help="coverage.py's context of each line, until `hcov context` sets another.",
)
@click.option("-q", "--quiet", is_flag=True, help="Print problems only, no report.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="COMMAND...")
@click.pass_context
def run(ctx: click.Context, /, command: tuple[str, ...], **options: Any) -> None:  # noqa: ANN401
    """Run COMMAND and report what all of it covered.

    \b
    hcov run -- python -m pytest -x
    hcov run --html --fail-under 90 -- make test

    The command keeps its terminal, signals and environment. hcov adds variables that measure its
    processes; DOCKER_HOST and CONTAINERS_CONF lead to its containers. It merges all data into one
    .coverage, which every coverage.py report can read.

    \b
    Exit status:
      the command's own, if it is not 0 (128+N if signal N ended it)
      0    all went well
      2    the total is under --fail-under, or wrong usage
      3    the command succeeded, but data could not be merged or reported
      125  hcov could not set up measuring; the command did not run
      126  the command cannot be run      127  there is no such command
    """
    from hcov._commands import run as _run

    reports = tuple(name for name in FILE_REPORTS if options.pop(name))
    ctx.exit(_run.run(command, _run.Options(reports=reports, **options)))


@main.command(short_help="Write a .coveragerc for this project.")
@click.option("--force", is_flag=True, help="Replace an existing .coveragerc.")
def init(*, force: bool) -> None:
    """Write a .coveragerc that suits the project in the current directory.

    \b
    cd my-project
    hcov init
    hcov run -- python -m pytest
    """
    from hcov._commands.init import IGNORED, write_rcfile

    path = write_rcfile(Path.cwd(), force=force)
    tell(f"wrote {path.name}; now try: hcov run -- python -m pytest")
    tell(f"for .gitignore: {' '.join(IGNORED)}")


@main.command()
@_rcfile_option
@_data_dir_option
def inject(rcfile: Path | None, data_dir: Path) -> None:
    """Write the start-up hook and print its variables.

    The hook stays in site-packages until `hcov remove`. The variables switch it on; without them it
    does nothing. In a POSIX shell:

    \b
    eval "$(hcov inject)"
    """
    before = dict(os.environ)
    hook = hcoverage.inject(rcfile or _found_rcfile(), data_dir=data_dir)
    tell(f"the hook is in {hook}; `hcov remove` removes it")
    for name, value in sorted(os.environ.items()):
        if before.get(name) != value:
            click.echo(f"export {name}={shlex.quote(value)}")


@main.command()
def remove() -> None:
    """Remove the start-up hook and print how to unset its variables.

    \b
    eval "$(hcov remove)"
    """
    hcoverage.remove()
    click.echo(f"unset {' '.join(hcoverage.VARIABLES)}")


@main.command()
@_rcfile_option
@click.option("--data-file", type=_EXISTING, default=".coverage", show_default=True)
@click.option("--append", is_flag=True, help="Keep the contents of the data file, and add to them.")
@click.option("--keep", is_flag=True, help="Leave the merged files where they are.")
@click.argument("paths", nargs=-1, type=click.Path(), metavar="[PATH]...")
@click.pass_context
def combine(ctx: click.Context, /, paths: tuple[str, ...], **options: Any) -> None:  # noqa: ANN401
    """Merge data files into one .coverage.

    PATH is a data file, a recording, or a directory that contains some; or an archive that contains
    some anywhere (.zip, .tar, .tar.gz, .tar.xz, .tar.bz2); or a URL such as s3://bucket/run-42/,
    which needs hcoverage[remote]. [default: ., coverage_data and the data of killed runs of this
    project]

    \b
    hcov combine
    hcov combine --append coverage_data/previous/run-x1
    hcov combine --keep shard-1.tar.gz shard-2.tar.gz

    Merged files are removed, except archives and URLs. A file that cannot be merged stays and is
    named; the exit status is then 3.
    """
    from hcov._commands import run as _run

    rcfile = options.pop("rcfile")
    ctx.exit(_run.combine(paths or _places_of_data(), rcfile=rcfile, **options))


@main.command(short_help="Find out why something is not measured.")
@_rcfile_option
@_data_dir_of_run_option
@_core_option
@engine_option
@sudo_option
@click.option("--json", "is_json", is_flag=True, help="Print the findings as JSON.")
@click.option(
    "--no-proof", "has_proof", is_flag=True, default=True, flag_value=False, help="Check only."
)
@click.argument("images", nargs=-1, metavar="[IMAGE]...")
@click.pass_context
def doctor(ctx: click.Context, /, images: tuple[str, ...], **options: Any) -> None:  # noqa: ANN401
    """Find out why something is not measured: check what measuring needs, and try it.

    \b
    hcov doctor
    hcov doctor shop:1 --json

    It checks the rcfile, the data directory, the Pythons on PATH and the engine. Then it starts
    processes of each Python, and a container of each IMAGE, and tells whether the lines that ran
    were recorded; if not, it tells the cause and the command that fixes it.

    It works in a temporary directory. Like a run it writes the start-up hook, and removes it at
    its end; nothing else is changed.

    \b
    Exit status:
      0  no problem      1  a problem      2  wrong usage
    """
    from hcov._commands import doctor as _doctor

    ctx.exit(_doctor.doctor(images, _doctor.Options(**options)))


main.add_command(docker)


@main.command()
@_rcfile_option
@_data_dir_of_run_option
@click.option("--live", is_flag=True, help="Report the run that is in progress.")
@click.option(
    "--context", metavar="NAME", help="Report only lines that ran in this context, such as a test."
)
@click.option("--data-file", type=_EXISTING, default=".coverage", show_default=True)
@click.option(
    "--since",
    metavar="REV",
    help="Report only lines changed since the branch left this git revision.",
)
@click.option(
    "--fail-under-changed",
    type=click.FloatRange(0, 100),
    metavar="PERCENT",
    help="With --since: exit with 2 if a smaller part of these lines ran.",
)
@click.pass_context
def report(
    ctx: click.Context,
    /,
    rcfile: Path | None,
    data_dir: Path | None,
    *,
    live: bool,
    context: str | None,
    data_file: Path,
    since: str | None,
    fail_under_changed: float | None,
) -> None:
    """Print coverage.py's report, also while a run is in progress.

    \b
    hcov report
    hcov report --live
    hcov report --since origin/main --fail-under-changed 90

    --live reads what the processes have recorded so far, by default of each run in progress in this
    directory. It changes nothing in the run; you can repeat it.
    """
    from hcov._commands import run as _run

    chosen = hcoverage.read_rcfile(rcfile)
    if fail_under_changed is not None and since is None:
        raise click.UsageError("--fail-under-changed needs --since")
    if since is not None:
        if live or context is not None:
            raise click.UsageError("--since cannot be combined with --live or --context")
        ctx.exit(_run.report_changed(data_file, chosen, since, fail_under_changed))
    if live:
        ctx.exit(_run.report_live(data_dir, chosen, context))
    ctx.exit(_run.report_data(data_file, chosen, context))


main.add_command(affected)
main.add_command(context)
main.add_command(mark)
main.add_command(diff)
main.add_command(only)
main.add_command(common)


@main.group()
def commands() -> None:
    """Print the steps as shell commands, for CI scripts.

    \b
    hcov commands setup | sh -e
    hcov commands combine --report xml | sh -e
    """


@commands.command("setup", short_help="Print the commands that make the data directory.")
@click.option("--rcfile", type=_EXISTING, default=".coveragerc", show_default=True)
@_data_dir_option
def commands_setup(rcfile: Path, data_dir: Path) -> None:
    """Print the commands that make the data directory and put the rcfile into it.

    \b
    hcov commands setup | sh -e
    """
    _echo_lines(hcoverage.coverage_subprocess_commands(data_dir, rcfile))


@commands.command("combine", short_help="Print the commands that merge everything and report.")
@_rcfile_option
@_data_dir_option
@click.option(
    "--report",
    "reports",
    multiple=True,
    type=click.Choice(("report", *FILE_REPORTS)),
    default=("report", "html"),
    show_default=True,
    help="Which report to make; may be given several times.",
)
def commands_combine(rcfile: Path | None, data_dir: Path, reports: tuple[str, ...]) -> None:
    """Print the commands that merge everything into .coverage and report on it.

    \b
    hcov commands combine --report report --report xml | sh -e
    """
    _echo_lines(hcoverage.combine_commands(data_dir, rcfile, reports))


def _echo_lines(lines: list[str]) -> None:
    for line in lines:
        click.echo(line)


def _places_of_data() -> list[Path]:
    here = [Path(), Path(hcoverage.DEFAULT_DATA_DIR)]
    outside = hcoverage.data_of_killed_sessions(Path.cwd())
    return [*filter(Path.is_dir, here), *outside]


def _found_rcfile() -> Path:
    found = hcoverage.find_rcfile(Path.cwd())
    if found is None:
        raise hcoverage.NoRcfileError(
            f"no coverage.py configuration in {Path.cwd()}: "
            "name one with --rcfile, or let `hcov init` write a .coveragerc"
        )
    return found
