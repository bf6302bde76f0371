"""Injection: what a container of any image is given so that its Pythons measure themselves.

The image stays as it is. A container gets a startup directory, read-only at a fixed place, and
three doors to it: PYTHONPATH, joined to the image's own, and, since `-I`, `-E` and a cleared
environment shut that one, what `start_files` has, mounted into each directory that a Python of the
image reads `.pth` files from, and into its standard library. Which those are, and what is in the
startup directory, is `prepared_image`'s business; the data directory is mounted inside the startup
directory's place, where no application looks.
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
from hdocker._inject.added import Added, mount_option, variables_of_call
from hdocker._inject.prepared_image import DATA_PLACE, PreparedImage, prepare
from hdocker._inject.start_files import PACKAGE, PACKAGE_NAME, PTH, PTH_NAME, STARTUP_PLACE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_DATA_LINK: Final = "data"


@dataclass(frozen=True)
class Mount:
    """A file or directory of this machine in a container.

    Attributes:
        source: Where it is here; the name of a volume where the engine sees nothing of here.
        target: Where it is in the container.
        read_only: Whether the container may only read it.
    """

    source: Path
    target: str
    read_only: bool = True

    def option(self) -> str:
        """Render it as the value of `--mount`, which is a line of CSV."""
        return mount_option(str(self.source), self.target, self.read_only)


@dataclass(frozen=True)
class Injection:
    """What is added to a container.

    Attributes:
        mounts: Files and directories.
        environment: Variables, complete: PYTHONPATH has the image's own in it.
    """

    mounts: tuple[Mount, ...] = ()
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def run_options(self, inherited: Sequence[str] = ()) -> list[str]:
        """Render it as options of `docker run` and `docker create`.

        Args:
            inherited: Variables that the client has as well, and is told by name alone.
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
    """Give what a container of an image needs to be measured by the session around this process.

    The first time that a session meets an image, a throw-away container looks into it.

    Args:
        image: The image; it is pulled if it is not here.
        engine: The engine that will run the container.
        data_dir: Where the container's data goes; by default into the session's data directory.
        session: The session's startup directory, if the environment may not have it.

    Returns:
        The injection; an empty one where there is no session, or no Python in the image, which is
        told at the end of the run.

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
    """Find out what containers of an image are given, and keep it for the session.

    Args:
        image: The image, which is here.
        client: The path of the client that was called.
        client_options: The options that it was called with, before the subcommand.
        session: The session's startup directory.
        data_dir: The session's data directory.
        memory: Where it is kept.
        by_volumes: Whether volumes may serve where the engine does not see this machine's files.

    Returns:
        Why the image's containers are not measured; nothing if they are, or if the client will
        tell by itself.
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
    """Give a data directory a name that outlives it, as a container may that has it mounted."""
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
    """Make an image ready for the containers of a session; it is pulled if it is not here.

    Args:
        image: The image.
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
    if not prepared.volumes:  # only files are copied into a container
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
        os.fchmod(descriptor, 0o644)  # the container's user is another
    shutil.move(scratch, path)
