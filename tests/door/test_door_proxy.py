"""The door's proxy, between raw clients and an engine of the test's own that keeps what it hears.

Each conversation is held once with the engine and once through the door; it has to be the same, but
for what a creation has more.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import itertools
import json
import os
import queue
import select
import shutil
import signal
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

import hcoverage
import hdocker
from hdocker._inject.added import PLACE, Added, memory_of

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.usefixtures("clean_environment"),
    pytest.mark.xdist_group("door-proxy"),  # one door for many tests
    pytest.mark.skipif(sys.platform != "linux", reason="who asks is known from /proc"),
]

IDENTITY: Final = "sha256:0123456789abcdef"
LARGE: Final = 1 << 24
CREATE: Final = {"Image": "an-image", "Env": ["A=1"]}
# What a client that is a process of its own does: it says a creation, and prints the answer.
CLIENT: Final = """\
import os, socket, sys
with socket.socket(socket.AF_UNIX) as client:
    client.connect(sys.argv[1])
    body = b'{"Image": "an-image"}'
    head = b"POST /containers/create HTTP/1.0\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body)
    client.sendall(head + body)
    while some := client.recv(1000):
        os.write(1, some)
"""


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers as an engine does, as far as a proxy could tell."""

    protocol_version = "HTTP/1.1"
    server: Engine
    timeout = None

    def setup(self) -> None:
        self.client_address = ("unix", 0)
        super().setup()

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - its name
        pass

    def date_time_string(self, timestamp: float | None = None) -> str:  # noqa: ARG002
        return "today"

    def do_GET(self) -> None:
        if self.path.startswith("/images/"):
            self._answer(200, json.dumps({"Id": IDENTITY}))
        elif self.path == "/large":
            self._answer(200, "x" * LARGE)
        elif self.path.startswith("/events") and "until" not in self.path:
            self._tell_events()
        elif self.path.startswith("/events"):
            self._answer(200, self.server.events)
        elif self.path.startswith("/containers/json"):
            self._answer(200, "[]")
        else:
            self._answer(200, f"GET {self.path}")

    def do_POST(self) -> None:
        if self.path.endswith(("/attach", "/start")):
            self._stream()
            return
        body = self._body()
        if "/containers/create" in self.path:
            self.server.created.append(body)
            known = json.loads(body)
            if PLACE in body.decode() and known["Image"] == "refused":
                self._answer(400, '{"message": "no such mount"}')
            elif known["Image"] == "never":
                self._answer(409, '{"message": "conflict"}')
            else:
                self._answer(201, f'{{"Id": "id{len(self.server.created)}"}}')
        else:
            self._answer(200, f"POST {self.path} {len(body)} {body[:100]!r}")

    def _tell_events(self) -> None:
        """Tell them as they come; what is answered later is what an engine still remembers."""
        self.send_response(200)
        self.end_headers()
        while line := self.server.telling.get():
            self.wfile.write(f"{line}\n".encode())
            self.server.telling.task_done()

    def _body(self) -> bytes:
        if self.headers["Transfer-Encoding"] != "chunked":
            return self.rfile.read(int(self.headers["Content-Length"] or 0))
        content = bytearray()
        while size := int(self.rfile.readline().split(b";")[0], 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return bytes(content)

    def _stream(self) -> None:
        """What is said is said again, until the client says no more, which is told as well."""
        if self.path == "/containers/none/attach":
            self._body()
            self._answer(404, '{"message": "no such container"}')
            return
        upgrades = self.headers["Upgrade"] is not None
        status = b"101 UPGRADED" if upgrades else b"200 OK"
        more = b"Connection: Upgrade\r\nUpgrade: tcp\r\n" if upgrades else b""
        self.wfile.write(b"HTTP/1.1 %s\r\n%s\r\n" % (status, more))
        while some := self.rfile.read1(1000):
            self.wfile.write(some.upper())
        self.wfile.write(b"<end>")
        self.close_connection = True

    def _answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())


