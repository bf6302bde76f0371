"""What runs in the place of `docker run` and `docker create` in a measured command: a shim.

It adds what measuring needs to the command line, and becomes the real client, with the same stdin,
terminal, signals and exit status. Whatever goes wrong with it, the command is run as it was given,
and `hcov run` tells at its end.

Each `docker run` waits for this, so it does what is known already with what every Python start has
loaded: `_shims` starts it without `site` and without the package's `__init__`. What has to be found
out first, once for an image, `_injection` finds out.
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # without its enumerations, twice as fast
import marshal
import os
import sys

from hdocker._shim import command_line as _command_line
from hdocker._shim.image_identity import identity_by_socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, Final, NoReturn

    from hdocker._shim.command_line import CommandLine

# Beside what images use: /opt is for add-on packages by the file system hierarchy standard.
PLACE: Final = "/opt/hcoverage"
_COMPOSE: Final = "compose"
SUBCOMMANDS: Final = ("run", "create", _COMPOSE)
# Of compose, those that make containers.
COMPOSE_SUBCOMMANDS: Final = ("up", "create", "run", "scale")
# Of a container that is none of the application's.
OWN_LABEL: Final = "hcoverage.own"
SESSION_VARIABLE: Final = "HCOVERAGE_SESSION"
IMAGE_VARIABLE: Final = "HCOVERAGE_IMAGE"
# What the one who starts a container knows of it, and the container has to be told.
PASSED_ON: Final = ("HCOVERAGE_CONTEXT", "HCOVERAGE_CONTEXT_FILE")

# By which clients choose the engine they talk to.
_ENGINE_VARIABLES: Final = (
    "DOCKER_HOST",
    "DOCKER_CONTEXT",
    "CONTAINER_HOST",
    "CONTAINER_CONNECTION",
)
_NOTE_LIMIT: Final = 1900  # characters; what is told of a note is less than 2000 bytes


class NotMeasuredError(Exception):
    """The container cannot be measured, and the user should know why."""


_EXPECTED: Final = (NotMeasuredError, _command_line.UnknownOptionError)


class Added:
    """What is added to each container of an image, kept for the length of a session.

    Attributes:
        mounts: For each mount, where it is here, where in the container, and whether the container
            may only read it; none where there is no Python in the image.
        environment: Variables; PYTHONPATH has the image's own in it.
    """

    __slots__ = ("environment", "mounts")

    def __init__(
        self,
        mounts: Sequence[tuple[str, str, bool]] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.mounts = mounts
        self.environment = environment or {}

    def mounts_beside(
        self, targets: Sequence[str], *, shares_volumes: bool
    ) -> list[tuple[str, str, bool]]:
        """Give the mounts for a container that has others.

        Args:
            targets: Where the others are in it.
            shares_volumes: Whether it has other containers' as well.
        """
        # What the user mounts is another file system than the one looked at. To mount a file into
        # it the engine would make one there, which stays, or fail.
        return [
            mount
            for mount in self.mounts
            if is_in(mount[1], PLACE)
            or not (shares_volumes or any(is_in(mount[1], directory) for directory in targets))
        ]

    def variables_for(
        self,
        image: str,
        users: Mapping[str, str | None],
        session: str,
        caller: Mapping[str, str],
    ) -> dict[str, str]:
        """Give the variables for a container.

        Args:
            image: The image, as the user names it.
            users: The variables that the user sets; None for one that is taken away.
            session: The session's startup directory.
            caller: The environment of the one who starts it.
        """
        environment = {**self.environment, **variables_of_call(image, caller)}
        for name in PASSED_ON:
            if users.get(name) is not None:
                environment.pop(name, None)
        if "PYTHONPATH" in users:
            # Without the session's own, which the user may have passed on from here.
            entries = (users["PYTHONPATH"] or "").split(":")
            theirs = [entry for entry in entries if entry not in {session, PLACE}]
            environment["PYTHONPATH"] = ":".join([PLACE, *theirs] if any(theirs) else [PLACE])
        return environment

    def save(self, path: str) -> None:
        """Write it for the shims of the session."""
        _write(path, [list(self.mounts), dict(self.environment)])

    @classmethod
    def saved(cls, path: str) -> Added | None:
        """Read it; None where it has not been found out yet."""
        known = _read(path)
        return None if known is None else cls(*known)


def main() -> NoReturn:
    """Become the client, with a command line that measures."""
    # As this process was started it would have been the client itself.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    client, session, were_set, *arguments = sys.argv[1:]
    if "locale" not in were_set:
        os.environ.pop("LC_CTYPE", None)  # Python sets it for its children where no locale is set
    if "session" in were_set:
        os.environ[SESSION_VARIABLE] = session
    else:
        del os.environ[SESSION_VARIABLE]
    try:
        command = measured(client, session, arguments)
    except SystemExit:
        raise
    except BaseException as error:  # noqa: BLE001 - the application must not notice
        note(session, error, arguments, os.path.basename(client))
        command = arguments
    os.execv(client, [client, *command])  # noqa: S606 - it is the command that was given


def measured(client: str, session: str, arguments: list[str]) -> list[str]:
    """Give the client's arguments, with what measures the container in them.

    Args:
        client: The real client's path.
        session: The session's startup directory.
        arguments: What the client was called with.

    Raises:
        NotMeasuredError: The container cannot be measured, without being the user's mistake.
        SystemExit: An image cannot be built, which compose has told.
    """
    own = options_of(session, client, ())
    subcommand = _command_line.subcommand_at(arguments, own)
    if subcommand < 0 or arguments[subcommand] not in SUBCOMMANDS:
        return arguments
    known = settings(session)
    if known["door"] and os.path.basename(client) == "docker":
        through_door = _through_door(arguments, own, known["engine"], known["door"])
        if through_door is not None:
            return through_door
    if arguments[subcommand] == _COMPOSE:
        return _measured_by_compose(client, session, arguments, subcommand)
    options = options_of(session, client, (arguments[subcommand],))
    line = _command_line.read(arguments, subcommand, options)
    # With --rootfs, which podman has, a directory takes the image's place.
    if not line.image or line.values("--help", "--rootfs"):
        return arguments
    ours = _ours(client, session, line)
    return [*arguments[: line.insert_at], *ours, *arguments[line.insert_at :]]


def _through_door(
    arguments: list[str], options: Mapping[str, str], engine: str, door: str
) -> list[str] | None:
    """Have the client come through the session's door, where that is of the engine it names.

    Returns:
        Its arguments; None where it goes to another engine, or otherwise than by a socket.
    """
    end, found = _command_line.read_options(arguments, 0, options)
    chosen = {name: value for name, value in found if name in {"--host", "--context"}}
    if any(name.startswith("--tls") for name, _ in found):
        return None
    from hdocker._door.engine_address import socket_of, socket_of_context

    if "--host" in chosen:
        named = socket_of({"DOCKER_HOST": chosen["--host"]})
    elif "--context" in chosen:
        named = socket_of_context(chosen["--context"], os.environ)
    else:
        named = socket_of(os.environ)
    if os.path.realpath(named) not in map(
        os.path.realpath, (engine, socket_of({"DOCKER_HOST": door}))
    ):
        return None
    os.environ["DOCKER_HOST"] = door
    kept = [
        f"{name}={value}" if value or options[name].endswith("=") else name
        for name, value in found
        if name not in chosen
    ]
    return [*kept, *arguments[end:]] if chosen else arguments


def _ours(client: str, session: str, line: CommandLine) -> list[str]:
    """Give the options that measure a container; none where it is to be left alone."""
    try:
        variables = line.variables(os.environ)
    except OSError:
        return []  # the client will tell of the file
    if variables.get(SESSION_VARIABLE, session) == "" or _has_it_already(line, session):
        return []
    added = _added(client, session, line)
    if added is None or not added.mounts:
        return []
    mounts = added.mounts_beside(
        line.mount_targets(), shares_volumes=bool(line.values("--volumes-from"))
    )
    settings = added.variables_for(line.image, variables, session, os.environ)
    return [
        *(word for mount in mounts for word in ("--mount", mount_option(*mount))),
        *(word for item in settings.items() for word in ("-e", "=".join(item))),
    ]


def variables_of_call(image: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Give the variables of a container that only the one who starts it knows.

    Args:
        image: The image, as the user names it.
        environment: The environment of the one who starts it.
    """
    passed_on = {name: environment[name] for name in PASSED_ON if name in environment}
    return {IMAGE_VARIABLE: image, **passed_on}


