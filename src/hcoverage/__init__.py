"""Processes and data: the hook, the session, and combining what processes wrote.

It knows nothing of containers (`hdocker`) or of the command line (`hcov`), and leaves
configuration, data files and reports to coverage.py.

PYTEST_DONT_REWRITE: pytest loads our plugin, and would warn if this was imported before.
"""

from __future__ import annotations

from importlib import import_module

# Podman waits for its hook, which loads this: `typing` would take as long as all the rest.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from hcoverage._affected.changed_lines import (
        changed_lines as changed_lines,
    )
    from hcoverage._affected.decision import (
        PYTEST_OPTIONS as PYTEST_OPTIONS,
        Decision as Decision,
        RevisionError as RevisionError,
        decide as decide,
    )
    from hcoverage._affected.earlier_run import record_tests as record_tests
    from hcoverage._affected.facts import (
        LEFT_OUT as LEFT_OUT,
        NOT_COLLECTED as NOT_COLLECTED,
        NOT_RUN as NOT_RUN,
        PASSED as PASSED,
        KnownTest as KnownTest,
        ProjectState as ProjectState,
    )
    from hcoverage._affected.noted import are_tests_noted as are_tests_noted
    from hcoverage._affected.notes import (
        Notes as Notes,
        write_notes as write_notes,
    )
    from hcoverage._affected.project_state import (
        look_at_project as look_at_project,
    )
    from hcoverage._checkup.checkup import (
        Checkup as Checkup,
        look_around as look_around,
    )
    from hcoverage._checkup.finding import (
        Finding as Finding,
        Status as Status,
        problem_of as problem_of,
    )
    from hcoverage._checkup.proof import (
        CameBack as CameBack,
        Proof as Proof,
        open_proof as open_proof,
    )
    from hcoverage._combine.archives import take_in as take_in
    from hcoverage._combine.combine import (
        combine as combine,
    )
    from hcoverage._data_directory.directory import (
        RCFILE_NAME as RCFILE_NAME,
        is_locked as is_locked,
    )
    from hcoverage._data_directory.names import (
        IN_CONTAINER as IN_CONTAINER,
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
    from hcoverage._page import (
        Page as Page,
        with_slug as with_slug,
    )
    from hcoverage._printable import (
        printable as printable,
    )
    from hcoverage._progress import (
        OnProgress as OnProgress,
    )
    from hcoverage._read.origins import (
        place_of as place_of,
    )
    from hcoverage._result.origin_data import (
        OriginData as OriginData,
        OriginsError as OriginsError,
        read_origins as read_origins,
    )
    from hcoverage._result.outcome import (
        CombineResult as CombineResult,
        OnlyOwn as OnlyOwn,
        OtherVersion as OtherVersion,
        RecordedProcess as RecordedProcess,
    )
    from hcoverage._result.set_algebra import (
        Measured as Measured,
        SetAlgebraError as SetAlgebraError,
        read_measured as read_measured,
    )
    from hcoverage._session.commands import (
        combine_commands as combine_commands,
        coverage_subprocess_commands as coverage_subprocess_commands,
    )
    from hcoverage._session.context_file import read_context as read_context
    from hcoverage._session.contexts import (
        ContextError as ContextError,
        Contexts as Contexts,
    )
    from hcoverage._session.core import (
        Core as Core,
        CoreChoice as CoreChoice,
        CoreError as CoreError,
    )
    from hcoverage._session.guest_settings import (
        MADE_BY_US as MADE_BY_US,
        container_rcfile_text as container_rcfile_text,
    )
    from hcoverage._session.hook import (
        pth_text as pth_text,
    )
    from hcoverage._session.image_lines import (
        generate_coverage_dockerfile as generate_coverage_dockerfile,
    )
    from hcoverage._session.inject import (
        inject as inject,
        remove as remove,
    )
    from hcoverage._session.named_context import (
        context as context,
        followed as followed,
        followed_file as followed_file,
    )
    from hcoverage._session.private_directory import (
        IN_USE as IN_USE,
        LASTING as LASTING,
        data_of_killed_sessions as data_of_killed_sessions,
        data_of_running_sessions as data_of_running_sessions,
    )
    from hcoverage._session.session import (
        Session as Session,
        open_session as open_session,
    )
    from hcoverage._session.startup_directory import (
        add_coverage_for as add_coverage_for,
        add_note_for as add_note_for,
        copy_startup_directory as copy_startup_directory,
        own_coverage_runs_on as own_coverage_runs_on,
        recorder_since as recorder_since,
    )
    from hcoverage._session.steps import (
        coverage_combine as coverage_combine,
        coverage_commands_subprocess as coverage_commands_subprocess,
    )
    from hcoverage._session.this_process import (
        joined as joined,
        leave_this_process as leave_this_process,
    )
    from hcoverage._settings.default_rcfile import (
        default_rcfile_text as default_rcfile_text,
    )
    from hcoverage._settings.environment import (
        CONTAINERS_VARIABLE as CONTAINERS_VARIABLE,
        CONTEXT_FILE_VARIABLE as CONTEXT_FILE_VARIABLE,
        CONTEXT_VARIABLE as CONTEXT_VARIABLE,
        DATA_DIR_VARIABLE as DATA_DIR_VARIABLE,
        DEFAULT_DATA_DIR as DEFAULT_DATA_DIR,
        SESSION_VARIABLE as SESSION_VARIABLE,
        VARIABLES as VARIABLES,
        unmeasured_environment as unmeasured_environment,
    )
    from hcoverage._settings.rcfile import (
        Rcfile as Rcfile,
        as_rcfile as as_rcfile,
        find_rcfile as find_rcfile,
        read_rcfile as read_rcfile,
    )
    from hcoverage._sources.finder import (
        FoundTree as FoundTree,
        UnmappedSource as UnmappedSource,
    )
    from hcoverage._untrusted.set_aside import (
        SetAside as SetAside,
    )
    from hcoverage._watch.detached import (
        DetachedWatch as DetachedWatch,
    )
    from hcoverage._watch.seen_python import SeenPython as SeenPython
    from hcoverage._watch.unmeasured import (
        Unmeasured as Unmeasured,
    )
    from hcoverage._watch.watch import (
        PythonWatch as PythonWatch,
    )

    __version__: str

# The stable names, for users. The other names are for hdocker and hcov.
__all__ = [
    "CombineError",
    "CombineResult",
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
    "context",
    "coverage_combine",
    "coverage_commands_subprocess",
    "coverage_subprocess_commands",
    "generate_coverage_dockerfile",
    "inject",
    "open_session",
    "remove",
]

# To import all of them takes as long as a small merge, and most importers need one or two.
# PEP 562. mypy reads the imports above; a test compares both lists.
_NAMES: Final = {
    "_affected.changed_lines": ("changed_lines",),
    "_affected.decision": ("PYTEST_OPTIONS", "Decision", "RevisionError", "decide"),
    "_affected.earlier_run": ("record_tests",),
    "_affected.facts": (
        "LEFT_OUT",
        "NOT_COLLECTED",
        "NOT_RUN",
        "PASSED",
        "KnownTest",
        "ProjectState",
    ),
    "_affected.noted": ("are_tests_noted",),
    "_affected.notes": ("Notes", "write_notes"),
    "_affected.project_state": ("look_at_project",),
    "_checkup.checkup": ("Checkup", "look_around"),
    "_combine.archives": ("take_in",),
    "_combine.combine": ("combine",),
    "_result.outcome": (
        "CombineResult",
        "OnlyOwn",
        "OtherVersion",
        "RecordedProcess",
    ),
    "_session.commands": ("combine_commands", "coverage_subprocess_commands"),
    "_session.context_file": ("read_context",),
    "_session.contexts": ("ContextError", "Contexts"),
    "_session.named_context": ("context", "followed", "followed_file"),
    "_session.core": ("Core", "CoreChoice", "CoreError"),
    "_data_directory.directory": ("RCFILE_NAME", "is_locked"),
    "_data_directory.names": ("IN_CONTAINER",),
    "_settings.default_rcfile": ("default_rcfile_text",),
    "_settings.environment": (
        "CONTAINERS_VARIABLE",
        "CONTEXT_FILE_VARIABLE",
        "CONTEXT_VARIABLE",
        "DATA_DIR_VARIABLE",
        "DEFAULT_DATA_DIR",
        "SESSION_VARIABLE",
        "VARIABLES",
        "unmeasured_environment",
    ),
    "_sources.finder": ("FoundTree", "UnmappedSource"),
    "_untrusted.set_aside": ("SetAside",),
    "_watch.detached": ("DetachedWatch",),
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
    "_session.guest_settings": ("MADE_BY_US", "container_rcfile_text"),
    "_checkup.finding": ("Finding", "Status", "problem_of"),
    "_session.hook": ("pth_text",),
    "_session.image_lines": ("generate_coverage_dockerfile",),
    "_session.inject": ("inject", "remove"),
    "_result.origin_data": ("OriginData", "OriginsError", "read_origins"),
    "_read.origins": ("place_of",),
    "_page": ("Page", "with_slug"),
    "_printable": ("printable",),
    "_session.private_directory": (
        "IN_USE",
        "LASTING",
        "data_of_killed_sessions",
        "data_of_running_sessions",
    ),
    "_progress": ("OnProgress",),
    "_checkup.proof": ("CameBack", "Proof", "open_proof"),
    "_settings.rcfile": ("Rcfile", "as_rcfile", "find_rcfile", "read_rcfile"),
    "_session.session": ("Session", "open_session"),
    "_result.set_algebra": ("Measured", "SetAlgebraError", "read_measured"),
    "_session.startup_directory": (
        "add_coverage_for",
        "add_note_for",
        "copy_startup_directory",
        "own_coverage_runs_on",
        "recorder_since",
    ),
    "_session.steps": ("coverage_combine", "coverage_commands_subprocess"),
    "_session.this_process": ("joined", "leave_this_process"),
    "_watch.unmeasured": ("Unmeasured",),
    "_watch.seen_python": ("SeenPython",),
    "_watch.watch": ("PythonWatch",),
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
        globals()[name] = value  # found at once the next time
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