class Engine(socketserver.ThreadingUnixStreamServer):
    """An engine of the test's own."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 1000

    def __init__(self, path: str) -> None:
        super().__init__(path, Handler)
        self.path = path
        self.created: list[bytes] = []
        self.events = ""
        self.telling: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def handle_error(self, *_: object) -> None:
        pass

    def end(self) -> None:
        self.shutdown()
        self.server_close()
        Path(self.path).unlink()


@dataclass
class Door:
    """A door to an engine of the test's own.

    Attributes:
        engine: The engine; another one may take its place.
        path: The socket that clients connect to.
        environment: What the command of the run has.
        session: The session.
        undo: What closes it.
    """

    engine: Engine
    path: str
    environment: dict[str, str]
    session: hcoverage.Session
    undo: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def processes(self) -> list[int]:
        """The shell that starts the launcher, that, and the proxy once there was a client."""
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and self._is_ours(entry.joinpath("cmdline").read_bytes()):
                    found.append(int(entry.name))
        return sorted(found)

    def _is_ours(self, command: bytes) -> bool:
        return b"launcher.py" in command and self.engine.path.encode() in command


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A directory for sockets, whose addresses are short."""
    directory = Path(tempfile.mkdtemp(prefix="hcov-test-"))
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def own_door(tmp_path: Path) -> Iterator[Door]:
    """A door of the test's own, for what happens to it."""
    with opened(tmp_path) as door:
        yield door


@pytest.fixture(scope="module")
def lasting_door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with opened(tmp_path_factory.mktemp("project")) as door:
        yield door


@pytest.fixture
def door(lasting_door: Door) -> Door:
    """A door that many tests have, one after the other: nothing has come through it yet."""
    lasting_door.engine.created.clear()
    for note in lasting_door.session.data_dir.glob("problem*"):
        note.unlink()
    return lasting_door


@contextlib.contextmanager
def opened(project: Path) -> Iterator[Door]:
    with contextlib.ExitStack() as around:
        around.enter_context(contextlib.chdir(project))
        short = Path(tempfile.mkdtemp(prefix="hcov-test-"))
        around.callback(shutil.rmtree, short)
        session = around.enter_context(hcoverage.open_session())
        engine = Engine(str(short / "engine.sock"))
        undo = around.enter_context(contextlib.ExitStack())
        environment = {**session.environment, "DOCKER_HOST": f"unix://{engine.path}"}
        environment.pop("HCOVERAGE_SHARED_ENGINE", None)  # it is this test's own
        ours = undo.enter_context(hdocker.containers_measured(environment))
        startup = session.environment["HCOVERAGE_SESSION"]
        added = Added([("/here", PLACE, True)], {"PYTHONPATH": PLACE})
        added.save(memory_of(startup, "injection", "door", IDENTITY))
        door = Door(engine, ours["DOCKER_HOST"].removeprefix("unix://"), ours, session, undo)
        yield door
        undo.close()
        door.engine.end()


def connected(path: str) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(60)
    client.connect(path)
    return client


def said(path: str, what: bytes, step: int = 1 << 20) -> bytes:
    """What an engine says to a client that says something and then no more."""
    with connected(path) as client, contextlib.suppress(ConnectionResetError):
        with contextlib.suppress(BrokenPipeError):
            for at in range(0, len(what), step):
                client.sendall(what[at : at + step])
            client.shutdown(socket.SHUT_WR)
        return received(client)
    return b""


def received(client: socket.socket, number: int = 1 << 30) -> bytes:
    content = b""
    while len(content) < number and (some := client.recv(1 << 18)):
        content += some
    return content


def heard(client: socket.socket, text: bytes) -> bytes:
    """What comes until there is a text in it, or no more."""
    content = b""
    while text not in content and (some := client.recv(1000)):
        content += some
    assert text in content
    return content


def request(method: str, path: str, body: bytes = b"", *fields: str, chunks: int = 0) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: docker", *fields]
    if chunks:
        lines.append("Transfer-Encoding: chunked")
        parts = [body[at : at + chunks] for at in range(0, len(body), chunks)]
        body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in [*parts, b""])
    elif body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def creation(image: str = "an-image", *fields: str, chunks: int = 0) -> bytes:
    body = json.dumps({**CREATE, "Image": image}).encode()
    return request("POST", "/v1.41/containers/create?name=a", body, *fields, chunks=chunks)


