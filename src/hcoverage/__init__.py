"""Processes and data: the hook, the session, and combining what processes wrote.

Knows nothing of containers (`hdocker`) or of the command line (`hcov`); leaves configuration, data
files and reports to coverage.py.
"""

from hcoverage._combine import combine
from hcoverage._combine_result import CombineResult, RecordedProcess, SetAside
from hcoverage._commands import combine_commands, coverage_subprocess_commands
from hcoverage._core import Core, CoreChoice, CoreError
from hcoverage._default_rcfile import default_rcfile_text
from hcoverage._environment import VARIABLES, unmeasured_environment
from hcoverage._errors import (
    CombineError,
    DataDirectoryBusyError,
    HcoverageError,
    HcoverageWarning,
    NoDataError,
    RcfileError,
)
from hcoverage._inject import inject, remove
from hcoverage._rcfile import Rcfile, find_rcfile, read_rcfile
from hcoverage._session import Session, open_session

__all__ = [
    "VARIABLES",
    "CombineError",
    "CombineResult",
    "Core",
    "CoreChoice",
    "CoreError",
    "DataDirectoryBusyError",
    "HcoverageError",
    "HcoverageWarning",
    "NoDataError",
    "Rcfile",
    "RcfileError",
    "RecordedProcess",
    "Session",
    "SetAside",
    "combine",
    "combine_commands",
    "coverage_subprocess_commands",
    "default_rcfile_text",
    "find_rcfile",
    "inject",
    "open_session",
    "read_rcfile",
    "remove",
    "unmeasured_environment",
]
