"""Decides what goes into the merged data file, and writes it as coverage.py would.

coverage.py's own code maps the paths, in the order in which it would meet them: with
`relative_files`, a path influences how later ones are mapped.

Left to others: reading (`_read.data_file_batch`, `_read.recording_batch`), and putting the result
in place (`target`).
"""

from __future__ import annotations

import collections
import contextlib
import os
import re
import sqlite3
from typing import TYPE_CHECKING, Final

from coverage.exceptions import ConfigError
from coverage.files import set_relative_directory
from coverage.sqldata import SCHEMA, SCHEMA_VERSION as THEIR_SCHEMA_VERSION
from coverage.version import __version__

from hcoverage._data_directory.names import process_of, this_host
from hcoverage._errors import CombineError
from hcoverage._read.data_file_batch import Batch, ReadFile, tracers_in
from hcoverage._read.origins import context_of, origin_of, place_of
from hcoverage._read.part import ARC_BITS, Kind, Part, arc_of
from hcoverage._settings.usable import path_aliases
from hcoverage._untrusted.database import SCHEMA_VERSION
from hcoverage._untrusted.file import UntrustedDataError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping
    from pathlib import Path

    from coverage.config import CoverageConfig

# Decodes an arc like `_read.part.arc_of`; shifting a negative number keeps its sign.
_INSERT_ARCS: Final = (
    "INSERT INTO arc SELECT ?, ?, "  # noqa: S608 - numbers of ours
    f"(value + {1 << (ARC_BITS - 1)}) >> {ARC_BITS}, "
    f"((value + {1 << (ARC_BITS - 1)}) & {(1 << ARC_BITS) - 1}) - {1 << (ARC_BITS - 1)} "
    "FROM json_each(?)"
)
_OPPOSITE: Final = {Kind.LINES: Kind.ARCS, Kind.ARCS: Kind.LINES}


def choose_kind(
    files: Iterable[ReadFile],
    recorded: Iterable[Kind],
    existing: Batch | None,
    *,
    branch: bool,
    lines_are_enough: bool,
) -> Kind:
    """Choose whether to merge lines or branches, if there are both.

    The data to append to decides; else the rcfile, if it wants branches; else the majority, unless
    lines are enough.

    Args:
        files: The data files.
        recorded: The kind of data of each recorded process.
        existing: The data to append to, if any.
        branch: Whether the rcfile wants branches.
        lines_are_enough: Whether the lines of branches may be merged in place of these.

    Returns:
        `Kind.LINES` or `Kind.ARCS`.
    """
    for kind in _OPPOSITE:
        if existing is not None and kind in existing.parts:
            return kind
    weights = collections.Counter([*(file.kind for file in files), *recorded])
    lines, arcs = weights[Kind.LINES], weights[Kind.ARCS]
    are_most = arcs > lines and not (lines and lines_are_enough)
    return Kind.ARCS if arcs and (branch or are_most) else Kind.LINES


