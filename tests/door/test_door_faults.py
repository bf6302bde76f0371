"""Clients that lie, are slow, send much, or are many: the door does as the engine itself would.

With a real engine, whose answers to what is wrong are its own. What happens to the proxy and to the
engine is in `test_door_proxy`, which has an engine of its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import os
import re
import select
import socket
import subprocess
import sys
import tarfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pytest

import hcoverage
import hdocker

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.engine,
    pytest.mark.usefixtures("clean_environment"),
    pytest.mark.xdist_group("door-faults"),  # one session for all
    pytest.mark.skipif(sys.platform != "linux", reason="the engine has the door's socket here"),
]

BODY: Final = b'{"Image": "hcoverage-test-nosuch:1"}'
LENGTH: Final = len(BODY)
GET: Final = b"GET /_ping HTTP/1.1\r\nHost: docker\r\n\r\n"
# What a client says of its body, and the body.
LIES: Final[dict[str, tuple[bytes, bytes]]] = {
    "the truth": (b"Content-Length: %d" % LENGTH, BODY),
    "too long": (b"Content-Length: %d" % (LENGTH + 9), BODY),
    "too long by a request": (b"Content-Length: %d" % (LENGTH + 9), BODY + GET),
    "too short": (b"Content-Length: %d" % (LENGTH - 9), BODY),
    "none, and yet a body": (b"Content-Length: 0", BODY),
    "no length": (b"Accept: */*", BODY),
    "two alike": (b"Content-Length: %d\r\nContent-Length: %d" % (LENGTH, LENGTH), BODY),
    "two": (b"Content-Length: %d\r\nContent-Length: %d" % (LENGTH, LENGTH + 9), BODY),
    "two in one": (b"Content-Length: %d, %d" % (LENGTH, LENGTH), BODY),
    "below zero": (b"Content-Length: -1", BODY),
    "with a sign": (b"Content-Length: +%d" % LENGTH, BODY),
    "not a number": (b"Content-Length: many", BODY),
    "beyond all numbers": (b"Content-Length: 99999999999999999999", BODY),
    "empty": (b"Content-Length:", BODY),
    "both": (
        b"Content-Length: 3\r\nTransfer-Encoding: chunked",
        b"%x\r\n%s\r\n0\r\n\r\n" % (LENGTH, BODY),
    ),
    "chunks": (b"Transfer-Encoding: chunked", b"%x\r\n%s\r\n0\r\n\r\n" % (LENGTH, BODY)),
    "chunks twice": (
        b"Transfer-Encoding: chunked, chunked",
        b"%x\r\n%s\r\n0\r\n\r\n" % (LENGTH, BODY),
    ),
    "another encoding": (b"Transfer-Encoding: gzip", BODY),
    "a chunk too long": (
        b"Transfer-Encoding: chunked",
        b"%x\r\n%s\r\n0\r\n\r\n" % (LENGTH + 9, BODY),
    ),
    "a chunk too short": (
        b"Transfer-Encoding: chunked",
        b"%x\r\n%s\r\n0\r\n\r\n" % (LENGTH - 9, BODY),
    ),
    "a chunk of no number": (b"Transfer-Encoding: chunked", b"some\r\n%s\r\n0\r\n\r\n" % BODY),
    "a chunk below zero": (b"Transfer-Encoding: chunked", b"-5\r\n%s\r\n0\r\n\r\n" % BODY),
    "a chunk beyond all": (b"Transfer-Encoding: chunked", b"%s\r\n%s\r\n" % (b"f" * 20, BODY)),
    "no last chunk": (b"Transfer-Encoding: chunked", b"%x\r\n%s\r\n" % (LENGTH, BODY)),
}
PATHS: Final = ("/containers/create?name=hcoverage-test-lie", "/build", "/containers/nosuch/exec")
# By default as many as are enough to be many.
MANY: Final = int(os.environ.get("HCOVERAGE_MANY_CONTAINERS", "20"))
LARGE: Final = 100_000_000  # bytes


@dataclass(frozen=True)
class Sockets:
    """The paths of two sockets.

    Attributes:
        door: The door's.
        engine: The engine's own.
        session: The session that the door is of.
        environment: What the session's command has.
    """

    door: str
    engine: str
    session: hcoverage.Session
    environment: dict[str, str]

    @property
    def both(self) -> tuple[str, str]:
        return self.door, self.engine


@pytest.fixture(scope="module")
def sockets(python_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sockets]:
    assert python_image  # before there is a session, which would measure what makes it
    project = tmp_path_factory.mktemp("project")
    (project / ".coveragerc").write_text("[run]\nsource = .\n")
    direct = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    with (
        contextlib.chdir(project),
        hcoverage.open_session() as session,
        hdocker.containers_measured({**session.environment, "DOCKER_HOST": direct}) as through,
    ):
        door, engines = (each.removeprefix("unix://") for each in (through["DOCKER_HOST"], direct))
        yield Sockets(door, engines, session, through)


def connected(path: str) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.connect(path)
    return client


def answer_to(path: str, what: bytes, step: int) -> list[bytes]:
    """What is answered, without what differs each time."""
    content = b""
    with connected(path) as client:
        # An engine may answer and end the connection before it has read all of this.
        with contextlib.suppress(BrokenPipeError):
            for at in range(0, len(what), step):
                client.sendall(what[at : at + step])
            client.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            while some := client.recv(1 << 16):
                content += some
    return re.sub(rb"Date: [^\r]*\r\n|sha256:\w+|Content-Length: \d+", b"", content).split(b"\r\n")


@pytest.mark.parametrize(("path", "lie"), [*itertools.product(PATHS, LIES)])
def test_a_client_that_lies_about_lengths(sockets: Sockets, path: str, lie: str) -> None:
    field, body = LIES[lie]
    head = f"POST {path} HTTP/1.1\r\nHost: docker\r\nContent-Type: application/json\r\n".encode()
    what = head + field + b"\r\n\r\n" + body
    for step in (len(what), len(head), 50):
        ours, plain = (answer_to(each, what, step) for each in sockets.both)
        assert ours == plain
        assert ours[0].startswith(b"HTTP/1.1 ")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("length", ["%d, %d", "%d\r\nContent-Length: %d0", "-%d", "+%d"])
def test_an_answer_that_comes_before_all_is_sent(sockets: Sockets, path: str, length: str) -> None:
    size = 5_000_000
    field = f"Content-Length: {length}".replace("%d", str(size))
    head = f"POST {path} HTTP/1.1\r\nHost: docker\r\n{field}\r\n\r\n".encode()
    ours, plain = (answer_to(each, head + bytes(size), 1 << 20) for each in sockets.both)
    assert ours == plain
    assert ours[0] == b"HTTP/1.1 400 Bad Request"


def first_answer(path: str, what: bytes) -> bytes:
    """What is answered first, while more is sent."""

    def send() -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            client.sendall(what)

    with connected(path) as client, ThreadPoolExecutor(1) as sender:
        sender.submit(send)
        return client.recv(12)


def test_a_head_without_end(sockets: Sockets) -> None:
    head = b"POST /containers/create HTTP/1.1\r\nHost: docker\r\n"
    lines = (b"X-Field: 0123456789\r\n", b"X-Field: " + b"0" * 1000)
    heads = [head + line * (4_000_000 // len(line)) for line in lines]
    with ThreadPoolExecutor(4) as clients:  # the engine takes half a second to end a connection
        asked = itertools.product(sockets.both, heads)
        answers = set(clients.map(lambda each: first_answer(*each), asked))
    assert answers == {b"HTTP/1.1 431"}


def context(size: int) -> bytes:
    """A build's context, whose Dockerfile ends the build as soon as it is read."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in (("large", bytes(size)), ("Dockerfile", b"NOSUCH\n")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


