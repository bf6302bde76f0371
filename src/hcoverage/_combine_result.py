"""What a combine tells of itself: what was merged, what was not, and why."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path  # noqa: TC003 - dataclass fields, read by tools at run time
from typing import Final

# `.coverage.{hostname}.pid{pid}.X{random}x`, see SUFFIX_PATTERN in coverage/sqldata.py; before
# coverage.py 7.10 without the letters.
_DATA_FILE_NAME: Final = re.compile(r"\.coverage\.(?P<host>[^.]+)\.")


@dataclasses.dataclass(frozen=True)
class SetAside:
    """A file that was not merged, or not all of it; it is where it was.

    Attributes:
        path: The file.
        reason: Why, in words for a person.
    """

    path: Path
    reason: str


@dataclasses.dataclass(frozen=True)
class RecordedProcess:
    """A process that the recorder measured.

    Attributes:
        host: The name of its host or container.
        pid: Its process id there.
        python: Its Python's version.
        argv: Its command line, as Python saw it.
    """

    host: str
    pid: int
    python: str
    argv: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class RecordedData:
    """What came of the recordings.

    Attributes:
        merged: The files that are in the data file, or had nothing to tell but a loss.
        set_aside: The files that are not, or not wholly, and why.
        processes: Who recorded.
        stale: Sources that have changed since they ran.
        losses: What could not be recorded.
    """

    merged: tuple[Path, ...] = ()
    set_aside: tuple[SetAside, ...] = ()
    processes: tuple[RecordedProcess, ...] = ()
    stale: tuple[str, ...] = ()
    losses: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class CombineResult:
    """What a combine did.

    Attributes:
        data_file: The merged data file.
        merged: The files whose data is in it.
        set_aside: The files that were left where they are, and why.
        recorded: The processes that the recorder measured, in the order they started.
        stale: Sources that have changed since they ran; their lines are left out.
        losses: What processes could not record, in words for a person.
        duplicates: Those of the merged files that add nothing, as their content is another's.
        outside: Measured files that are here but not the project's, left out because others than
            we could have written the data.
    """

    data_file: Path
    merged: tuple[Path, ...]
    set_aside: tuple[SetAside, ...]
    recorded: tuple[RecordedProcess, ...] = ()
    stale: tuple[str, ...] = ()
    losses: tuple[str, ...] = ()
    duplicates: tuple[Path, ...] = ()
    outside: tuple[str, ...] = ()

    @property
    def data_files(self) -> tuple[Path, ...]:
        """The merged files that coverage.py wrote; each is one process's, as a rule."""
        return tuple(path for path in self.merged if path.name.startswith(".coverage"))

    @property
    def hosts(self) -> tuple[str, ...]:
        """Who wrote what was merged: host names, and container ids, sorted."""
        # coverage.py writes a host's name without its dots.
        recorded = {process.host.replace(".", "_") for process in self.recorded}
        return tuple(sorted(recorded.union(self.hosts_of_data_files)))

    @property
    def hosts_of_data_files(self) -> tuple[str, ...]:
        """The host or container of each data file whose name tells it."""
        names = (_DATA_FILE_NAME.match(path.name) for path in self.data_files)
        return tuple(name["host"] for name in names if name)