def mount_option(source: str, target: str, read_only: bool) -> str:  # noqa: FBT001 - as kept
    """Render a mount as the value of `--mount`, which is a line of CSV."""
    fields = ["type=bind", f"source={source}", f"target={target}"]
    return ",".join([*map(_csv, fields), *(["readonly"] if read_only else [])])


def _csv(field: str) -> str:
    """Quote a field of CSV only where it has to be: a shell would take the quotes away."""
    doubled = field.replace('"', '""')
    return f'"{doubled}"' if set(field) & set(',"\r\n') else field


def memory_of(session: str, kind: str, *key: str) -> str:
    """Name the file in which the session's shims keep what they found out."""
    words = "".join(c if c.isalnum() else "_" for c in "-".join(key))
    # Shortened words may be alike.
    return os.path.join(os.path.dirname(session), f"{kind}-{words[-100:]}-{_checksum(key):x}")


def settings(session: str) -> dict[str, Any]:
    """Read what the session told its shims."""
    known: dict[str, Any] = _read(_settings_file(session))
    return known


def write_settings(session: str, told: Mapping[str, Any]) -> None:
    """Tell the session's shims what they need to know."""
    _write(_settings_file(session), dict(told))


def _settings_file(session: str) -> str:
    return os.path.join(os.path.dirname(session), "shims")


