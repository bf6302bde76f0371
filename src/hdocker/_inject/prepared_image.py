"""Makes an image ready for a session, once: a startup directory with what its Pythons need.

Each image has a startup directory of its own, because the image's Pythons compile the files in it:
what one image wrote must never run in another. The directory gets its name only when it is
complete. So processes that meet an image at the same time need not wait for each other.
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
    """What the containers of an image are given.

    Attributes:
        startup: The startup directory, here; its path in containers is `STARTUP_PLACE`.
        site_directories: The directories from which the image's Pythons read `.pth` files.
        python_path: The image's own PYTHONPATH, or an empty string.
        interpreters: Its Pythons; empty if there is none, or none could be asked.
        volumes: The names of the volumes for the startup and the data directory; empty if the
            engine sees this machine's files.
    """

    startup: Path
    site_directories: tuple[str, ...]
    python_path: str
    interpreters: tuple[Interpreter, ...]
    volumes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Notes:
    """Writes notes on an image, which the end of the run tells.

    Attributes:
        data_dir: The data directory.
        image: The image, as the user names it.
    """

    data_dir: Path
    image: str

    def add(self, text: str) -> None:
        """Write a note."""
        name, told = self._note(text)
        (self.data_dir / name).write_text(told, "utf-8")

    def add_if_it_runs(self, text: str, python: Interpreter, startup: Path) -> None:
        """Have a Python of the image write a note when it runs."""
        add_note_for(python.version, startup, *self._note(text))

    def _note(self, text: str) -> tuple[str, str]:
        told = f"image {self.image}: {text}"
        # The note's name has nothing of the image's: two images may become the same file name, and
        # one may end like the note of a process (`alpine:3.10`).
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
    """Make an image ready for the containers of a session, unless it is ready already.

    If one of its Pythons runs that cannot be measured well, the end of the run tells why.

    Args:
        image: The image.
        identity: The image's id.
        config: The image's `Config`, as the engine shows it.
        engine: The engine that has the image.
        session: The startup directory of the running session.
        data_dir: The data directory.
        fetch_all: Whether to fetch coverage.py for all of its Pythons. Else only the default one,
            and those that this machine's coverage.py does not run on, are worth the time.
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
            startup = _copy_startup(session, made, image)
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
    """Make directories that the engine may enter, whatever user it runs as."""
    for directory in directories:
        directory.mkdir(exist_ok=True)
        directory.chmod(0o755)


def _copy_startup(session: Path, directory: Path, image: str) -> Path:
    startup = directory / STARTUP
    copy_startup_directory(
        session,
        startup,
        place=STARTUP_PLACE,
        data_dir=DATA_PLACE,
        rcfile=f"{DATA_PLACE}/{RCFILE_NAME}",
        image=image,
    )
    write_package(startup)
    # The engine could not make it itself: containers may only read the startup directory.
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
    """For each Python without recorder, add a coverage.py that was compiled for it."""
    if not interpreters:
        notes.add("there is no Python in it to measure; it runs as it would")
    served: dict[tuple[int, int], Interpreter] = {}
    # Of several Pythons of one version, the default one decides.
    for python in sorted(interpreters, key=lambda python: not python.is_default):
        records = since is not None and python.version >= since
        if records or python.version in served:
            continue
        # It would not be measured at all if this machine's coverage.py does not run on it.
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