def described(body: bytes) -> dict[str, Any]:
    model: dict[str, Any] = json.loads(body)
    return model


GET: Final = request("GET", "/_ping")
POST: Final = request("POST", "/build", b"context")
CHUNKED: Final = request("POST", "/build", b"context" * 10, chunks=9)
ATTACH: Final = request("POST", "/containers/a/attach", b"", "Connection: Upgrade", "Upgrade: tcp")
OLD_ATTACH: Final = request("POST", "/containers/a/attach")
REFUSED_ATTACH: Final = request("POST", "/containers/none/attach", b"", "Connection: Upgrade")
FIRST: Final = {"get": GET, "post": POST, "chunked": CHUNKED}
SECOND: Final = {"get": GET, "chunked": CHUNKED, "attach": ATTACH + b"some words"}


@pytest.mark.parametrize("step", [1, 13, 1 << 20])
@pytest.mark.parametrize(
    "what",
    [
        *(
            pytest.param(FIRST[first] + SECOND[second], id=f"{first}, {second}")
            for first, second in itertools.product(FIRST, SECOND)
        ),
        pytest.param(OLD_ATTACH + b"some words", id="old attach"),
        pytest.param(b"GET /old HTTP/1.0\r\n\r\n", id="HTTP/1.0"),
        # One line: an engine answers that, and what it never reads resets the connection.
        pytest.param(b"nonsense\r\n", id="nonsense"),
        pytest.param(b"", id="nothing"),
        pytest.param(POST[:-3], id="a body that ends early"),
        pytest.param(creation()[:-3], id="a creation that ends early"),
    ],
)
def test_a_conversation_is_the_same_through_the_door(door: Door, what: bytes, step: int) -> None:
    ours = said(door.path, what, step)
    assert ours == said(door.engine.path, what, step)


def test_what_comes_after_an_attach_that_failed_is_followed_again(door: Door) -> None:
    with connected(door.path) as client:
        client.sendall(REFUSED_ATTACH)
        heard(client, b"no such container")
        client.sendall(creation())
        heard(client, b"201")
    assert PLACE in door.engine.created[0].decode()


def test_what_is_said_before_the_answer_to_an_attach_is_passed_on(door: Door) -> None:
    words = b"x" * 100_000
    with connected(door.path) as client:
        client.sendall(ATTACH + words)
        client.shutdown(socket.SHUT_WR)
        assert received(client).endswith(words.upper() + b"<end>")


@pytest.mark.parametrize("chunks", [0, 5])
def test_a_creation_measures_and_is_answered_as_it_would(door: Door, chunks: int) -> None:
    what = creation(chunks=chunks) + b""
    with connected(door.path) as client:
        for number in (1, 2):  # on one connection
            client.sendall(what)
            heard(client, f'"id{number}"'.encode())
            client.sendall(GET)
            heard(client, b"GET /_ping")
    for body in door.engine.created:
        model = described(body)
        assert set(model["Env"]) == {"A=1", f"PYTHONPATH={PLACE}", "HCOVERAGE_IMAGE=an-image"}
        (mount,) = model["HostConfig"]["Mounts"]
        assert (mount["Source"], mount["Target"], mount["ReadOnly"]) == ("/here", PLACE, True)
    assert not door.session.problems()


def test_a_client_that_waits_to_be_told_to_go_on_is_told(door: Door) -> None:
    head, _, body = creation("an-image", "Expect: 100-continue").partition(b"\r\n\r\n")
    with connected(door.path) as client:
        client.sendall(head + b"\r\n\r\n")
        told = b"HTTP/1.1 100 Continue\r\n\r\n"
        assert heard(client, told) == told
        client.sendall(body)
        assert heard(client, b" 201 ").startswith(b"HTTP/1.1 201 ")
    assert PLACE in door.engine.created[0].decode()


def test_requests_that_do_not_wait_are_answered_in_their_order(door: Door) -> None:
    answer = said(door.path, GET + creation() + POST)
    assert [answer.count(text) for text in (b"GET /_ping", b'"Id"', b"POST /build")] == [1, 1, 1]
    assert answer.index(b"GET /_ping") < answer.index(b'"Id"') < answer.index(b"POST /build")
    (problem,) = door.session.problems()
    assert "before earlier requests of its connection were answered" in problem


