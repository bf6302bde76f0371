"""Chooses the core of a run: the recorder wherever it is exact, coverage.py elsewhere.

Which core measures one process also depends on its Python: from version `recorder_since` on it is
the recorder; older ones use coverage.py.
"""

from __future__ import annotations

import enum
import os
import re
import sys
from typing import TYPE_CHECKING, Final, NamedTuple

from hcoverage._errors import HcoverageError
from hcoverage._settings.dynamic_contexts import TEST_FUNCTION
from hcoverage._sources.roots import own_packages

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from coverage.config import CoverageConfig

    from hcoverage._settings.rcfile import Rcfile

CORE_VARIABLE: Final = "HCOVERAGE_CORE"

_MONITORING_SINCE: Final = (3, 12)  # PEP 669, sys.monitoring
_OTHER_ARCS_SINCE: Final = (3, 14)


class Core(enum.StrEnum):
    """What measures: our recorder, coverage.py itself, or whichever fits."""

    AUTO = "auto"
    RECORDER = "recorder"
    COVERAGE = "coverage"


class CoreChoice(NamedTuple):
    """The core of a run.

    Attributes:
        core: `RECORDER` or `COVERAGE`.
        reason: Why, for a person.
        recorder_since: The first Python version that records; None with `COVERAGE`.
        settings: The recorder's settings, if the rcfile's plugins change them; None if they do
            not.
    """

    core: Core
    reason: str
    recorder_since: tuple[int, int] | None = None
    settings: CoverageConfig | None = None


class CoreError(HcoverageError):
    """The requested core does not exist, or cannot measure what the rcfile wants."""


def choose_core(
    rcfile: Rcfile, requested: str | None = None, environment: Mapping[str, str] = os.environ
) -> CoreChoice:
    """Choose the core of a run.

    Args:
        rcfile: The rcfile.
        requested: `auto`, `recorder` or `coverage`; None for HCOVERAGE_CORE, else the rcfile's
            `core` under `[hcoverage]` (`[tool.hcoverage]` in TOML), else `auto`.
        environment: Where HCOVERAGE_CORE is looked up.

    Returns:
        The choice and its reason.

    Raises:
        CoreError: There is no such core, or the recorder was asked for and cannot do it.
    """
    name = requested or environment.get(CORE_VARIABLE) or rcfile.core or Core.AUTO
    if name not in list(Core):
        raise CoreError(f"no such core: {name!r}; there are {', '.join(Core)}")
    if name == Core.COVERAGE:
        return CoreChoice(Core.COVERAGE, "it was asked for")
    changed, measuring = _effect_of_plugins(rcfile.settings, environment)
    obstacle = _obstacle(changed or rcfile.settings, measuring)
    if obstacle is None:
        reason = "it was asked for" if name == Core.RECORDER else "it is exact for this rcfile"
        return CoreChoice(Core.RECORDER, reason, _MONITORING_SINCE, changed)
    if name == Core.RECORDER:
        raise CoreError(f"the recorder cannot measure this: {obstacle}; use `core = auto`")
    return CoreChoice(Core.COVERAGE, obstacle)


def worth_skipping(settings: CoverageConfig) -> tuple[str, ...]:
    """Return what the settings surely leave out, so that the recorder need not record it.

    Args:
        settings: The rcfile's settings, after its plugins have changed them.

    Returns:
        Entries for `_inside.recorder.start`. Whatever else does not count is filtered when
        recordings are read.
    """
    if settings.cover_pylib:
        return ()
    # With `source` or patterns set, coverage.py may measure installed packages as well.
    chosen = settings.source or settings.source_pkgs or settings.source_dirs or settings.run_include
    installed = () if chosen else ("site-packages",)
    standard = () if _includes_standard_library(settings) else ("stdlib",)
    return (*standard, *installed, *own_packages(settings))


def _includes_standard_library(settings: CoverageConfig) -> bool:
    """Return whether `include` has a file of the standard library: coverage.py measures it then."""
    if settings.source or settings.source_pkgs or settings.source_dirs or not settings.run_include:
        return False
    from coverage.files import GlobMatcher, prep_patterns  # noqa: PLC0415 - few have patterns

    directory = os.path.dirname(os.path.realpath(os.__file__))  # noqa: PTH120 - as coverage.py's
    patterns = prep_patterns(settings.run_include)
    beginnings = [re.split(r"[*?\[{]", pattern, maxsplit=1)[0] for pattern in patterns]
    if not any(directory.startswith(text) or text.startswith(directory) for text in beginnings):
        return False
    included = GlobMatcher(patterns, "include")
    return any(included.match(file) for file in _python_files(directory))


def _python_files(directory: str) -> Iterator[str]:
    for place, directories, files in os.walk(directory):
        directories[:] = {*directories} - {"site-packages", "dist-packages"}
        yield from (f"{place}/{name}" for name in files if name.endswith(".py"))


def _effect_of_plugins(
    settings: CoverageConfig, environment: Mapping[str, str]
) -> tuple[CoverageConfig | None, Sequence[str]]:
    """Return the settings that the plugins have changed, if there are any, and who measures."""
    if not settings.plugins:
        return None, ()
    from hcoverage._session.plugins import effect_of_plugins  # noqa: PLC0415 - few have any

    return effect_of_plugins(settings, environment)


def _obstacle(settings: CoverageConfig, measuring: Sequence[str]) -> str | None:
    """Return why the recorder cannot measure exactly as coverage.py would; None if it can."""
    version = ".".join(map(str, sys.version_info[:2]))
    if measuring:
        return f"the rcfile has plugins ({', '.join(measuring)}) that coverage.py measures with"
    has_contexts = settings.dynamic_context == TEST_FUNCTION
    if has_contexts and settings.branch and sys.version_info >= _OTHER_ARCS_SINCE:
        # With contexts coverage.py takes its C tracer there, whose arcs are not `sysmon`'s.
        return "the rcfile has a dynamic_context and branches, which is the C tracer's business"
    if sys.version_info < _MONITORING_SINCE:
        return f"the recorder needs Python 3.12, and this is {version}"
    return None
