"""What counts: the one place that chooses files by the rcfile, on this machine, after the run.

Measured processes record more than is wanted. coverage.py's own code decides which of it goes into
the result, as it would in this directory: for recordings, by the interpreter and the module that
they name; for coverage.py's data, by the path alone. And like coverage.py at its end, this adds the
files of `source` that nothing ran.

Left to others: reading recordings (``_read.recording_files``), checking whether a source has
changed (``identity``), finding a source on this machine (``finder``), and whether a file that a
container names may be shown at all (``roots``).
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Protocol, TypeVar, cast

from coverage.exceptions import ConfigError
from coverage.files import TreeMatcher, relative_filename, set_relative_directory, zip_location
from coverage.inorout import InOrOut, canonical_path, file_and_path_for_module, name_for_module
from coverage.misc import sys_modules_saved
from coverage.plugin_support import Plugins

from hcoverage._errors import RcfileError
from hcoverage._sources.roots import importing_from_here, outside, own_packages, reportable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from types import FrameType

    from coverage.config import CoverageConfig

    from hcoverage._read.recording_format import ProcessIdentity


class Recorded(Protocol):
    """A source, as a recording names it.

    Attributes:
        path: The real absolute path.
        module: The name of the module, or an empty string.
    """

    @property
    def path(self) -> str: ...
    @property
    def module(self) -> str: ...


_Recorded = TypeVar("_Recorded", bound=Recorded)

# The most directories that a package may be below another one.
_DEEPEST = 16


class Choice:
    """Chooses what counts.

    Args:
        config: The rcfile's settings.

    Raises:
        RcfileError: They name a source that cannot be one.
    """

    def __init__(self, config: CoverageConfig) -> None:
        # coverage.py remembers the directory of relative names, which may be another one now.
        set_relative_directory()
        self._config = config
        self._of_here = _in_or_out(config)
        self._of_interpreters: dict[tuple[str, ...], OfInterpreter] = {}
        self._packages = _Packages(self._of_here.source_pkgs)

    def of_process(self, process: ProcessIdentity, *, is_here: bool) -> OfInterpreter:
        """Return the choice of files for processes of an interpreter.

        coverage.py knows the standard library and the installed packages of the interpreter it runs
        in. A recording may come from another one, so this adds the directories of that one. Of a
        container's files, only those found here under other paths are the project's.
        """
        where: tuple[str, ...] = ()
        if is_here:
            where = (process.prefix, process.base_prefix, process.stdlib, process.python)
        if where not in self._of_interpreters:
            is_ours = where[:2] == (sys.prefix, sys.base_prefix)
            # To make a chooser takes longer than to merge the data of a few processes.
            chooser = self._of_here if is_ours else _in_or_out(self._config)
            self._of_interpreters[where] = OfInterpreter(
                chooser, process if is_here else None, self._packages
            )
        return self._of_interpreters[where]

    def wants(self, path: str) -> bool:
        """Return whether a file counts, if only its path here is known."""
        absolute = os.path.abspath(path)  # noqa: PTH100 - from here, where names are relative
        module = self._module_in_sources(absolute)
        return self._of_here.check_include_omit_etc(absolute, _frame_in(module)) is None

    def never_imported(self, ran: Iterable[str]) -> tuple[str, ...]:
        """Return the names of sources that are no directories, and of which nothing ran.

        Args:
            ran: What ran, in recordings or in data files; of recordings the modules are known, too.
        """
        if "module-not-imported" in self._config.disable_warnings:
            return ()
        for path in ran if self._packages.left else ():
            self._packages.saw(self._module_in_sources(os.path.abspath(path)))  # noqa: PTH100
        return tuple(self._packages.left)

    def never_ran(self, ran: Iterable[str]) -> set[str]:
        """Find the files that belong in the result although nothing ran them.

        Args:
            ran: The files that ran and count, absolute. As in coverage.py, a package of
                `source_pkgs` is searched only if it was imported.
        """
        chooser = self._of_here
        ran = set(ran)
        directories = {*chooser.source_dirs, *self._package_directories(ran)}
        found: set[str] = set()
        for directory in sorted(directories):
            # A private method: `find_possibly_unexecuted_files` looks up packages in `sys.modules`.
            found.update(path for path, _ in chooser._find_executable_files(directory))  # noqa: SLF001
        return found - ran

    def name_of(self, path: str) -> str:
        """Return the name of a file in the result: relative if the rcfile says so."""
        return relative_filename(path) if self._config.relative_files else path

    def _package_directories(self, ran: Iterable[str]) -> Iterator[str]:
        """Yield the places of imported `source_pkgs`: a package's directory, or a module's file."""
        packages = [package.replace(".", "/") for package in self._of_here.source_pkgs]
        for path in ran if packages else ():
            for package in packages:
                above, found, _ = path.rpartition(f"/{package}/")
                directory = above + found.rstrip("/")
                if found and os.path.isfile(os.path.join(directory, "__init__.py")):  # noqa: PTH113, PTH118
                    yield directory
            yield from self._named_otherwise(path).values()

    def _named_otherwise(self, path: str) -> Mapping[str, str]:
        """Map the `source_pkgs` that a file is of to their directories with another name.

        A package can be a link, and an editable install can map it to any directory.
        """
        return {
            package: directory
            for package, directory in {**self._installed, **self._packages.places}.items()
            if path.startswith(f"{directory}/")
        }

    @functools.cached_property
    def _installed(self) -> Mapping[str, str]:
        """Map those of `source_pkgs` that can be imported here to their directories."""
        with sys_modules_saved():
            found = {name: file_and_path_for_module(name)[0] for name in self._of_here.source_pkgs}
        return {
            name: canonical_path(file)
            for name, file in found.items()
            if file is not None and file.endswith("/__init__.py")
        }

    def _module_in_sources(self, path: str) -> str | None:
        """Return the module of `source_pkgs` that a file can be, if any."""
        matcher = self._of_here.source_pkgs_match
        if matcher is None:
            return None
        parts = os.path.splitext(path)[0].split("/")[-_DEEPEST:]  # noqa: PTH122
        if parts[-1] == "__init__":
            parts.pop()
        names = (".".join(parts[start:]) for start in reversed(range(len(parts))))
        found = next((name for name in names if matcher.match(name)), None)
        return found or next(iter(self._named_otherwise(path)), None)


class _Packages:
    """The packages and modules that are sources, until something of them is seen.

    coverage.py's own list of them does without what a package that has only submodules, or another
    process, imported.

    Attributes:
        left: The names of those of which nothing was seen.
        places: The directories of the packages that were seen, by name.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.left = dict.fromkeys(names)
        self.places: dict[str, str] = {}

    def saw(self, module: str | None) -> None:
        """Note that something of a module ran."""
        for name in [*self.left] if module else ():
            if f"{module}.".startswith(f"{name}."):
                del self.left[name]


