"""Checks a project: what is well, and what prevents measuring.

Each check takes the facts that `project` found, and touches nothing.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Final

from hcoverage._checkup.finding import Finding, Status, problem_of
from hcoverage._checkup.project import TEMPORARY
from hcoverage._errors import slug_of
from hcoverage._page import Page
from hcoverage._session.core import Core

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from hcoverage._checkup.project import Project, Room
    from hcoverage._settings.rcfile import Rcfile

_APP: Final = "/app"  # where `build_container_image` and Dockerfile.test put the code
_OPEN: Final = 0o777
_READABLE: Final = 0o004
_RUN: Final = "[run]"

# Enough for recordings and data files of a thousand processes; a reserve, not an estimate.
_LITTLE_ROOM: Final = 64 << 20
_SOME_ROOM: Final = 512 << 20


def check_project(project: Project) -> Iterator[Finding]:
    """Check everything about a project."""
    for check in _CHECKS:
        yield from check(project)


# The environment ---------------------------------------------------------------------------------


def _check_variables(project: Project) -> Iterator[Finding]:
    """Check whether variables already measure something here."""
    if project.is_in_run:
        yield Finding(
            "environment",
            "variables",
            Status.NOTE,
            "this is part of a run already",
            slug=Page.MEASURED_ALREADY,
        )
    elif project.variables:
        yield Finding(
            "environment",
            "variables",
            Status.NOTE,
            f"{', '.join(project.variables)}: set, as by `hcov inject`: all is measured here",
            f"unset {' '.join(project.variables)}",
            Page.MEASURED_ALREADY,
        )
    else:
        yield Finding("environment", "variables", Status.OK, "nothing is measured yet")


def _check_rooms(project: Project) -> Iterator[Finding]:
    """Check whether there is room to write."""
    for room in project.rooms:
        yield _check_room(room)


def _check_room(room: Room) -> Finding:
    check = f"disk, {room.purpose}"
    free = f"{room.free / (1 << 30):.1f} GiB free in {room.path}"
    if not room.is_writable:
        return Finding(
            "environment",
            check,
            Status.PROBLEM,
            f"{room.path} cannot be written to",
            "work in a directory of your own, or set TMPDIR to one"
            if room.purpose == TEMPORARY
            else "work in a directory of your own",
            Page.DISK,
        )
    if room.free < _LITTLE_ROOM:
        return Finding(
            "environment", check, Status.PROBLEM, free, f"make room in {room.path}", Page.DISK
        )
    if room.free < _SOME_ROOM:
        return Finding(
            "environment", check, Status.NOTE, free, "make room, or expect it to run out", Page.DISK
        )
    return Finding("environment", check, Status.OK, free)


# The rcfile --------------------------------------------------------------------------------------


def _check_rcfile(project: Project) -> Iterator[Finding]:
    """Check whether the rcfile can be used, and its settings."""
    facts = project.rcfile
    if facts.error is not None:
        yield problem_of("rcfile", "file", facts.error)
        return
    if facts.rcfile is None:  # without coverage.py, which the interpreter's check reports
        return
    if facts.path is None:
        yield Finding(
            "rcfile",
            "file",
            Status.NOTE,
            "there is none, so coverage.py's defaults are used",
            "hcov init",
            Page.NO_RCFILE,
        )
        return
    yield Finding("rcfile", "file", Status.OK, _short(facts.path, project))
    for check in _SETTINGS_CHECKS:
        yield from check(facts.rcfile)


def _check_concurrency(rcfile: Rcfile) -> Iterator[Finding]:
    """Check whether threads are measured."""
    chosen = rcfile.settings.concurrency or []
    if "multiprocessing" in chosen and "thread" not in chosen:
        yield Finding(
            "rcfile",
            "concurrency",
            Status.PROBLEM,
            f"`{', '.join(chosen)}` turns threads off where coverage.py measures, as in containers",
            f"concurrency = {', '.join([*chosen, 'thread'])}",
            Page.RCFILE_CONCURRENCY,
        )
    else:
        yield Finding("rcfile", "concurrency", Status.OK, ", ".join(chosen) or "threads")


def _check_sigterm(rcfile: Rcfile) -> Iterator[Finding]:
    """Check whether coverage.py saves on SIGTERM."""
    if rcfile.settings.sigterm:
        yield Finding("rcfile", "sigterm", Status.OK, "coverage.py saves on SIGTERM")
    else:
        yield Finding(
            "rcfile",
            "sigterm",
            Status.NOTE,
            "where coverage.py measures, `docker stop` may lose what ran",
            f"sigterm = True, under {_RUN}",
            Page.RCFILE_SIGTERM,
        )


def _check_paths(rcfile: Rcfile) -> Iterator[Finding]:
    """Check whether containers' paths are mapped to the ones here."""
    if any(_APP in side for side in rcfile.container_sides):
        yield Finding("rcfile", "paths", Status.OK, f"{_APP} of containers is mapped")
    else:
        yield Finding(
            "rcfile",
            "paths",
            Status.NOTE,
            f"{_APP} of containers is not mapped: hcov finds its files by their content, but "
            "`coverage combine` does not",
            f"[paths], app = ., {_APP}: see `hcov init`",
            Page.RCFILE_PATHS,
        )


def _check_source_pkgs(rcfile: Rcfile) -> Iterator[Finding]:
    """Check whether files that are run by their path may stay at 0 %."""
    packages = rcfile.settings.source_pkgs or []
    if packages:
        yield Finding(
            "rcfile",
            "source_pkgs",
            Status.NOTE,
            f"a file of {', '.join(packages)} that is run by its path is not measured",
            "name the directory with `source` if there are such files",
            Page.RCFILE_SOURCE_PKGS,
        )


