"""A session: sets up everything that measuring one command needs, and undoes it at the end.

It opens the doors (hook, data directory, environment) and closes them again, whatever happened in
between. The caller runs the command; `_combine` merges the data.
"""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import importlib.util
import os
import shlex
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from hcoverage._atomic_write import write_atomically
from hcoverage._data_directory import directory as _data_directory
from hcoverage._data_directory.names import pids_of, process_of, this_host
from hcoverage._data_directory.notes import measured_themselves, problems
from hcoverage._errors import (
    CombineError,
    DataDirectoryBusyError,
    MissingCoverageError,
    ProjectNameError,
    RcfileError,
)
from hcoverage._printable import printable
from hcoverage._result.target import require_place
from hcoverage._session import guest_settings, hook as _hook, private_directory
from hcoverage._session.claim import claimed
from hcoverage._session.core import (
    Core,
    CoreChoice,
    choose_core,
    worth_skipping,
)
from hcoverage._session.startup_directory import Settings, fill_startup_directory
from hcoverage._settings.dynamic_contexts import TEST_FUNCTION
from hcoverage._settings.environment import (
    DATA_DIR_VARIABLE,
    DEFAULT_DATA_DIR,
    SESSION_VARIABLE,
    session_environment,
    users_data_file,
)
from hcoverage._settings.rcfile import Rcfile, as_rcfile
from hcoverage._sources.identity import known_now
from hcoverage._sources.project_files import project_files
from hcoverage._sources.roots import importing_from_here, roots

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from hcoverage._progress import OnProgress
    from hcoverage._result.outcome import CombineResult
    from hcoverage._sources.identity import Known
    from hcoverage._watch.seen_python import SeenPython
    from hcoverage._watch.unmeasured import Unmeasured

_DATA_FILE_NAME: Final = ".coverage"
# With these patches coverage.py starts itself in a child, and reads COVERAGE_FILE there.
_STARTED_BY_COVERAGE: Final = frozenset({"execv", "fork"})
# Where containers have our files (`hdocker`).
_CONTAINER_PLACE: Final = "/opt/hcoverage/*"


