"""Keeps what each origin ran, in a table of the merged data file that coverage.py does not read.

The rest of `.coverage` is the result of `coverage combine`, with the user's contexts. The origins
are a data file of their own, whose contexts are the origins, compressed into one row; if one origin
ran everything, its name is enough. The table is the last in the file and has a digest of everything
before it. So if another program, such as `coverage run --append`, has written to the file since,
nobody is shown origins that are no longer true.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from hcoverage._errors import HcoverageError
from hcoverage._printable import printable
from hcoverage._read.origins import LONGEST, in_order
from hcoverage._untrusted.file import LARGEST, UntrustedDataError, read_regular

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping

    from hcoverage._read.part import Part
    from hcoverage._result.set_algebra import Measured

_QUICK: Final = 1  # the level of compression; the content is mostly empty pages
# The digest skips this many pages: the first lists all tables, and changes as this one is added.
_FIRST: Final = 1


class OriginsError(HcoverageError):
    """The origins of a data file are not known, or a name stands for none of them."""


class OriginData(NamedTuple):
    """What each origin of a data file ran.

    Attributes:
        part: The executed lines or arcs; its contexts are the origins.
        processes: How many processes each origin had.
    """

    part: Part
    processes: Mapping[str, int]

    @property
    def names(self) -> list[str]:
        """The origins: main, subprocesses, images, containers, other hosts."""
        return in_order({*self.part.contexts, *self.processes})

    def ran(self, name: str) -> Measured:
        """Return what an origin ran.

        Raises:
            OriginsError: There is no such origin.
        """
        return self._of([self.resolve(name)]).without_contexts()

    def only(self, name: str) -> Measured:
        """Return what an origin ran and no other.

        Raises:
            OriginsError: There is no such origin.
        """
        return self.ran(name).minus(self.ran_by_others(name))

    def ran_by_others(self, name: str) -> Measured:
        """Return what all origins but one ran.

        Raises:
            OriginsError: There is no such origin.
        """
        mine = self.resolve(name)
        return self._of(other for other in self.names if other != mine)

    def resolve(self, name: str) -> str:
        """Return the origin for a name, or for a part of a name that only one origin has.

        Raises:
            OriginsError: There is no such origin, or there are several.
        """
        if name in self.names:
            return name
        found = [known for known in self.names if name and name in known]
        if len(found) == 1:
            return found[0]
        several = "several origins have" if found else "there is no origin"
        raise OriginsError(
            f"{several} {name!r}; there are: {', '.join(self.names) or 'none at all'}"
        )

    def _of(self, names: Iterable[str]) -> Measured:
        from hcoverage._result.set_algebra import Measured  # noqa: PLC0415

        return Measured(self.part).in_contexts(names, "an origin")


def read_origins(data_file: str | os.PathLike[str]) -> OriginData:
    """Read what each origin of a merged data file ran.

    Args:
        data_file: The data file, as `combine` wrote it.

    Raises:
        OriginsError: There is no such data file, its origins are not known, or another program has
            written to it since.
    """
    path = Path(data_file)
    if not path.exists():
        raise OriginsError(f"there is no data file {path}: run the tests with `hcov run`")
    try:
        content, _ = read_regular(path)
        origins = _read(content, str(path))
    except (OSError, UntrustedDataError) as error:
        raise OriginsError(f"the origins of {path} cannot be read: {error}") from error
    if origins is None:
        raise OriginsError(
            f"{path} does not say who ran what: only `hcov run` and `hcov combine` write that"
        )
    return origins


def write_origins(part: Part, processes: Mapping[str, int], result: Path) -> None:
    """Write the origins of a data file into it, after everything else.

    Args:
        part: The executed lines or arcs; its contexts are origins.
        processes: How many processes each origin has.
        result: The data file, in a private directory.
    """
    from hcoverage._result.merged import write_part  # noqa: PLC0415

    scratch = result.with_name("origins")
    write_part(part, scratch)
    _add(result, processes, "", zlib.compress(scratch.read_bytes(), _QUICK))
    scratch.unlink()


def write_sole_origin(origin: str, processes: Mapping[str, int], result: Path) -> None:
    """Write the origins of a data file of which one origin ran everything.

    Args:
        origin: The origin.
        processes: How many processes it has.
        result: The data file.
    """
    _add(result, processes, origin, b"")


def _add(result: Path, processes: Mapping[str, int], origin: str, data: bytes) -> None:
    # Imported here: most importers of hcoverage do not need it.
    import sqlite3  # noqa: PLC0415

    from hcoverage._untrusted.database import CREATE_ORIGINS, ORIGINS_TABLE  # noqa: PLC0415

    with contextlib.closing(sqlite3.connect(result)) as database:
        # No journal: the file is synced once it is whole, and nobody sees it before that.
        database.execute("PRAGMA journal_mode = OFF")
        database.execute("PRAGMA synchronous = OFF")
        if database.execute("PRAGMA freelist_count").fetchone() != (0,):
            # Otherwise the table would fill freed pages, and not be at the end.
            database.execute("VACUUM")
        database.execute(CREATE_ORIGINS)
        query = "SELECT rootpage FROM sqlite_master WHERE name = ?"
        (page,) = database.execute(query, (ORIGINS_TABLE,)).fetchone()
        row = (_digest_before(page, result.read_bytes()), json.dumps(dict(processes)), origin, data)
        with database:
            database.execute(f"INSERT INTO {ORIGINS_TABLE} VALUES (?, ?, ?, ?)", row)  # noqa: S608


def _read(content: bytes, path: str) -> OriginData | None:
    """Read the origins of an untrusted data file; return None if it has none.

    Raises:
        OriginsError: The origins belong to other data than the file has now.
        UntrustedDataError: The origins are damaged.
    """
    import sqlite3  # noqa: PLC0415

    from hcoverage._read.data_file_batch import part_of  # noqa: PLC0415
    from hcoverage._untrusted.database import ORIGINS_TABLE, confined, load  # noqa: PLC0415

    with contextlib.closing(confined()) as database:
        page = load(database, content).get(ORIGINS_TABLE)
        if page is None:
            return None
        try:
            query = f"SELECT digest, processes, origin, data FROM {ORIGINS_TABLE}"  # noqa: S608
            rows = database.execute(query).fetchmany(2)
        except (sqlite3.Error, MemoryError, UnicodeDecodeError) as error:
            raise UntrustedDataError(str(error)) from error
    match rows:
        case [(bytes(digest), str(processes), str(origin), bytes(data))]:
            pass
        case _:
            raise UntrustedDataError("hcov did not write them")
    if digest != _digest_before(page, content):
        raise OriginsError(
            f"{path} has changed since its origins were written: run the tests with `hcov run`, or "
            "merge with `hcov combine`, which write both"
        )
    if origin:
        part = part_of(content, path).with_contexts(lambda _: _shown(origin))
    else:
        part = part_of(_decompressed(data), path).with_contexts(_shown)
    return OriginData(part, _counts(processes))


def _digest_before(page: int, content: bytes) -> bytes:
    """Return a digest of all pages before a page, counted from 1; any write to them changes it."""
    from hcoverage._untrusted.database import page_size  # noqa: PLC0415

    size = page_size(content)
    return hashlib.sha256(content[_FIRST * size : (page - 1) * size]).digest()


def _decompressed(data: bytes) -> bytes:
    decompressor = zlib.decompressobj()
    try:
        content = decompressor.decompress(data, LARGEST)
    except zlib.error as error:
        raise UntrustedDataError(str(error)) from error
    if not decompressor.eof:
        raise UntrustedDataError("they are cut off, or larger than can be right")
    return content


def _counts(text: str) -> dict[str, int]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    pairs = found.items() if isinstance(found, dict) else ()
    return {_shown(str(name)): number for name, number in pairs if isinstance(number, int)}


def _shown(origin: str) -> str:
    return printable(origin)[:LONGEST]
