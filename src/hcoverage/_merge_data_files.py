"""Read coverage.py's data files and merge what they hold, straight from their tables.

A batch of files becomes one `Batch`; this is what runs in worker processes, so nothing here needs
coverage.py's own code. Each file is read whole into memory first: what is merged is what was
there at one moment, and SQLite never acts on anything beside it. A file is in it wholly or not at
all.

Left to others: which files (`_combine`), what of it goes into the result and under which names
(`_merge`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import hashlib
import json
import re
import sqlite3
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from hcoverage._regular_file import NotRegularError, Stamp, read_regular

if TYPE_CHECKING:
    from collections.abc import Sequence

SCHEMA_VERSION: Final = 7
# The tables of coverage.py 5.0 and later, `SCHEMA` in coverage/sqldata.py, without its comments.
_TABLES: Final = frozenset(
    """\
CREATE TABLE coverage_schema ( version integer )
CREATE TABLE meta ( key text, value text, unique (key) )
CREATE TABLE file ( id integer primary key, path text, unique (path) )
CREATE TABLE context ( id integer primary key, context text, unique (context) )
CREATE TABLE line_bits ( file_id integer, context_id integer, numbits blob, \
foreign key (file_id) references file (id), foreign key (context_id) references context (id), \
unique (file_id, context_id) )
CREATE TABLE arc ( file_id integer, context_id integer, fromno integer, tono integer, \
foreign key (file_id) references file (id), foreign key (context_id) references context (id), \
unique (file_id, context_id, fromno, tono) )
CREATE TABLE tracer ( file_id integer primary key, tracer text, \
foreign key (file_id) references file (id) )
""".splitlines()
)
_COMMENT: Final = re.compile(r"--[^\n]*")
_SPACE: Final = re.compile(r"\s+")

# Where the table `meta` and its index are: pages, counted from 1.
_META_PAGES: Final = {"meta": 3, "sqlite_autoindex_meta_1": 4}
_DIGEST: Final = 32  # bytes

_LARGEST: Final = 1 << 30  # bytes
_HEADER: Final = 100
_MAGIC: Final = b"SQLite format 3\0"

# An arc is one integer, so that a set of them is small; see `arc_of`.
_ARC_BITS: Final = 32
_MOST_LINES: Final = 1 << (_ARC_BITS - 1)
# One string per file and context: a row of Python objects per arc would take three times as long.
_ARCS: Final = (
    f"SELECT file_id, context_id, group_concat((fromno << {_ARC_BITS}) + tono) FROM arc "  # noqa: S608
    "GROUP BY file_id, context_id"
)

Key: TypeAlias = tuple[str, str]
"""A path and a context."""


class UnusableError(Exception):
    """A data file cannot be merged; the message says why."""


class Kind(enum.Enum):
    """What a data file has measured."""

    LINES = "line data"
    ARCS = "branch data"
    NOTHING = "no data"


@dataclasses.dataclass
class Part:
    """What data files of one kind hold together, under the names they have there.

    Attributes:
        paths: The measured files; for each, where coverage.py would meet it first, as names can
            mean something else after others.
        contexts: The contexts.
        lines: By path and context, a number whose bit *n* is set where line *n* ran.
        arcs: By path and context, arcs as `arc_of` reads them.
        tracers: The plugin that handles a path, where one does.
    """

    paths: dict[str, tuple[str, int]] = dataclasses.field(default_factory=dict)
    contexts: dict[str, str] = dataclasses.field(default_factory=dict)
    lines: dict[Key, int] = dataclasses.field(default_factory=dict)
    arcs: dict[Key, set[int]] = dataclasses.field(default_factory=dict)
    tracers: dict[str, str] = dataclasses.field(default_factory=dict)

    def add(self, other: Part) -> None:
        """Add what another part holds; it is of no use afterwards."""
        for path, place in other.paths.items():
            self.paths[path] = min(place, self.paths.get(path, place))
        self.contexts.update(other.contexts)
        lines = self.lines
        for key, numbers in other.lines.items():
            lines[key] = lines.get(key, 0) | numbers
        for key, arcs in other.arcs.items():
            self.arcs.setdefault(key, arcs).update(arcs)
        for path, tracer in other.tracers.items():
            self.tracers.setdefault(path, tracer)


@dataclasses.dataclass(frozen=True)
class ReadFile:
    """A data file that was read.

    Attributes:
        path: Where it is.
        kind: What it has.
        digest: The same for files of the same data, as processes that do the same write them.
        stamp: Which file it was.
        has_tracers: Whether plugins are named in it.
    """

    path: str
    kind: Kind
    digest: bytes
    stamp: Stamp
    has_tracers: bool


@dataclasses.dataclass
class Batch:
    """What came of reading some data files.

    Attributes:
        parts: What they hold, by kind.
        files: Those that were read.
        refused: Those that could not be, and why.
    """

    parts: dict[Kind, Part] = dataclasses.field(default_factory=dict)
    files: list[ReadFile] = dataclasses.field(default_factory=list)
    refused: list[tuple[str, str]] = dataclasses.field(default_factory=list)

    def add(self, other: Batch) -> None:
        """Add what came of other files."""
        for kind, part in other.parts.items():
            if kind in self.parts:
                self.parts[kind].add(part)
            else:
                self.parts[kind] = part
        self.files += other.files
        self.refused += other.refused


def arc_of(number: int) -> tuple[int, int]:
    """Read an arc that was made one integer: the lines it goes from and to."""
    tono = (number + _MOST_LINES) % (1 << _ARC_BITS) - _MOST_LINES
    return (number - tono) >> _ARC_BITS, tono


def read_batch(paths: Sequence[str]) -> Batch:
    """Read data files and merge what they hold.

    Args:
        paths: The data files, absolute.

    Returns:
        What they hold, and which could not be read.
    """
    batch = Batch()
    seen: dict[bytes, ReadFile] = {}
    with contextlib.ExitStack() as stack:
        reader = stack.enter_context(contextlib.closing(_Reader()))
        for path in paths:
            try:
                content, stamp = read_regular(path, _LARGEST)
                digest = _digest_of_data(content)
                if digest in seen:
                    batch.files.append(dataclasses.replace(seen[digest], path=path, stamp=stamp))
                    continue
                kind, has_tracers = reader.add(path, content, batch.parts)
                if not reader.meta_is_apart:
                    digest = hashlib.blake2b(content, digest_size=_DIGEST - 1).digest()
            except (UnusableError, NotRegularError, OSError) as error:
                batch.refused.append((path, reason(error)))
            else:
                seen[digest] = ReadFile(path, kind, digest, stamp, has_tracers)
                batch.files.append(seen[digest])
    return batch


def _digest_of_data(content: bytes) -> bytes:
    """Digest all of a data file but who wrote it and when.

    That is in the pages of the table `meta`, where coverage.py made the file (`_META_PAGES`), and
    in the counters of changes in the header. All else being the same, so are the other tables.
    """
    page = int.from_bytes(content[16:18], "big")
    digest = hashlib.blake2b(content[:24], digest_size=_DIGEST)
    for start, end in ((28, 92), (96, 2 * page), (4 * page, None)):
        digest.update(content[start:end])
    return digest.digest()


def tracers_in(path: str) -> list[tuple[str, str]]:
    """Read which plugin handles each measured file, an empty string where none does.

    Raises:
        UnusableError, NotRegularError, OSError: It cannot be read any more.
    """
    content, _ = read_regular(path, _LARGEST)
    with contextlib.closing(_Reader()) as reader:
        parts: dict[Kind, Part] = {}
        kind, _ = reader.add(path, content, parts)
        return [(name, parts[kind].tracers.get(name, "")) for name in parts[kind].paths]


def reason(error: Exception) -> str:
    """Say in words for a person why a file cannot be merged."""
    if isinstance(error, PermissionError):
        return "it cannot be read: take it over with `sudo chown`, then combine again"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error)


@dataclasses.dataclass(frozen=True)
class _Tables:
    """The rows of a data file, before they are added to anything."""

    files: list[tuple[int, str]]
    contexts: list[tuple[int, str]]
    lines: list[tuple[int, int, bytes]]
    arcs: list[tuple[int, int, str | None]]
    tracers: list[tuple[int, str]]


class _Reader:
    """Reads data files one after the other, remembering what they have in common.

    Attributes:
        meta_is_apart: Whether in the last file nothing but `meta` is in `_META_PAGES`.
    """

    def __init__(self) -> None:
        self.meta_is_apart = False
        self._database = sqlite3.connect(":memory:")
        self._good_schemas: set[tuple[Any, ...]] = set()
        self._last_arcs: dict[Key, str] = {}

    def close(self) -> None:
        self._database.close()

    def add(self, path: str, content: bytes, parts: dict[Kind, Part]) -> tuple[Kind, bool]:
        """Add a data file to the part of its kind.

        Returns:
            Its kind, and whether it names plugins.
        """
        tables = self._tables(content)
        kind = _kind(tables)
        part = parts.setdefault(kind, Part())
        names = {}
        for row, (file_id, name) in enumerate(tables.files):
            names[file_id] = name
            part.paths.setdefault(name, (path, row))
        # One string object for each name, however many files have it: this goes between processes.
        same = part.contexts.setdefault
        contexts = {context_id: same(context, context) for context_id, context in tables.contexts}
        if kind is Kind.LINES:
            _add_lines(part.lines, tables.lines, names, contexts)
        elif kind is Kind.ARCS:
            self._add_arcs(part.arcs, tables.arcs, names, contexts)
        for file_id, tracer in tables.tracers:
            if tracer and file_id in names:
                part.tracers.setdefault(names[file_id], tracer)
        return kind, any(tracer for _, tracer in tables.tracers)

    def _tables(self, content: bytes) -> _Tables:
        _refuse_other_formats(content)
        try:
            self._database.deserialize(content)
            self._refuse_other_schemas()
            tables = _Tables(
                # In the order that coverage.py's own statement gives.
                files=self._rows("SELECT file.id, file.path FROM file"),
                contexts=self._rows("SELECT id, context FROM context"),
                lines=self._rows("SELECT file_id, context_id, numbits FROM line_bits"),
                arcs=self._rows(_ARCS),
                tracers=self._rows("SELECT file_id, tracer FROM tracer ORDER BY file_id"),
            )
        except (sqlite3.Error, UnicodeDecodeError, OverflowError, MemoryError) as error:
            self._database.close()
            self._database = sqlite3.connect(":memory:")
            raise UnusableError(f"coverage.py cannot read it ({error})") from error
        _refuse_other_types(tables)
        return tables

    def _rows(self, query: str) -> list[Any]:
        return self._database.execute(query).fetchall()

    def _refuse_other_schemas(self) -> None:
        """Refuse a database that is not coverage.py's, or would run something while it is read."""
        query = "SELECT type, name, sql, rootpage FROM sqlite_master ORDER BY name"
        schema = tuple(self._rows(query))
        pages = {name: page for _, name, _, page in schema}
        self.meta_is_apart = pages.items() >= _META_PAGES.items()
        if schema not in self._good_schemas:
            kinds = {kind for kind, *_ in schema}
            if kinds - {"table", "index"}:
                raise UnusableError(
                    "its database has triggers or views: coverage.py did not write it"
                )
            # The indexes of `unique` have no text of their own.
            texts = {_SPACE.sub(" ", _COMMENT.sub("", sql)) for _, _, sql, _ in schema if sql}
            if "CREATE TABLE coverage_schema ( version integer )" not in texts:
                raise UnusableError("coverage.py cannot read it (it isn't a coverage data file)")
        versions = self._rows("SELECT version FROM coverage_schema")
        if versions != [(SCHEMA_VERSION,)]:
            found = " and ".join(str(version) for (version,) in versions) or "none"
            raise UnusableError(
                f"coverage.py cannot read it (wrong schema: {found} instead of {SCHEMA_VERSION})"
            )
        if schema not in self._good_schemas:
            if texts != _TABLES:
                raise UnusableError("its tables are others: coverage.py did not write it")
            self._good_schemas.add(schema)

    def _add_arcs(
        self,
        merged: dict[Key, set[int]],
        rows: list[tuple[int, int, str | None]],
        names: dict[int, str],
        contexts: dict[int, str],
    ) -> None:
        for file_id, context_id, text in rows:
            if text is None or file_id not in names or context_id not in contexts:
                continue
            key = (names[file_id], contexts[context_id])
            # Processes of one program mostly run the same.
            if self._last_arcs.get(key) == text:
                continue
            self._last_arcs[key] = text
            arcs = json.loads(f"[{text}]")
            if key in merged:
                merged[key].update(arcs)
            else:
                merged[key] = set(arcs)