def why_odd(file: ReadFile, others: list[str]) -> str:
    """Say why a file with the other kind of data is not merged, and who wrote it.

    Args:
        file: The file.
        others: The names of the files that are merged.
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
    """Maps measured paths to paths on this machine.

    Args:
        config: The rcfile's settings; `[paths]` and `relative_files` count.

    Raises:
        CombineError: coverage.py cannot use its `[paths]`.
    """

    def __init__(self, config: CoverageConfig) -> None:
        # coverage.py remembers the directory of relative names, which may be another one now.
        set_relative_directory()
        self._known: dict[str, str] = {}
        self._found: dict[str, str] = {}
        try:
            self._aliases = path_aliases(config)
        except ConfigError as error:
            raise CombineError(f"coverage.py cannot use the rcfile: {error}") from error

    def __call__(self, path: str) -> str:
        """Return the path on this machine of a measured path."""
        return self.by_rcfile(self._found.get(path, path))

    def by_rcfile(self, path: str) -> str:
        """Return a path as the rcfile maps it, whatever was found by content."""
        if path not in self._known:
            mapped = self._aliases.map(path)
            # coverage.py does so without asking, and loses what has a backslash in its name here.
            is_name = "\\" in mapped and os.path.lexists(mapped)
            self._known[path] = mapped if is_name else re.sub(r"[/\\]", re.escape(os.sep), mapped)
        return self._known[path]

    def learn(self, parts: Iterable[Part]) -> None:
        """Map the paths of some parts in the order in which coverage.py would."""
        places = [(place, path) for part in parts for path, place in part.paths.items()]
        for _, path in sorted(places):
            self(path)

    def leaves(self, path: str) -> bool:
        """Return whether the rcfile does not map a path, and it does not exist here."""
        return self(path) == path and path.startswith("/") and not os.path.lexists(path)

    def put(self, places: Mapping[str, str]) -> None:
        """Add the places that were found for sources that the rcfile does not map."""
        self._found.update(places)


class Merged:
    """The content of the data file, under its paths on this machine.

    Attributes:
        part: All of it, by labels: origins and contexts.
        origins: What each origin ran, for data whose labels have no origins; here the origins
            stand in place of contexts.
    """

    def __init__(self) -> None:
        self.part = Part()
        self.origins = Part()

    def add(self, part: Part, map_path: Callable[[str], str]) -> None:
        """Add a part, which must not be used afterwards.

        Args:
            part: The part.
            map_path: Maps each of its paths to a path on this machine.
        """
        self.part.add(moved(part, map_path))

    def add_origins(self, part: Part, map_path: Callable[[str], str]) -> None:
        """Add what origins ran of the added data; the part must not be used afterwards."""
        self.origins.add(moved(part, map_path))

    def write(self, data_file: Path) -> None:
        """Write the content as a new data file.

        Raises:
            CombineError: This coverage.py has data files of another format.
            sqlite3.Error: It cannot be written.
        """
        write_part(self.part.with_contexts(context_of), data_file)

    @property
    def sole_origin(self) -> str:
        """The origin of all data, if there is only one and a single context; else empty."""
        if len(self.part.contexts) != 1 or self.origins.paths:
            return ""
        return origin_of(next(iter(self.part.contexts)))

    def by_origin(self) -> Part:
        """Return what each origin ran of the merged data, with origins in place of contexts."""
        part = self.origins.without(self.origins.paths.keys() - self.part.paths.keys())
        part.add(self.part.with_contexts(origin_of))
        # Data without a known origin.
        part.contexts.pop("", None)
        for path in part.paths:
            part.lines.pop((path, ""), None)
            part.arcs.pop((path, ""), None)
        return part


def moved(part: Part, map_path: Callable[[str], str]) -> Part:
    """Return a part under other paths; several paths may become one."""
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
        part: The content.
        data_file: The path; no file may exist there.

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
        # No journal: the file is synced once it is whole, and nobody sees it before that.
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
        arcs: The arcs, encoded as for `arc_of`, by the numbers of their file and context.
    """
    if _has_json(database):
        # One text with all arcs: to bind each of them takes twice as long as all the rest.
        texts = ((file, context, str(sorted(numbers))) for file, context, numbers in arcs)
        database.executemany(_INSERT_ARCS, texts)
        return
    for file, context, numbers in arcs:
        rows = ((file, context, *arc_of(number)) for number in sorted(numbers))
        database.executemany("INSERT INTO arc VALUES (?, ?, ?, ?)", rows)


def _has_json(database: sqlite3.Connection) -> bool:
    """Return whether SQLite reads JSON; before 3.38 it could be built without."""
    try:
        database.execute("SELECT value FROM json_each('[]')")
    except sqlite3.OperationalError:
        return False
    return True


def is_from_elsewhere(data_file: str) -> bool:
    """Return whether another host or a container wrote a data file, by the file's name."""
    process = process_of(os.path.basename(data_file))  # noqa: PTH119
    return process is not None and process[0] != this_host()


def tracer_conflicts(
    files: Iterable[ReadFile], existing: Mapping[str, str], map_path: Callable[[str], str]
) -> list[tuple[ReadFile, str]]:
    """Find data files that name another plugin for a measured file than the data files before them.

    Args:
        files: All data files to merge.
        existing: The paths that are merged already, each with its plugin or an empty string.
        map_path: Maps each measured path to a path on this machine.

    Returns:
        The data files that do not fit, and why.
    """
    agreed = dict(existing)
    conflicts = []
    for file in sorted(files, key=lambda file: file.path):
        try:
            found = tracers_in(file.path)
        except (UntrustedDataError, OSError):
            continue  # it changed meanwhile; that is reported once all is merged
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
    """Encode line numbers like coverage.numbits."""
    return numbers.to_bytes((numbers.bit_length() + 7) // 8, "little")
