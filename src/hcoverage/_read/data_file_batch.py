"""Reads coverage.py's data files and merges their content, straight from their tables.

A batch of files becomes one `Batch`. This runs in worker processes, so nothing here needs
coverage.py's own code. Each file is first read whole into memory, so that all of its rows are of
one moment, and SQLite touches no file beside it. A batch contains a file wholly or not at all.

Left to others: which files to read (`_combine`), and what goes into the result under which names
(`_result.merged`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from hcoverage._read.origins import label
from hcoverage._read.part import ARC_BITS, Key, Kind, Part
from hcoverage._untrusted.database import (
    ORIGINS_TABLE,
    confined,
    empty_tables,
    has_bounded_arcs,
    load,
    page_size,
    refuse_excess,
)
from hcoverage._untrusted.file import CutShortError, Stamp, UntrustedDataError, read_regular
from hcoverage._untrusted.set_aside import SetAside

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hcoverage._read.origins import Origins

# The pages of the table `meta` and its index, counted from 1.
_META_PAGES: Final = {"meta": 3, "sqlite_autoindex_meta_1": 4}
_WHOLE: Final = b"whole:"  # the prefix of whole files' digests, so that none equals a partial one

# One string per file and context: a row of Python objects per arc would take three times as long.
# Multiplied, not shifted, so that fractions, which coverage.py does not write, show as a point.
_ARCS: Final = (
    f"SELECT file_id, context_id, group_concat(fromno * {1 << ARC_BITS} + tono) FROM arc "  # noqa: S608
    "GROUP BY file_id, context_id"
)
_TRACERS: Final = "SELECT file_id, tracer FROM tracer ORDER BY file_id"

# The numbers of a file and a context, and their arcs as `_ARCS` joins them.
_ArcRow: TypeAlias = tuple[int, int, str | None]


class ReadFile(NamedTuple):
    """A data file that was read.

    Attributes:
        path: Its path.
        kind: The kind of its data.
        digest: Equal for files with the same data, such as those of processes that do the same.
        stamp: Identifies the version of the file that was read.
        has_tracers: Whether it names plugins.
        origin: The origin of the process that wrote it.
        contexts: The contexts in which something ran.
        has_origins: Whether it tells which origin ran what (`_result.origin_data`).
    """

    path: str
    kind: Kind
    digest: bytes
    stamp: Stamp
    has_tracers: bool
    origin: str = ""
    contexts: frozenset[str] = frozenset()
    has_origins: bool = False


class Batch:
    """The outcome of reading some data files.

    Attributes:
        parts: Their content, by kind.
        files: The files that were read.
        refused: The files that could not be read.
    """

    def __init__(self) -> None:
        self.parts: dict[Kind, Part] = {}
        self.files: list[ReadFile] = []
        self.refused: list[SetAside] = []

    def add(self, other: Batch) -> None:
        """Add the outcome of other files."""
        for kind, part in other.parts.items():
            if kind in self.parts:
                self.parts[kind].add(part)
            else:
                self.parts[kind] = part
        self.files += other.files
        self.refused += other.refused


def read_batch(paths: Sequence[str], origins: Origins | None = None) -> Batch:
    """Read data files and merge their content.

    Args:
        paths: The data files, absolute.
        origins: Finds their origins, which become prefixes of their contexts; None to leave
            contexts as they are.

    Returns:
        Their content, and which files could not be read.
    """
    batch = Batch()
    seen: dict[tuple[str, bytes], ReadFile] = {}
    with contextlib.ExitStack() as stack:
        reader = stack.enter_context(contextlib.closing(_DataFileReader()))
        for path in paths:
            try:
                content, stamp = read_regular(path)
                digest = digest_of_data(content)
                origin = origins.of_data_file(path) if origins else ""
                if (origin, digest) in seen:
                    same = seen[origin, digest]
                    batch.files.append(same._replace(path=path, stamp=stamp))
                    continue
                before = label(origin, "") if origins else ""
                kind, has_tracers, contexts = reader.add(path, content, batch.parts, before)
                end = reader.origins_page
                if not reader.meta_is_apart:
                    digest = _WHOLE + hashlib.sha256(content).digest()
                elif end:
                    digest = digest_of_data(content, end)
            except (UntrustedDataError, OSError) as error:
                cut_short = isinstance(error, CutShortError)
                batch.refused.append(SetAside(Path(path), reason(error), cut_short))
            else:
                file = ReadFile(path, kind, digest, stamp, has_tracers, origin, contexts, bool(end))
                seen[origin, digest] = file
                batch.files.append(file)
    return batch


def digest_of_data(content: bytes, origins_page: int = 0) -> bytes:
    """Digest a data file without its origins, and without who wrote it and when.

    The latter is in the pages of the table `meta`, if coverage.py made the file (`_META_PAGES`),
    and in the change counters of the header. If all the rest is equal, so are the other tables.

    Args:
        content: The content of the file.
        origins_page: The page where the origins begin, at the end of the file; 0 if it has none.
    """
    page = page_size(content)
    counted = 32 if origins_page else 28  # the page count differs with the origins
    last = (origins_page - 1) * page if origins_page else None
    digest = hashlib.sha256(content[:24])  # in hardware, in half the time of BLAKE2
    for start, end in ((counted, 92), (96, 2 * page), (4 * page, last)):
        digest.update(content[start:end])
    return digest.digest()


def part_of(content: bytes, path: str) -> Part:
    """Return the data of a data file.

    Args:
        content: The file's bytes.
        path: Its name in messages.

    Raises:
        UntrustedDataError: It is not a data file, or it is damaged.
    """
    with contextlib.closing(_DataFileReader()) as reader:
        parts: dict[Kind, Part] = {}
        kind, _, _ = reader.add(path, content, parts)
        return parts[kind]


def tracers_in(path: str) -> list[tuple[str, str]]:
    """Read which plugin handles each measured file; an empty string if none does.

    Raises:
        UntrustedDataError, OSError: The data file can no longer be read.
    """
    content, _ = read_regular(path)
    part = part_of(content, path)
    return [(name, part.tracers.get(name, "")) for name in part.paths]


def reason(error: Exception) -> str:
    """Say, for a person, why a file cannot be merged."""
    if isinstance(error, PermissionError):
        return "it cannot be read: take it over with `sudo chown`, then combine again"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error)


class _Tables(NamedTuple):
    """The rows of a data file, before they are merged."""

    files: list[tuple[int, str]]
    contexts: list[tuple[int, str]]
    lines: list[tuple[int, int, bytes]]
    arcs: list[_ArcRow]
    tracers: list[tuple[int, str]]


class _DataFileReader:
    """Reads data files one after the other, and reuses what they have in common.

    Attributes:
        meta_is_apart: Whether `_META_PAGES` of the last file hold nothing but `meta`.
        origins_page: The page where origins begin in the last file; 0 if it has none.
    """

    def __init__(self) -> None:
        self.meta_is_apart = False
        self.origins_page = 0
        self._database = confined()
        self._last_arcs: dict[Key, str] = {}

    def close(self) -> None:
        self._database.close()

    def add(
        self, path: str, content: bytes, parts: dict[Kind, Part], before: str = ""
    ) -> tuple[Kind, bool, frozenset[str]]:
        """Add a data file to the part of its kind, with `before` before its contexts.

        Returns:
            Its kind, whether it names plugins, and the contexts in which something ran.
        """
        tables = self._tables(content)
        kind = _kind(tables)
        part = parts.setdefault(kind, Part())
        names = {}
        for row, (file_id, name) in enumerate(tables.files):
            names[file_id] = name
            part.paths.setdefault(name, (path, row))
        # One string object for each name in all files, since this is sent between processes.
        same = part.contexts.setdefault
        contexts = {}
        for context_id, context in tables.contexts:
            labelled = before + context
            contexts[context_id] = same(labelled, labelled)
        if kind is Kind.LINES:
            _add_lines(part.lines, tables.lines, names, contexts)
        elif kind is Kind.ARCS:
            self._add_arcs(part.arcs, tables.arcs, names, contexts)
        for file_id, tracer in tables.tracers:
            if tracer and file_id in names:
                part.tracers.setdefault(names[file_id], tracer)
        used = {context_id for _, context_id, *_ in (*tables.lines, *tables.arcs)}
        in_contexts = frozenset(name for number, name in tables.contexts if number in used)
        return kind, any(tracer for _, tracer in tables.tracers), in_contexts

    def _tables(self, content: bytes) -> _Tables:
        try:
            places = load(self._database, content)
            empty = empty_tables(self._database)
            arcs = [] if "arc" in empty else self._rows(_ARCS)
            refuse_excess(self._database, self._sound_tables(empty, arcs))
            self.meta_is_apart = places.items() >= _META_PAGES.items()
            self.origins_page = places.get(ORIGINS_TABLE, 0)
            return _Tables(
                # In the order of coverage.py's own query.
                files=self._rows("SELECT file.id, file.path FROM file"),
                contexts=self._rows("SELECT id, context FROM context"),
                lines=self._rows("SELECT file_id, context_id, numbits FROM line_bits"),
                arcs=arcs,
                tracers=[] if "tracer" in empty else self._rows(_TRACERS),
            )
        except UntrustedDataError:
            self._renew()
            raise
        except (sqlite3.Error, UnicodeDecodeError, OverflowError, MemoryError) as error:
            self._renew()
            raise UntrustedDataError(f"coverage.py cannot read it ({error})") from error

    def _sound_tables(self, empty: frozenset[str], arcs: list[_ArcRow]) -> frozenset[str]:
        """Return the tables that need no search for odd rows, which takes twice as long as this."""
        is_whole = not any("." in text for *_, text in arcs if text)
        return empty | {"arc"} if is_whole and has_bounded_arcs(self._database) else empty

    def _renew(self) -> None:
        """Open a fresh connection, after a file that may have left anything behind."""
        self._database.close()
        self._database = confined()

    def _rows(self, query: str) -> list[Any]:
        return self._database.execute(query).fetchall()

    def _add_arcs(
        self,
        merged: dict[Key, set[int]],
        rows: list[_ArcRow],
        names: dict[int, str],
        contexts: dict[int, str],
    ) -> None:
        for file_id, context_id, text in rows:
            if text is None or file_id not in names or context_id not in contexts:
                continue
            key = (names[file_id], contexts[context_id])
            # Processes of one program mostly run the same arcs.
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
            continue  # without a file; coverage.py leaves them out, too
        merged[key] = get(key, 0) | number(numbits, "little")


def _kind(tables: _Tables) -> Kind:
    if tables.lines and tables.arcs:
        raise UntrustedDataError(
            "it has both line data and branch data: coverage.py did not write it"
        )
    if tables.lines:
        return Kind.LINES
    return Kind.ARCS if tables.arcs else Kind.NOTHING
