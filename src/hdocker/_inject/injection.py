"""Injection: what a container of any image is given so that its Pythons measure themselves.

The image is not changed. A container gets a startup directory, read-only at a fixed path.
PYTHONPATH, joined to the image's own, leads to it. `-I`, `-E` and a cleared environment switch that
off, so `start_files` lead there, too: they are mounted into each directory from which a Python of
the image reads `.pth` files, and into its standard library. The data directory is mounted inside
the startup directory, where no application looks.

Left to `prepared_image`: which directories these are, and what the startup directory contains.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hcoverage import CONTAINERS_VARIABLE, DATA_DIR_VARIABLE, LASTING, SESSION_VARIABLE
from hdocker._engine.engine import Engine
from hdocker._errors import (
    DataDirectoryError,
    EngineError,
    EnginePermissionError,
    EngineUnreachableError,
    ImageNameError,
)
from hdocker._inject.added import PACKAGE_NAME, Added, mount_option, variables_of_call
from hdocker._inject.prepared_image import DATA_PLACE, PreparedImage, prepare
from hdocker._inject.start_files import PACKAGE, PTH, PTH_NAME, STARTUP_PLACE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_DATA_LINK: Final = "data"


@dataclass(frozen=True)
class Mount:
    """A file or directory of this machine in a container.

    Attributes:
        source: Its path here; the name of a volume if the engine does not see this machine's files.
        target: Its path in the container.
        read_only: Whether the container may only read it.
    """

    source: Path
    target: str
    read_only: bool = True

    def option(self) -> str:
        """Return it as the value of `--mount`, which is a line of CSV."""
        return mount_option(str(self.source), self.target, self.read_only)


@dataclass(frozen=True)
class Injection:
    """What is added to a container.

    Attributes:
        mounts: Files and directories.
        environment: Variables; PYTHONPATH includes the image's own.
    """

    mounts: tuple[Mount, ...] = ()
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def run_options(self, inherited: Sequence[str] = ()) -> list[str]:
        """Return it as options of `docker run` and `docker create`.

        Args:
            inherited: Variables that the client has as well: only their names are given.
        """
        mounts = [word for mount in self.mounts for word in ("--mount", mount.option())]
        told = [
            name if name in inherited else f"{name}={value}"
            for name, value in self.environment.items()
        ]
        variables = [word for item in told for word in ("-e", item)]
        return [*mounts, *variables]


def inject_into(
    image: str, engine: Engine, data_dir: Path | None = None, *, session: Path | None = None
) -> Injection:
    """Return what a container of an image needs so that this process's session measures it.

    When a session meets an image for the first time, a throw-away container looks into it.

    Args:
        image: The image; it is pulled if it is not here.
        engine: The engine that will run the container.
        data_dir: Where the container's data goes; by default the session's data directory.
        session: The session's startup directory, if the environment may lack it.

    Returns:
        The injection. It is empty if there is no session, or no Python in the image; the end of the
        run tells of the latter.

    Raises:
        ImageNameError: There is no such image.
        DataDirectoryError: The engine does not see this machine's files.
        EngineError: The engine cannot be asked.
    """
    around = session or Path(os.environ.get(SESSION_VARIABLE) or os.devnull)
    if not around.is_dir() or os.environ.get(CONTAINERS_VARIABLE) == "0":
        return Injection()
    directory = data_dir or Path(os.environ[DATA_DIR_VARIABLE])
    injection = _inject(image, engine, around, directory)
    return dataclasses.replace(
        injection,
        environment={**injection.environment, **variables_of_call(image, os.environ)}
        if injection.mounts
        else {},
    )


def find_out(
    image: str,
    client: str,
    client_options: Sequence[str],
    *,
    session: str,
    data_dir: str,
    memory: str,
    by_volumes: bool = False,
) -> str:
    """Find out what containers of an image are given, and save it for the session.

    Args:
        image: The image, which is here.
        client: The path of the client that was called.
        client_options: The options that it was called with, before the subcommand.
        session: The session's startup directory.
        data_dir: The session's data directory.
        memory: The file to save it in.
        by_volumes: Whether to use volumes if the engine does not see this machine's files.

    Returns:
        Why the image's containers are not measured; an empty string if they are, or if the client
        itself will report the problem.
    """
    engine = Engine(Path(client).name, client=client, client_options=tuple(client_options))
    injection, reason = Injection(), ""
    try:
        try:
            injection = _inject(image, engine, Path(session), Path(data_dir))
        except DataDirectoryError:
            if not by_volumes:
                raise
            injection = _inject(image, engine, Path(session), Path(data_dir), by_volumes=True)
    except (EnginePermissionError, EngineUnreachableError, ImageNameError):
        return ""
    except EngineError as error:
        reason = f"image {image}: {error}"
    mounts = [(str(mount.source), mount.target, mount.read_only) for mount in injection.mounts]
    Added(mounts, injection.environment).save(memory)
    return reason


def _inject(
    image: str, engine: Engine, session: Path, data_dir: Path, *, by_volumes: bool = False
) -> Injection:
    prepared = prepared_image(image, engine, session, data_dir, by_volumes=by_volumes)
    if not prepared.interpreters:
        return Injection()
    if prepared.volumes:
        startup, data = map(Path, prepared.volumes)
    else:
        startup, data = prepared.startup, _lasting_name(session, data_dir)
    return _injection(prepared, startup, data)


def _lasting_name(session: Path, data_dir: Path) -> Path:
    """Return a name for a data directory that outlives it, as containers may that mount it."""
    name = session.parent / LASTING / _DATA_LINK
    with contextlib.suppress(FileExistsError):
        name.symlink_to(data_dir, target_is_directory=True)
    return name if name.readlink() == data_dir else data_dir


def prepared_image(
    image: str,
    engine: Engine,
    session: Path,
    data_dir: Path,
    *,
    fetch_all: bool = False,
    by_volumes: bool = False,
) -> PreparedImage:
    """Make an image ready for the containers of a session.

    Args:
        image: The image; it is pulled if it is not here.
        engine: The engine that will run the containers.
        session: The session's startup directory.
        data_dir: The session's data directory.
        fetch_all: As `prepare` takes it.
        by_volumes: As `prepare` takes it.

    Raises:
        EngineError: As for `inject_into`.
    """
    identity, config = _identify(engine, image)
    return prepare(
        image,
        identity,
        config,
        engine=engine,
        session=session,
        data_dir=data_dir,
        fetch_all=fetch_all,
        by_volumes=by_volumes,
    )


def _injection(prepared: PreparedImage, startup: Path, data_dir: Path) -> Injection:
    pth = prepared.startup.with_name(PTH_NAME)
    if not pth.exists():
        _write(pth, PTH)
    doors = [Mount(pth, f"{place}/{PTH_NAME}") for place in prepared.site_directories]
    if not prepared.volumes:  # then only files are copied into containers, no directories
        package = startup / PACKAGE
        libraries = {each.library for each in prepared.interpreters if each.library}
        doors += [Mount(package, f"{place}/{PACKAGE_NAME}") for place in sorted(libraries)]
    path = [STARTUP_PLACE, *filter(None, [prepared.python_path])]
    return Injection(
        (
            Mount(startup, STARTUP_PLACE),
            Mount(data_dir, DATA_PLACE, read_only=False),
            *doors,
        ),
        {SESSION_VARIABLE: STARTUP_PLACE, "PYTHONPATH": ":".join(path)},
    )


def _identify(engine: Engine, image: str) -> tuple[str, dict[str, Any]]:
    found = engine.inspect_images(image)
    if image not in found:
        try:
            engine.run("pull", "--quiet", image)
        except Exception as error:
            raise ImageNameError(
                f"there is no image {image!r} here, and it cannot be pulled: build it first, or "
                f"look for a typing error. {engine.name} said: {error}"
            ) from error
        found = engine.inspect_images(image)
    known = found[image]
    return str(known["Id"]), known.get("Config") or {}


def _write(path: Path, text: str) -> None:
    descriptor, scratch = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        os.fchmod(descriptor, 0o644)  # The container may run as another user.
    shutil.move(scratch, path)
