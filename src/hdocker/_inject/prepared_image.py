"""An image made ready for a session, once: its startup directory, with what its Pythons need.

Each image has a startup directory of its own, since its own Pythons compile what is in it: what one
image has written is never run in another. It appears when it is complete, so that processes that
meet an image at the same time need not wait for each other.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hcoverage import (
    LASTING,
    RCFILE_NAME,
    add_coverage_for,
    add_note_for,
    copy_startup_directory,
    own_coverage_runs_on,
    recorder_since,
)
from hdocker._engine.visibility import require_visible
from hdocker._errors import BundleError
from hdocker._inject.added import PLACE
from hdocker._inject.coverage_bundle import coverage_bundle
from hdocker._inject.image_pythons import Interpreter, Look
from hdocker._inject.places import STARTUP, startup_of
from hdocker._inject.start_files import STARTUP_PLACE, write_package
from hdocker._inject.volumes import Volumes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hdocker._engine.engine import Engine
    from hdocker._inject.image_pythons import ImagePythons

_DATA_NAME: Final = "data"
DATA_PLACE: Final = f"{PLACE}/{_DATA_NAME}"

_OLDEST: Final = (3, 8)
_FACTS: Final = "image.json"


@dataclass(frozen=True)
class PreparedImage:
    """What its containers are to be given.

    Attributes:
        startup: The startup directory, here; its place in containers is `STARTUP_PLACE`.
        site_directories: The directories in the image that Pythons read `.pth` files from.
        python_path: The image's own PYTHONPATH, or an empty string.
        interpreters: Its Pythons; empty where there is none that could be asked.
        volumes: The names of the volumes for the startup and the data directory, where the engine
            does not see this machine's files; otherwise none.
    """

    startup: Path
    site_directories: tuple[str, ...]
    python_path: str
    interpreters: tuple[Interpreter, ...]
    volumes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Notes:
    """What is told of an image at the end of the run.

    Attributes:
        data_dir: The data directory.
        image: The image, as the user names it.
    """

    data_dir: Path
    image: str

    def add(self, text: str) -> None:
        """Tell something."""
        name, told = self._note(text)
        (self.data_dir / name).write_text(told, "utf-8")

    def add_if_it_runs(self, text: str, python: Interpreter, startup: Path) -> None:
        """Have a Python of the image tell something, when it runs."""
        add_note_for(python.version, startup, *self._note(text))

    def _note(self, text: str) -> tuple[str, str]:
        told = f"image {self.image}: {text}"
        # Nothing of the image's name is in it: two may be alike when they are spelled as a file's
        # name, and one may end as a process's note does (`alpine:3.10`).
        return f"problem.image-{zlib.crc32(told.encode()):x}.txt", told


def prepare(
    image: str,
    identity: str,
    config: Mapping[str, Any],
    *,
    engine: Engine,
    session: Path,
    data_dir: Path,
    fetch_all: bool = False,
    by_volumes: bool = False,
) -> PreparedImage:
    """Make an image ready for the containers of a session, or find it ready.

    What its Pythons cannot do is told at the end of the run, if one has run.

    Args:
        image: The image.
        identity: The image's id.
        config: What the engine knows of it.
        engine: The engine that has it.
        session: The startup directory of the running session.
        data_dir: The data directory.
        fetch_all: Whether to fetch what any of its Pythons needs, and not what the one needs that
            it runs by itself. A Python that nobody runs is not worth waiting for.
        by_volumes: Whether the engine is known not to see this machine's files.

    Raises:
        DataDirectoryError: The engine does not see this machine's files.
        EngineError: The engine cannot be asked.
    """
    private = session.parent / LASTING
    private.mkdir(exist_ok=True)
    private.chmod(0o755)
    ready = startup_of(private, identity).parent
    if not ready.is_dir():
        with tempfile.TemporaryDirectory(dir=private) as scratch:
            made = Path(scratch, "image")
            _make_readable(Path(scratch), made)
            startup = _copy_startup(session, made)
            if by_volumes:
                volumes = Volumes.make(engine, image, identity, session)
            else:
                volumes = None
                require_visible(engine, data_dir, startup)
            look = Look(engine, image, startup, STARTUP_PLACE, data_dir, volumes)
            look.carry()
            pythons = look.find_pythons(config)
            notes = Notes(data_dir, image)
            since = recorder_since(session)
            _serve(look, pythons.interpreters, since, notes, fetch_all=fetch_all)
            _remember(made, pythons, [volumes.startup, volumes.data] if volumes else [])
            try:
                made.rename(ready)
            except OSError:
                # Another process of the session was first.
                if not ready.is_dir():
                    raise
    return _remembered(ready)


def _make_readable(*directories: Path) -> None:
    """Make directories that the engine may enter, whoever it runs as."""
    for directory in directories:
        directory.mkdir(exist_ok=True)
        directory.chmod(0o755)


def _copy_startup(session: Path, directory: Path) -> Path:
    startup = directory / STARTUP
    copy_startup_directory(
        session,
        startup,
        place=STARTUP_PLACE,
        data_dir=DATA_PLACE,
        rcfile=f"{DATA_PLACE}/{RCFILE_NAME}",
    )
    write_package(startup)
    # In a directory that containers may only read, the engine could not make it.
    (startup / _DATA_NAME).mkdir()
    return startup


def _serve(
    look: Look,
    interpreters: Sequence[Interpreter],
    since: tuple[int, int] | None,
    notes: Notes,
    *,
    fetch_all: bool,
) -> None:
    """Put a coverage.py beside the recorder for each Python that cannot record, compiled for it."""
    if not interpreters:
        notes.add("there is no Python in it to measure; it runs as it would")
    served: dict[tuple[int, int], Interpreter] = {}
    # The one that is most worth it decides for its version.
    for python in sorted(interpreters, key=lambda python: not python.is_default):
        records = since is not None and python.version >= since
        if records or python.version in served:
            continue
        # Without the one from here it would not be measured at all.
        may_fetch = fetch_all or python.is_default or not own_coverage_runs_on(python.version)
        if _add_coverage(look.startup, python, notes, may_fetch=may_fetch):
            served[python.version] = python
    if served:
        look.compile_again([*served.values()])


def _add_coverage(startup: Path, python: Interpreter, notes: Notes, *, may_fetch: bool) -> bool:
    if python.version < _OLDEST:
        notes.add(f"{python.path} is too old to be measured: 3.8 is the oldest")
        return False
    try:
        add_coverage_for(python.version, startup, coverage_bundle(python, may_fetch=may_fetch))
    except BundleError as reason:
        try:
            add_coverage_for(python.version, startup)
        except ImportError as error:
            text = f"{python.path} cannot be measured: {reason}, and {error}"
            notes.add_if_it_runs(text, python, startup)
            return False
        text = (
            f"{python.path} is measured, but slowly, by this machine's coverage.py, whose compiled "
            f"part it cannot load: {reason}"
        )
        notes.add_if_it_runs(text, python, startup)
    return True


def _remember(directory: Path, pythons: ImagePythons, volumes: Sequence[str]) -> None:
    facts = json.dumps({**dataclasses.asdict(pythons), "volumes": volumes})
    (directory / _FACTS).write_text(facts, encoding="utf-8")


def _remembered(directory: Path) -> PreparedImage:
    facts = json.loads((directory / _FACTS).read_text(encoding="utf-8"))
    interpreters = (
        Interpreter(**{**facts_of_one, "version": tuple(facts_of_one["version"])})
        for facts_of_one in facts["interpreters"]
    )
    return PreparedImage(
        directory / STARTUP,
        tuple(facts["site_directories"]),
        facts["python_path"],
        tuple(interpreters),
        tuple(facts["volumes"]),
    )
