"""Open a data file that anybody may have written, so that nothing in it can do anything.

The file is read whole into memory first: SQLite then acts on nothing beside it (journal, WAL, an
attached file), and what is read is what was there at one moment. Its schema has to be coverage.py's
own, word for word, before a row is read; and from then on the connection can do nothing but read
those tables.

Left to others: what the rows mean (`_merge_data_files`).
"""

from __future__ import annotations

import re
import sqlite3
from typing import TYPE_CHECKING, Any, Final

from hcoverage._untrusted_file import UntrustedDataError, open_regular

if TYPE_CHECKING:
    import os

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
_COMMENT: Final = re.compile(r"--[^\n]*")
_SPACE: Final = re.compile(r"\s+")
_NOT_OURS: Final = "coverage.py did not write it"

_MAGIC: Final = b"SQLite format 3\0"
_HEADER: Final = 100  # bytes
_SIZE_MEANING_64_KIB: Final = 1

# A report makes a list of all lines of a file, so a few bytes must not stand for millions of them.
MOST_LINES: Final = 1 << 20
_MOST_CONTEXTS: Final = 250_000
_MOST_FILES: Final = 250_000
_LONGEST_NAME: Final = 64 << 10  # bytes

_LIMITS: Final = {
    # All arcs of a file and context may be asked for as one string.
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
_FUNCTIONS: Final = frozenset({"count", "max", "length", "typeof", "group_concat"})
_READABLE: Final = frozenset({"sqlite_master", "sqlite_schema"}).union(
    table.split()[2] for table in _TABLES
)
# Each gives a number above the bound, or nothing.
_EXCESSES: Final = (
    ("contexts", "SELECT count(*) FROM context", _MOST_CONTEXTS),
    ("measured files", "SELECT count(*) FROM file", _MOST_FILES),
    ("lines of one file", "SELECT 8 * max(length(numbits)) FROM line_bits", MOST_LINES),
    ("lines of one file", "SELECT max(max(fromno, tono)) FROM arc", MOST_LINES),
    ("characters in a path", "SELECT max(length(path)) FROM file", _LONGEST_NAME),
    ("characters in a context", "SELECT max(length(context)) FROM context", _LONGEST_NAME),
)
_WRONG_TYPES: Final = (
    "SELECT count(*) FROM file WHERE typeof(path) != 'text' OR typeof(id) != 'integer'",
    "SELECT count(*) FROM context WHERE typeof(context) != 'text'",
    "SELECT count(*) FROM line_bits WHERE typeof(numbits) != 'blob'",
    "SELECT count(*) FROM arc WHERE typeof(fromno) != 'integer' OR typeof(tono) != 'integer'",
    "SELECT count(*) FROM tracer WHERE typeof(tracer) NOT IN ('text', 'null')",
)


def open_untrusted(path: str | os.PathLike[str]) -> sqlite3.Connection:
    """Open a data file for reading, whoever wrote it.

    Args:
        path: The data file.

    Returns:
        A connection to a copy in memory that can read coverage.py's tables and nothing else. What
        is damaged deeper inside still raises `sqlite3.Error` as it is read.

    Raises:
        UntrustedDataError: It is not a data file of coverage.py, damaged, or beyond all bounds.
        OSError: It cannot be opened or read.
    """
    with open_regular(path) as file:
        content = file.read()
    database = sqlite3.connect(":memory:")
    try:
        load(database, content)
        refuse_excess(database)
    except BaseException:
        database.close()
        raise
    return database


def load(database: sqlite3.Connection, content: bytes) -> None:
    """Make a connection read a data file's content, and nothing but its tables.

    Args:
        database: A connection to a database in memory; what it held before is gone.
        content: The content of the file.

    Raises:
        UntrustedDataError: It is not a data file of coverage.py, or it is damaged.
    """
    refuse_other_formats(content)
    try:
        database.set_authorizer(None)
        database.deserialize(content)
        confine(database)
        _refuse_other_schemas(database)
    except (sqlite3.Error, UnicodeDecodeError, OverflowError, MemoryError) as error:
        raise UntrustedDataError(f"coverage.py cannot read it ({error})") from error


def confine(database: sqlite3.Connection) -> None:
    """Allow a connection nothing but to read coverage.py's tables, within limits."""
    for limit, value in _LIMITS.items():
        database.setlimit(limit, value)
    database.execute("PRAGMA trusted_schema = OFF")
    database.execute("PRAGMA query_only = ON")
    database.execute("PRAGMA cell_size_check = ON")
    database.set_authorizer(_allow)


def refuse_other_formats(content: bytes) -> None:
    """Refuse what is plainly no whole SQLite database.

    Raises:
        UntrustedDataError: It is not one.
    """
    if not content:
        raise UntrustedDataError("it is empty: the process was ended before it could save")
    if len(content) < _HEADER or not content.startswith(_MAGIC):
        raise UntrustedDataError("coverage.py cannot read it (file is not a database)")
    page = int.from_bytes(content[16:18], "big")
    size = int.from_bytes(content[28:32], "big") * (65536 if page == _SIZE_MEANING_64_KIB else page)
    if len(content) < size:
        raise UntrustedDataError(f"it is cut off: {len(content)} of {size} bytes are there")


def refuse_excess(database: sqlite3.Connection) -> None:
    """Refuse a data file that claims more than any program can have run, or has odd values.

    Raises:
        UntrustedDataError: It does.
    """
    try:
        for query in _WRONG_TYPES:
            if database.execute(query).fetchone() != (0,):
                raise UntrustedDataError(f"it has values of the wrong type: {_NOT_OURS}")
        for what, query, most in _EXCESSES:
            (number,) = database.execute(query).fetchone()
            if number is not None and number > most:
                raise UntrustedDataError(f"it has {number} {what}, more than can be right")
    except sqlite3.Error as error:
        raise UntrustedDataError(f"coverage.py cannot read it ({error})") from error


def _refuse_other_schemas(database: sqlite3.Connection) -> None:
    rows: list[Any] = database.execute("SELECT type, sql FROM sqlite_master").fetchall()
    if {kind for kind, _ in rows} - {"table", "index"}:
        raise UntrustedDataError(f"its database has triggers or views: {_NOT_OURS}")
    # The indexes of `unique` have no text of their own.
    texts = {_SPACE.sub(" ", _COMMENT.sub("", sql)) for _, sql in rows if sql}
    if "CREATE TABLE coverage_schema ( version integer )" not in texts:
        raise UntrustedDataError("coverage.py cannot read it (it isn't a coverage data file)")
    versions = database.execute("SELECT version FROM coverage_schema").fetchmany(2)
    if versions != [(SCHEMA_VERSION,)]:
        found = " and ".join(str(version)[:20] for (version,) in versions) or "none"
        raise UntrustedDataError(
            f"coverage.py cannot read it (wrong schema: {found} instead of {SCHEMA_VERSION})"
        )
    if texts != _TABLES:
        raise UntrustedDataError(f"its tables are others: {_NOT_OURS}")


def _allow(action: int, first: str | None, second: str | None, *_: str | None) -> int:
    allowed = (
        action == sqlite3.SQLITE_SELECT
        or (action == sqlite3.SQLITE_READ and first in _READABLE)
        or (action == sqlite3.SQLITE_FUNCTION and second in _FUNCTIONS)
    )
    return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY
