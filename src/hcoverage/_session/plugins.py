"""Finds out what the rcfile's plugins do, and how they change its settings.

Only loaded plugins tell which of coverage.py's settings count, and which core can measure. They are
the project's code, perhaps the very code that is measured: were it imported here, a test runner
that measures this process would miss that import. So a separate process loads them.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from typing import TYPE_CHECKING, Final, NamedTuple

from hcoverage._settings.environment import SESSION_VARIABLE
from hcoverage._sources.roots import importing_from_here

if TYPE_CHECKING:
    from collections.abc import Mapping

    from coverage.config import CoverageConfig
    from coverage.plugin_support import Plugins

_PATIENCE: Final = 60.0  # seconds; what a plugin imports may be large
_LOOK: Final = f"from {__name__} import _look; _look()"


class PluginEffect(NamedTuple):
    """What the plugins of an rcfile do.

    Attributes:
        settings: The rcfile's settings, after the configuring plugins have changed them.
        measuring: The modules of plugins that measure files or name contexts themselves; all
            modules if one of them fails to load, since nothing is known then.
    """

    settings: CoverageConfig
    measuring: tuple[str, ...]


def effect_of_plugins(
    settings: CoverageConfig, environment: Mapping[str, str] = os.environ
) -> PluginEffect:
    """Find out what the plugins of an rcfile do.

    Args:
        settings: The rcfile's settings.
        environment: The environment of the process that loads the plugins; it is not measured.
    """
    if not settings.plugins:
        return PluginEffect(settings, ())
    unmeasured = {k: v for k, v in environment.items() if not k.startswith("COVERAGE_PROCESS_")}
    try:
        looked = subprocess.run(
            [sys.executable, "-c", _LOOK],
            input=pickle.dumps((sys.path, settings)),
            env=unmeasured | {SESSION_VARIABLE: ""},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=True,
            timeout=_PATIENCE,
        )
        changed, measuring = pickle.loads(looked.stdout)  # noqa: S301 - from our own process
    except (OSError, subprocess.SubprocessError, EOFError, pickle.PickleError):
        return PluginEffect(settings, tuple(settings.plugins))
    return PluginEffect(changed, measuring)


def _look() -> None:
    """Load plugins in this process: read the settings from stdin, write the effect to stdout."""
    # Imported here: a session reports a missing coverage.py in its own words.
    from coverage.plugin_support import Plugins  # noqa: PLC0415

    out = os.dup(1)
    os.dup2(2, 1)  # A plugin may print.
    path, settings = pickle.load(sys.stdin.buffer)  # noqa: S301 - likewise
    sys.path[:] = path
    plugins = Plugins()
    with importing_from_here():
        plugins.load_from_config(settings.plugins, settings)
        for plugin in plugins.configurers:
            plugin.configure(settings)
    modules = [type(plugin).__module__ for plugin in _measuring(plugins)]
    with os.fdopen(out, "wb") as answer:
        answer.write(pickle.dumps((settings, tuple(dict.fromkeys(modules)))))


def _measuring(plugins: Plugins) -> list[object]:
    return [*plugins.file_tracers, *plugins.context_switchers]