class OfInterpreter:
    """The choice of files for what the processes of one interpreter recorded.

    Args:
        chooser: coverage.py's choice. It is changed if the process is of another Python.
        process: One of the processes; None if the chooser needs no change for them.
        packages: Told which modules ran.
    """

    def __init__(
        self, chooser: InOrOut, process: ProcessIdentity | None, packages: _Packages
    ) -> None:
        self._in_or_out = chooser
        self._packages = packages
        self._known: dict[tuple[str, str], bool] = {}
        self._is_foreign = process is None or (
            (process.prefix, process.base_prefix) != (sys.prefix, sys.base_prefix)
        )
        if process is not None and self._is_foreign:
            self._add_interpreter(process)

    def wanted(self, sources: Collection[_Recorded]) -> Iterator[_Recorded]:
        """Yield the sources of a recording that coverage.py would have measured."""
        if self._is_foreign:
            self._find_installed_sources(sources)
        known = self._known
        for source in sources:
            key = (source.path, source.module)
            if key not in known:
                known[key] = self._is_wanted(*key)
            if known[key]:
                yield source

    def _is_wanted(self, path: str, module: str) -> bool:
        frame = _frame_in(module or None)
        if module in self._in_or_out.source_pkgs and path.endswith("/__init__.py"):
            self._packages.places[module] = os.path.dirname(path)  # noqa: PTH120
        if self._packages.left:
            self._packages.saw(name_for_module(path, frame))
        return self._in_or_out.check_include_omit_etc(path, frame) is None

    def _add_interpreter(self, process: ProcessIdentity) -> None:
        chooser = self._in_or_out
        third = {*chooser.third_paths, *installed_places(process)}
        chooser.third_match = TreeMatcher(third, "third")
        if chooser.pylib_match is not None and process.stdlib:
            chooser.pylib_match = TreeMatcher({*chooser.pylib_paths, process.stdlib}, "pylib")

    def _find_installed_sources(self, sources: Iterable[Recorded]) -> None:
        """Let through the packages of `source_pkgs` where the other Python has them installed."""
        chooser = self._in_or_out
        found = {
            canonical_path(source.path)
            for source in sources
            if source.module in chooser.source_pkgs
        }
        if not found <= chooser.source_in_third_paths:
            self._known.clear()
            chooser.source_in_third_paths |= found
            chooser.source_in_third_match = TreeMatcher(
                chooser.source_in_third_paths, "source_in_third"
            )


