"""The errors and the warning that hdocker raises itself; every message says what to do about it."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from hcoverage import HcoverageError, HcoverageWarning

if TYPE_CHECKING:
    from collections.abc import Sequence


class EngineError(HcoverageError):
    """Base of the errors raised by hdocker."""


class EngineNotFoundError(EngineError):
    """There is no such program on PATH."""


class EngineUnreachableError(EngineError):
    """The program is there, but no engine answers it."""


class EnginePermissionError(EngineError):
    """There is an engine, but this user may not talk to it."""


class DataDirectoryError(EngineError):
    """Containers could not write into the data directory, or not read the rcfile in it."""


class DockerfileError(EngineError):
    """The Dockerfile cannot be built from, seen before anything is built."""


class BuildContextError(EngineError, NotADirectoryError):
    """The build context, which COPY takes its files from, is no directory."""


class ImageNameError(EngineError):
    """The image name is none that a registry or an engine would take."""


class MeasureError(EngineError, ValueError):
    """Whether to measure is said in another word than `always` and `auto`."""


class BuildOptionError(EngineError, ValueError):
    """An option of the build would have another image built than the one that is measured."""


class CommandError(EngineError):
    """The engine was asked for something, and refused or failed.

    Attributes:
        argv: The command.
        returncode: Its exit status.
        output: What it wrote.
    """

    def __init__(self, message: str, argv: Sequence[str], returncode: int, output: str) -> None:
        super().__init__(message)
        self.argv = tuple(argv)
        self.returncode = returncode
        self.output = output

    def __reduce__(self) -> tuple[type[CommandError], tuple[str, tuple[str, ...], int, str]]:
        # As an exception it would be made again of its message alone, where a worker raised it.
        return type(self), (str(self), self.argv, self.returncode, self.output)

    @classmethod
    def of(cls, argv: Sequence[str], returncode: int, output: str) -> CommandError:
        """Make the error whose message is the command and what it wrote."""
        message = f"`{shlex.join(argv)}` ended with exit status {returncode}:\n{output.strip()}"
        return cls(message, argv, returncode, output)


class BuildError(CommandError):
    """An image could not be built; nothing of the attempt is left behind."""


class NoPythonError(BuildError):
    """The image has no Python that coverage.py could run in."""


class BundleError(EngineError):
    """coverage.py could not be had for a Python of an image."""


class PathMappingWarning(HcoverageWarning):
    """No `[paths]` entry maps the container's paths to the host's, so they would not be merged."""


class NoPythonWarning(HcoverageWarning):
    """The image has no Python that coverage.py could run in; it is built as it is."""
