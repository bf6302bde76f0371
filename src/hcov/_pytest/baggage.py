"""`--hcov-baggage`: the HTTP requests of a test's process carry the test's name.

The name is in W3C's `baggage` header, where the service's `hcoverage.middleware` finds it; other
members of that header stay. `requests` and `urllib` send with `http.client`; `httpx` does not.
"""

from __future__ import annotations

import functools
import importlib.util
import sys
from importlib.machinery import ModuleSpec
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from hcoverage import middleware

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

_HEADER: Final = "baggage"
_LONGEST: Final = 8192  # characters, the limit of W3C
_DONE: Final = "_hcoverage_baggage"  # set on a connection: this request has the header
_HTTPX: Final = "httpx"


def send_with_requests(name_of_test: Callable[[], str]) -> Callable[[], None]:
    """Make requests carry the name of the running test.

    Args:
        name_of_test: Returns the name; empty if no test runs.

    Returns:
        A function that undoes this.
    """
    sender = _Sender(name_of_test)
    sender.wrap_http_client()
    if _HTTPX in sys.modules:
        sender.wrap_httpx(sys.modules[_HTTPX])
    else:
        finder = _WhenImported(_HTTPX, sender.wrap_httpx)
        sys.meta_path.insert(0, finder)
        sender.undo.append(finder.leave)
    return sender.end


def with_member(header: str, name: str) -> str:
    """Return a `baggage` header with a test's name added.

    Args:
        header: The old header; it is not changed if it names a test already, or has no room.
        name: The test.
    """
    member = f"{middleware.KEY}={quote(name, safe='/:')}"
    whole = f"{header}, {member}" if header.strip() else member
    if not name or middleware.context_in(header) or len(whole) > _LONGEST:
        return header
    return whole


class _Sender:
    """Wraps the functions that send requests.

    Attributes:
        undo: Functions that restore the originals.
    """

    def __init__(self, name_of_test: Callable[[], str]) -> None:
        self._name_of_test = name_of_test
        self.undo: list[Callable[[], object]] = []

    def end(self) -> None:
        """Restore the originals."""
        while self.undo:
            self.undo.pop()()

    def wrap_http_client(self) -> None:
        """Wrap the standard library's client, which sends a request in parts."""
        from http.client import HTTPConnection  # noqa: PLC0415 - few runs want it

        def putrequest(original: Any, connection: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            connection.__dict__[_DONE] = False
            return original(connection, *args, **kwargs)

        def putheader(original: Any, connection: Any, header: Any, *values: Any) -> Any:  # noqa: ANN401
            if values and _text(header).lower() == _HEADER:
                connection.__dict__[_DONE] = True
                *before, last = values
                values = (*before, with_member(_text(last), self._name_of_test()))
            return original(connection, header, *values)

        def endheaders(original: Any, connection: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            member = with_member("", self._name_of_test())
            if member and not connection.__dict__.get(_DONE, True):
                connection.putheader(_HEADER, member)
            return original(connection, *args, **kwargs)

        self._wrap(HTTPConnection, "putrequest", putrequest)
        self._wrap(HTTPConnection, "putheader", putheader)
        self._wrap(HTTPConnection, "endheaders", endheaders)

    def wrap_httpx(self, httpx: ModuleType) -> None:
        """Wrap httpx's two kinds of clients."""

        def send(original: Any, client: Any, request: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            whole = with_member(request.headers.get(_HEADER, ""), self._name_of_test())
            if whole:
                request.headers[_HEADER] = whole
            return original(client, request, *args, **kwargs)

        self._wrap(httpx.Client, "send", send)
        self._wrap(httpx.AsyncClient, "send", send)

    def _wrap(self, owner: Any, name: str, wrapper: Callable[..., Any]) -> None:  # noqa: ANN401
        original = getattr(owner, name)

        @functools.wraps(original)
        def call(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - whatever it takes and gives
            return wrapper(original, *args, **kwargs)

        setattr(owner, name, call)
        self.undo.append(lambda: setattr(owner, name, original))


class _WhenImported:
    """Calls a function with a module as soon as a test has imported it."""

    def __init__(self, name: str, call: Callable[[ModuleType], None]) -> None:
        self._name = name
        self._call = call

    def leave(self) -> None:
        """Stop looking."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> Any:  # noqa: ANN401
        """Let the other finders find the module, and hook into its import."""
        if name != self._name:
            return None
        self.leave()
        spec = importlib.util.find_spec(name)
        if isinstance(spec, ModuleSpec) and spec.loader is not None:
            load = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                load(module)
                self._call(module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _text(header: object) -> str:
    return header.decode("latin-1") if isinstance(header, bytes) else str(header)