@pytest.mark.parametrize("chunked", [False, True])
def test_a_large_body(sockets: Sockets, *, chunked: bool) -> None:
    body = context(LARGE)
    field = f"Content-Length: {len(body)}"
    if chunked:
        field = "Transfer-Encoding: chunked"
        body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    what = f"POST /build HTTP/1.1\r\nHost: docker\r\n{field}\r\n\r\n".encode() + body
    ours, plain = (answer_to(each, what, 1 << 20) for each in sockets.both)
    assert ours == plain
    assert any(b"NOSUCH" in line for line in ours)


def test_a_slow_reader_gets_all_and_holds_up_nobody(
    sockets: Sockets, image_without_python: str
) -> None:
    request = f"GET /images/{image_without_python}/get HTTP/1.0\r\n\r\n".encode()
    contents = []
    for path in sockets.both:
        with connected(path) as slow:
            slow.sendall(request)
            select.select([slow], [], [])
            assert answer_to(sockets.door, GET, len(GET))[-1] == b"OK"
            content = b""
            while some := slow.recv(4096):
                content += some
            contents.append(content.partition(b"\r\n\r\n")[2])
    ours, plain = contents
    assert hashlib.sha256(ours).digest() == hashlib.sha256(plain).digest()
    assert len(ours) > 1_000_000  # more than waits on the way


def test_many_containers_at_once(sockets: Sockets, python_image: str, container_label: str) -> None:
    (app := sockets.session.data_file.with_name("app.py")).write_text(
        "import sys\nprint(*sys.argv)\n"
    )
    options = ["--rm", "--network", "none", "--label", container_label, "-v", f"{app}:/app.py:ro"]

    def run(number: int) -> str:
        words = ["docker", "run", *options, python_image, "python3", "/app.py", str(number)]
        return subprocess.check_output(words, env=sockets.environment, text=True)

    with ThreadPoolExecutor(MANY) as clients:
        said = list(clients.map(run, range(MANY)))
    assert said == [f"/app.py {number}\n" for number in range(MANY)]
    assert len(list(sockets.session.data_dir.glob("*.hcrec"))) == MANY
    assert not sockets.session.problems()
