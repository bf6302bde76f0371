"""Opens a data file that anybody may have written, so that its content can do no harm.

The whole file is first read into memory: SQLite then touches no file beside it (journal, WAL, an
attached file), and all rows are of one moment. Before a row is read, the schema must be
coverage.py's own, word for word. From then on the connection can only read those tables.

Left to others: what the rows mean (`_read.data_file_batch`).
"""

from __future__ import annotations

import functools
import re
import sqlite3
from typing import TYPE_CHECKING, Any, Final

from hcoverage._untrusted.file import CutShortError, UntrustedDataError

if TYPE_CHECKING:
    from collections.abc import Collection

# The tables of coverage.py 5.0 and later, `SCHEMA` in coverage/sqldata.py, without its comments.
SCHEMA_VERSION: Final = 7
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
# Our own table in a result, of one row, which only `_result.origin_data` reads. coverage.py asks
# for its tables by name, and ignores it.
ORIGINS_TABLE: Final = "hcov_origins"
CREATE_ORIGINS: Final = (
    f"CREATE TABLE {ORIGINS_TABLE} ( digest blob, processes text, origin text, data blob )"
)
_COMMENT: Final = r"--[^\n]*"
_SPACE: Final = r"\s+"
_NOT_OURS: Final = "coverage.py did not write it"

_MAGIC: Final = b"SQLite format 3\0"
_HEADER: Final = 100  # bytes
_SIZE_MEANING_64_KIB: Final = 1

# A report lists all lines of a file, so a few bytes must not stand for millions of lines.
MOST_LINES: Final = 1 << 20
_MOST_CONTEXTS: Final = 250_000
_MOST_FILES: Final = 250_000
_LONGEST_NAME: Final = 64 << 10  # bytes

_LIMITS: Final = {
    # All arcs of a file and context may be read as one string.
    sqlite3.SQLITE_LIMIT_LENGTH: 256 << 20,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 16 << 10,
    sqlite3.SQLITE_LIMIT_COLUMN: 32,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 32,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 8,
    sqlite3.SQLITE_LIMIT_VDBE_OP: 25_000,
    sqlite3.SQLITE_LIMIT_FUNCTION_ARG: 8,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH: 1,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
}
_FUNCTIONS: Final = frozenset({"abs", "count", "max", "length", "nullif", "typeof", "group_concat"})
_READABLE: Final = frozenset({"sqlite_master", "sqlite_schema", ORIGINS_TABLE}).union(
    table.split()[2] for table in _TABLES
)
# There may be many arcs; one search for odd ones is faster than a check of each.
_ODD_ARCS: Final = f"""
SELECT count(nullif(typeof(fromno) = 'integer' AND typeof(tono) = 'integer', 1)),
    max(max(abs(fromno), abs(tono)))
FROM arc
WHERE typeof(fromno) != 'integer' OR typeof(tono) != 'integer'
    OR abs(fromno) > {MOST_LINES} OR abs(tono) > {MOST_LINES}
"""  # noqa: S608 - a number of our own
# Finds all of these except fractions, in half the time: text and NULL are not between numbers.
_UNBOUNDED_ARCS: Final = f"""
SELECT EXISTS (SELECT 1 FROM arc WHERE (fromno BETWEEN -{MOST_LINES} AND {MOST_LINES}
    AND tono BETWEEN -{MOST_LINES} AND {MOST_LINES}) IS NOT TRUE)
"""  # noqa: S608
# Few data files have rows there, and the queries on them take longer to prepare than this one.
_HAS_RARE: Final = "SELECT EXISTS (SELECT 1 FROM arc), EXISTS (SELECT 1 FROM tracer)"
# For each table, the number of values of a wrong type, and the values that have a bound. One
# query for each table, since for a small file preparing takes longer than the rows.
_QUERIES: Final = (
    (
        "file",
        (
            "SELECT count(nullif(typeof(path), 'text')) + count(nullif(typeof(id), 'integer')), "
            "count(*), max(length(path)) FROM file"
        ),
        (("measured files", _MOST_FILES), ("characters in a path", _LONGEST_NAME)),
    ),
    (
        "context",
        (
            "SELECT count(nullif(typeof(context), 'text')), "
            "count(*), max(length(context)) FROM context"
        ),
        (("contexts", _MOST_CONTEXTS), ("characters in a context", _LONGEST_NAME)),
    ),
    (
        "line_bits",
        "SELECT count(nullif(typeof(numbits), 'blob')), 8 * max(length(numbits)) FROM line_bits",
        (("lines of one file", MOST_LINES),),
    ),
    ("arc", _ODD_ARCS, (("lines of one file", MOST_LINES),)),
    ("tracer", "SELECT count(nullif(typeof(tracer) IN ('text', 'null'), 1)) FROM tracer", ()),
)