def _add_lines(
    merged: dict[Key, int],
    rows: list[tuple[int, int, bytes]],
    names: dict[int, str],
    contexts: dict[int, str],
) -> None:
    get, number = merged.get, int.from_bytes
    for file_id, context_id, numbits in rows:
        try:
            key = (names[file_id], contexts[context_id])
        except KeyError:
            continue  # of no file; coverage.py leaves them out, too
        merged[key] = get(key, 0) | number(numbits, "little")


def _kind(tables: _Tables) -> Kind:
    if tables.lines and tables.arcs:
        raise UnusableError("it has both line data and branch data: coverage.py did not write it")
    if tables.lines:
        return Kind.LINES
    return Kind.ARCS if tables.arcs else Kind.NOTHING


def _refuse_other_formats(content: bytes) -> None:
    if not content:
        raise UnusableError("it is empty: the process was ended before it could save")
    if len(content) < _HEADER or not content.startswith(_MAGIC):
        raise UnusableError("coverage.py cannot read it (file is not a database)")
    page = int.from_bytes(content[16:18], "big")
    size = int.from_bytes(content[28:32], "big") * (65536 if page == 1 else page)
    if len(content) < size:
        raise UnusableError(f"it is cut off: {len(content)} of {size} bytes are there")


def _refuse_other_types(tables: _Tables) -> None:
    """Refuse what SQLite lets stand in any column, and coverage.py never writes."""
    right = (
        all(isinstance(path, str) for _, path in tables.files)
        and all(isinstance(context, str) for _, context in tables.contexts)
        and all(isinstance(numbits, bytes) for _, _, numbits in tables.lines)
        and all(isinstance(tracer, str | None) for _, tracer in tables.tracers)
        # A number with a fraction, or too large for an integer.
        and not any(text and ("." in text or "n" in text) for _, _, text in tables.arcs)
    )
    if not right:
        raise UnusableError("it has values of the wrong type: coverage.py did not write it")
