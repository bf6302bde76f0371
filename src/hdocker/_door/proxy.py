"""The proxy: passes on what clients and the engine send to each other, byte for byte.

It finds where each request of a client ends, and changes those that create a container, or a
command in one. The engine's answers are copied unread, but for a status that may start another
protocol, compose's marks (`labels`), and what builds tell. Where anything is not understood, the
rest of the connection is copied unread both ways.

A changed request is sent on a connection of its own, so that its answer can be read: if the engine
refuses it, the client's own request is sent. If a client sends requests before earlier ones are
answered, that would change the order of the answers; so its requests are not changed.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import re
import select
import signal
import socket
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hcoverage import SESSION_VARIABLE
from hdocker._door.answers import Answer, Answers, asked, end
from hdocker._door.api import ask_for_container
from hdocker._door.builds import Build, is_build
from hdocker._door.compose_projects import Projects
from hdocker._door.connection import connect
from hdocker._door.creation import BindMount, DockerCreation, Execution, reader_of
from hdocker._door.door import Door
from hdocker._door.earlier import EXEC, Earlier, action_of
from hdocker._door.images import Images
from hdocker._door.keepers import copy_into
from hdocker._door.labels import Marks
from hdocker._door.notes import NotInjectedError
from hdocker._door.outliving import mark_used
from hdocker._door.peer import caller_of, process_of
from hdocker._door.requests import (
    Body,
    Request,
    UnknownProtocolError,
    read_request,
)
from hdocker._inject.added import PLACE, is_in

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hdocker._door.creation import Creation
    from hdocker._door.earlier import Action

_SOME: Final = 1 << 18  # bytes
_LARGEST_CREATION: Final = 1 << 24
_STACK: Final = 1 << 18
_CREATED: Final = range(200, 300)
_REFUSED: Final = 400
# Requests whose answer may become a stream, even if the client asks for no other protocol.
_STREAM: Final = re.compile(r"/(containers/[^/]+/attach(/ws)?|exec/[^/]+/start|session|grpc)$")
# Requests whose answers contain compose's mark.
_SHOWS_LABELS: Final = re.compile(r"/(containers/(json|[^/]+/json)|events)$")
# The request that compose sends before it does anything.
_LISTS: Final = re.compile(r"/containers/json$")
_AHEAD: Final = "it came before earlier requests of its connection were answered"
_IS_BUILDER: Final = (
    "is a builder in a container of its own (docker buildx create), and what a build runs cannot "
    "be measured: whether its steps ran Python is not known"
)
_TOO_LARGE: Final = "its request is too large"
_GO_ON: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


def serve(listener: int, ending: int, words: Sequence[str]) -> None:
    """Serve clients until the run ends, and those that are connected then until they go.

    Args:
        listener: The listening socket.
        ending: A descriptor that can be read when the run ends.
        words: The door, as `Door.words` returns it.
    """
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    threading.stack_size(_STACK)
    clients = socket.socket(fileno=listener)
    proxy = _Proxy(Door.of_words(words), str(clients.getsockname()))
    clients.settimeout(0)  # Another process may accept the client that `poll` has seen.
    waiting = select.poll()
    waiting.register(listener, select.POLLIN)
    waiting.register(ending, select.POLLIN)
    connections: list[threading.Thread] = []
    while ending not in [descriptor for descriptor, _ in waiting.poll()]:
        with contextlib.suppress(OSError):
            client, _ = clients.accept()
            client.settimeout(None)
            thread = threading.Thread(target=proxy.pass_on, args=(client,), daemon=True)
            thread.start()
            connections = [each for each in connections if each.is_alive()]
            connections.append(thread)
    clients.close()
    proxy.has_ended = True
    for thread in connections:
        thread.join()


def tell_end(code: int, words: Sequence[str]) -> None:
    """Leave a note that the proxy ended before the run did.

    Args:
        code: Its exit code, as `os.waitstatus_to_exitcode` returns it.
        words: The door, as `Door.words` returns it.
    """
    how = f"was ended by signal {-code}" if code < 0 else f"ended with status {code}"
    Door.of_words(words).note(
        f"the proxy of the engine's API {how}, and clients lost their connections to the engine; "
        "it was started again"
    )


@dataclass(frozen=True)
class Change:
    """A request to the engine that replaces the client's.

    Attributes:
        body: The new body of the request.
        copies: Files to copy into the container when it is created.
    """

    body: bytes
    copies: tuple[BindMount, ...] = ()


class _Proxy:
    """What all connections share."""

    def __init__(self, door: Door, path: str) -> None:
        self.door = door
        self._path = path
        self.has_ended = False
        self.marks = Marks(door.marks)
        self._images = Images(door)
        self._earlier = Earlier(door, self._images)
        self.projects = Projects(door)
        self._writing = threading.Lock()

    def pass_on(self, client: socket.socket) -> None:
        """Serve a client until it goes."""
        with client:
            try:
                engine = connect(self.door.engine)
            except OSError:
                return  # The client sees the connection end, as if the engine had ended it.
            with engine:
                _Connection(self, client, engine).serve()

    def changed(self, asked: Creation, client: int) -> Change | None:
        """Return the change by which a new container is measured; None to leave it as it is.

        Args:
            asked: The container that the client asks for.
            client: The client's process id.

        Raises:
            NotInjectedError: It cannot be measured.
            OSError: The engine does not answer.
        """
        door = self.door
        caller = caller_of(client, door.owner, door.session, door.data_dir)
        variables = asked.variables
        if self.has_ended or caller.wants_none or not asked.image:
            return None
        if variables.get(SESSION_VARIABLE) == "" or self._has_it_already(asked):
            return None
        added = self._images.added_to(asked.image)
        if added is None or not added.mounts:
            return None
        targets = [*asked.targets, *self._targets_of(asked.lenders)]
        for reason in added.why_hidden(asked.image, targets):
            door.note(reason)
        beside = added.mounts_beside(targets)
        mounts = [BindMount(*mount) for mount in beside]
        # If the engine does not see this machine's files, it has volumes, and files are copied.
        has_volumes = any(mount.is_volume for mount in mounts)
        if not has_volumes:
            asked.move_sources(self._sockets_in(asked.sources))
        body = asked.changed(
            [mount for mount in mounts if mount.is_volume or not has_volumes],
            added.variables_for(asked.image, variables, door.session, caller.told),
            self.marks.changed(asked.labels),
        )
        copies = [mount for mount in mounts if has_volumes and not mount.is_volume]
        return Change(body, tuple(copies))

    def _sockets_in(self, sources: Sequence[str]) -> dict[str, str]:
        """Map those mounted paths that are the engine's socket to the door's socket."""
        engine = os.path.realpath(self.door.engine)
        return {each: self._path for each in sources if os.path.realpath(each) == engine}

    def _targets_of(self, lenders: Sequence[str]) -> list[str]:
        """Return where containers have mounts that are not of this run.

        Raises:
            OSError: The engine does not answer.
        """
        private = str(self.door.private)
        targets = []
        for name in lenders:
            known = ask_for_container(self.door.engine, name)
            targets += [
                posixpath.normpath(str(mount.get("Destination")))
                for mount in known.get("Mounts") or ()
                if not is_in(str(mount.get("Source")), private)
            ]
        return targets

    def changed_execution(self, action: Action, asked: Execution, client: int) -> Change | None:
        """Return the change by which a command is measured; None to leave it as it is.

        Args:
            action: The container to run it in.
            asked: The command that the client asks for.
            client: The client's process id.

        Raises:
            NotInjectedError: It cannot be measured.
            OSError: The engine does not answer.
        """
        door = self.door
        caller = caller_of(client, door.owner, door.session, door.data_dir)
        if self.has_ended or caller.wants_none:
            return None
        if asked.is_of_builder:
            door.note(f"{action.container} {_IS_BUILDER}")
            return None
        variables = self._earlier.variables_for(action, asked.variables, caller)
        return Change(asked.changed(variables)) if variables else None

    def prepare(self, action: Action, client: int) -> None:
        """Prepare a container that is about to start; fetch its data if it is about to go.

        Raises:
            NotInjectedError: It cannot be measured.
            OSError: The engine does not answer.
        """
        door = self.door
        # The run has created most containers: about these the engine need not be asked.
        if self.has_ended or action.container in door.created_containers():
            return
        if action.starts:
            self._write(door.started, self._earlier.identity_of(action.container))
            if caller_of(client, door.owner, door.session, door.data_dir).wants_none:
                return
        self._earlier.before(action)

    def remember(self, request: bytes, identity: str) -> None:
        """Write down a container that was created through the door.

        Args:
            request: The body of the request.
            identity: The container's id; empty if the engine told none.
        """
        with contextlib.suppress(ValueError, OSError):
            self.projects.forget(DockerCreation(request).labels)
        with contextlib.suppress(OSError):
            mark_used(self.door)
        self._write(self.door.created, identity)

    def remember_execution(self, container: str, identity: str) -> None:
        """Write down a command that is to be executed in a container.

        Args:
            container: The container's id or name.
            identity: The command's id; empty if the engine told none.
        """
        self._write(self.door.executed, f"{identity} {container}" if identity else "")

    def build_of(self, request: Request, client: int) -> Build | None:
        """Return the build that a client asks for; None if the request is another.

        Args:
            request: The request.
            client: The client's process id.
        """
        if request.method != "POST" or not is_build(request.path):
            return None
        door = self.door
        caller = caller_of(client, door.owner, door.session, door.data_dir)
        return Build(door, request.target, is_wanted=not caller.wants_none)

    def _write(self, file: Path, identity: str) -> None:
        """Add a line with an id, and perhaps more, to a file."""
        if identity:
            with self._writing, contextlib.suppress(OSError), file.open("a") as ids:
                ids.write(f"{identity}\n")

    def _has_it_already(self, asked: Creation) -> bool:
        """Return whether `get_docker_base_cmd` or another door has added our mounts already.

        Raises:
            NotInjectedError: A mount of the user's is in the way of ours.
        """
        private = str(self.door.private)
        for target in asked.targets:
            if is_in(PLACE, target) or is_in(target, PLACE):
                if any(is_in(source, private) for source in asked.sources):
                    return True
                raise NotInjectedError(
                    f"image {asked.image}: a container's mount at {target} is in the way of ours "
                    f"at {PLACE}"
                )
        return False


class _EngineReadsNoMoreError(Exception):
    """The engine has closed a connection that a client still sends on."""


class _Connection:
    """A client's connection to the proxy, and the proxy's to the engine for it."""

    def __init__(self, proxy: _Proxy, client: socket.socket, engine: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._engine = engine
        self._process = process_of(client)
        self._answers = Answers(client, engine, proxy.marks)
        self._received = b""
        self._may_be_stream = False
        self._runs_ahead = False

    def serve(self) -> None:
        """Pass on what the client sends, until it sends no more."""
        answers = threading.Thread(target=self._answers.pass_on, daemon=True)
        answers.start()
        try:
            try:
                while request := self._next_request():
                    if not self._handle(request):
                        break
            except UnknownProtocolError:
                self._answers.are_stream = True
                self._pass_on_unread()
            self._engine.shutdown(socket.SHUT_WR)
        except _EngineReadsNoMoreError:
            # It may have answered before: that answer is still to be passed on.
            with contextlib.suppress(OSError):
                self._client.shutdown(socket.SHUT_RD)
        except OSError:
            end(self._client, self._engine)
        answers.join()

    def _next_request(self) -> Request | None:
        """Return the next request; None if there is none."""
        self._runs_ahead = self._runs_ahead or bool(self._received)
        while True:
            if self._received and self._may_be_stream:
                if self._answers.are_stream or not self._answers.status_is_known:
                    raise UnknownProtocolError
                self._may_be_stream = False
            request = read_request(self._received)
            if request:
                return request
            if not self._receive():
                self._send(self._received)
                return None

    def _send(self, what: bytes | memoryview) -> None:
        """Send something to the engine.

        Raises:
            _EngineReadsNoMoreError: It has closed the connection.
        """
        try:
            self._engine.sendall(what)
        except OSError as error:
            raise _EngineReadsNoMoreError from error

    def _receive(self) -> bool:
        some = self._client.recv(_SOME)
        self._received += some
        return bool(some)

    def _handle(self, request: Request) -> bool:
        """Pass a request on.

        Returns:
            Whether the client may send more.

        Raises:
            UnknownProtocolError: Its end is not certain; the rest of it is still to be passed on.
        """
        body = Body(request.length)
        creates = reader_of(request.method, request.path) is not None
        action = action_of(request.method, request.path)
        is_of_interest = creates or (action is not None and action.what == EXEC)
        self._runs_ahead = self._runs_ahead or not self._answers.has_come
        if action and not is_of_interest:
            self._prepare(action)
        if _LISTS.search(request.path):
            self._notice(request)
        if not is_of_interest or self._runs_ahead or (request.length or 0) > _LARGEST_CREATION:
            if creates:
                self._tell(_AHEAD if self._runs_ahead else _TOO_LARGE)
            self._may_be_stream = request.asks_for_other_protocol or bool(
                _STREAM.search(request.path)
            )
            shows_labels = bool(_SHOWS_LABELS.search(request.path))
            self._answers.expect(
                may_be_stream=self._may_be_stream,
                shows_labels=shows_labels,
                build=self._proxy.build_of(request, self._process),
            )
            return self._pass_on_body(body, head=request.raw)
        return self._create(request, action)

    def _notice(self, request: Request) -> None:
        with contextlib.suppress(OSError, ValueError):  # Then the run does not tell of it.
            self._proxy.projects.notice(request.target, self._process)

    def _prepare(self, action: Action) -> None:
        try:
            self._proxy.prepare(action, self._process)
        except NotInjectedError as reason:
            self._proxy.door.note(str(reason))
        except Exception as error:  # noqa: BLE001 - the application must not notice
            self._tell(f"{type(error).__name__}: {error}")

    def _forget(self, number: int) -> None:
        self._received = self._received[number:]

    def _pass_on_body(self, body: Body, head: bytes = b"") -> bool:
        """Pass on a body that has begun to come, and the head before it if there is one.

        They are sent in the pieces in which they come: an engine that refuses a head ends the
        connection, and has then read no less than it would without the proxy.
        """
        taken = len(head)
        while True:
            taken += body.take(self._received, taken)
            if taken:
                self._send(memoryview(self._received)[:taken])
                self._forget(taken)
                taken = 0
            if body.has_ended:
                return True
            if not self._receive():
                self._send(self._received)
                return False

    def _pass_on_unread(self) -> None:
        self._send(self._received)
        self._received = b""
        while some := self._client.recv(_SOME):
            self._send(some)

    def _create(self, request: Request, action: Action | None) -> bool:
        """Have the engine create a container or command: measured, or else as the client asks.

        Args:
            request: The request.
            action: Where a command is to run; None if a container is to be created.

        Returns:
            Whether the client may send more.
        """
        body = Body(request.length, keep=True)
        self._forget(len(request.raw))
        if request.waits_to_continue and not self._received:
            self._answers.send(_GO_ON)
        raw = self._collect(request, body)
        if not body.has_ended:
            self._send(request.raw + raw)
            return self._pass_on_body(body)
        content = bytes(body.content)
        original = request.with_body(content) if request.waits_to_continue else request.raw + raw
        changed = self._changed(request, action, content)
        if self._has_gone():
            return False
        answer = self._answer_to(original, request, changed)
        if answer.status in _CREATED:
            if action is None:
                self._proxy.remember(content, answer.identity)
            else:
                self._proxy.remember_execution(action.container, answer.identity)
        self._answers.send(answer.raw)
        if request.ends_connection or not answer.leaves_connection:
            self._engine.shutdown(socket.SHUT_WR)
            self._client.shutdown(socket.SHUT_WR)
            return False
        return True

    def _collect(self, request: Request, body: Body) -> bytes:
        """Return a body as it was sent; only its beginning if it ends early or is too large."""
        raw = b""
        while True:
            try:
                taken = body.take(self._received)
            except UnknownProtocolError:
                self._received = request.raw + raw + self._received
                raise
            raw += self._received[:taken]
            self._forget(taken)
            if body.has_ended:
                return raw
            if len(raw) > _LARGEST_CREATION:
                self._tell(_TOO_LARGE)
                return raw
            if not self._receive():
                return raw

    def _answer_to(self, original: bytes, request: Request, change: Change | None) -> Answer:
        """Send the changed request, if there is one; if it is refused, the client's own."""
        door = self._proxy.door
        if change is None:
            return asked(door.engine, original)
        answer = asked(door.engine, request.with_body(change.body))
        if answer.status and answer.status < _REFUSED:
            if change.copies:
                copy_into(door.engine, answer.content, change.copies)
            return answer
        refused, answer = answer, asked(door.engine, original)
        if answer.status in _CREATED:
            self._tell(f"the engine refused what hcoverage adds: {refused.told}")
        return answer

    def _changed(self, request: Request, action: Action | None, content: bytes) -> Change | None:
        reader = reader_of(request.method, request.path)
        try:
            if action is not None:
                return self._proxy.changed_execution(action, Execution(content), self._process)
            return self._proxy.changed(reader(content), self._process) if reader else None
        except ValueError:
            return None  # The engine will report what is wrong with it.
        except NotInjectedError as reason:
            self._proxy.door.note(str(reason))
        except Exception as error:  # noqa: BLE001 - the application must not notice
            self._tell(f"{type(error).__name__}: {error}")
        return None

    def _has_gone(self) -> bool:
        """Return whether the client has given up: then nothing must be created for it."""
        waiting = select.poll()
        waiting.register(self._client, 0)
        return any(event & (select.POLLHUP | select.POLLERR) for _, event in waiting.poll(0))

    def _tell(self, reason: str) -> None:
        command = ""
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{self._process}/cmdline").read_bytes().split(b"\0")[:-1]
            command = f" (`{b' '.join(words).decode(errors='replace')}`)" if words else ""
        self._proxy.door.note(f"a container, by the engine's API: {reason}{command}")
