"""Keeps files that are not the project's out of reports, whatever the data says.

A report shows the text of each measured file. Any container can write a data file, and could name
`/etc/shadow` in it. So data from directories that others can write to is restricted to the places
that the rcfile names. A path that does not exist here is let through: there is no text to show, and
coverage.py's reports say that the source is missing. A file whose plugin is not here is kept out,
too: no report could be made with it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import stat
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Final

# The wildcards of coverage.py's patterns: `*`, `**` and `?`.
_WILDCARD: Final = r"[*?]"
_OWN_PACKAGES: Final = ("hcov", "hcoverage", "hdocker")

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from coverage.config import CoverageConfig


def roots(config: CoverageConfig, here: Path) -> tuple[Path, ...]:
    """List the places whose files are the project's.

    Args:
        config: The rcfile's settings: `source`, `source_pkgs`, `source_dirs` and `[paths]`.
        here: The current directory, where coverage.py reports from.

    Returns:
        Real paths of directories, and of modules that are one file.
    """
    found = {here}
    found.update(here / results[0] for results in config.paths.values() if results)
    found.update(here / directory for directory in getattr(config, "source_dirs", None) or ())
    for source in config.source or ():
        # coverage.py takes a source that is no directory here for a package.
        found.update([here / source] if (here / source).is_dir() else _package(source))
    for package in config.source_pkgs or ():
        found.update(_package(package))
    return tuple(sorted({Path(os.path.realpath(path)) for path in found}))


def reportable(config: CoverageConfig, here: Path) -> tuple[Path, ...]:
    """List the places whose files may be reported on.

    These are the project's files, and those outside that `include` names: a directory, or, for a
    pattern that begins with `*`, this interpreter's library and packages, which hold no secrets.

    Args:
        config: The rcfile's settings.
        here: The current directory, where coverage.py reports from.

    Returns:
        Real paths of directories, and of modules that are one file.
    """
    found = set(roots(config, here))
    for pattern in config.run_include or ():
        named = re.split(_WILDCARD, pattern, maxsplit=1)[0]
        found.update(_named_by(named, here) if named else _installed_places())
    return tuple(sorted(found))


def own_packages(settings: CoverageConfig) -> tuple[str, ...]:
    """Return the directories of our own code, as the plugin runs in pytest's process, among tests.

    They are left out if our code itself is measured: by its name, or as the current project.
    """
    root = Path(__file__).parents[2]
    is_here = root.is_relative_to(Path.cwd()) and "site-packages" not in root.parts
    places = (settings.source, settings.source_pkgs, settings.source_dirs, settings.run_include)
    named = " ".join(text for texts in places for text in texts or ())
    if is_here or any(name in named for name in _OWN_PACKAGES):
        return ()
    return tuple(str(root / name) for name in _OWN_PACKAGES)


def outside(
    paths: Iterable[str], roots: Iterable[Path], here: Path, foreign: Iterable[Path] = ()
) -> frozenset[str]:
    """Find the measured files that must not be reported on.

    Args:
        paths: Measured files, under their names on this machine.
        roots: The places that may be reported on.
        here: The directory of relative names.
        foreign: Directories that others can write to; nothing in them is the project's.
    """
    inside = _as_starts(map(str, roots))
    # If others can write to a whole project, it still is one.
    real_foreign = _as_starts(map(os.path.realpath, foreign))
    shut = tuple(each for each in real_foreign if not any(root.startswith(each) for root in inside))
    real = _RealDirectories()
    return frozenset(path for path in paths if not _may_be_shown(path, inside, here, shut, real))


def of_unknown_plugins(tracers: Mapping[str, str], config: CoverageConfig) -> dict[str, str]:
    """Find the measured files whose plugin coverage.py would not have when it reports.

    Args:
        tracers: The plugin's name for each file that a plugin has measured.
        config: The rcfile's settings. If any file needs a plugin, all plugins are loaded, as
            coverage.py does to report.

    Returns:
        These files, each with the plugin's name.
    """
    named = {path: plugin for path, plugin in tracers.items() if plugin}
    known = _file_tracers(config) if named else frozenset()
    return {path: plugin for path, plugin in named.items() if plugin not in known}


def _file_tracers(config: CoverageConfig) -> frozenset[str]:
    """Return the names that data files use for the rcfile's plugins."""
    from coverage.plugin_support import Plugins  # noqa: PLC0415 - where a file needs one

    plugins = Plugins()
    # An import may raise anything; coverage.py will raise it again, with the plugin's name.
    with contextlib.suppress(Exception), importing_from_here():
        plugins.load_from_config(config.plugins, config)
    return frozenset(plugin._coverage_plugin_name for plugin in plugins.file_tracers)  # noqa: SLF001


