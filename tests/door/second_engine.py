"""A second dockerd, for the tests that need one of their own."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

_SOME: Final = 1 << 16
# In docker's eyes it is `ssh`: whatever the host, it is this one.
_SSH: Final = """\
#!/bin/sh
exec env -u DOCKER_TLS_VERIFY -u DOCKER_CONTEXT DOCKER_HOST=unix://{socket} \
    docker system dial-stdio
"""
# A certificate for all: of the engine, of the client, and of the authority of both.
OPENSSL: Final = (
    *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
    *("-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"),
    *("-keyout", "key.pem", "-out", "cert.pem"),
)


@dataclass(frozen=True)
class SecondEngine:
    """A dockerd of the test's own.

    Attributes:
        socket: The path of its socket.
        tls_port: Its port on this machine, with TLS.
        directory: Where the certificates are that it wants, as DOCKER_CERT_PATH has it.
    """

    socket: str
    tls_port: int
    directory: Path


@contextlib.contextmanager
def started(*images: str) -> Iterator[SecondEngine]:
    """Start a dockerd, and have some of the engine's images in it."""
    name = f"hcoverage-test-{uuid.uuid4().hex[:8]}"
    with contextlib.ExitStack() as undo:
        runtime = Path(tempfile.mkdtemp(prefix="hcov-test-", dir="/run"))
        undo.callback(shutil.rmtree, runtime)
        data = undo.enter_context(tempfile.TemporaryDirectory())
        # In memory, where images are soon written, and gone with the process; so are its mounts.
        private = ["unshare", "--mount", "--propagation", "private"]
        own = [*private, "sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"', data]
        subprocess.run(OPENSSL, cwd=runtime, check=True, capture_output=True)
        shutil.copy(runtime / "cert.pem", runtime / "ca.pem")
        port = free_port()
        engine = SecondEngine(f"{runtime}/docker.sock", port, runtime)
        command = [
            *own,
            *("dockerd", "--host", f"unix://{engine.socket}", "--host", f"tcp://127.0.0.1:{port}"),
            *("--tlsverify", "--tlscacert", "ca.pem", "--tlscert", "cert.pem"),
            *("--tlskey", "key.pem", "--data-root", data, "--exec-root", f"{runtime}/exec"),
            *("--pidfile", f"{runtime}/pid", "--bridge", "none", "--iptables=false"),
            *("--ip-masq=false", "--containerd-namespace", name, "--shutdown-timeout", "1"),
            *("--containerd-plugins-namespace", f"{name}-plugins"),
        ]
        log = undo.enter_context((runtime / "log").open("w+b"))
        dockerd = undo.enter_context(
            subprocess.Popen(command, cwd=runtime, stdout=log, stderr=subprocess.PIPE)
        )
        undo.callback(dockerd.terminate)
        # The line that it says once it listens; what it says afterwards is nobody's.
        for line in dockerd.stderr or ():
            log.write(line)
            if b"API listen on 127.0.0.1" in line:
                break
        else:
            log.seek(0)
            pytest.fail(f"the second dockerd did not start:\n{log.read().decode()[-2000:]}")
        rest = threading.Thread(target=_drain, args=(dockerd,), daemon=True)
        rest.start()
        undo.callback(rest.join)
        undo.callback(dockerd.terminate)
        with subprocess.Popen(["docker", "save", *images], stdout=subprocess.PIPE) as saved:
            load = ["docker", "--host", f"unix://{engine.socket}", "load"]
            subprocess.run(load, stdin=saved.stdout, check=True, capture_output=True)
        yield engine


def _drain(process: subprocess.Popen[bytes]) -> None:
    for _ in process.stderr or ():
        pass


def free_port() -> int:
    """Give a port of this machine that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


@contextlib.contextmanager
def port_to(path: str) -> Iterator[int]:
    """Have a port of this machine without TLS that an engine's socket is behind."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=_forward, args=(listening, path), daemon=True).start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)


def _forward(listening: socket.socket, path: str) -> None:
    with contextlib.suppress(OSError):
        while True:
            client, _ = listening.accept()
            threading.Thread(target=_pass_on, args=(client, path), daemon=True).start()


def _pass_on(client: socket.socket, path: str) -> None:
    with client, socket.socket(socket.AF_UNIX) as there:
        there.connect(path)
        back = threading.Thread(target=_copy, args=(there, client), daemon=True)
        back.start()
        _copy(client, there)
        back.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while some := source.recv(_SOME):
            target.sendall(some)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def path_with_ssh_to(path: str, directory: Path) -> str:
    """Give a PATH with an `ssh` that leads to an engine's socket, which is made in a directory."""
    fake = directory / "ssh"
    fake.write_text(_SSH.format(socket=path))
    fake.chmod(0o755)
    return f"{directory}:{os.environ['PATH']}"
