"""Whether coverage.py can use the settings of an rcfile that it has read.

It refuses some of them only in each process, when data is combined, or in each report: too late for
a run whose tests have taken an hour. It imports what coverage.py needs for that, so it is imported
late itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from coverage.exceptions import ConfigError
from coverage.files import PathAliases, globs_to_regex, prep_patterns

from hcoverage._settings.dynamic_contexts import TEST_FUNCTION, has_dynamic_contexts
from hcoverage._settings.rcfile import explained

if TYPE_CHECKING:
    from coverage.config import CoverageConfig

    from hcoverage._settings.rcfile import Rcfile

# What coverage.py has is not asked of it, since that imports its tracers.
_CORES: Final = (None, "", "ctrace", "pytrace", "sysmon")
_PATCHES: Final = frozenset({"_exit", "execv", "fork", "subprocess"})


def require_usable(rcfile: Rcfile) -> None:
    """Raise now for settings that coverage.py would refuse once it measures, combines or reports.

    Args:
        rcfile: The rcfile.

    Raises:
        RcfileError: There is such a setting.
    """
    settings = rcfile.settings
    with explained(rcfile.path):
        _try_patterns(settings)
        path_aliases(settings)
        _try_names(settings)
        _try_numbers(settings)


def path_aliases(settings: CoverageConfig) -> PathAliases:
    """Return what maps paths by `[paths]`.

    Args:
        settings: The settings.

    Raises:
        ConfigError: coverage.py cannot use an entry.
    """
    aliases = PathAliases(relative=settings.relative_files)
    for name, sides in settings.paths.items():
        if not sides:
            raise ConfigError(f"[paths] {name} has no path")
        for pattern in sides[1:]:
            try:
                aliases.add(pattern, sides[0])
            except ConfigError as error:
                raise ConfigError(f"[paths] {name}: {error}") from error
    return aliases


def _try_patterns(settings: CoverageConfig) -> None:
    for name, patterns in (
        ("[run] include", settings.run_include),
        ("[run] omit", settings.run_omit),
        ("[report] include", settings.report_include),
        ("[report] omit", settings.report_omit),
    ):
        try:
            globs_to_regex(prep_patterns(patterns or ()))
        except ConfigError as error:
            raise ConfigError(f"{name}: {error}") from error


def _try_names(settings: CoverageConfig) -> None:
    if settings.core not in _CORES:
        from coverage.core import Core  # noqa: PLC0415 - a later coverage.py may have more

        Core(warn=lambda *_, **__: None, debug=None, config=settings, dynamic_contexts=False)
    if unknown := sorted({*settings.patch} - _PATCHES):
        raise ConfigError(f"Unknown patch {unknown[0]!r}")
    if has_dynamic_contexts(settings) and settings.dynamic_context != TEST_FUNCTION:
        raise ConfigError(f"Don't understand dynamic_context setting: {settings.dynamic_context!r}")


def _try_numbers(settings: CoverageConfig) -> None:
    if not 0 <= settings.fail_under <= 100:  # noqa: PLR2004 - percent
        raise ConfigError(f"fail_under={settings.fail_under} is not between 0 and 100")
    if settings.precision < 0:
        raise ConfigError(f"precision={settings.precision} is negative")
