"""Decide what goes into the merged data file, and write it as coverage.py would have.

Paths are mapped by coverage.py's own code, in the order in which it would meet them, since with
`relative_files` a path decides how later ones are mapped.

Left to others: reading (`_read.data_file_batch`, `_read.recording_batch`), and putting the result
in place (`target`).
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import os
import re
import sqlite3
from typing import TYPE_CHECKING, Final

from coverage.exceptions import ConfigError
from coverage.files import PathAliases, set_relative_directory
from coverage.sqldata import SCHEMA, SCHEMA_VERSION as THEIR_SCHEMA_VERSION
from coverage.version import __version__

from hcoverage._data_directory.names import host_in_names, process_of
from hcoverage._errors import CombineError
from hcoverage._read.data_file_batch import Batch, ReadFile, tracers_in
from hcoverage._read.origins import context_of, origin_of, place_of
from hcoverage._read.part import ARC_BITS, Kind, Part, arc_of
from hcoverage._untrusted.database import SCHEMA_VERSION
from hcoverage._untrusted.file import UntrustedDataError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping
    from pathlib import Path

    from coverage.config import CoverageConfig

# An arc is read as `_read.part.arc_of` does; the shift of a negative number keeps its sign.
_INSERT_ARCS: Final = (
    "INSERT INTO arc SELECT ?, ?, "  # noqa: S608 - numbers of ours
    f"(value + {1 << (ARC_BITS - 1)}) >> {ARC_BITS}, "
    f"((value + {1 << (ARC_BITS - 1)}) & {(1 << ARC_BITS) - 1}) - {1 << (ARC_BITS - 1)} "
    "FROM json_each(?)"
)
_OPPOSITE: Final = {Kind.LINES: Kind.ARCS, Kind.ARCS: Kind.LINES}


def choose_kind(
    files: Iterable[ReadFile], recorded: Iterable[Kind], existing: Batch | None, *, branch: bool
) -> Kind:
    """Choose whether lines or branches are merged, where there are both.

    What is appended to decides; else the rcfile, if it wants branches; else the majority.

    Args:
        files: The data files.
        recorded: What each process that recorded has.
        existing: What is appended to, if anything is.
        branch: Whether the rcfile wants branches.

    Returns:
        `Kind.LINES` or `Kind.ARCS`.
    """
    for kind in _OPPOSITE:
        if existing is not None and kind in existing.parts:
            return kind
    weights = collections.Counter([*(file.kind for file in files), *recorded])
    lines, arcs = weights[Kind.LINES], weights[Kind.ARCS]
    return Kind.ARCS if arcs and (branch or arcs > lines) else Kind.LINES


def why_odd(file: ReadFile, others: list[str]) -> str:
    """Say why a file that has the other kind of data is not merged, and who wrote it.

    Args:
        file: The file.
        others: The names of those that are merged.
    """
    process = process_of(os.path.basename(file.path))  # noqa: PTH119
    who = f" (of process {process[1]} {place_of(file.origin) or 'here'})" if process else ""
    rest = f" and {len(others) - 1} more have" if len(others) > 1 else " has"
    first = others[0] if others else "what is there already"
    return (
        f"it has {file.kind.value}{who}, but {first}{rest} {_OPPOSITE[file.kind].value}: "
        "give every process the same `branch` setting"
    )


class PathMap:
    """Where measured paths are on this machine.

    Args:
        config: The rcfile's settings; `[paths]` and `relative_files` count.

    Raises:
        CombineError: coverage.py cannot use its `[paths]`.
    """

    def __init__(self, config: CoverageConfig) -> None:
        # coverage.py remembers what relative names stood for; that may be another directory now.
        set_relative_directory()
        self._aliases = PathAliases(relative=config.relative_files)
        self._known: dict[str, str] = {}
        self._found: dict[str, str] = {}
        try:
            for result, *patterns in config.paths.values():
                for pattern in patterns:
                    self._aliases.add(pattern, result)
        except ConfigError as error:
            raise CombineError(f"coverage.py cannot use [paths]: {error}") from error

    def __call__(self, path: str) -> str:
        """Give the path here of a measured one."""
        return self.by_rcfile(self._found.get(path, path))

    def by_rcfile(self, path: str) -> str:
        """Give what the rcfile makes of a path, whatever was found."""
        if path not in self._known:
            mapped = self._aliases.map(path)
            self._known[path] = re.sub(r"[/\\]", re.escape(os.sep), mapped)
        return self._known[path]

    def learn(self, parts: Iterable[Part]) -> None:
        """Map the paths of some parts in the order in which coverage.py would."""
        places = [(place, path) for part in parts for path, place in part.paths.items()]
        for _, path in sorted(places):
            self(path)

    def leaves(self, path: str) -> bool:
        """Tell whether the rcfile says nothing of a path, and nothing is there on this machine."""
        return self(path) == path and path.startswith("/") and not os.path.lexists(path)

    def put(self, places: Mapping[str, str]) -> None:
        """Take in where sources were found of which the rcfile says nothing."""
        self._found.update(places)


@dataclasses.dataclass
class Merged:
    """What goes into the data file, under its paths on this machine.

    Attributes:
        part: All of it, by labels: origins and contexts.
        origins: What origins ran of what does not tell itself; they are in the place of contexts.
    """

    part: Part = dataclasses.field(default_factory=Part)
    origins: Part = dataclasses.field(default_factory=Part)

    def add(self, part: Part, map_path: Callable[[str], str]) -> None:
        """Add a part, which is of no use afterwards.

        Args:
            part: What is added.
            map_path: Gives the path here of each of its paths.
        """
        self.part.add(moved(part, map_path))

    def add_origins(self, part: Part, map_path: Callable[[str], str]) -> None:
        """Add what origins ran of what is added, or was; it is of no use afterwards."""
        self.origins.add(moved(part, map_path))

    def write(self, data_file: Path) -> None:
        """Write it as a new data file.

        Raises:
            CombineError: This coverage.py has data files of another format.
            sqlite3.Error: It cannot be written.
        """
        write_part(self.part.with_contexts(context_of), data_file)

    @property
    def sole_origin(self) -> str:
        """The origin that all of it has, in a single context; empty if that is not so."""
        if len(self.part.contexts) != 1 or self.origins.paths:
            return ""
        return origin_of(next(iter(self.part.contexts)))

    def by_origin(self) -> Part:
        """Give what each origin ran, in the place of contexts, of what is merged."""
        part = self.origins.without(self.origins.paths.keys() - self.part.paths.keys())
        part.add(self.part.with_contexts(origin_of))
        # What an origin is not known of.
        part.contexts.pop("", None)
        for path in part.paths:
            part.lines.pop((path, ""), None)
            part.arcs.pop((path, ""), None)
        return part


def moved(part: Part, map_path: Callable[[str], str]) -> Part:
    """Give a part under other paths, several of which may be one."""
    mapped = {path: map_path(path) for path in part.paths}
    if all(path == place for path, place in mapped.items()):
        return part
    new = Part(contexts=part.contexts)
    for path, place in part.paths.items():
        new.paths.setdefault(mapped[path], place)
    for (path, context), numbers in part.lines.items():
        key = (mapped[path], context)
        new.lines[key] = new.lines.get(key, 0) | numbers
    for (path, context), arcs in part.arcs.items():
        new.arcs.setdefault((mapped[path], context), arcs).update(arcs)
    for path, tracer in part.tracers.items():
        new.tracers.setdefault(mapped[path], tracer)
    return new


def write_part(part: Part, data_file: Path) -> None:
    """Write a new data file.

    Args:
        part: What goes into it.
        data_file: Where; there must be no file.

    Raises:
        CombineError: This coverage.py has data files of another format.
        sqlite3.Error: It cannot be written.
    """
    if THEIR_SCHEMA_VERSION != SCHEMA_VERSION:
        raise CombineError(
            f"coverage.py {__version__} has data files of version {THEIR_SCHEMA_VERSION}, and "
            f"what is merged here is version {SCHEMA_VERSION}: update hcoverage"
        )
    with contextlib.closing(sqlite3.connect(data_file)) as database:
        # It is synced when it is whole, and not there for anybody before that.
        database.execute("PRAGMA journal_mode = OFF")
        database.execute("PRAGMA synchronous = OFF")
        database.executescript(SCHEMA)
        with database:
            _write_rows(database, part)


def _write_rows(database: sqlite3.Connection, part: Part) -> None:
    insert = database.executemany
    files = {path: number for number, path in enumerate(part.paths, 1)}
    contexts = {context: number for number, context in enumerate(part.contexts, 1)}
    lines = [(files[path], contexts[context], n) for (path, context), n in part.lines.items()]
    arcs = [(files[path], contexts[context], n) for (path, context), n in part.arcs.items()]
    lines.sort()
    arcs.sort(key=lambda row: row[:2])
    meta = [("version", __version__)]
    if lines or arcs:
        meta.append(("has_arcs", str(int(bool(arcs)))))
    insert("INSERT INTO coverage_schema VALUES (?)", [(SCHEMA_VERSION,)])
    insert("INSERT INTO meta VALUES (?, ?)", meta)
    insert("INSERT INTO file VALUES (?, ?)", _numbered(files))
    insert("INSERT INTO context VALUES (?, ?)", _numbered(contexts))
    insert(
        "INSERT INTO line_bits VALUES (?, ?, ?)",
        ((file, context, _numbits(numbers)) for file, context, numbers in lines),
    )
    insert_arcs(database, arcs)
    tracers = sorted((files[path], tracer) for path, tracer in part.tracers.items())
    insert("INSERT INTO tracer VALUES (?, ?)", tracers)


def insert_arcs(
    database: sqlite3.Connection, arcs: Iterable[tuple[int, int, Collection[int]]]
) -> None:
    """Insert arcs into a new data file.

    Args:
        database: The data file.
        arcs: By the numbers of a file and a context, the arcs as `arc_of` reads them.
    """
    if _has_json(database):
        # One text for all of them: to bind each takes twice as long as all else.
        texts = ((file, context, str(sorted(numbers))) for file, context, numbers in arcs)
        database.executemany(_INSERT_ARCS, texts)
        return
    for file, context, numbers in arcs:
        rows = ((file, context, *arc_of(number)) for number in sorted(numbers))
        database.executemany("INSERT INTO arc VALUES (?, ?, ?, ?)", rows)


def _has_json(database: sqlite3.Connection) -> bool:
    """Tell whether SQLite reads JSON, which it could be built without before 3.38."""
    try:
        database.execute("SELECT value FROM json_each('[]')")
    except sqlite3.OperationalError:
        return False
    return True


def is_from_elsewhere(data_file: str) -> bool:
    """Tell whether the name of a data file says that another host, or a container, wrote it."""
    process = process_of(os.path.basename(data_file))  # noqa: PTH119
    return process is not None and process[0] != host_in_names(os.uname().nodename)


def tracer_conflicts(
    files: Iterable[ReadFile], existing: Mapping[str, str], map_path: Callable[[str], str]
) -> list[tuple[ReadFile, str]]:
    """Find the files that name another plugin for a measured file than those before them.

    Args:
        files: All that are to be merged.
        existing: What is merged already, with the plugin of each path or an empty string.
        map_path: Gives the path here of each measured path.

    Returns:
        The files that do not fit, and why.
    """
    agreed = dict(existing)
    conflicts = []
    for file in sorted(files, key=lambda file: file.path):
        try:
            found = tracers_in(file.path)
        except (UntrustedDataError, OSError):
            continue  # it changed meanwhile, which is told when all is merged
        mine: dict[str, str] = {}
        for path, tracer in sorted(found, key=lambda item: not item[1]):
            mine.setdefault(map_path(path), tracer)
        wrong = next((path for path in mine if agreed.get(path, mine[path]) != mine[path]), None)
        if wrong is None:
            agreed.update(mine)
        else:
            conflicts.append((file, _why_conflict(wrong, mine[wrong], agreed[wrong])))
    return conflicts


def _why_conflict(path: str, tracer: str, other: str) -> str:
    names = [f"the plugin {name!r}" if name else "no plugin" for name in (tracer, other)]
    return (
        f"{path!r} was measured by {names[0]} in it, and by {names[1]} in others: "
        "give every process the same `plugins` setting"
    )


def _numbered(ids: Mapping[str, int]) -> list[tuple[int, str]]:
    return [(number, text) for text, number in ids.items()]


def _numbits(numbers: int) -> bytes:
    """Write line numbers as coverage.numbits does."""
    return numbers.to_bytes((numbers.bit_length() + 7) // 8, "little")
