"""Sets the context of a run whose processes follow one context: `hcov run --context`.

Any process in the run or beside it may set it: a test of another framework than pytest, a script, a
person at a shell. One file in the run's data directory has the name (`context_file`). For pytest's
tests `contexts` does this by itself.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hcoverage._data_directory.directory import is_locked
from hcoverage._data_directory.names import CONTEXT_SUFFIX
from hcoverage._session.context_file import ContextFile, context_of, read_context
from hcoverage._session.contexts import OF_THE_RCFILE, ContextError
from hcoverage._session.private_directory import data_of_running_sessions
from hcoverage._settings.dynamic_contexts import has_dynamic_contexts
from hcoverage._settings.environment import (
    CONTEXT_FILE_VARIABLE,
    DATA_DIR_VARIABLE,
    DEFAULT_DATA_DIR,
    SESSION_VARIABLE,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from coverage.config import CoverageConfig

_HOW: Final = "start it with `hcov run --context NAME -- …`"


def context(name: str) -> contextlib.AbstractContextManager[None]:
    """Set the context of all processes of a run from now on, in subprocesses and containers too.

    After a plain call the context stays until somebody sets another one. As a context manager, it
    restores the previous context at the end of the `with` block.

    Args:
        name: Any text, which becomes coverage.py's context; empty for none.

    Raises:
        ContextError: No run follows a context, see `hcov run --context`.
        OSError: The run's data directory may not be written.
    """
    path = followed_file()
    before = read_context(path)
    _publish(path, name)
    return _until_the_end(path, before)


@contextlib.contextmanager
def followed(
    data_dir: Path, name: str, settings: CoverageConfig | None = None
) -> Iterator[dict[str, str]]:
    """Make the processes of a session follow a context, for the length of a `with` block.

    Args:
        data_dir: The session's data directory.
        name: The first context.
        settings: The rcfile's settings, which may name contexts themselves.

    Yields:
        The environment variables to start them with.

    Raises:
        ContextError: The rcfile has a `dynamic_context`.
        OSError: The data directory cannot be written.
    """
    if settings is not None and has_dynamic_contexts(settings):
        raise ContextError(OF_THE_RCFILE)
    file = ContextFile.made(data_dir)
    try:
        file.publish(context_of(name))
        yield {CONTEXT_FILE_VARIABLE: file.path.name}
    finally:
        file.remove()


def followed_file() -> Path:
    """Find the context file of the run that this process is part of, or that runs beside it.

    Raises:
        ContextError: There is none, or there are several.
    """
    if os.environ.get(SESSION_VARIABLE):
        return _of_this_run()
    places = _running()
    found = [file for place in places for file in sorted(place.glob(f"*{CONTEXT_SUFFIX}"))]
    if not places:
        raise ContextError(f"no run is in progress in this directory: {_HOW}")
    if not found:
        raise ContextError(f"the run that is in progress follows no context: {_HOW}")
    if len(found) > 1:
        raise ContextError(
            f"{len(found)} runs, or processes of one, name what they do: call it from inside of "
            "the one that is meant"
        )
    return found[0]


def _of_this_run() -> Path:
    data_dir = os.environ.get(DATA_DIR_VARIABLE)
    name = os.environ.get(CONTEXT_FILE_VARIABLE)
    if not data_dir or not name:
        raise ContextError(f"the run that this process is in follows no context: {_HOW}")
    return Path(data_dir) / Path(name).name


def _running() -> list[Path]:
    here = Path.cwd()
    kept = here / DEFAULT_DATA_DIR
    return [*data_of_running_sessions(here), *([kept] if is_locked(kept) else [])]


def _publish(path: Path, name: str) -> None:
    try:
        ContextFile(path).publish(context_of(name))
    except ValueError as error:
        raise ContextError(f"{path} names no context: {error}") from error


@contextlib.contextmanager
def _until_the_end(path: Path, before: str) -> Iterator[None]:
    try:
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):  # the run has ended
            _publish(path, before)
