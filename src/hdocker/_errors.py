"""The errors and warnings that hdocker raises itself; every message says what to do."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from hcoverage import HcoverageError, HcoverageWarning

if TYPE_CHECKING:
    from collections.abc import Sequence


class EngineError(HcoverageError):
    """Base of the errors raised by hdocker."""


class EngineNotFoundError(EngineError):
    """The engine's client is not on PATH."""


class EngineUnreachableError(EngineError):
    """The client is there, but no engine answers it."""


class EnginePermissionError(EngineError):
    """An engine runs, but this user may not talk to it."""


class DataDirectoryError(EngineError):
    """Containers could not write into the data directory, or could not read the rcfile in it."""


class DockerfileError(EngineError):
    """The Dockerfile cannot be used; this is found before anything is built."""


class BuildContextError(EngineError, NotADirectoryError):
    """The build context, from which COPY takes its files, is not a directory."""


class ImageNameError(EngineError):
    """No registry or engine would accept the image name."""


class MeasureError(EngineError, ValueError):
    """The value of `measure` is neither `always` nor `auto`."""


class BuildOptionError(EngineError, ValueError):
    """An option would make the engine build another image than the measured one."""


class CommandError(EngineError):
    """A command of the engine was refused or failed.

    Attributes:
        argv: The command.
        returncode: Its exit status.
        output: Its output.
    """

    def __init__(self, message: str, argv: Sequence[str], returncode: int, output: str) -> None:
        super().__init__(message)
        self.argv = tuple(argv)
        self.returncode = returncode
        self.output = output

    def __reduce__(self) -> tuple[type[CommandError], tuple[str, tuple[str, ...], int, str]]:
        # By default pickle would remake the exception, from a worker, with its message alone.
        return type(self), (str(self), self.argv, self.returncode, self.output)

    @classmethod
    def of(cls, argv: Sequence[str], returncode: int, output: str) -> CommandError:
        """Make an error whose message has the command and its output."""
        message = f"`{shlex.join(argv)}` ended with exit status {returncode}:\n{output.strip()}"
        return cls(message, argv, returncode, output)


class BuildError(CommandError):
    """An image could not be built; the attempt leaves nothing behind."""


class NoPythonError(BuildError):
    """The image has no Python that coverage.py could run in."""


class BundleError(EngineError):
    """coverage.py could not be obtained for a Python of an image."""


class PathMappingWarning(HcoverageWarning):
    """No `[paths]` entry maps the container's paths to the host's, so they would not be merged."""


class NoPythonWarning(HcoverageWarning):
    """The image has no Python that coverage.py could run in; it is built without coverage."""