@dataclasses.dataclass(frozen=True)
class Session:
    """One measured run.

    Attributes:
        rcfile: The user's rcfile, or coverage.py's defaults where there is none.
        core: Which core measures, and why.
        hook: The start-up hook that the session holds in place.
        data_dir: Where processes and containers write, absolute.
        kept_dir: Where unmergeable data is kept, absolute; `data_dir`, or one in the project.
        data_file: Where the merged data goes, absolute.
        previous: Where unmerged data of earlier runs lies.
        environment: The whole environment for the command.
        known: The state of the project's sources at the session's beginning (`combine`).
        began: When the session began, in nanoseconds since the epoch.
    """

    rcfile: Rcfile
    core: CoreChoice
    hook: Path
    data_dir: Path
    kept_dir: Path
    data_file: Path
    previous: tuple[Path, ...]
    environment: Mapping[str, str]
    known: Mapping[str, Known]
    began: int

    def data_paths(self) -> list[Path]:
        """List what to combine: the data directory, and a file that the command combined itself.

        With `concurrency = multiprocessing` coverage.py sets COVERAGE_RCFILE in each process that
        it measures, so that a `coverage combine` that the command runs finds our data files.
        """
        combined = self.data_dir / _DATA_FILE_NAME
        return [self.data_dir, *([combined] if combined.is_file() else [])]

    def combine(
        self,
        data_file: Path,
        *,
        append: bool = False,
        command: int | None = None,
        imported: Collection[str] = (),
        on_progress: OnProgress | None = None,
    ) -> CombineResult:
        """Merge the data of the session's processes; keep what cannot be merged in `kept_dir`.

        Args:
            data_file: Where the result goes.
            append: Also keep what `data_file` already contains.
            command: The process id of the command.
            imported: Files that were imported before measuring began.
            on_progress: Called with how many files have been read, and how many there are.

        Returns:
            The result of `hcoverage.combine`, with the present paths of what was set aside.

        Raises:
            HcoverageError, OSError: As `hcoverage.combine` does.
        """
        from hcoverage._combine.combine import combine  # noqa: PLC0415 - most of a session needs none of it

        self._take_in_what_measured_itself()
        is_whole_run = data_file == self.data_file
        try:
            result = combine(
                self.data_paths(),
                coveragerc=self.rcfile,
                known=self.known,
                data_file=data_file,
                append=append,
                command=command,
                imported=imported,
                began=self.began if is_whole_run else None,
                hand_on=_run_around() if is_whole_run else None,
                on_progress=on_progress,
            )
        except CombineError as error:
            text = str(error)
            for before, now in self._keep(_data_directory.left_in(self.data_dir)).items():
                text = text.replace(str(before), str(now))
            raise type(error)(text) from error
        moved = self._keep(item.path for item in result.set_aside)
        set_aside = (
            dataclasses.replace(item, path=moved.get(item.path, item.path))
            for item in result.set_aside
        )
        return dataclasses.replace(
            result,
            set_aside=tuple(set_aside),
            # Somebody else has the rest of the run, in which they may have been imported.
            never_imported=result.never_imported if is_whole_run else (),
        )

    def _take_in_what_measured_itself(self) -> None:
        """Copy the data that the command measured by itself, as with `coverage run`."""
        host = this_host()
        for pid in measured_themselves(self.data_dir):
            # Data of `--parallel-mode` stays: the command may combine it.
            beside = self.data_file.parent.glob(f"{glob.escape(self.data_file.name)}.*")
            own = [file for file in beside if process_of(file.name) == (host, pid)]
            for number, file in enumerate([self.data_file, *own]):
                if file.is_file() and file.stat().st_mtime_ns >= self.began:
                    name = f"{_DATA_FILE_NAME}.{host}.pid{pid}.Xitself{number}x"
                    shutil.copyfile(file, self.data_dir / name)

    def _keep(self, files: Iterable[Path]) -> dict[Path, Path]:
        if self.kept_dir == self.data_dir:
            return {}
        ours = (file for file in files if file.parent == self.data_dir)
        return _data_directory.keep(ours, self.kept_dir)

    def problems(self) -> list[str]:
        """Return a line, safe to print, for each process where measuring could not start."""
        return problems(self.data_dir)

    def unmeasured(
        self, seen: Iterable[SeenPython], merged: Iterable[Path] = ()
    ) -> list[Unmeasured]:
        """Return which Pythons left no data, and why, except those that `problems` names.

        Args:
            seen: The Pythons that were started.
            merged: The files that combining has already taken out of the data directory.
        """
        places = {place for place in (self.data_dir, self.kept_dir) if place.is_dir()}
        names = [
            *(entry.name for place in places for entry in place.iterdir()),
            *(file.name for file in merged),
        ]
        seen = [*seen]
        measured = pids_of(names)
        if not any(measured.isdisjoint(python.pids) for python in seen):
            return []
        # Imported here: in most runs all are measured.
        from hcoverage._watch.packaging import builds  # noqa: PLC0415
        from hcoverage._watch.unmeasured import Doors, find_unmeasured  # noqa: PLC0415

        built = any(builds(python.argv) for python in seen)
        doors = Doors(
            startup=self.environment[SESSION_VARIABLE],
            hook=self.hook,
            builds_count=built and self._has_build_script(),
        )
        return find_unmeasured(seen, names, doors)

    def _has_build_script(self) -> bool:
        """Return whether anything counts that a build runs of the project."""
        from hcoverage._watch.packaging import BUILD_SCRIPTS  # noqa: PLC0415 - as above

        scripts = [file for file in self.known if os.path.basename(file) in BUILD_SCRIPTS]  # noqa: PTH119
        if not scripts:
            return False
        # Imported here, only if there are any: it imports much of coverage.py.
        from hcoverage._sources.choice import Choice  # noqa: PLC0415

        return any(map(Choice(self.rcfile.settings).wants, scripts))


def _run_around() -> Path | None:
    """Return the data directory of the run whose command this run is, if there is one.

    The processes of this run write into this run's directory, so the run around has nothing of
    them. It gets their data as they wrote it: its own rcfile decides what counts there.
    """
    around = os.environ.get(SESSION_VARIABLE) and os.environ.get(DATA_DIR_VARIABLE)
    return Path(around) if around and Path(around).is_dir() else None