@contextlib.contextmanager
def importing_from_here() -> Iterator[None]:
    """Make the project's plugins importable for the length of a `with` block.

    `python -m coverage` finds them because it has the current directory on its path.
    """
    here = str(Path.cwd())
    sys.path.append(here)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(here)


class _RealDirectories(dict[str, str]):
    """A cache of directories' real paths: look-ups are slow, files many, directories few."""

    def __missing__(self, directory: str) -> str:
        self[directory] = real = os.path.realpath(directory)
        return real


def _may_be_shown(
    path: str, roots: tuple[str, ...], here: Path, shut: tuple[str, ...], real: _RealDirectories
) -> bool:
    place = os.path.join(here, path)  # noqa: PTH118 - as it is, with its `..`
    try:
        is_file = stat.S_ISREG(os.lstat(place).st_mode)
    except (OSError, ValueError):
        is_file = False
    if is_file:
        directory, _, name = place.rpartition("/")
        return _is_within(f"{real[directory]}/{name}", roots, shut)
    return _may_be_shown_elsewhere(place, path, roots, shut)


def _may_be_shown_elsewhere(
    place: str, path: str, roots: tuple[str, ...], shut: tuple[str, ...]
) -> bool:
    """Judge a path that is no plain file: it is linked, in an archive, or gone."""
    try:
        real = os.path.realpath(_with_the_text(place))
        mode = Path(real).stat().st_mode
    except FileNotFoundError:
        return path.isprintable() and not f"{real}/".startswith(shut)
    except (OSError, ValueError):
        return False
    return stat.S_ISREG(mode) and _is_within(real, roots, shut)


def _as_starts(places: Iterable[str]) -> tuple[str, ...]:
    """Return what the paths of places, and of all in them, start with if they end with a slash."""
    return tuple(f"{place.rstrip('/')}/" for place in places)


def _is_within(real: str, roots: tuple[str, ...], shut: tuple[str, ...]) -> bool:
    whole = f"{real}/"
    return whole.startswith(roots) and not whole.startswith(shut)


def _with_the_text(place: str) -> str:
    """Return the file that holds a source: the archive, if it was imported from one."""
    # Imported here: without coverage.py, hcov must get far enough to say so.
    from coverage.files import zip_location  # noqa: PLC0415

    zipped = None if os.path.lexists(place) else zip_location(place)
    return place if zipped is None else zipped[0]


def _named_by(start: str, here: Path) -> Iterator[Path]:
    """Yield the directory of a pattern's beginning, up to the first wildcard."""
    directory = Path(os.path.realpath(here / start.rpartition("/")[0]))
    if directory != Path(directory.anchor):
        yield directory


def _installed_places() -> Iterator[Path]:
    """Yield the directories of this interpreter's library and of packages installed for it."""
    for scheme_path in ("stdlib", "purelib", "platlib"):
        yield Path(os.path.realpath(sysconfig.get_path(scheme_path)))


def _package(name: str) -> Iterator[Path]:
    """Yield the places of an installed package, without importing it."""
    top, *below = name.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return
    if spec is None:
        return
    if not below and spec.origin and not spec.submodule_search_locations:
        yield Path(spec.origin)
    for location in spec.submodule_search_locations or ():
        place = Path(location, *below)
        yield place
        yield place.with_suffix(".py")
