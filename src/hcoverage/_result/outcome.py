"""The outcome of combining: what was merged, what was not, and why."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final, NamedTuple

from hcoverage._sources.paths_suggestion import NOTHING, PathsSuggestion

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from hcoverage._sources.finder import FoundTree, UnmappedSource
    from hcoverage._untrusted.set_aside import SetAside


class RecordedProcess(NamedTuple):
    """A process that left a recording.

    Attributes:
        host: The name of its host or container.
        pid: Its process id there.
        python: Its Python's version.
        argv: Its command line, as Python saw it.
        origin: Its origin: `main`, `subprocesses`, an image.
        contexts: The dynamic contexts in which it ran something; an empty text stands for none.
        core: `coverage` if coverage.py measured it and it ended too early to save; else empty.
        has_together: Whether it ran something for several contexts without separating them.
    """

    host: str
    pid: int
    python: str
    argv: tuple[str, ...]
    origin: str = ""
    contexts: frozenset[str] = frozenset()
    core: str = ""
    has_together: bool = False


class OtherVersion(NamedTuple):
    """A source of which another version ran elsewhere, so that its lines are left out.

    Attributes:
        path: Its path here.
        there: Its path there, for example in an image that is older or newer than the source here.
    """

    path: str
    there: str


class Attribution(NamedTuple):
    """Who ran something in a dynamic context, and who did not.

    Attributes:
        with_context: How many processes did.
        without_context: A description of each process that did not.
        together: A description of each that ran something for several contexts without separating
            them.
        mixed: A description of each that answered requests for other tests than its context.
    """

    with_context: int = 0
    without_context: tuple[str, ...] = ()
    together: tuple[str, ...] = ()
    mixed: tuple[str, ...] = ()


NOBODY: Final = Attribution()


class OnlyOwn(NamedTuple):
    """What the command's own coverage data has, by options of its own, and the result lacks.

    Attributes:
        files: Files of the project.
        branches: Whether it has branches, and the result none.
    """

    files: tuple[str, ...] = ()
    branches: bool = False


NOTHING_OWN: Final = OnlyOwn()


class RecordedData(NamedTuple):
    """The outcome of reading recordings.

    Attributes:
        merged: The files that are in the data file, or that held nothing but a loss.
        set_aside: The files that are not, or not wholly, in it, and why.
        processes: The processes that wrote them.
        stale: Sources that have changed since they ran.
        losses: What could not be recorded.
        other_versions: Stale sources that ran elsewhere.
        of_hosts: The origins of hosts whose processes know their image.
    """

    merged: tuple[Path, ...] = ()
    set_aside: tuple[SetAside, ...] = ()
    processes: tuple[RecordedProcess, ...] = ()
    stale: tuple[str, ...] = ()
    losses: tuple[str, ...] = ()
    other_versions: tuple[OtherVersion, ...] = ()
    of_hosts: Mapping[str, str] = {}


@dataclasses.dataclass(frozen=True)
class CombineResult:
    """The result of combining.

    Attributes:
        data_file: The merged data file.
        merged: The files whose data is in it.
        set_aside: The files that were left where they are, and why.
        recorded: The processes that the recorder measured, in the order they started.
        stale: Sources that have changed since they ran; their lines are left out.
        losses: What processes could not record, in words for a person.
        duplicates: Merged files that add nothing, because another file has the same content.
        outside: Measured files on this machine that are not the project's; left out because others
            could have written the data.
        unknown_plugins: Measured files left out for the same reason, since the data names a plugin
            that the rcfile does not have; with the plugin's name.
        mapped: Directories of containers that were found on this machine by content, without
            `[paths]`.
        unmapped: Sources of containers that neither `[paths]` nor their content could locate here.
        not_here: Files that ran and no longer exist; left out, since no report could be made with
            them.
        never_imported: Packages and modules that the rcfile names as sources, of which nothing ran.
        only_own: What coverage data that the command wrote itself has, and the result lacks.
        other_versions: Sources of which containers ran another version; those lines are left out.
        attribution: Which processes ran something in a dynamic context, such as a test.
        saved: The origin of each process that coverage.py measured, if its data file tells.
        unsaved: Processes that did not end by themselves while coverage.py saved their data each
            second: what they ran since the last time may be missing.
        sole_origin: Who ran all of the data, as `main` or an image; empty if several did.
        paths_suggestion: Lines to paste into the rcfile, which map those unmapped sources that may
            be files on this machine.
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
    never_imported: tuple[str, ...] = ()
    only_own: OnlyOwn = NOTHING_OWN
    other_versions: tuple[OtherVersion, ...] = ()
    attribution: Attribution = NOBODY
    saved: tuple[str, ...] = ()
    unsaved: tuple[str, ...] = ()
    sole_origin: str = ""
    paths_suggestion: PathsSuggestion = NOTHING

    @property
    def data_files(self) -> tuple[Path, ...]:
        """The merged files that coverage.py wrote; usually one per process."""
        return tuple(path for path in self.merged if path.name.startswith(".coverage"))