@contextlib.contextmanager
def open_session(
    coveragerc: str | os.PathLike[str] | Rcfile | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    core: str | None = None,
) -> Iterator[Session]:
    """Set up everything for measuring a command, for the length of a `with` block.

    Several sessions at once do not disturb each other, if each has a data file of its own.

    Afterwards the hook is removed, unless somebody injected it or another session holds it. So is
    the data directory, unless it was there before or still holds data. Data left in a directory
    outside the project is moved to `coverage_data` in the current directory.

    Args:
        coveragerc: The rcfile, as a path or already read. By default the one that coverage.py
            would find in the current directory, else coverage.py's defaults.
        data_dir: The data directory. By default `coverage_data` in the current directory if it
            exists and no other run uses it now, else a directory of the session's own, outside
            the project.
        core: `auto`, `recorder` or `coverage`; None for the value of HCOVERAGE_CORE or the rcfile.

    Yields:
        The session.

    Raises:
        RcfileError: The rcfile cannot be used.
        CoreError: There is no such core, or the recorder cannot do what the rcfile wants.
        DataDirectoryBusyError: Another run uses the given data directory.
        DataFileBusyError: Another run will write the same data file.
        MissingCoverageError: coverage.py cannot be imported by this Python.
        OSError: The rcfile is missing, the current directory's name is no UTF-8, or the data
            directory, site-packages or the rcfile's `data_file` cannot be written.
    """
    _require_coverage()
    here = Path.cwd()
    _require_text(here)
    with contextlib.ExitStack() as undo:
        private = undo.enter_context(private_directory.opened(here))
        rcfile = as_rcfile(coveragerc)
        from hcoverage._settings.usable import require_usable  # noqa: PLC0415 - it imports coverage.py

        require_usable(rcfile)
        _require_sources_and_plugins(rcfile, here)
        choice = choose_core(rcfile, core)
        data_file = here / rcfile.settings.data_file
        require_place(data_file)

        undo.enter_context(claimed(data_file))
        _leave_to_us(data_file)

        directory, kept = _opened_data_directory(here, data_dir, private, undo)
        previous = _left_by_earlier_runs(here, directory, kept)
        files = [file for file, _ in project_files(roots(rcfile.settings, here), [directory])]
        told = _tell_processes(rcfile, choice, private, directory, files)
        hook = undo.enter_context(_hook.held())
        undo.enter_context(_hook.announced(hook, told.startup, directory))
        yield Session(
            hook=hook,
            core=choice,
            rcfile=rcfile,
            data_dir=directory,
            kept_dir=kept,
            data_file=data_file,
            previous=previous,
            environment=session_environment(
                os.environ, told.startup, directory, told.for_coverage, told.own_data_file
            ),
            known=known_now(file for file in files if file.endswith(".py")),
            began=told.began,
        )


def _leave_to_us(data_file: Path) -> None:
    """Keep a coverage.py that measures this process from replacing the result as it ends.

    It does, by COVERAGE_PROCESS_START in somebody's environment, unless the rcfile has `parallel`.
    """
    import coverage  # noqa: PLC0415 - most of it is loaded by now

    started = getattr(coverage.process_startup, "coverage", None)
    settings = getattr(started, "config", None)
    if settings and not settings.parallel and Path.cwd() / settings.data_file == data_file:
        started._auto_save = False  # type: ignore[union-attr]  # noqa: SLF001


class _Told(NamedTuple):
    """The settings that the processes of a session get.

    Attributes:
        startup: The startup directory.
        for_coverage: The variables that give coverage.py's own hook the same settings.
        own_data_file: The COVERAGE_FILE for data that they measure or merge themselves, if any.
        began: When the session began for them, in nanoseconds since the epoch.
    """

    startup: Path
    for_coverage: Mapping[str, str]
    own_data_file: str | None
    began: int


def _tell_processes(
    rcfile: Rcfile, choice: CoreChoice, private: Path, data_dir: Path, files: list[str]
) -> _Told:
    """Write the settings for processes and containers: how to measure, with which core."""
    here = Path.cwd()
    plugins = rcfile.settings.plugins
    names = guest_settings.ends_of(files, with_templates=bool(plugins))
    for_containers = guest_settings.for_containers(rcfile, names, [_CONTAINER_PLACE])
    _data_directory.put_rcfile(data_dir, for_containers.rcfile_text)
    startup = private / "startup"
    startup.mkdir()
    for_us = guest_settings.for_processes_here(rcfile, here, data_dir / _DATA_FILE_NAME, startup)
    shared = private / "shared.coveragerc"
    write_atomically(shared, for_us.rcfile_text)
    measured_by = choice.settings or rcfile.settings
    settings = Settings(
        recorder_since=choice.recorder_since,
        data_dir=data_dir,
        rcfile=shared,
        serialized=for_us.serialized,
        plugin_directory=here if plugins else None,
        branch=measured_by.branch,
        test_functions=measured_by.dynamic_context == TEST_FUNCTION,
        context=measured_by.context or "",
        began=time.time_ns(),
        skip=(*worth_skipping(measured_by), str(startup)),
        names=names,
    )
    fill_startup_directory(startup, settings)
    own_data_file = users_data_file(os.environ)
    if _STARTED_BY_COVERAGE.intersection(rcfile.settings.patch):
        own_data_file = None
    # coverage.py's own hook would not find the project's plugins; and it would write our data
    # to where COVERAGE_FILE points.
    asked = choice.core is Core.COVERAGE and not plugins and own_data_file is None
    for_coverage = {
        "COVERAGE_PROCESS_START": str(shared),
        "COVERAGE_PROCESS_CONFIG": for_us.encoded,
    }
    return _Told(startup, for_coverage if asked else {}, own_data_file, settings.began)


