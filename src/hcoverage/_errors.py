"""The errors and warnings that hcoverage raises itself; the rest are Python's own OSErrors.

Every message says what is wrong and what to do about it, so that showing the message is enough.
"""


class HcoverageError(Exception):
    """Base of the errors raised by hcoverage, hdocker and hcov."""


class RcfileError(HcoverageError):
    """The rcfile is there, but coverage.py cannot read it or a whole run cannot work with it."""


class CombineError(HcoverageError):
    """Nothing could be merged into the data file; whatever was found is untouched."""


class NoDataError(CombineError):
    """There is no data file at all in what was to be combined."""


class DataDirectoryBusyError(HcoverageError):
    """Another run is measuring into the same data directory."""


class HcoverageWarning(UserWarning):
    """Something that does not stop the run, but that its owner would want to know."""
