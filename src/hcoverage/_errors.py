"""The errors and warnings that hcoverage raises itself; the rest are Python's own OSErrors.

Every message says what is wrong and what to do about it, so that showing the message is enough; the
page `docs/messages/SLUG.md` says more of what it means.
"""

from __future__ import annotations

import re
from typing import ClassVar, Final

_KIND: Final = re.compile("(Error|Warning)$")
_WORD: Final = re.compile("(?<!^)(?=[A-Z])")


class _Explained:
    """What has a page.

    Attributes:
        slug: The name of its kind, and of the page that explains it: `no-data` of NoDataError.
    """

    slug: ClassVar[str]

    def __init_subclass__(cls) -> None:
        cls.slug = _WORD.sub("-", _KIND.sub("", cls.__name__)).lower()


class HcoverageError(_Explained, Exception):
    """Base of the errors raised by hcoverage, hdocker and hcov.

    Attributes:
        slug: The name of its kind, and of the page that explains it.
    """


class RcfileError(HcoverageError):
    """The rcfile is there, but coverage.py cannot read it or a whole run cannot work with it."""


class CombineError(HcoverageError):
    """Nothing could be merged into the data file; whatever was found is untouched."""


class NoDataError(CombineError):
    """There is no data file at all in what was to be combined."""


class DataDirectoryBusyError(HcoverageError):
    """Another run is measuring into the same data directory."""


class HcoverageWarning(_Explained, UserWarning):
    """Something that does not stop the run, but that its owner would want to know.

    Attributes:
        slug: The name of its kind, and of the page that explains it.
    """


class ForeignHookWarning(HcoverageWarning):
    """Where our hook belongs is a file that we did not write; it is left alone."""
