"""Processes and data: the hook, the session, and combining what processes wrote.

Knows nothing of containers (`hdocker`) or of the command line (`hcov`); leaves configuration, data
files and reports to coverage.py.

PYTEST_DONT_REWRITE: pytest has our plugin, and would warn where we are imported before it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from hcoverage._checkup import Checkup, look_around
    from hcoverage._combine import combine
    from hcoverage._combine_result import (
        CombineResult,
        FoundTree,
        OtherVersion,
        RecordedProcess,
        SetAside,
        UnmappedSource,
    )
    from hcoverage._commands import combine_commands, coverage_subprocess_commands
    from hcoverage._context_file import read_context
    from hcoverage._contexts import ContextError, Contexts
    from hcoverage._core import Core, CoreChoice, CoreError
    from hcoverage._data_directory import IN_CONTAINER, RCFILE_NAME
    from hcoverage._default_rcfile import default_rcfile_text
    from hcoverage._detached_watch import DetachedWatch
    from hcoverage._environment import (
        CONTAINERS_VARIABLE,
        CONTEXT_FILE_VARIABLE,
        DATA_DIR_VARIABLE,
        DEFAULT_DATA_DIR,
        SESSION_VARIABLE,
        VARIABLES,
        unmeasured_environment,
    )
    from hcoverage._errors import (
        CombineError,
        DataDirectoryBusyError,
        DataFileBusyError,
        ForeignHookError,
        ForeignHookWarning,
        HcoverageError,
        HcoverageWarning,
        HookPermissionError,
        MissingCoverageError,
        MissingExtraError,
        NoDataError,
        NoInputError,
        NoRcfileError,
        RcfileError,
        StepError,
        UnknownReportError,
        slug_of,
    )
    from hcoverage._finding import Finding, Status, problem_of
    from hcoverage._guest_settings import MADE_BY_US, container_rcfile_text
    from hcoverage._hook import pth_text
    from hcoverage._image_lines import generate_coverage_dockerfile
    from hcoverage._inject import inject, remove
    from hcoverage._origin_data import OriginData, OriginsError, read_origins
    from hcoverage._origins import place_of
    from hcoverage._page import Page, with_slug
    from hcoverage._printable import printable
    from hcoverage._private_directory import data_of_killed_sessions, data_of_running_sessions
    from hcoverage._progress import OnProgress
    from hcoverage._proof import CameBack, Proof, open_proof
    from hcoverage._rcfile import Rcfile, as_rcfile, find_rcfile, read_rcfile
    from hcoverage._session import Session, open_session
    from hcoverage._set_algebra import Measured, SetAlgebraError, read_measured
    from hcoverage._startup_directory import (
        add_coverage_for,
        add_note_for,
        copy_startup_directory,
        own_coverage_runs_on,
        recorder_since,
    )
    from hcoverage._steps import coverage_combine, coverage_commands_subprocess
    from hcoverage._this_process import joined, leave_this_process
    from hcoverage._unmeasured import Unmeasured
    from hcoverage._watch import PythonWatch, SeenPython

__all__ = [
    "CONTAINERS_VARIABLE",
    "CONTEXT_FILE_VARIABLE",
    "DATA_DIR_VARIABLE",
    "DEFAULT_DATA_DIR",
    "IN_CONTAINER",
    "MADE_BY_US",
    "RCFILE_NAME",
    "SESSION_VARIABLE",
    "VARIABLES",
    "CameBack",
    "Checkup",
    "CombineError",
    "CombineResult",
    "ContextError",
    "Contexts",
    "Core",
    "CoreChoice",
    "CoreError",
    "DataDirectoryBusyError",
    "DataFileBusyError",
    "DetachedWatch",
    "Finding",
    "ForeignHookError",
    "ForeignHookWarning",
    "FoundTree",
    "HcoverageError",
    "HcoverageWarning",
    "HookPermissionError",
    "Measured",
    "MissingCoverageError",
    "MissingExtraError",
    "NoDataError",
    "NoInputError",
    "NoRcfileError",
    "OnProgress",
    "OriginData",
    "OriginsError",
    "OtherVersion",
    "Page",
    "Proof",
    "PythonWatch",
    "Rcfile",
    "RcfileError",
    "RecordedProcess",
    "SeenPython",
    "Session",
    "SetAlgebraError",
    "SetAside",
    "Status",
    "StepError",
    "UnknownReportError",
    "UnmappedSource",
    "Unmeasured",
    "add_coverage_for",
    "add_note_for",
    "as_rcfile",
    "combine",
    "combine_commands",
    "container_rcfile_text",
    "copy_startup_directory",
    "coverage_combine",
    "coverage_commands_subprocess",
    "coverage_subprocess_commands",
    "data_of_killed_sessions",
    "data_of_running_sessions",
    "default_rcfile_text",
    "find_rcfile",
    "generate_coverage_dockerfile",
    "inject",
    "joined",
    "leave_this_process",
    "look_around",
    "open_proof",
    "open_session",
    "own_coverage_runs_on",
    "place_of",
    "printable",
    "problem_of",
    "pth_text",
    "read_context",
    "read_measured",
    "read_origins",
    "read_rcfile",
    "recorder_since",
    "remove",
    "slug_of",
    "unmeasured_environment",
    "with_slug",
]

# All together take as long to import as a small merge takes; most who import this want one or two.
# PEP 562; mypy reads the imports above, and a test holds both alike.
_NAMES: Final = {
    "_checkup": ("Checkup", "look_around"),
    "_combine": ("combine",),
    "_combine_result": (
        "CombineResult",
        "FoundTree",
        "OtherVersion",
        "RecordedProcess",
        "SetAside",
        "UnmappedSource",
    ),
    "_commands": ("combine_commands", "coverage_subprocess_commands"),
    "_context_file": ("read_context",),
    "_contexts": ("ContextError", "Contexts"),
    "_core": ("Core", "CoreChoice", "CoreError"),
    "_data_directory": ("IN_CONTAINER", "RCFILE_NAME"),
    "_default_rcfile": ("default_rcfile_text",),
    "_environment": (
        "CONTAINERS_VARIABLE",
        "CONTEXT_FILE_VARIABLE",
        "DATA_DIR_VARIABLE",
        "DEFAULT_DATA_DIR",
        "SESSION_VARIABLE",
        "VARIABLES",
        "unmeasured_environment",
    ),
    "_detached_watch": ("DetachedWatch",),
    "_errors": (
        "CombineError",
        "DataDirectoryBusyError",
        "DataFileBusyError",
        "ForeignHookError",
        "ForeignHookWarning",
        "HcoverageError",
        "HcoverageWarning",
        "HookPermissionError",
        "MissingCoverageError",
        "MissingExtraError",
        "NoDataError",
        "NoInputError",
        "NoRcfileError",
        "RcfileError",
        "StepError",
        "UnknownReportError",
        "slug_of",
    ),
    "_guest_settings": ("MADE_BY_US", "container_rcfile_text"),
    "_finding": ("Finding", "Status", "problem_of"),
    "_hook": ("pth_text",),
    "_image_lines": ("generate_coverage_dockerfile",),
    "_inject": ("inject", "remove"),
    "_origin_data": ("OriginData", "OriginsError", "read_origins"),
    "_origins": ("place_of",),
    "_page": ("Page", "with_slug"),
    "_printable": ("printable",),
    "_private_directory": ("data_of_killed_sessions", "data_of_running_sessions"),
    "_progress": ("OnProgress",),
    "_proof": ("CameBack", "Proof", "open_proof"),
    "_rcfile": ("Rcfile", "as_rcfile", "find_rcfile", "read_rcfile"),
    "_session": ("Session", "open_session"),
    "_set_algebra": ("Measured", "SetAlgebraError", "read_measured"),
    "_startup_directory": (
        "add_coverage_for",
        "add_note_for",
        "copy_startup_directory",
        "own_coverage_runs_on",
        "recorder_since",
    ),
    "_steps": ("coverage_combine", "coverage_commands_subprocess"),
    "_this_process": ("joined", "leave_this_process"),
    "_unmeasured": ("Unmeasured",),
    "_watch": ("PythonWatch", "SeenPython"),
}
_HOMES: Final = {name: module for module, names in _NAMES.items() for name in names}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"hcoverage.{_HOMES[name]}"), name)
        globals()[name] = value  # the next time it is there
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
