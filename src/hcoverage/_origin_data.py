"""What each origin ran, kept beside the merged data, in a data file whose contexts are origins.

`.coverage` itself is to be what `coverage combine` gives, and the contexts in it are the user's. So
the origins have a file of their own, `.hcov-origins.coverage`, written and put in place with it. It
names the data that it belongs to by its digest: when something else, as `coverage run --append`,
has written to the data file since, nobody is told of origins that are not true any more.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hcoverage._errors import HcoverageError
from hcoverage._origins import in_order
from hcoverage._target import origins_beside
from hcoverage._untrusted_file import UntrustedDataError, read_regular

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping

    from hcoverage._part import Part
    from hcoverage._set_algebra import Measured

_BELONGS_TO: Final = "hcov_belongs_to"
_PROCESSES: Final = "hcov_processes"


class OriginsError(HcoverageError):
    """It is not known which origin ran what."""


@dataclasses.dataclass(frozen=True)
class OriginData:
    """What each origin of a data file ran.

    Attributes:
        part: What was run; its contexts are the origins.
        processes: How many processes each origin had.
    """

    part: Part
    processes: Mapping[str, int]

    @property
    def names(self) -> list[str]:
        """The origins: main, subprocesses, images, containers, other hosts."""
        return in_order({*self.part.contexts, *self.processes})

    def ran(self, name: str) -> Measured:
        """Give what an origin ran.

        Raises:
            OriginsError: There is no such origin.
        """
        return self._of([self.resolve(name)]).without_contexts()

    def only(self, name: str) -> Measured:
        """Give what an origin ran and no other.

        Raises:
            OriginsError: There is no such origin.
        """
        return self.ran(name).minus(self.ran_by_others(name))

    def ran_by_others(self, name: str) -> Measured:
        """Give what all origins but one ran.

        Raises:
            OriginsError: There is no such origin.
        """
        mine = self.resolve(name)
        return self._of(other for other in self.names if other != mine)

    def resolve(self, name: str) -> str:
        """Give the origin that is meant by a name, or by a part of it that no other has.

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
        from hcoverage._set_algebra import Measured  # noqa: PLC0415

        return Measured(self.part).in_contexts(names, "an origin")


def read_origins(data_file: str | os.PathLike[str]) -> OriginData:
    """Read what each origin of a merged data file ran.

    Args:
        data_file: The data file, as `combine` wrote it.

    Raises:
        OriginsError: There is no such data file, its origins are not known, or it has been written
            to by something else since.
    """
    path = Path(data_file)
    beside = origins_beside(path)
    if not path.exists():
        raise OriginsError(f"there is no data file {path}: run the tests with `hcov run`")
    if not beside.exists():
        raise OriginsError(
            f"the origins of what is in {path} are not known: they are written, as {beside.name}, "
            "by `hcov run` and `hcov combine`"
        )
    try:
        digest = _digest(path)
        origins, belongs_to = _read(beside)
    except (OSError, UntrustedDataError) as error:
        raise OriginsError(f"the origins of {path} cannot be read: {error}") from error
    if digest not in belongs_to:
        raise OriginsError(
            f"{path} has been written to since its origins were: run the tests with `hcov run`, or "
            "merge with `hcov combine`, to have both again"
        )
    return origins


def write_origins(
    part: Part,
    processes: Mapping[str, int],
    result: Path,
    *,
    appended_to: Path | None = None,
) -> None:
    """Write the origins of a data file that is about to be put in place.

    Args:
        part: What was run; its contexts are origins.
        processes: How many processes each origin has.
        result: The data file. The origins are put beside it.
        appended_to: The data file that these belong to as well, until it is replaced.
    """
    from hcoverage._merge import write_part  # noqa: PLC0415

    write_part(part, origins_beside(result), _meta(processes, result, appended_to))


def write_sole_origin(
    origin: str,
    processes: Mapping[str, int],
    result: Path,
    *,
    appended_to: Path | None = None,
) -> None:
    """Write the origins of a data file where one origin ran all of it, in a single context.

    What it ran is what is in the data file, so the tables are not built once more, but copied.

    Args:
        origin: The origin.
        processes: How many processes it has.
        result: The data file. The origins are put beside it.
        appended_to: The data file that these belong to as well, until it is replaced.
    """
    import sqlite3  # noqa: PLC0415

    beside = origins_beside(result)
    shutil.copyfile(result, beside)
    with contextlib.closing(sqlite3.connect(beside)) as database:
        # As for the result: it is synced when it is whole, and not there for anybody before that.
        database.execute("PRAGMA journal_mode = OFF")
        database.execute("PRAGMA synchronous = OFF")
        with database:
            database.execute("UPDATE context SET context = ?", (origin,))
            meta = _meta(processes, result, appended_to)
            database.executemany("INSERT INTO meta VALUES (?, ?)", meta)


def _meta(
    processes: Mapping[str, int], result: Path, appended_to: Path | None
) -> list[tuple[str, str]]:
    digests = [_digest(path) for path in (result, appended_to) if path is not None]
    return [(_BELONGS_TO, " ".join(digests)), (_PROCESSES, json.dumps(dict(processes)))]


def _read(path: Path) -> tuple[OriginData, list[str]]:
    # Imported here, with sqlite3: most who import hcoverage do not want it.
    import sqlite3  # noqa: PLC0415

    from hcoverage._merge_data_files import read_batch  # noqa: PLC0415
    from hcoverage._part import Part  # noqa: PLC0415
    from hcoverage._untrusted_database import open_untrusted  # noqa: PLC0415

    batch = read_batch([str(path)])
    for refusal in batch.refused:
        raise UntrustedDataError(refusal.reason)
    with contextlib.closing(open_untrusted(path)) as database:
        try:
            meta = dict(database.execute("SELECT key, value FROM meta").fetchall())
        except sqlite3.Error as error:
            raise UntrustedDataError(str(error)) from error
    part = next(iter(batch.parts.values()), Part())
    return OriginData(part, _counts(meta.get(_PROCESSES))), str(meta.get(_BELONGS_TO)).split()


def _counts(text: object) -> dict[str, int]:
    try:
        found = json.loads(str(text))
    except ValueError:
        return {}
    pairs = found.items() if isinstance(found, dict) else ()
    return {str(name): number for name, number in pairs if isinstance(number, int)}


def _digest(data_file: Path) -> str:
    from hcoverage._merge_data_files import digest_of_data  # noqa: PLC0415

    content, _ = read_regular(str(data_file))
    return digest_of_data(content).hex()
