"""`hcov doctor`: prints the check-up, for a person or as JSON."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import shutil
import signal
import textwrap
from typing import TYPE_CHECKING, Final

import click

import hcoverage
import hdocker
from hcov._tell.progress_bar import progress_bar
from hcoverage import Finding, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

PROBLEMS: Final = 1

_COLOURS: Final = {Status.OK: "green", Status.NOTE: "yellow", Status.PROBLEM: "red"}
_STATUS_WIDTH: Final = max(map(len, Status))
_INDENT: Final = "  "
_WIDEST: Final = 120


@dataclasses.dataclass(frozen=True)
class Options:
    """The options of `hcov doctor`; see its help."""

    rcfile: Path | None
    data_dir: Path | None
    core: str | None
    engine: str
    use_sudo: bool
    has_proof: bool
    is_json: bool


def doctor(images: tuple[str, ...], options: Options) -> int:
    """Check everything that measuring needs, and print the findings.

    Returns:
        `PROBLEMS` if there is a problem, else 0.
    """
    with _ended_in_order(), progress_bar("checking") as on_progress:
        findings = list(_findings(images, options, on_progress or _no_progress))
    if options.is_json:
        _print_json(findings)
    else:
        _print(findings)
    return PROBLEMS if _count(findings, Status.PROBLEM) else 0


@contextlib.contextmanager
def _ended_in_order() -> Iterator[None]:
    """Let SIGTERM, as from a time limit, end the check-up like Ctrl-C: nothing stays behind."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _findings(
    images: tuple[str, ...], options: Options, on_progress: Callable[[int, int], None]
) -> Iterator[Finding]:
    checkup = hcoverage.look_around(options.rcfile, options.data_dir, options.core)
    total = 1 + len(checkup.interpreters) + len(images)
    done = itertools.count(1)
    on_progress(next(done), total)
    looks = [*checkup.findings(), *_looks_at_containers(images, options)]
    tries: list[Finding] = []
    if options.has_proof and checkup.can_start:
        missing = {look.subject for look in looks if look.status is Status.PROBLEM}
        present = [image for image in images if f"image {image}" not in missing]
        try:
            with hcoverage.open_proof(checkup.project.rcfile) as proof:
                for interpreter in checkup.interpreters:
                    tries += proof.try_interpreter(interpreter)
                    on_progress(next(done), total)
                for image in present:
                    tries += hdocker.try_image(
                        image, proof, options.engine, use_sudo=options.use_sudo
                    )
                    on_progress(next(done), total)
        except (hcoverage.HcoverageError, ImportError, OSError) as error:
            tries.append(hcoverage.problem_of("a run", "start", error))
    on_progress(total, total)
    yield from _by_subject([*looks, *tries])


def _looks_at_containers(images: tuple[str, ...], options: Options) -> Iterator[Finding]:
    engine, use_sudo = options.engine, options.use_sudo
    yield from hdocker.look_at_engines(engine, use_sudo=use_sudo, is_needed=bool(images))
    for image in images:
        yield hdocker.look_at_image(image, engine, use_sudo=use_sudo)


def _by_subject(findings: Iterable[Finding]) -> Iterator[Finding]:
    """Group findings by subject, in the order in which the subjects came up."""
    grouped: dict[str, list[Finding]] = {}
    for finding in findings:
        grouped.setdefault(finding.subject, []).append(finding)
    yield from itertools.chain.from_iterable(grouped.values())


def _print(findings: list[Finding]) -> None:
    width = max(len(finding.check) for finding in findings)
    for subject, group in itertools.groupby(findings, key=lambda finding: finding.subject):
        click.secho(hcoverage.printable(subject), bold=True)
        for finding in group:
            _print_finding(finding, width)
        click.echo()
    problems, notes = _count(findings, Status.PROBLEM), _count(findings, Status.NOTE)
    click.echo(
        f"{_plural(len(findings), 'check')}: {_plural(problems, 'problem')}, "
        f"{_plural(notes, 'note')}"
    )


def _print_finding(finding: Finding, width: int) -> None:
    status = click.style(f"{finding.status:<{_STATUS_WIDTH}}", fg=_COLOURS[finding.status])
    head = f"{_INDENT}{status}  {finding.check:<{width}}  "
    margin = len(_INDENT) + _STATUS_WIDTH + 2 + width + 2
    text = hcoverage.printable(finding.detail)
    if finding.slug:
        text = hcoverage.with_slug(text, finding.slug)
    detail, *others = _wrap(text, margin) or [""]
    click.echo(f"{head}{detail}".rstrip())
    for line in others:
        click.echo(f"{' ' * margin}{line}")
    if finding.fix:
        # Unwrapped, so that it can be copied.
        click.echo(f"{' ' * margin}fix: {hcoverage.printable(finding.fix)}")


def _wrap(text: str, margin: int) -> list[str]:
    columns = min(shutil.get_terminal_size().columns, _WIDEST)
    return textwrap.wrap(
        text, max(columns - margin, 40), break_long_words=False, break_on_hyphens=False
    )


def _print_json(findings: list[Finding]) -> None:
    document = {
        "findings": [dataclasses.asdict(finding) for finding in findings],
        "problems": _count(findings, Status.PROBLEM),
        "notes": _count(findings, Status.NOTE),
    }
    click.echo(json.dumps(document, indent=2))


def _count(findings: Iterable[Finding], status: Status) -> int:
    return sum(finding.status is status for finding in findings)


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _no_progress(_done: int, _total: int, /) -> None:
    pass
