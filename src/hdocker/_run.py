"""The start of a `docker run` command whose container brings its coverage data home.

Everything is checked on the host first, so that a test fails at once, with the command that fixes
it. The engine is asked only whether it sees the data directory (`visibility`), and about an image
that measuring is injected into (`injection`). If no engine answers, the `docker run` command itself
will say so. What the container then does depends on the image.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import stat
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hcoverage import (
    DATA_DIR_VARIABLE,
    DEFAULT_DATA_DIR,
    IN_CONTAINER,
    MADE_BY_US,
    RCFILE_NAME,
    SESSION_VARIABLE,
    container_rcfile_text,
    read_rcfile,
)
from hdocker._bake.place import APP_DIR, CONTAINER_DATA_DIR
from hdocker._engine.engine import Engine
from hdocker._engine.visibility import require_visible_once
from hdocker._errors import DataDirectoryError, EngineError, PathMappingWarning
from hdocker._inject.added import PASSED_ON
from hdocker._inject.injection import Injection, inject_into
from hdocker._measure import is_measured

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hcoverage import Rcfile
    from hdocker._measure import Measure

# This process's own user: our word for it, and what people write in a shell.
_OWN_USER: Final = ("own", "$(id -u):$(id -g)")

_WARN_AT_CALLER: Final = 4


def get_docker_base_cmd(
    use_sudo: bool = False,  # noqa: FBT001, FBT002 - the signature that callers are written against
    *,
    engine: str = "docker",
    user: str | int | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    options: Sequence[str] = (),
    image: str | None = None,
    measure: Measure | None = None,
) -> list[str]:
    """Build the start of a `docker run` command; append the image and the container's command.

    The container writes its coverage data into the data directory and is removed when it ends. An
    init process is its PID 1: as PID 1, a process with coverage.py's SIGTERM handler would save but
    not end, so that `docker stop` would take its whole 10 s.

    Args:
        use_sudo: Run the engine's client through `sudo`.
        engine: `docker` or `podman`.
        user: The user in the container, `name`, `uid` or `uid:gid`; the image's own by default.
            With `own`, or `$(id -u):$(id -g)`, this process's user owns the files that the
            container writes.
        data_dir: The data directory on the host. By default that of the run that this process is
            part of (`hcov run`, `hcoverage.inject`), else `coverage_data` in the current
            directory.
        options: Further options of `docker run`.
        image: The image that will be appended. If this process is part of `hcov run`, its
            containers are measured without anything baked into it.
        measure: `always`, or `auto` for scripts that are also called in production: if no run is
            being measured (no `hcov run` or `pytest --hcov` around this, no
            COVERAGE_PROCESS_START), the command is a plain `docker run --rm`, and nothing is
            checked. By default the value of HCOVERAGE_MEASURE, else `always`.

    Returns:
        The command as argv tokens, for `subprocess.run` or `shlex.join`. If no value
        has a space or another special character of the shell, they may be joined by spaces.

    Raises:
        MeasureError: `measure` or HCOVERAGE_MEASURE has another value.
        EngineNotFoundError: The engine's client is not on PATH.
        DataDirectoryError: The data directory or the rcfile in it is missing, lacks the mode that
            the container's user needs, or is not visible to the engine.
        RcfileError: The rcfile in the data directory cannot be used.
        ImageNameError: There is no such image.
        EngineError: The engine cannot be asked about the image.

    Warns:
        PathMappingWarning: No `[paths]` entry of the rcfile maps the container's `/app`, which
            `coverage combine` needs. Under `hcov run` none is needed.
    """
    program = Engine(engine, use_sudo)
    measured = is_measured(measure)
    user = _resolved(user, program)
    added = _measuring_options(program, user, data_dir, options, image) if measured else []
    whose = () if user is None else ("--user", str(user))
    return program.argv("run", "--rm", *added, *whose, *options)


def _resolved(user: str | int | None, program: Engine) -> str | int | None:
    """Return this process's own user as the container needs it; any other user unchanged."""
    if user not in _OWN_USER:
        return user
    if not program.use_sudo:  # through sudo the engine is root's
        with contextlib.suppress(EngineError):  # no engine answers: the command itself will say so
            return program.own_user()
    return f"{os.getuid()}:{os.getgid()}"


def _measuring_options(
    program: Engine,
    user: str | int | None,
    data_dir: str | os.PathLike[str] | None,
    options: Sequence[str],
    image: str | None,
) -> list[str]:
    """Check all that a measured container needs; return the options that measure it."""
    program.require_program()
    directory = _data_directory(data_dir)
    _check_data_directory(directory, user)
    if not program.use_sudo:  # sudo may ask for a password, and its engine is on this machine
        require_visible_once(program, directory)
    rcfile = _fitted_rcfile(directory)
    injection = inject_into(image, program, directory) if image else Injection()
    # Injected measuring needs no mapping; nor does the merge at the end of a run.
    if not (injection.mounts or os.path.isdir(os.environ.get(SESSION_VARIABLE, ""))):  # noqa: PTH112
        _warn_without_mapping(rcfile)
    return [
        "--init",
        *("-v", f"{directory}:{CONTAINER_DATA_DIR}"),
        *("-e", f"COVERAGE_FILE={CONTAINER_DATA_DIR}/{_data_file_name(options)}"),
        *("-e", f"COVERAGE_PROCESS_START={CONTAINER_DATA_DIR}/{RCFILE_NAME}"),
        *injection.run_options(() if program.use_sudo else _inherited(injection)),
    ]