def _has_it_already(line: CommandLine, session: str) -> bool:
    """Tell whether `get_docker_base_cmd` or a shim around this one has been here.

    Raises:
        NotMeasuredError: Something of the user's is in our place.
    """
    private = os.path.dirname(session)
    for target in line.mount_targets():
        if is_in(PLACE, target) or is_in(target, PLACE):
            if any(private in value for value in line.values("--mount", "--volume")):
                return True
            raise NotMeasuredError(f"its mount at {target} is in the way of ours at {PLACE}")
    return False


def _added(client: str, session: str, line: CommandLine) -> Added | None:
    """Give what is added to the image's containers; None if there is no such image."""
    policy = line.value("--pull", "missing")
    identity = "" if policy == "always" else _identity(client, line)
    if not identity:
        if policy == "never" or not _pull(client, line, show=policy != "always"):
            return None
        identity = _identity(client, line)
        if not identity:
            return None
    # The same image may be on two engines, and one of them may not see this machine's files.
    engine = [os.environ.get(name, "") for name in _ENGINE_VARIABLES]
    memory = memory_of(session, "injection", client, *line.client_options, *engine, identity)
    if not os.path.exists(memory):
        _find_out(client, session, line, memory)
    return Added.saved(memory)


def _measured_by_compose(
    client: str, session: str, arguments: list[str], compose_at: int
) -> list[str]:
    # Most commands make no container, and need not wait.
    if not set(arguments[compose_at:]).intersection(COMPOSE_SUBCOMMANDS):
        return arguments
    _load_package(session)
    from hdocker._shim import compose as _shim_compose

    return _shim_compose.measured(client, session, arguments, compose_at)


def _find_out(client: str, session: str, line: CommandLine, memory: str) -> None:
    _load_package(session)
    from hdocker._inject import injection as _injection

    reason = _injection.find_out_for_shims(
        line.image,
        client,
        line.client_options,
        session=session,
        data_dir=settings(session)["data_dir"],
        memory=memory,
    )
    if reason:
        raise NotMeasuredError(reason)


