"""Finds the socket of the engine that clients talk to: its own, or that of a relay."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from hcoverage import DATA_DIR_VARIABLE, SESSION_VARIABLE, unmeasured_environment
from hdocker._door.connection import answers
from hdocker._door.engine_address import address_of, is_open, socket_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_NAME: Final = "engine.sock"
_RELAY: Final = Path(os.path.abspath(__file__)).with_name("relay.py")  # noqa: PTH100
_EVERYBODY: Final = 0o666
_OWN: Final = 0o600


@contextlib.contextmanager
def engine_socket(environment: Mapping[str, str], client: str) -> Iterator[str]:
    """Find a socket that leads to the engine, for a `with` block; start a relay if need be.

    Args:
        environment: The environment of the clients, with the session's variables.
        client: The path of docker's client; empty if there is none.

    Yields:
        Its path; empty if no engine answers.

    Raises:
        OSError: The relay's socket cannot be made.
    """
    address = address_of(environment)
    engine = socket_of(address)
    if engine:
        yield engine if answers(engine) else ""
    elif not (address and client and sys.executable):
        yield ""
    else:
        with _relayed(environment, client, address) as relay:
            yield relay


@contextlib.contextmanager
def _relayed(environment: Mapping[str, str], client: str, address: str) -> Iterator[str]:
    # Imported here: most engines are on this machine, or there is none.
    from hdocker._door.beside import listening_at, program_behind  # noqa: PLC0415
    from hdocker._door.notes import note_in  # noqa: PLC0415

    private = Path(environment[SESSION_VARIABLE]).parent
    mode = _EVERYBODY if is_open(environment) else _OWN
    with (
        (private / "relay.txt").open("a+b") as errors,
        listening_at(private / "relay", _NAME, mode) as listening,
    ):
        path = str(listening.getsockname())
        outside = unmeasured_environment(environment)
        with program_behind(listening, _RELAY, [client], outside, errors=errors):
            # Over SSH an answer takes long, and most runs start no container.
            if not address.startswith("ssh:") and not _is_engine(path):
                yield ""
                return
            errors.truncate(0)
            yield path
            reason = _said_in(errors)
            # A connection also ends badly if the engine refuses a request before it has read all.
            if reason and not _is_engine(path):
                data_dir = Path(environment[DATA_DIR_VARIABLE])
                note_in(data_dir, f"the engine at {address} could not be reached: {reason}")


def _said_in(errors: IO[bytes]) -> str:
    """Return the last error that docker's client reported."""
    errors.seek(0)
    said = errors.read().decode(errors="replace").splitlines()
    # Lines of the client's log begin with a time. They tell of ended connections: no errors.
    return next((line for line in reversed(said) if line.strip() and line[:5] != "time="), "")


def _is_engine(path: str) -> bool:
    from hdocker._door.api import ask  # noqa: PLC0415 - as above

    try:
        return ask(path, "/_ping") == b"OK"
    except OSError:
        return False