def counted(paths: Iterable[str], config: CoverageConfig) -> set[str]:
    """Return which of the given files here count, and may be reported on.

    Args:
        paths: The files, absolute.
        config: The rcfile's settings.

    Raises:
        RcfileError: They name a source that cannot be one.
    """
    ours = tuple(f"{directory}/" for directory in own_packages(config))
    others = {path for path in paths if not path.startswith(ours)}
    here = Path.cwd()
    # The faster check first: most files are installed ones, and coverage.py is slow to say so.
    shown = others - outside(others, reportable(config, here), here)
    return set(filter(Choice(config).wants, shown)) if shown else shown


def is_here(path: str) -> bool:
    """Return whether a report can find the text of a source, which may be in a zip file."""
    try:
        return os.path.isfile(path) or zip_location(path) is not None  # noqa: PTH113
    except ValueError:  # a name that no file can have
        return False


def configured(config: CoverageConfig) -> CoverageConfig:
    """Return the settings after the plugins that only configure have changed them.

    If a plugin cannot be imported here, or fails, coverage.py says so when it reports.
    """
    changed = config.copy()
    plugins = Plugins()
    with contextlib.suppress(Exception), importing_from_here():
        plugins.load_from_config(changed.plugins, changed)
        for plugin in plugins.configurers:
            plugin.configure(changed)
    return changed


def _in_or_out(config: CoverageConfig) -> InOrOut:
    try:
        chooser = InOrOut(
            config=config,
            warn=lambda *_args, **_kwargs: None,
            debug=None,
            include_namespace_packages=config.include_namespace_packages,
        )
    except ConfigError as error:
        raise RcfileError(f"coverage.py cannot use the rcfile's sources: {error}") from error
    chooser.plugins = Plugins()
    return chooser


def _frame_in(module: str | None) -> FrameType:
    """Return the only part of a frame that coverage.py looks at to choose a file."""
    return cast("FrameType", SimpleNamespace(f_globals={"__name__": module}))


def installed_places(process: ProcessIdentity) -> set[str]:
    """Return the directories with packages installed for the interpreter of a process."""
    minor = ".".join(process.python.split(".")[:2])
    return {
        f"{prefix}/{directory}"
        for prefix in {process.prefix, process.base_prefix} - {""}
        for directory in (
            f"lib/python{minor}/site-packages",
            f"lib64/python{minor}/site-packages",
            f"local/lib/python{minor}/dist-packages",
            "lib/python3/dist-packages",
            "bin",
        )
    }