def load(database: sqlite3.Connection, content: bytes) -> dict[str, int]:
    """Load a data file's content into a connection that can read only its tables.

    Args:
        database: A connection that `confined` made; its previous content is dropped.
        content: The content of the file.

    Returns:
        The first page of each table and index, counted from 1.

    Raises:
        UntrustedDataError: It is not a data file of coverage.py, or it is damaged.
    """
    refuse_other_formats(content)
    try:
        database.set_authorizer(None)
        database.deserialize(content)
        database.set_authorizer(_allow)
        return _refuse_other_schemas(database)
    except (sqlite3.Error, UnicodeDecodeError, OverflowError, MemoryError) as error:
        raise UntrustedDataError(f"coverage.py cannot read it ({error})") from error


def confined() -> sqlite3.Connection:
    """Return a connection, to no file, that can only read what is loaded, within limits."""
    database = sqlite3.connect(":memory:")
    for limit, value in _LIMITS.items():
        database.setlimit(limit, value)
    database.execute("PRAGMA trusted_schema = OFF")
    database.execute("PRAGMA query_only = ON")
    database.execute("PRAGMA cell_size_check = ON")
    return database


def refuse_other_formats(content: bytes) -> None:
    """Refuse content that is plainly not a whole SQLite database.

    Raises:
        UntrustedDataError: It is not one.
    """
    if not content:
        raise CutShortError("it is empty: the process was ended before it could save")
    if len(content) < _HEADER or not content.startswith(_MAGIC):
        raise UntrustedDataError("coverage.py cannot read it (file is not a database)")
    size = int.from_bytes(content[28:32], "big") * page_size(content)
    if len(content) < size:
        raise CutShortError(f"it is cut off: {len(content)} of {size} bytes are there")


def page_size(content: bytes) -> int:
    """Return the size of a database's pages, in bytes."""
    page = int.from_bytes(content[16:18], "big")
    return 65536 if page == _SIZE_MEANING_64_KIB else page


def empty_tables(database: sqlite3.Connection) -> frozenset[str]:
    """Return which of the tables `arc` and `tracer` are empty.

    Raises:
        sqlite3.Error: They are damaged.
    """
    has_arcs, has_tracers = database.execute(_HAS_RARE).fetchone()
    return frozenset(
        name for name, has_rows in (("arc", has_arcs), ("tracer", has_tracers)) if not has_rows
    )


def has_bounded_arcs(database: sqlite3.Connection) -> bool:
    """Return whether all arcs are within the bounds of line numbers; fractions pass, too.

    Raises:
        sqlite3.Error: They are damaged.
    """
    (beyond,) = database.execute(_UNBOUNDED_ARCS).fetchone()
    return not beyond


def refuse_excess(database: sqlite3.Connection, sound: Collection[str] = ()) -> None:
    """Refuse a data file that claims more than any program can have run, or has odd values.

    Args:
        database: The loaded data file.
        sound: The tables that need no check.

    Raises:
        UntrustedDataError: The data file is refused.
    """
    try:
        for table, query, bounds in _QUERIES:
            if table in sound:
                continue
            wrong, *numbers = database.execute(query).fetchone()
            if wrong:
                raise UntrustedDataError(f"it has values of the wrong type: {_NOT_OURS}")
            for (what, most), number in zip(bounds, numbers, strict=True):
                if number is not None and number > most:
                    raise UntrustedDataError(f"it has {number} {what}, more than can be right")
    except sqlite3.Error as error:
        raise UntrustedDataError(f"coverage.py cannot read it ({error})") from error


def _refuse_other_schemas(database: sqlite3.Connection) -> dict[str, int]:
    query = "SELECT type, sql, name, rootpage FROM sqlite_master"
    rows: list[Any] = database.execute(query).fetchall()
    if {kind for kind, *_ in rows} - {"table", "index"}:
        raise UntrustedDataError(f"its database has triggers or views: {_NOT_OURS}")
    # The indexes of `unique` have no SQL text.
    texts = _without_comments(frozenset(sql for _, sql, *_ in rows if sql))
    if "CREATE TABLE coverage_schema ( version integer )" not in texts:
        raise (UntrustedDataError if texts - _TABLES else CutShortError)(
            "coverage.py cannot read it (it isn't a coverage data file)"
        )
    versions = database.execute("SELECT version FROM coverage_schema").fetchmany(2)
    if versions != [(SCHEMA_VERSION,)]:
        found = " and ".join(str(version)[:20] for (version,) in versions) or "none"
        raise (UntrustedDataError if versions else CutShortError)(
            f"coverage.py cannot read it (wrong schema: {found} instead of {SCHEMA_VERSION})"
        )
    if texts - {CREATE_ORIGINS} != _TABLES:
        raise UntrustedDataError(f"its tables are others: {_NOT_OURS}")
    return {name: page for *_, name, page in rows}


# All files of one coverage.py version have the same schema. Cache few: a forged one may be large.
@functools.lru_cache(maxsize=2)
def _without_comments(texts: frozenset[str]) -> frozenset[str]:
    return frozenset(re.sub(_SPACE, " ", re.sub(_COMMENT, "", text)) for text in texts)


def _allow(action: int, first: str | None, second: str | None, *_: str | None) -> int:
    allowed = (
        action == sqlite3.SQLITE_SELECT
        or (action == sqlite3.SQLITE_READ and first in _READABLE)
        or (action == sqlite3.SQLITE_FUNCTION and second in _FUNCTIONS)
    )
    return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY
