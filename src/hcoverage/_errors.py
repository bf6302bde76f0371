"""The errors and warnings that hcoverage raises itself; the rest are Python's own OSErrors.

Every message says what is wrong and what to do about it, so that showing the message is enough; the
page `docs/messages/SLUG.md` says more of what it means.
"""

from __future__ import annotations

import re
from typing import ClassVar, Final

_KIND: Final = re.compile("(Error|Warning)$")
_WORD: Final = re.compile("(?<!^)(?=[A-Z])")


def _slug_of(kind: type) -> str:
    """Name the page of a kind: `no-data` of NoDataError."""
    return _WORD.sub("-", _KIND.sub("", kind.__name__)).lower()


class HcoverageError(Exception):
    """Base of the errors raised by hcoverage, hdocker and hcov.

    Attributes:
        slug: The name of its kind, and of the page that explains it.
    """

    slug: ClassVar[str] = "hcoverage"

    def __init_subclass__(cls) -> None:
        cls.slug = _slug_of(cls)


class RcfileError(HcoverageError):
    """The rcfile is there, but coverage.py cannot read it or a whole run cannot work with it."""


class CombineError(HcoverageError):
    """Nothing could be merged into the data file; whatever was found is untouched."""


class NoDataError(CombineError):
    """There is no data file at all in what was to be combined."""


class DataDirectoryBusyError(HcoverageError):
    """Another run is measuring into the same data directory."""


class HcoverageWarning(UserWarning):
    """Something that does not stop the run, but that its owner would want to know.

    Attributes:
        slug: The name of its kind, and of the page that explains it.
    """

    slug: ClassVar[str] = "hcoverage"

    def __init_subclass__(cls) -> None:
        cls.slug = _slug_of(cls)


class ForeignHookWarning(HcoverageWarning):
    """Where our hook belongs is a file that we did not write; it is left alone."""
