"""Measures the process that opened a session, and its children, as if a session had started it.

It runs the same file of the startup directory as the hook does, but in the middle of a process. And
it undoes that again, which no other process of a session needs.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import os
import sys
from typing import TYPE_CHECKING, Final

from hcoverage._settings.environment import SESSION_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_PROCESS_MODULE: Final = "_hcoverage_process"
_PREFIX: Final = "_hcoverage_"
# The same as in `_inside.recorder`, which a Python without `sys.monitoring` cannot import.
_TOOL_NAME: Final = "hcoverage"
_TOOL_IDS: Final = range(6)


@contextlib.contextmanager
def joined(environment: Mapping[str, str], *, measured: bool = True) -> Iterator[None]:
    """Put this process into a session for the length of a `with` block.

    Args:
        environment: The whole environment of a process of the session.
        measured: Whether this process is measured, too, and not only its children.
    """
    with _replaced(environment), contextlib.ExitStack() as undo:
        if measured:
            undo.callback(leave_this_process)
            _start(environment[SESSION_VARIABLE])
        yield


def _start(startup: str) -> None:
    """Run the code that runs at the start of a process of the session."""
    _forget_modules()
    sys.path.insert(0, startup)
    try:
        importlib.import_module(_PROCESS_MODULE).start()
    finally:
        sys.path.remove(startup)
        sys.path_importer_cache.pop(startup, None)


def leave_this_process() -> None:
    """Stop measuring this process, with either core; its data is in the data directory."""
    _stop_recorder()
    _stop_coverage()
    _forget_modules()


@contextlib.contextmanager
def _replaced(wanted: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in {*wanted, *os.environ}}
    changed = {name for name in before if before[name] != wanted.get(name)}
    for name in changed:
        _set(name, wanted.get(name))
    try:
        yield
    finally:
        for name in changed:
            # A value that somebody else has set since stays.
            if os.environ.get(name) == wanted.get(name):
                _set(name, before[name])


def _set(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


def _stop_recorder() -> None:
    monitoring = getattr(sys, "monitoring", None)
    if monitoring is None:
        return
    recorder = getattr(sys.modules.get(_PREFIX + "process"), "recorder", None)
    if recorder is not None:
        recorder.current = None
    for tool in _TOOL_IDS:
        if monitoring.get_tool(tool) == _TOOL_NAME:
            monitoring.set_events(tool, 0)
            for name in ("PY_START", "LINE", "INSTRUCTION", "PY_RETURN", *_branches(monitoring)):
                monitoring.register_callback(tool, getattr(monitoring.events, name), None)
            monitoring.free_tool_id(tool)
            # Before Python 3.14 code objects remember which of their locations were reported.
            monitoring.restart_events()


def _branches(monitoring: object) -> tuple[str, ...]:
    events = monitoring.events  # type: ignore[attr-defined]
    return ("BRANCH_LEFT", "BRANCH_RIGHT") if hasattr(events, "BRANCH_LEFT") else ()


def _stop_coverage() -> None:
    coverage = sys.modules.get("coverage")
    startup = getattr(coverage, "process_startup", None)
    autosave = getattr(startup, "hcoverage_autosave", None)
    if autosave is None:
        return
    autosave.end()
    atexit.unregister(autosave.end)
    # So that it starts again in a session that this process opens later.
    for name in ("coverage", "hcoverage_autosave"):
        delattr(startup, name)


def _forget_modules() -> None:
    for name in [name for name in sys.modules if name.startswith(_PREFIX)]:
        sys.modules.pop(name, None)