def _check_sources(project: Project) -> Iterator[Finding]:
    """Check whether the sources exist."""
    for name in project.rcfile.missing_sources:
        yield Finding(
            "rcfile",
            "source",
            Status.NOTE,
            f"{name} is no directory here, so it is taken for a package",
            "name a directory, if it is none",
            Page.RCFILE_SOURCE,
        )


def _check_core(project: Project) -> Iterator[Finding]:
    """Check which core measures, and why."""
    facts = project.rcfile
    if facts.core_error is not None:
        error = facts.core_error
        yield Finding("rcfile", "core", Status.PROBLEM, str(error), "core = auto", slug_of(error))
    elif facts.choice is not None:
        detail = f"{facts.choice.core}, since {facts.choice.reason}"
        if facts.choice.core is Core.COVERAGE:
            yield Finding("rcfile", "core", Status.NOTE, detail, slug=Page.SLOW_CORE)
        else:
            yield Finding("rcfile", "core", Status.OK, detail)


# The data directory ------------------------------------------------------------------------------


def _check_data_directory(project: Project) -> Iterator[Finding]:
    """Check whether processes and containers can write into the data directory."""
    facts = project.data_directory
    name = _short(facts.path, project)
    quoted = shlex.quote(name)
    if facts.is_outside:
        yield _data("directory", Status.OK, "each run has one of its own, in TMPDIR")
        return
    if not facts.exists:
        yield _data("directory", Status.OK, f"{name} is made for each run")
        return
    if not facts.is_directory:
        yield _data(
            "directory",
            Status.PROBLEM,
            f"{name} is no directory",
            f"rm {quoted}",
            Page.DATA_DIRECTORY,
        )
        return
    if facts.mode & _OPEN != _OPEN:
        sudo = "" if facts.is_ours else "sudo "
        yield _data(
            "mode",
            Status.PROBLEM,
            f"{name} has mode {facts.mode:o}, so containers' users cannot write into it",
            f"{sudo}chmod 777 {quoted}",
            Page.DATA_DIRECTORY,
        )
    else:
        yield _data("mode", Status.OK, f"{name}, {facts.mode:o}")
    yield _check_rcfile_mode(project, name)


def _check_rcfile_mode(project: Project, name: str) -> Finding:
    mode = project.data_directory.rcfile_mode
    if mode is None:
        command = ["hcov", "commands", "setup", f"--data-dir={name}"]
        if project.rcfile.path is not None:
            command.append(f"--rcfile={project.rcfile.path}")
        return _data(
            "rcfile",
            Status.NOTE,
            f"there is none in {name}: containers that are not started under `hcov run` need it",
            f"{shlex.join(command)} | sh -e",
            Page.DATA_DIRECTORY,
        )
    if not mode & _READABLE:
        return _data(
            "rcfile",
            Status.PROBLEM,
            f"{name}/.coveragerc has mode {mode:o}, so containers' users cannot read it",
            f"chmod 644 {shlex.quote(f'{name}/.coveragerc')}",
            Page.DATA_DIRECTORY,
        )
    return _data("rcfile", Status.OK, f"{name}/.coveragerc, {mode:o}")


def _check_left_over(project: Project) -> Iterator[Finding]:
    """Check whether data of earlier runs waits to be merged."""
    facts = project.data_directory
    name = _short(facts.path, project)
    if facts.is_locked:
        yield _data(
            "lock",
            Status.NOTE,
            f"a run is measuring into {name} right now",
            "wait for it, or name another directory with --data-dir",
            Page.DATA_DIRECTORY_BUSY,
        )
        return
    if facts.left:
        yield _left_over(
            f"{facts.left} files of an earlier run were never merged",
            f"hcov combine --append {shlex.quote(name)}",
        )
    for directory in facts.set_aside:
        yield _left_over(
            f"{_short(directory, project)} holds data of an earlier run",
            f"hcov combine --append {shlex.quote(_short(directory, project))}, or remove it",
        )
    for note in facts.problems:
        yield _left_over(f"an earlier run noted: {note}", "see what it names")
    if project.stray:
        yield _left_over(
            f"{project.stray} data files lie in the project itself",
            "hcov combine --append",
        )
    if project.interrupted_merge is not None:
        yield _left_over(
            f"a merge was killed ({project.interrupted_merge.name}); it lost nothing",
            "nothing: the next merge takes it up",
        )


def _data(check: str, status: Status, detail: str, fix: str = "", slug: str = "") -> Finding:
    return Finding("data directory", check, status, detail, fix, slug)


def _left_over(detail: str, fix: str) -> Finding:
    return _data("left over", Status.NOTE, detail, fix, Page.LEFT_OVER)


def _short(path: Path, project: Project) -> str:
    is_here = path.is_relative_to(project.directory)
    return str(path.relative_to(project.directory) if is_here else path)


_CHECKS: Final[tuple[Callable[[Project], Iterator[Finding]], ...]] = (
    _check_variables,
    _check_rooms,
    _check_rcfile,
    _check_sources,
    _check_core,
    _check_data_directory,
    _check_left_over,
)
_SETTINGS_CHECKS: Final[tuple[Callable[[Rcfile], Iterator[Finding]], ...]] = (
    _check_concurrency,
    _check_sigterm,
    _check_paths,
    _check_source_pkgs,
)
