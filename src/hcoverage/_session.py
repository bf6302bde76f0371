"""A session: everything that measuring one command from start to end needs, and its undoing.

Opens the doors (hook, data directory, environment) and closes them again, whatever happened
between. Running the command is the caller's business, merging what came of it `_combine`'s.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hcoverage import _data_directory, _hook
from hcoverage._atomic_write import write_atomically
from hcoverage._core import Core, CoreChoice, choose_core, worth_skipping
from hcoverage._default_rcfile import default_rcfile_text
from hcoverage._environment import SESSION_VARIABLE, session_environment
from hcoverage._rcfile import Rcfile, find_rcfile, read_rcfile
from hcoverage._startup_directory import Settings, fill_startup_directory
from hcoverage._unmeasured import Doors, Unmeasured, find_unmeasured

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from hcoverage._watch import SeenPython

_DATA_FILE_NAME: Final = ".coverage"


@dataclasses.dataclass(frozen=True)
class Session:
    """One measured run.

    Attributes:
        rcfile: The user's rcfile, or the default settings where there is none.
        has_rcfile: Whether the rcfile is the user's own.
        core: Which core measures, and why.
        hook: The start-up hook that the session holds in place.
        data_dir: Where processes and containers write, absolute.
        data_file: Where the merged data goes, absolute.
        previous: Where data files of an earlier, unmerged run were moved; None if there were none.
        environment: The whole environment for the command.
    """

    rcfile: Rcfile
    has_rcfile: bool
    core: CoreChoice
    hook: Path
    data_dir: Path
    data_file: Path
    previous: Path | None
    environment: Mapping[str, str]

    def data_paths(self) -> list[Path]:
        """List what to combine: the data directory, and what the command itself combined in it.

        With `concurrency = multiprocessing` coverage.py sets COVERAGE_RCFILE in each process that
        it measures, so that a `coverage combine` that the command runs finds our data files.
        """
        combined = self.data_dir / _DATA_FILE_NAME
        return [self.data_dir, *([combined] if combined.is_file() else [])]

    def problems(self) -> list[str]:
        """Tell where measuring could not start, one line for each process, safe to print."""
        return _data_directory.problems(self.data_dir)

    def unmeasured(
        self, seen: Iterable[SeenPython], merged: Iterable[Path] = ()
    ) -> list[Unmeasured]:
        """Tell which Pythons left no data, and why; a note in `problems` is word enough.

        Args:
            seen: The Pythons that were started.
            merged: The files that a combine has taken out of the data directory already.
        """
        names = [
            *(entry.name for entry in self.data_dir.iterdir()),
            *(file.name for file in merged),
        ]
        doors = Doors(self.environment[SESSION_VARIABLE], self.hook)
        return find_unmeasured(seen, names, doors)


@contextlib.contextmanager
def open_session(
    coveragerc: str | os.PathLike[str] | None = None,
    data_dir: str | os.PathLike[str] = _data_directory.DEFAULT_DATA_DIR,
    core: str | None = None,
) -> Iterator[Session]:
    """Set up everything for measuring a command, for the length of a `with` block.

    Afterwards the hook is gone, unless somebody injected it or another session holds it, and so is
    the data directory, unless there is still data in it.

    Args:
        coveragerc: The rcfile; without one, the one that coverage.py would find in the current
            directory, else sensible defaults.
        data_dir: The data directory.
        core: `auto`, `recorder` or `coverage`; None for what HCOVERAGE_CORE or the rcfile says.

    Yields:
        The session.

    Raises:
        RcfileError: The rcfile cannot be used.
        CoreError: There is no such core, or the recorder cannot do what the rcfile wants.
        DataDirectoryBusyError: Another run has the data directory.
        MissingCoverageError: coverage.py cannot be imported by this Python.
        OSError: The rcfile is missing, or the data directory or site-packages cannot be written.
    """
    here = Path.cwd()
    with contextlib.ExitStack() as undo:
        private = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="hcov-")))
        # Processes that drop their privileges read the rcfile in it too.
        private.chmod(0o755)
        chosen = Path(coveragerc) if coveragerc is not None else find_rcfile(here)
        rcfile = read_rcfile(chosen or _write_default_rcfile(private, here))
        choice = choose_core(rcfile, core)

        directory = here / data_dir
        _data_directory.make(directory)
        undo.enter_context(_data_directory.locked(directory))
        # Only now: whoever is turned away above must not tidy up what another run uses.
        undo.callback(_data_directory.discard, directory)
        previous = _data_directory.set_previous_aside(directory)
        _data_directory.put_rcfile(directory, rcfile.text())

        shared = private / "shared.coveragerc"
        startup = _fill_startup_directory(private, rcfile, choice, directory, shared)
        shared_text = rcfile.shared_text(here, directory / _DATA_FILE_NAME, startup)
        write_atomically(shared, shared_text)
        hook = undo.enter_context(_hook.held())
        undo.enter_context(_hook.announced(hook, startup))
        for_all = shared if choice.core is Core.COVERAGE else None
        yield Session(
            hook=hook,
            core=choice,
            rcfile=rcfile,
            has_rcfile=chosen is not None,
            data_dir=directory,
            data_file=here / rcfile.settings.data_file,
            previous=previous,
            environment=session_environment(os.environ, startup, directory, for_all),
        )


def _write_default_rcfile(private: Path, project: Path) -> Path:
    path = private / _data_directory.RCFILE_NAME
    write_atomically(path, default_rcfile_text(project))
    return path


def _fill_startup_directory(
    private: Path, rcfile: Rcfile, choice: CoreChoice, data_dir: Path, shared_rcfile: Path
) -> Path:
    directory = private / "startup"
    directory.mkdir(mode=0o755)
    directory.chmod(0o755)
    settings = Settings(
        recorder_since=choice.recorder_since,
        data_dir=data_dir,
        rcfile=shared_rcfile,
        branch=rcfile.settings.branch,
        context=rcfile.settings.context or "",
        began=time.time_ns(),
        skip=(*worth_skipping(rcfile), str(directory)),
    )
    fill_startup_directory(directory, settings)
    return directory
