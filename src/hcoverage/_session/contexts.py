"""Contexts: attribute executed lines to a named test, in this process and its whole session.

The name is put where each kind of process finds it: in the environment, for processes that start;
in a file that running processes follow (`context_file`); and in the core that measures this
process itself.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Final

from hcoverage._errors import HcoverageError
from hcoverage._session.context_file import ContextFile, context_of
from hcoverage._settings.environment import CONTEXT_FILE_VARIABLE, CONTEXT_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any


OF_THE_RCFILE: Final = "the rcfile has a dynamic_context, which sets other contexts: remove it"


class ContextError(HcoverageError):
    """The core that measures this process cannot attribute lines to contexts."""


class Contexts:
    """Publishes the current context to all processes of a session.

    Attributes:
        current: The current context; empty for none.
    """

    def __init__(self, data_dir: Path, *, with_this_process: bool = True) -> None:
        """Begin, with no context.

        Args:
            data_dir: The session's data directory.
            with_this_process: Whether this process is measured, too.

        Raises:
            ContextError: The core that measures this process has no contexts.
            OSError: The data directory cannot be written.
        """
        self.current = ""
        self._switch_this = _of_this_process() if with_this_process else None
        self._file = ContextFile.made(data_dir)
        os.environ[CONTEXT_FILE_VARIABLE] = self._file.path.name

    def switch(self, name: str) -> None:
        """Attribute all that runs from now on to a context.

        Args:
            name: Any text; empty for none.
        """
        context = self.current = context_of(name)
        self._file.publish(context)
        if context:
            os.environ[CONTEXT_VARIABLE] = context
        else:
            os.environ.pop(CONTEXT_VARIABLE, None)
        if self._switch_this is not None:
            self._switch_this(context)

    def end(self) -> None:
        """Stop attributing."""
        self.switch("")
        if os.environ.get(CONTEXT_FILE_VARIABLE) == self._file.path.name:
            del os.environ[CONTEXT_FILE_VARIABLE]
        self._file.remove()


def _of_this_process() -> Callable[[str], Any] | None:
    """Return the context switch of the core that measures this process; None if none does."""
    process: Any = sys.modules.get("_hcoverage_process")
    recorder = getattr(process, "recorder", None)
    if recorder is not None and recorder.current is not None:
        if process.TEST_FUNCTIONS:
            raise ContextError(OF_THE_RCFILE)
        return process.recorder_contexts().by_hand(recorder).switch  # type: ignore[no-any-return]
    coverage = sys.modules.get("coverage")
    measuring = None if coverage is None else coverage.Coverage.current()
    if measuring is None:
        return None
    collector = measuring._collector  # noqa: SLF001 - as `_inside.autosave` does
    if collector is None:
        return None
    if collector.should_start_context is not None:
        raise ContextError(OF_THE_RCFILE)
    core = getattr(measuring, "_core", None)
    if not getattr(core, "supports_dynamic_contexts", True):
        raise ContextError(
            "coverage.py measures with its `sysmon` core, which has no contexts: "
            "set COVERAGE_CORE=ctrace for the run"
        )
    return collector.switch_context  # type: ignore[no-any-return]
