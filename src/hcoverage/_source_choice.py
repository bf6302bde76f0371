"""Turns recordings into coverage.py data: what coverage.py itself would have measured.

Which files are measured is coverage.py's own decision, made by its own code, as the interpreter
that ran would have made it.

Left to others: reading recordings (``_recordings``), telling whether a source is still what ran
(``_source_identity``), and where a source is on this machine (``combine``).
"""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

from coverage.files import TreeMatcher, set_relative_directory
from coverage.inorout import InOrOut, canonical_path
from coverage.plugin_support import Plugins

from hcoverage._source_identity import Sources

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import FrameType

    from coverage import CoverageData
    from coverage.config import CoverageConfig

    from hcoverage._recording_format import ProcessIdentity, SourceLines
    from hcoverage._recordings import Recording


@dataclass(frozen=True)
class Selected:
    """What went into coverage.py data.

    Attributes:
        measured: The paths that were added.
        stale: The paths left out because the source is not what it was when it ran.
        without_branches: Recordings left out because the rcfile wants branches and they have none.
    """

    measured: frozenset[str]
    stale: frozenset[str]
    without_branches: tuple[Recording, ...] = ()


def add_to_data(
    recordings: Iterable[Recording],
    data: CoverageData,
    config: CoverageConfig,
    local_path: Callable[[str], str] = lambda path: path,
) -> Selected:
    """Add recordings to coverage.py data, as coverage.py would have measured them.

    Args:
        recordings: What to add.
        data: Where to; the paths in it are those of the processes that ran.
        config: The rcfile, as coverage.py reads it. Its ``source``, ``source_pkgs``, ``include``
            and ``omit`` decide what is added.
        local_path: Says where the source of a recorded path is on this machine. A source that is
            there, and is not what ran, is left out.

    Returns:
        What was added and what was left out.

    Raises:
        coverage.exceptions.ConfigError: The configuration names a source that is no directory.
    """
    # coverage.py remembers what relative names stood for; the working directory may be another now.
    set_relative_directory()
    branch = config.branch
    chosen = _Choice(config, Sources(local_path))
    recordings = list(recordings)
    left_out = [each for each in recordings if branch and not each.process.branch]
    if len(left_out) < len(recordings):
        with _kept_open(data, branch=branch):
            for recording in recordings:
                if not branch:
                    for part in recording.by_context():
                        data.set_context(part.process.context or None)
                        data.add_lines(chosen.lines(part))
                elif recording.process.branch:
                    for part in recording.by_context():
                        data.set_context(part.process.context or None)
                        data.add_arcs(chosen.arcs(part))
    measured = frozenset(chosen.measured - chosen.stale)
    return Selected(measured, frozenset(chosen.stale), tuple(left_out))


@contextlib.contextmanager
def _kept_open(data: CoverageData, *, branch: bool) -> Iterator[None]:
    """Have coverage.py open its file once, and not for each of thousands of contexts."""
    if branch:
        data.add_arcs({})
    else:
        data.add_lines({})
    with data._connect():  # noqa: SLF001 - reentrant, and what each of its methods does
        yield


class _Choice:
    """What of each recording goes into coverage.py data."""

    def __init__(self, config: CoverageConfig, sources: Sources) -> None:
        self.measured: set[str] = set()
        self.stale: set[str] = set()
        self._config = config
        self._sources = sources
        self._filters: dict[tuple[str, ...], _Filter] = {}

    def lines(self, recording: Recording) -> dict[str, set[int]]:
        """The lines that ran, by file."""
        found: dict[str, set[int]] = {}
        for name, source in self._wanted(recording):
            found.setdefault(name, set()).update(source.lines)
        return found

    def arcs(self, recording: Recording) -> dict[str, set[tuple[int, int]]]:
        """The arcs of coverage.py's `sysmon` core: each line to itself, and what followed what."""
        found: dict[str, set[tuple[int, int]]] = {}
        for name, source in self._wanted(recording):
            arcs = found.setdefault(name, set())
            arcs.update((line, line) for line in source.lines)
            arcs.update(source.arcs)
            if source.trails:
                statements = self._sources.statements(source.path)
                resolved = (trail.arc(statements) for trail in source.trails)
                arcs.update(arc for arc in resolved if arc is not None)
        return found

    def _wanted(self, recording: Recording) -> Iterator[tuple[str, SourceLines]]:
        process = recording.process
        where = (process.prefix, process.base_prefix, process.stdlib, process.python)
        if where not in self._filters:
            self._filters[where] = _Filter(self._config, process)
        for source in self._filters[where].wanted(recording):
            name = source.path
            if self._config.relative_files and process.cwd:
                name = name.removeprefix(process.cwd.rstrip("/") + "/")
            if self._sources.is_current(source):
                self.measured.add(name)
                yield name, source
            else:
                self.stale.add(name)


class _Filter:
    """coverage.py's choice of files, for the interpreter that a recording was made by.

    coverage.py knows the standard library and the installed packages of the interpreter it runs in.
    A recording may come from another one, so what that one has is added.
    """

    def __init__(self, config: CoverageConfig, process: ProcessIdentity) -> None:
        self._process = process
        self._in_or_out = InOrOut(
            config=config,
            warn=lambda *_args, **_kwargs: None,
            debug=None,
            include_namespace_packages=config.include_namespace_packages,
        )
        self._in_or_out.plugins = Plugins()
        self._known: dict[tuple[str, str], bool] = {}
        self._is_foreign = (process.prefix, process.base_prefix) != (sys.prefix, sys.base_prefix)
        if self._is_foreign:
            self._add_interpreter()

    def wanted(self, recording: Recording) -> Iterator[SourceLines]:
        """The sources of a recording that coverage.py would have measured."""
        if self._is_foreign:
            self._find_installed_sources(recording)
        known = self._known
        for source in recording.sources:
            key = (source.path, source.module)
            if key not in known:
                known[key] = self._is_wanted(*key)
            if known[key]:
                yield source

    def _is_wanted(self, path: str, module: str) -> bool:
        frame = cast("FrameType", SimpleNamespace(f_globals={"__name__": module or None}))
        return self._in_or_out.check_include_omit_etc(path, frame) is None

    def _add_interpreter(self) -> None:
        chooser = self._in_or_out
        third = {*chooser.third_paths, *installed_places(self._process)}
        chooser.third_match = TreeMatcher(third, "third")
        if chooser.pylib_match is not None and self._process.stdlib:
            chooser.pylib_match = TreeMatcher({*chooser.pylib_paths, self._process.stdlib}, "pylib")

    def _find_installed_sources(self, recording: Recording) -> None:
        """Let through what `source_pkgs` names where it is installed over there."""
        chooser = self._in_or_out
        found = {
            canonical_path(source.path)
            for source in recording.sources
            if source.module in chooser.source_pkgs
        }
        if not found <= chooser.source_in_third_paths:
            self._known.clear()
            chooser.source_in_third_paths |= found
            chooser.source_in_third_match = TreeMatcher(
                chooser.source_in_third_paths, "source_in_third"
            )


def installed_places(process: ProcessIdentity) -> set[str]:
    """The directories of packages that are installed for the interpreter of a process."""
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
