"""What a combine tells of itself: what was merged, what was not, and why."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

from hcoverage._sources.paths_suggestion import NOTHING, PathsSuggestion

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from hcoverage._sources.finder import FoundTree, UnmappedSource
    from hcoverage._untrusted.set_aside import SetAside


@dataclasses.dataclass(frozen=True)
class RecordedProcess:
    """A process that left a recording.

    Attributes:
        host: The name of its host or container.
        pid: Its process id there.
        python: Its Python's version.
        argv: Its command line, as Python saw it.
        origin: What it belongs to: `main`, `subprocesses`, an image.
        contexts: The dynamic contexts in which it ran something, with an empty one for none.
        core: `coverage` where coverage.py measured it, and it ended too early to save; else empty.
        has_together: Whether it ran something for several contexts that it did not tell apart.
    """

    host: str
    pid: int
    python: str
    argv: tuple[str, ...]
    origin: str = ""
    contexts: frozenset[str] = frozenset()
    core: str = ""
    has_together: bool = False


@dataclasses.dataclass(frozen=True)
class OtherVersion:
    """A source of which another version ran elsewhere, so that its lines are left out.

    Attributes:
        path: Where it is here.
        there: Where it was, as in an image that is older, or newer, than what is here.
    """

    path: str
    there: str


@dataclasses.dataclass(frozen=True)
class Attribution:
    """Who ran something in a dynamic context, and who did not.

    Attributes:
        with_context: How many processes did.
        without_context: Those that did not, in words for a person.
        together: Those that ran something for several which they did not tell apart, likewise.
    """

    with_context: int = 0
    without_context: tuple[str, ...] = ()
    together: tuple[str, ...] = ()


NOBODY: Final = Attribution()


@dataclasses.dataclass(frozen=True)
class RecordedData:
    """What came of the recordings.

    Attributes:
        merged: The files that are in the data file, or had nothing to tell but a loss.
        set_aside: The files that are not, or not wholly, and why.
        processes: Who recorded.
        stale: Sources that have changed since they ran.
        losses: What could not be recorded.
        other_versions: Those of the stale ones that ran elsewhere.
        of_hosts: The origins of hosts whose processes know their image.
    """

    merged: tuple[Path, ...] = ()
    set_aside: tuple[SetAside, ...] = ()
    processes: tuple[RecordedProcess, ...] = ()
    stale: tuple[str, ...] = ()
    losses: tuple[str, ...] = ()
    other_versions: tuple[OtherVersion, ...] = ()
    of_hosts: Mapping[str, str] = dataclasses.field(default_factory=dict)


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
        unknown_plugins: Measured files that are left out for the same reason, as data says that a
            plugin measured them which the rcfile does not have; and the plugin's name.
        mapped: Directories of containers that were found to be directories here, though `[paths]`
            does not say so.
        unmapped: Sources of containers that neither `[paths]` nor their content shows the place of.
        not_here: Files that ran and are not here any more, so that no report could be made with
            them; they are left out.
        other_versions: Sources of which containers ran another version; those lines are left out.
        attribution: Which processes ran something in a dynamic context, as for a test.
        saved: The origin of each process that coverage.py measured; those are left out whose data
            file does not tell.
        paths_suggestion: What to paste into the rcfile to have the unmapped sources mapped that may
            be some here.
    """

    data_file: Path
    merged: tuple[Path, ...]
    set_aside: tuple[SetAside, ...]
    recorded: tuple[RecordedProcess, ...] = ()
    stale: tuple[str, ...] = ()
    losses: tuple[str, ...] = ()
    duplicates: tuple[Path, ...] = ()
    outside: tuple[str, ...] = ()
    unknown_plugins: Mapping[str, str] = dataclasses.field(default_factory=dict)
    mapped: tuple[FoundTree, ...] = ()
    unmapped: tuple[UnmappedSource, ...] = ()
    not_here: tuple[str, ...] = ()
    other_versions: tuple[OtherVersion, ...] = ()
    attribution: Attribution = NOBODY
    saved: tuple[str, ...] = ()
    paths_suggestion: PathsSuggestion = NOTHING

    @property
    def data_files(self) -> tuple[Path, ...]:
        """The merged files that coverage.py wrote; each is one process's, as a rule."""
        return tuple(path for path in self.merged if path.name.startswith(".coverage"))