def _inherited(injection: Injection) -> list[str]:
    """List the variables that the client should take from its own environment.

    A test's name may contain anything, and if the tokens are joined for a shell, it would read it.
    """
    values = {name: injection.environment.get(name, "x") for name in PASSED_ON}
    return [name for name, value in values.items() if shlex.quote(value) != value]


def _data_file_name(options: Sequence[str]) -> str:
    """Return the name of data files; if needed, it says that a container wrote them.

    With the host's network, the host name in them is this machine's. And at its end a run names
    the images that ran something.
    """
    words = " ".join(options).replace("=", " ")
    shares = any(f"{option} host" in words for option in ("--network", "--net", "--uts"))
    is_in_run = os.path.isdir(os.environ.get(SESSION_VARIABLE, ""))  # noqa: PTH112
    return f".coverage.{IN_CONTAINER}" if shares or is_in_run else ".coverage"


def _fitted_rcfile(data_dir: Path) -> Rcfile:
    """Turn the rcfile in the data directory, a copy of the project's, into one for containers.

    Its `source` refers to this machine; in a container it would exclude code with other paths.
    """
    path = data_dir / RCFILE_NAME
    rcfile = read_rcfile(path)
    if not path.read_text(encoding="utf-8-sig").startswith(MADE_BY_US):
        text = container_rcfile_text(rcfile, data_dir.parent)
        with contextlib.suppress(PermissionError):  # somebody else's: containers get it unchanged
            path.write_text(text, encoding="utf-8")
    return rcfile


def injection_for(image: str, *, engine: str = "docker", use_sudo: bool = False) -> Injection:
    """Return the mounts and variables that measure a container, for callers who start it.

    This is for an engine that no door leads to, or for `sudo`.

    Args:
        image: The image.
        engine: `docker` or `podman`.
        use_sudo: Run the engine's client through `sudo`.

    Returns:
        The mounts and the variables; none if this process is not part of `hcov run`.

    Raises:
        EngineError: As for `get_docker_base_cmd`.
    """
    program = Engine(engine, use_sudo)
    program.require_program()
    return inject_into(image, program)


def _data_directory(data_dir: str | os.PathLike[str] | None) -> Path:
    chosen = data_dir or os.environ.get(DATA_DIR_VARIABLE) or DEFAULT_DATA_DIR
    # Not resolved: if the engine is elsewhere (`-v` has a path of the engine's host), or the
    # directory is a link to a mount, only the path as given works.
    return Path(os.path.abspath(chosen))  # noqa: PTH100


def _check_data_directory(directory: Path, user: str | int | None) -> None:
    # The mount hides the image's files at this path, so the host's files and modes count.
    if ":" in str(directory):
        raise DataDirectoryError(
            f"`-v` cannot mount {directory}, because of the colon in its name: "
            "choose another data directory, with `data_dir` or `hcov run --data-dir`"
        )
    if not directory.is_dir():
        there = "is no directory" if directory.exists() else "is not there"
        raise DataDirectoryError(f"the data directory {directory} {there}: {_setup(directory)}")
    _check_mode(directory, user, stat.S_IRWXO, "write into the data directory")
    rcfile = directory / RCFILE_NAME
    if not rcfile.is_file():
        raise DataDirectoryError(f"there is no rcfile {rcfile}: {_setup(directory)}")
    _check_mode(rcfile, user, stat.S_IROTH, "read the rcfile")


def _check_mode(path: Path, user: str | int | None, needed: int, what: str) -> None:
    status = path.stat()
    uid = str(user).partition(":")[0]
    if uid in {"0", "root", str(status.st_uid)} or status.st_mode & needed == needed:
        return
    mode = stat.S_IMODE(status.st_mode)
    fixed = stat.S_IMODE(status.st_mode | needed)
    raise DataDirectoryError(
        f"a container's user cannot {what} {path}, its mode is {mode:o}: "
        f"run `chmod {fixed:o} {path}`, or make everything anew: {_setup(path)}"
    )


def _setup(path: Path) -> str:
    directory = path.parent if path.name == RCFILE_NAME else path
    command = ["hcov", "commands", "setup"]
    if directory != Path(DEFAULT_DATA_DIR).absolute():
        command.append(f"--data-dir={directory}")
    return f"run `{shlex.join(command)} | sh -e`, or the tests through `hcov run`"


def _warn_without_mapping(rcfile: Rcfile) -> None:
    # A side may be a pattern, `*/app` or `/app/src`.
    if any(APP_DIR in side for side in rcfile.container_sides):
        return
    warnings.warn(
        f"the rcfile maps no path of containers, so `coverage combine` will not merge what runs "
        f"under {APP_DIR} in one with the same code here: add `{APP_DIR}` under the code's "
        "directory to an entry of [paths], or merge with `hcov combine`, which finds it",
        PathMappingWarning,
        stacklevel=_WARN_AT_CALLER,
    )
