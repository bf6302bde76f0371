"""Processes and data: the hook, the session, and combining what processes wrote.

Knows nothing of containers (`hdocker`) or of the command line (`hcov`); leaves configuration, data
files and reports to coverage.py.

PYTEST_DONT_REWRITE: pytest has our plugin, and would warn where we are imported before it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from hcoverage._checkup import (
        Checkup as Checkup,
        look_around as look_around,
    )
    from hcoverage._combine import (
        combine as combine,
    )
    from hcoverage._combine_result import (
        CombineResult as CombineResult,
        FoundTree as FoundTree,
        OtherVersion as OtherVersion,
        RecordedProcess as RecordedProcess,
        SetAside as SetAside,
        UnmappedSource as UnmappedSource,
    )
    from hcoverage._commands import (
        combine_commands as combine_commands,
        coverage_subprocess_commands as coverage_subprocess_commands,
    )
    from hcoverage._context_file import read_context as read_context
    from hcoverage._contexts import (
        ContextError as ContextError,
        Contexts as Contexts,
    )
    from hcoverage._core import (
        Core as Core,
        CoreChoice as CoreChoice,
        CoreError as CoreError,
    )
    from hcoverage._data_directory import (
        IN_CONTAINER as IN_CONTAINER,
        RCFILE_NAME as RCFILE_NAME,
    )
    from hcoverage._default_rcfile import (
        default_rcfile_text as default_rcfile_text,
    )
    from hcoverage._detached_watch import (
        DetachedWatch as DetachedWatch,
    )
    from hcoverage._environment import (
        CONTAINERS_VARIABLE as CONTAINERS_VARIABLE,
        CONTEXT_FILE_VARIABLE as CONTEXT_FILE_VARIABLE,
        DATA_DIR_VARIABLE as DATA_DIR_VARIABLE,
        DEFAULT_DATA_DIR as DEFAULT_DATA_DIR,
        SESSION_VARIABLE as SESSION_VARIABLE,
        VARIABLES as VARIABLES,
        unmeasured_environment as unmeasured_environment,
    )
    from hcoverage._errors import (
        CombineError as CombineError,
        DataDirectoryBusyError as DataDirectoryBusyError,
        DataFileBusyError as DataFileBusyError,
        ForeignHookError as ForeignHookError,
        ForeignHookWarning as ForeignHookWarning,
        HcoverageError as HcoverageError,
        HcoverageWarning as HcoverageWarning,
        HookPermissionError as HookPermissionError,
        MissingCoverageError as MissingCoverageError,
        MissingExtraError as MissingExtraError,
        NoDataError as NoDataError,
        NoInputError as NoInputError,
        NoRcfileError as NoRcfileError,
        RcfileError as RcfileError,
        StepError as StepError,
        UnknownReportError as UnknownReportError,
        slug_of as slug_of,
    )
    from hcoverage._finding import (
        Finding as Finding,
        Status as Status,
        problem_of as problem_of,
    )
    from hcoverage._guest_settings import (
        MADE_BY_US as MADE_BY_US,
        container_rcfile_text as container_rcfile_text,
    )
    from hcoverage._hook import (
        pth_text as pth_text,
    )
    from hcoverage._image_lines import (
        generate_coverage_dockerfile as generate_coverage_dockerfile,
    )
    from hcoverage._inject import (
        inject as inject,
        remove as remove,
    )
    from hcoverage._origin_data import (
        OriginData as OriginData,
        OriginsError as OriginsError,
        read_origins as read_origins,
    )
    from hcoverage._origins import (
        place_of as place_of,
    )
    from hcoverage._page import (
        Page as Page,
        with_slug as with_slug,
    )
    from hcoverage._printable import (
        printable as printable,
    )
    from hcoverage._private_directory import (
        data_of_killed_sessions as data_of_killed_sessions,
        data_of_running_sessions as data_of_running_sessions,
    )
    from hcoverage._progress import (
        OnProgress as OnProgress,
    )
    from hcoverage._proof import (
        CameBack as CameBack,
        Proof as Proof,
        open_proof as open_proof,
    )
    from hcoverage._rcfile import (
        Rcfile as Rcfile,
        as_rcfile as as_rcfile,
        find_rcfile as find_rcfile,
        read_rcfile as read_rcfile,
    )
    from hcoverage._session import (
        Session as Session,
        open_session as open_session,
    )
    from hcoverage._set_algebra import (
        Measured as Measured,
        SetAlgebraError as SetAlgebraError,
        read_measured as read_measured,
    )
    from hcoverage._startup_directory import (
        add_coverage_for as add_coverage_for,
        add_note_for as add_note_for,
        copy_startup_directory as copy_startup_directory,
        own_coverage_runs_on as own_coverage_runs_on,
        recorder_since as recorder_since,
    )
    from hcoverage._steps import (
        coverage_combine as coverage_combine,
        coverage_commands_subprocess as coverage_commands_subprocess,
    )
    from hcoverage._this_process import (
        joined as joined,
        leave_this_process as leave_this_process,
    )
    from hcoverage._unmeasured import (
        Unmeasured as Unmeasured,
    )
    from hcoverage._watch import (
        PythonWatch as PythonWatch,
        SeenPython as SeenPython,
    )

    __version__: str

# What people call, and what is stable. The other names are plumbing for hdocker and hcov.
__all__ = [
    "CombineError",
    "CombineResult",
    "Core",
    "DataDirectoryBusyError",
    "DataFileBusyError",
    "ForeignHookError",
    "HcoverageError",
    "HcoverageWarning",
    "HookPermissionError",
    "MissingCoverageError",
    "NoDataError",
    "NoRcfileError",
    "RcfileError",
    "Session",
    "SetAside",
    "__version__",
    "combine",
    "combine_commands",
    "coverage_combine",
    "coverage_commands_subprocess",
    "coverage_subprocess_commands",
    "generate_coverage_dockerfile",
    "inject",
    "open_session",
    "remove",
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
        if name == "__version__":
            from importlib import metadata  # noqa: PLC0415 - most do not ask

            return metadata.version("hcoverage")
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"hcoverage.{_HOMES[name]}"), name)
        globals()[name] = value  # the next time it is there
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
