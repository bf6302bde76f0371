"""The errors and warnings that hcoverage raises itself, and the message page of any error.

Every message says what is wrong and what to do about it, so that it is enough to show the message;
the page `docs/messages/SLUG.md` explains more.
"""

from __future__ import annotations

from typing import ClassVar

from hcoverage._page import Page


class _Explained:
    """An error or warning that has a page.

    Attributes:
        slug: The name of its kind, and of the page that explains it: `no-data` for NoDataError.
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
    """The rcfile exists, but coverage.py cannot read it, or a run cannot work with it."""


class NoRcfileError(HcoverageError, FileNotFoundError):
    """The named rcfile does not exist, or there is none that coverage.py would find."""


class ProjectNameError(HcoverageError, OSError):
    """The name of the project's directory cannot be in data."""


class MissingCoverageError(HcoverageError, ImportError):
    """The interpreter to measure cannot import coverage.py."""


class MissingExtraError(HcoverageError, ImportError):
    """The request needs a package that only an extra of hcoverage installs."""


class HookPermissionError(HcoverageError, PermissionError):
    """No directory that Python reads at start-up can be written, so the hook has no place."""


class ForeignHookError(HcoverageError, FileExistsError):
    """A file that we did not write has the place of our hook."""


class CombineError(HcoverageError):
    """Nothing could be merged into the data file; all input is untouched."""


class NoDataError(CombineError):
    """There is no data file at all among the input."""


class NoInputError(CombineError, FileNotFoundError):
    """An input that was named does not exist."""


class UnknownReportError(HcoverageError, ValueError):
    """coverage.py has no such report."""


class StepError(HcoverageError, OSError):
    """One of the setup or merge steps failed."""


class DataDirectoryBusyError(HcoverageError):
    """Another run is measuring into the same data directory."""


class DataFileBusyError(HcoverageError):
    """Another run is measuring for the same data file."""


class HcoverageWarning(_Explained, UserWarning):
    """A problem that does not stop the run, but that its owner should know.

    Attributes:
        slug: The name of its kind, and of the page that explains it.
    """


class ForeignHookWarning(HcoverageWarning):
    """A file that we did not write has the place of our hook; it is left alone."""


def slug_of(error: Exception) -> str:
    """Return the slug of the page that explains an error.

    Args:
        error: An error of hcoverage, hdocker or hcov, an OSError or an ImportError.

    Returns:
        Its slug; if it has none of its own, that of system errors.
    """
    if isinstance(error, _Explained):
        return error.slug
    return Page.MISSING_MODULE if isinstance(error, ImportError) else Page.SYSTEM