def test_what_the_engine_refuses_is_asked_for_as_the_client_did_and_that_is_told(
    door: Door,
) -> None:
    assert b" 201 " in said(door.path, creation("refused"))
    assert [PLACE in body.decode() for body in door.engine.created] == [True, False]
    (problem,) = door.session.problems()
    assert "the engine refused what hcoverage adds: no such mount" in problem


def test_what_the_engine_refuses_anyhow_it_refuses_in_its_own_words(door: Door) -> None:
    ours, plain = (said(each, creation("never")) for each in (door.path, door.engine.path))
    assert ours == plain
    assert b"conflict" in ours
    assert not door.session.problems()


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"Image": "an-image", "Env": ["HCOVERAGE_SESSION="]}, id="who says no"),
        pytest.param({"Image": ""}, id="without an image"),
    ],
)
def test_a_creation_that_is_left_as_it_is(door: Door, body: dict[str, Any]) -> None:
    text = json.dumps(body).encode()
    said(door.path, request("POST", "/containers/create", text))
    assert door.engine.created == [text]
    assert not door.session.problems()


def test_a_mount_in_our_place_is_told(door: Door) -> None:
    body = json.dumps({**CREATE, "HostConfig": {"Binds": [f"/theirs:{PLACE}"]}}).encode()
    said(door.path, request("POST", "/containers/create", body))
    assert door.engine.created == [body]
    (problem,) = door.session.problems()
    assert f"mount at {PLACE} is in the way" in problem


def test_what_a_stand_in_has_added_is_not_added_again(door: Door) -> None:
    private = Path(door.session.environment["HCOVERAGE_SESSION"]).parent
    body = json.dumps({**CREATE, "HostConfig": {"Binds": [f"{private}/x:{PLACE}"]}}).encode()
    said(door.path, request("POST", "/containers/create", body))
    assert door.engine.created == [body]
    assert not door.session.problems()


@pytest.mark.parametrize(
    ("setting", "command"),
    [
        pytest.param({"HCOVERAGE_SESSION": ""}, ["env", "-i"], id="no session, above"),
        pytest.param({"HCOVERAGE_CONTAINERS": "0"}, [], id="no containers"),
        pytest.param({"HCOVERAGE_SESSION": "/another"}, [], id="another session"),
    ],
)
def test_who_wants_no_measuring_gets_none(
    door: Door, setting: dict[str, str], command: list[str]
) -> None:
    assert b" 201 " in by_a_process(door, setting, command)
    assert door.engine.created == [b'{"Image": "an-image"}']


@pytest.mark.parametrize("command", [[], ["env", "-i"]], ids=["its own", "above"])
def test_what_a_client_works_for_is_told_to_the_container(door: Door, command: list[str]) -> None:
    setting = {"HCOVERAGE_CONTEXT": "a test", "HCOVERAGE_CONTEXT_FILE": "test.context"}
    by_a_process(door, setting, command)
    told = set(described(door.engine.created[0])["Env"])
    assert told >= {"HCOVERAGE_CONTEXT=a test", "HCOVERAGE_CONTEXT_FILE=test.context"}