def _opened_data_directory(
    here: Path,
    given: str | os.PathLike[str] | None,
    private: Path,
    undo: contextlib.ExitStack,
) -> tuple[Path, Path]:
    """Choose the data directory and hold it until all is undone, without losing data in it.

    Returns:
        The directory, and the one that keeps what cannot be merged.
    """
    if given is not None:
        undo.enter_context(_held(here / given, here / given))
        return here / given, here / given
    default = here / DEFAULT_DATA_DIR
    is_left_over = default.is_dir() and _data_directory.is_only_left_over(default)
    # Otherwise somebody made it for containers to write into.
    if os.path.lexists(default) and not is_left_over:
        with contextlib.suppress(DataDirectoryBusyError):  # a run beside this one uses it
            undo.enter_context(_held(default, default))
            return default, default
    own = private_directory.make_data_directory(private)
    undo.enter_context(_held(own, default))
    return own, default


@contextlib.contextmanager
def _held(directory: Path, kept: Path) -> Iterator[None]:
    """Hold a data directory for the length of a `with` block, without losing data in it."""
    was_there = directory.is_dir()
    _data_directory.make(directory)
    with _data_directory.locked(directory):
        # Only now: a run that was refused above must not tidy up what another run uses.
        try:
            yield
        finally:
            if was_there and kept == directory:
                _data_directory.clear(directory)
            else:
                _data_directory.discard(directory)
            if directory != kept and directory.is_dir():
                _data_directory.keep(list(directory.iterdir()), kept)


def _left_by_earlier_runs(here: Path, directory: Path, kept: Path) -> tuple[Path, ...]:
    """Move the data of earlier runs out of this run's way; return where it is."""
    aside = None
    if directory == kept:
        aside = _data_directory.set_previous_aside(kept)
    elif kept.is_dir():
        with contextlib.suppress(DataDirectoryBusyError), _data_directory.locked(kept):
            aside = _data_directory.set_previous_aside(kept)
            _data_directory.discard(kept)  # its data may have been merged by now
    outside = private_directory.tidied_up(here)
    return (*outside, *([] if aside is None else [aside]))


def _require_coverage() -> None:
    """Raise if this Python has no coverage.py: the session's processes use this one."""
    if not _can_be_imported("coverage"):
        raise MissingCoverageError(
            f"{sys.executable} cannot import coverage.py: "
            f"install it with `{shlex.quote(sys.executable)} -m pip install coverage`"
        )


def _require_text(place: Path) -> None:
    """Raise if a path cannot be in data: coverage.py's database holds Unicode alone."""
    try:
        str(place).encode()
    except UnicodeEncodeError:
        raise ProjectNameError(
            f"the name of {printable(str(place))} is no UTF-8, as coverage.py needs it: rename it"
        ) from None


def _require_sources_and_plugins(rcfile: Rcfile, here: Path) -> None:
    """Raise now for settings that coverage.py would refuse in each process."""
    for name in rcfile.settings.source_dirs:
        if not (here / name).is_dir():
            raise RcfileError(
                f"{rcfile.path} names {name} in source_dirs, and there is no such directory here: "
                "put the name right, or make it"
            )
    with importing_from_here():
        missing = [name for name in rcfile.settings.plugins if not _can_be_imported(name)]
    if missing:
        raise RcfileError(
            f"{rcfile.path} wants the plugin {missing[0]}, which {sys.executable} cannot import: "
            f"install it there, with `{shlex.quote(sys.executable)} -m pip install`, "
            "or run hcov in the environment that has it"
        )


def _can_be_imported(module: str) -> bool:
    try:
        # Not the plugin itself: finding it would import its package before that is measured.
        return importlib.util.find_spec(module.partition(".")[0]) is not None
    except (ImportError, ValueError):
        return False
