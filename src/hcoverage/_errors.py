"""The errors and warnings that hcoverage raises itself, and the page of any error.

Every message says what is wrong and what to do about it, so that showing the message is enough; the
page `docs/messages/SLUG.md` says more of what it means.
"""

from __future__ import annotations

from typing import ClassVar

from hcoverage._page import Page


class _Explained:
    """What has a page.

    Attributes:
        slug: The name of its kind, and of the page that explains it: `no-data` of NoDataError.
    """

    slug: ClassVar[str]

    def __init_subclass__(cls) -> None:
        words = cls.__name__.removesuffix("Error").removesuffix("Warning")
        cls.slug = "".join(f"-{c.lower()}" if c.isupper() else c for c in words).strip("-_")


class HcoverageError(_Explained, Exception):
    """Base of the errors raised by hcoverage, hdocker and hcov.

    Attributes:
        slug: The name of its kind, and of the page that explains it.
    """


class RcfileError(HcoverageError, OSError):
    """The rcfile is there, but coverage.py cannot read it or a whole run cannot work with it."""


class NoRcfileError(HcoverageError, FileNotFoundError):
    """There is no rcfile where one was named, or none that coverage.py would find."""


class MissingCoverageError(HcoverageError, ImportError):
    """The interpreter that is to be measured cannot import coverage.py."""


class MissingExtraError(HcoverageError, ImportError):
    """What was asked for takes a package that only an extra of hcoverage installs."""


class HookPermissionError(HcoverageError, PermissionError):
    """The hook can be written into no directory that Python reads at its start."""


class ForeignHookError(HcoverageError, FileExistsError):
    """Where our hook belongs is a file that we did not write."""


class CombineError(HcoverageError):
    """Nothing could be merged into the data file; whatever was found is untouched."""


class NoDataError(CombineError):
    """There is no data file at all in what was to be combined."""


class NoInputError(CombineError, FileNotFoundError):
    """What was named to be combined is not there."""


class UnknownReportError(HcoverageError, ValueError):
    """coverage.py makes no such report."""


class StepError(HcoverageError, OSError):
    """A command of the step-by-step way failed."""


class DataDirectoryBusyError(HcoverageError):
    """Another run is measuring into the same data directory."""


class DataFileBusyError(HcoverageError):
    """Another run is measuring for the same data file."""


class HcoverageWarning(_Explained, UserWarning):
    """Something that does not stop the run, but that its owner would want to know.

    Attributes:
        slug: The name of its kind, and of the page that explains it.
    """


class ForeignHookWarning(HcoverageWarning):
    """Where our hook belongs is a file that we did not write; it is left alone."""


def slug_of(error: Exception) -> str:
    """Name the page that explains an error, whosever it is.

    Args:
        error: An error of hcoverage, hdocker or hcov, or one of the system's or of an import.

    Returns:
        Its slug; that of the system's errors where it has none of its own.
    """
    if isinstance(error, _Explained):
        return error.slug
    return Page.MISSING_MODULE if isinstance(error, ImportError) else Page.SYSTEM