def test_a_test_that_runs_in_the_clients_own_process_is_told(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HCOVERAGE_CONTEXT", raising=False)
    contexts = hcoverage.Contexts(door.session.data_dir, with_this_process=False)
    for name in ("test one", "test two"):
        contexts.switch(name)
        said(door.path, creation())
        assert f"HCOVERAGE_CONTEXT={name}" in described(door.engine.created[-1])["Env"]
    contexts.end()


def by_a_process(door: Door, setting: dict[str, str], command: list[str]) -> bytes:
    python = [sys.executable, "-I", "-S", "-c", CLIENT, door.path]
    # Not in the shell's place: it is the one that started it.
    words = ["sh", "-c", '"$@"; exit $?', "sh", *command, *python]
    environment = {**door.environment, **setting}
    return subprocess.run(words, env=environment, check=True, capture_output=True).stdout


# Faults ------------------------------------------------------------------------------------------


def test_200_clients_at_once(door: Door) -> None:
    with ThreadPoolExecutor(200) as clients:
        answers = list(clients.map(lambda _: said(door.path, creation()), range(200)))
    assert all(b" 201 " in answer for answer in answers)
    assert len({answer.partition(b'"Id"')[2] for answer in answers}) == 200
    assert sum(PLACE in body.decode() for body in door.engine.created) == 200


def test_a_client_that_reads_nothing_holds_up_nobody_and_gets_all(door: Door) -> None:
    with connected(door.path) as slow:
        slow.sendall(request("GET", "/large"))
        for _ in range(10):
            assert said(door.path, GET).endswith(b"GET /_ping")
        assert received(slow, LARGE).endswith(b"x")


def test_what_is_large_goes_through(door: Door) -> None:
    body = b"y" * (3 * LARGE)
    for what in (request("POST", "/load", body), request("POST", "/load", body, chunks=100_000)):
        assert said(door.path, what) == said(door.engine.path, what)


def test_a_creation_that_is_too_large_goes_as_it_is_and_that_is_told(door: Door) -> None:
    body = json.dumps({"Image": "an-image", "Env": ["A=" + "x" * 2 * LARGE]}).encode()
    for chunks in (0, 1_000_000):
        what = request("POST", "/containers/create", body, chunks=chunks)
        assert b" 201 " in said(door.path, what)
        assert door.engine.created.pop() == body
    (problem,) = door.session.problems()
    assert "its request is too large" in problem


def test_a_client_that_goes_away_in_the_middle_leaves_nothing(own_door: Door) -> None:
    for what in (request("GET", "/large"), POST[:-2], creation()[:-2], ATTACH, b"POST"):
        with connected(own_door.path) as client:
            client.sendall(what)
    assert said(own_door.path, GET).endswith(b"GET /_ping")
    assert ended(own_door)


# Which of the door's processes somebody kills, as `Door.processes` has them.
KILLED: Final = {"proxy": slice(2, 3), "launcher": slice(1, 2), "both": slice(1, 3)}


@pytest.mark.parametrize("killed", KILLED)
def test_a_proxy_that_is_killed_is_started_again_and_that_is_told(
    own_door: Door, killed: str
) -> None:
    said(own_door.path, GET)
    with connected(own_door.path) as client:
        client.sendall(GET)
        heard(client, b"GET /_ping")  # the last piece of the answer
        for process in own_door.processes()[KILLED[killed]]:
            os.kill(process, signal.SIGKILL)
        if killed != "launcher":
            assert client.recv(1000) == b""
    assert b" 201 " in said(own_door.path, creation())
    assert PLACE in own_door.engine.created[0].decode()
    while not own_door.session.problems():  # who is started again tells it
        time.sleep(0.01)
    (problem,) = own_door.session.problems()
    assert "was ended by signal 9" in problem
    assert ended(own_door)


def test_that_nobody_is_left_who_starts_the_proxy_again_is_told(own_door: Door) -> None:
    said(own_door.path, GET)
    with contextlib.ExitStack() as undo:
        for process in own_door.processes():
            descriptor = os.pidfd_open(process)
            undo.callback(os.close, descriptor)
            os.kill(process, signal.SIGKILL)
            select.select([descriptor], [], [])
    own_door.undo.close()
    (problem,) = own_door.session.problems()
    assert "was killed, with what starts it again" in problem


RUN: Final = """\
import hcoverage, hdocker, signal, sys
with hcoverage.open_session() as session:
    environment = {**session.environment, "DOCKER_HOST": sys.argv[1]}
    with hdocker.containers_measured(environment) as ours:
        print(ours["DOCKER_HOST"].removeprefix("unix://"), flush=True)
        signal.pause()
"""


def test_of_a_run_that_is_killed_no_door_is_left(
    short_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    engine = Engine(str(short_path / "engine.sock"))
    command = [sys.executable, "-c", RUN, f"unix://{engine.path}"]
    environment = {**os.environ, "TMPDIR": str(short_path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as run:
        assert run.stdout
        path = run.stdout.readline().strip()
        with connected(path) as client:
            client.sendall(GET)
            assert client.recv(1000)
            run.kill()
    while Path(path).parent.exists():
        time.sleep(0.01)
    engine.end()


def test_an_engine_that_is_started_again_is_found_again(own_door: Door) -> None:
    said(own_door.path, GET)
    own_door.engine.end()
    assert said(own_door.path, GET) == b""
    own_door.engine = Engine(own_door.engine.path)
    assert b" 201 " in said(own_door.path, creation())
    assert PLACE in own_door.engine.created[0].decode()


def test_what_a_terminal_interrupts_is_not_the_proxy(door: Door) -> None:
    said(door.path, GET)
    groups = {os.getsid(process) for process in door.processes()}
    assert os.getsid(0) not in groups


@pytest.mark.skipif(os.getuid() != 0, reason="acts as another user")
@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666], ids=oct)
def test_who_may_not_use_the_engine_may_not_use_the_door(
    tmp_path: Path, short_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    monkeypatch.chdir(tmp_path)
    engine = Engine(str(short_path / "engine.sock"))
    short_path.chmod(0o755)
    group = 12345
    os.chown(engine.path, -1, group)
    Path(engine.path).chmod(mode)
    with hcoverage.open_session() as session:
        environment = {**session.environment, "DOCKER_HOST": f"unix://{engine.path}"}
        with hdocker.containers_measured(environment) as ours:
            path = ours["DOCKER_HOST"].removeprefix("unix://")
            for one in ({"user": 65534, "group": group}, {"user": 65534, "group": 65534}):
                outcomes = [
                    subprocess.run(
                        ["/usr/bin/python3", "-I", "-S", "-c", CLIENT, each],
                        **one,  # type: ignore[call-overload]
                        extra_groups=[],
                        check=False,
                        capture_output=True,
                    ).returncode
                    for each in (path, engine.path)
                ]
                assert outcomes[0] == outcomes[1]
    engine.end()


def test_at_the_end_of_the_run_nothing_is_left(own_door: Door) -> None:
    said(own_door.path, creation())
    assert ended(own_door)
    assert not Path(own_door.path).exists()


def test_a_client_that_outlives_the_run_is_served_until_it_goes(own_door: Door) -> None:
    with connected(own_door.path) as client:
        client.sendall(ATTACH + b"one")
        assert received(client, 63).endswith(b"ONE")
        own_door.undo.close()
        client.sendall(b" two")
        client.shutdown(socket.SHUT_WR)
        assert received(client).endswith(b" TWO<end>")
    assert ended(own_door)


def ended(door: Door) -> bool:
    """Close the door, and wait until its processes have ended."""
    with contextlib.ExitStack() as undo:
        descriptors = []
        for process in door.processes():
            with contextlib.suppress(ProcessLookupError):
                descriptors.append(os.pidfd_open(process))
                undo.callback(os.close, descriptors[-1])
        door.undo.close()
        return all(select.select([each], [], [], 60)[0] for each in descriptors)


def test_a_builder_in_a_container_of_its_own_is_told(door: Door) -> None:
    body = json.dumps({"Cmd": ["buildctl", "dial-stdio"], "AttachStdin": True}).encode()
    asked = request("POST", "/v1.41/containers/buildx_buildkit_own0/exec", body)
    assert body[:100] in said(door.path, asked).replace(b"\\", b"")
    (problem,) = door.session.problems()
    assert problem.startswith("buildx_buildkit_own0 is a builder in a container of its own")


# What is told at the end -------------------------------------------------------------------------


def test_what_went_past_the_door_is_told(own_door: Door) -> None:
    said(own_door.path, creation())
    events = [
        *(event("create", "id1"), event("start", "id1")),  # through the door
        event("exec_create: true", "id1"),
        *(event("create", "past"), event("start", "past"), event("exec_create: true", "past")),
        event("create", "task", **{"com.docker.swarm.service.id": "abc"}),
        *(event("create", "look", **{"hcoverage.own": ""}), event("start", "before")),
        *(event("exec_create: a command", "before", execID="id3"), "no JSON", '{"cut'),
    ]
    own_door.engine.events = "\n".join(events)
    own_door.undo.close()
    executed, of_services, created, started = sorted(own_door.session.problems())
    assert of_services.startswith("1 container of a service was created by the engine itself")
    assert executed.startswith("1 command was executed past hcoverage's proxy")
    assert "in name-before (an-image)" in executed
    assert created.startswith("1 container was created past hcoverage's proxy")
    assert "name-past (an-image)" in created
    assert started.startswith("1 older container was started past hcoverage's proxy")
    assert "name-before" in started


def test_what_the_engine_has_forgotten_at_the_end_is_told(own_door: Door) -> None:
    for number in range(500):
        own_door.engine.telling.put(event("create", f"past{number}"))
        if number == 250:
            own_door.engine.telling.join()
            said(own_door.path, GET)  # from here on there is a proxy beside
    own_door.engine.telling.join()
    own_door.engine.telling.put("")
    own_door.undo.close()
    (problem,) = own_door.session.problems()
    assert problem.startswith("500 containers were created past hcoverage's proxy")


def test_what_an_engine_does_after_it_was_started_again_is_told(own_door: Door) -> None:
    for life in range(3):
        for number in range(100):
            own_door.engine.telling.put(event("create", f"past{life}-{number}"))
        own_door.engine.telling.join()  # it is asked again, whether there is a proxy or not
        said(own_door.path, GET)
        own_door.engine.end()
        own_door.engine.telling.put("")  # of what it was it remembers nothing
        own_door.engine = Engine(own_door.engine.path)
    own_door.undo.close()
    (problem,) = own_door.session.problems()
    assert problem.startswith("300 containers were created past hcoverage's proxy")


def event(action: str, identity: str, **attributes: str) -> str:
    known = {"name": f"name-{identity}", "image": "an-image", **attributes}
    return json.dumps({"Action": action, "Actor": {"ID": identity, "Attributes": known}})


# Which engine ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "has_door"),
    [
        pytest.param({"DOCKER_HOST": "unix://SOCKET"}, True, id="DOCKER_HOST"),
        pytest.param({"DOCKER_HOST": "unix:///nosuch.sock"}, False, id="no engine"),
        pytest.param({"DOCKER_HOST": "tcp://127.0.0.1:1"}, False, id="elsewhere"),
        pytest.param({"DOCKER_CONTEXT": "own"}, True, id="DOCKER_CONTEXT"),
        pytest.param({"DOCKER_CONTEXT": "nosuch"}, False, id="no context"),
        pytest.param({}, True, id="the current context"),
    ],
)
def test_the_engine_is_the_one_that_the_client_would_talk_to(
    tmp_path: Path,
    short_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    settings: dict[str, str],
    has_door: bool,
) -> None:
    monkeypatch.chdir(tmp_path)
    engine = Engine(str(short_path / "engine.sock"))
    name = hashlib.sha256(b"own").hexdigest()  # as `docker context create` has it
    meta = short_path / "config" / "contexts" / "meta" / name
    meta.mkdir(parents=True)
    endpoint = {"docker": {"Host": f"unix://{engine.path}"}}
    (meta / "meta.json").write_text(json.dumps({"Name": "own", "Endpoints": endpoint}))
    (short_path / "config" / "config.json").write_text('{"currentContext": "own"}')
    chosen = {key: value.replace("SOCKET", engine.path) for key, value in settings.items()}
    with hcoverage.open_session() as session:
        environment = {**session.environment, "DOCKER_CONFIG": str(short_path / "config"), **chosen}
        environment = {k: v for k, v in environment.items() if k in chosen or k != "DOCKER_HOST"}
        with hdocker.containers_measured(environment) as ours:
            if has_door:
                path = ours["DOCKER_HOST"].removeprefix("unix://")
                assert path != engine.path
                assert said(path, GET).endswith(b"GET /_ping")
                assert ours["TESTCONTAINERS_DOCKER_SOCKET_OVERRIDE"] == engine.path
            else:
                assert ours.get("DOCKER_HOST") == chosen.get("DOCKER_HOST")
    engine.end()