def _load_package(session: str) -> None:
    """Have the package itself, instead of the few modules of it that are here."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "hdocker"]:
        del sys.modules[name]
    sys.path[:] = settings(session)["path"]


def _identity(client: str, line: CommandLine) -> str:
    if os.path.basename(client) == "docker" and not line.client_options:
        identity = identity_by_socket(line.image, os.environ)
        if identity:
            return identity
    command = [*line.client_options, "image", "inspect", "--format", "{{.Id}}", line.image]
    return _output(client, command).strip()


def _pull(client: str, line: CommandLine, *, show: bool) -> bool:
    """Pull as the client would by itself, which shows its progress on stderr."""
    platform = line.value("--platform")
    command = [
        *line.client_options,
        "pull",
        *(["--platform", platform] if platform else []),
        line.image,
    ]
    shown = 2 if show and line.value("--quiet", "false") == "false" else -1
    if os.path.basename(client) == "podman":
        # Progress and errors are on stderr, and the image's id on stdout.
        return _run(client, command, stdout=-1, stderr=shown) == 0
    # What docker says of a failure, it will say again as it runs the command.
    return _run(client, command, stdout=shown, stderr=-1) == 0


def options_of(session: str, client: str, subcommand: tuple[str, ...]) -> dict[str, str]:
    memory = memory_of(session, "options", client, *subcommand)
    known: dict[str, str] | None = _read(memory)
    if known is None:
        known = _command_line.read_help(_output(client, [*subcommand, "--help"]))
        _write(memory, known)
    return known


def _output(client: str, arguments: Sequence[str]) -> str:
    """Give what a command of the client writes; nothing if it fails."""
    reading, writing = os.pipe()
    try:
        process = _start(client, arguments, stdout=writing, stderr=-1)
    finally:
        os.close(writing)
    with open(reading, encoding="utf-8", errors="replace") as pipe:
        said = pipe.read()
    return said if _wait(process) == 0 else ""


def _run(client: str, arguments: Sequence[str], *, stdout: int, stderr: int) -> int:
    return _wait(_start(client, arguments, stdout=stdout, stderr=stderr))


def _start(client: str, arguments: Sequence[str], *, stdout: int, stderr: int) -> int:
    # subprocess would take as long to load as all the rest.
    actions: list[Any] = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)]
    for target, source in ((1, stdout), (2, stderr)):
        if source < 0:
            actions.append((os.POSIX_SPAWN_OPEN, target, os.devnull, os.O_WRONLY, 0))
        else:
            actions.append((os.POSIX_SPAWN_DUP2, source, target))
    return os.posix_spawn(client, [client, *arguments], os.environ, file_actions=actions)


def _wait(process: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def is_in(path: str, directory: str) -> bool:
    """Tell whether a path in a container is a directory or below it."""
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def _checksum(words: Sequence[str]) -> int:
    checksum = 0
    for byte in "\0".join(words).encode(errors="surrogateescape"):
        checksum = (checksum * 31 + byte) % 2**64
    return checksum


def _read(path: str) -> Any:  # noqa: ANN401 - as marshal has it
    # Private to the session, and to one Python: it may be as fast as can be.
    try:
        with open(path, "rb") as file:
            return marshal.load(file)  # noqa: S302
    except FileNotFoundError:
        return None


def _write(path: str, known: list[Any] | dict[str, Any]) -> None:
    scratch = f"{path}.{os.getpid()}"
    with open(scratch, "wb") as file:
        marshal.dump(known, file)
    os.replace(scratch, path)


def note(
    session: str, error: BaseException, arguments: Sequence[str], client: str = "docker"
) -> None:
    """Leave a note of a command that is not measured, which is told at the end of the run."""
    reason = str(error) if isinstance(error, _EXPECTED) else f"{type(error).__name__}: {error}"
    text = f"{reason} (`{client} {' '.join(arguments)}`)"[:_NOTE_LIMIT]
    try:
        directory = settings(session)["data_dir"]
        name = f"problem.container-{os.getpid()}.txt"
        with open(os.path.join(directory, name), "w", encoding="utf-8") as note:
            note.write(text)
    except Exception:  # noqa: BLE001, S110 - then nobody can be told
        pass
