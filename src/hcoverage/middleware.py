"""Attributes what a service runs for a request to the test that sent it: WSGI and ASGI.

A test's name comes with its request, in the member `hcoverage.context` of W3C's `baggage` header;
`pytest --hcov-baggage` puts it there. So tests that run at once are told apart in one service.

    from hcoverage.middleware import wsgi

    application = wsgi(application)

If nothing is measured, or nothing is attributed, the application is returned unchanged. This module
imports next to nothing, and nothing that measures; it finds that in the running process.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from hcoverage._printable import printable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator

__all__ = ["asgi", "wsgi"]

KEY: Final = "hcoverage.context"
# Anybody may send the header. W3C's limit for it, and the length that tests' names are cut to.
_LONGEST_HEADER: Final = 8192  # characters
_LONGEST_NAME: Final = 2048  # characters

_ENVIRON: Final = "HTTP_BAGGAGE"
_HEADER: Final = b"baggage"


def wsgi(application: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
    """Wrap a WSGI application, if this process is measured with contexts.

    Args:
        application: The application.

    Returns:
        The wrapped one; the same, if there is nothing to attribute.
    """
    requests = _requests()
    if requests is None:
        return application

    def attributed(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:  # noqa: ANN401
        request = _begun(requests, environ.get(_ENVIRON, ""))
        if request is None:
            return application(environ, start_response)
        is_over = True
        token = requests.enter(request)
        try:
            response = application(environ, start_response)
            is_over = isinstance(response, (list, tuple))
        finally:
            requests.leave(token)
            if is_over:
                requests.end(request)
        if is_over:
            return response
        kind = _SizedResponse if hasattr(type(response), "__len__") else _Response
        return kind(response, requests, request)

    return attributed


def asgi(application: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """Wrap an ASGI application, if this process is measured with contexts.

    Args:
        application: The application.

    Returns:
        The wrapped one; the same, if there is nothing to attribute.
    """
    requests = _requests()
    if requests is None:
        return application

    async def attributed(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401
        values = [value for name, value in scope.get("headers") or () if name == _HEADER]
        request = _begun(requests, b",".join(values).decode("latin-1")) if values else None
        if request is None:
            await application(scope, receive, send)
            return
        token = requests.enter(request)
        try:
            await application(scope, receive, send)
        finally:
            requests.leave(token)
            requests.end(request)

    return attributed


def context_in(header: str) -> str:
    """Return the test that a `baggage` header names; empty if it names none.

    Args:
        header: Its value; anybody may have written it.
    """
    if len(header) > _LONGEST_HEADER:
        return ""
    for member in header.split(","):
        key, _, value = member.partition("=")
        if key.strip() == KEY:
            return printable(unquote(value.partition(";")[0].strip())[:_LONGEST_NAME])
    return ""


def _requests() -> Any:  # noqa: ANN401 - it is of what was copied to where this process started
    """Return the object that attributes requests in this process; None if there is none."""
    process = sys.modules.get("_hcoverage_process")
    try:
        return None if process is None else process.requests()
    except (AttributeError, ImportError, OSError):  # of another version; the run is over
        return None


def _begun(requests: Any, header: str) -> Any:  # noqa: ANN401 - as above
    name = context_in(header) if header else ""
    return requests.begin(name) if name else None


class _Response:
    """A response that runs code of the application while it is sent."""

    def __init__(self, response: Any, requests: Any, request: Any) -> None:  # noqa: ANN401
        self._response = response
        self._requests = requests
        self._request = request
        self._items: Iterator[bytes] | None = None

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        token = self._requests.enter(self._request)
        try:
            if self._items is None:
                self._items = iter(self._response)
            return next(self._items)
        except BaseException:
            self._requests.end(self._request)
            raise
        finally:
            self._requests.leave(token)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever it is
        return getattr(self._response, name)

    def close(self) -> None:
        """Close it, as servers do when all is sent, or nobody takes it any more."""
        token = self._requests.enter(self._request)
        try:
            close = getattr(self._response, "close", None)
            if close is not None:
                close()
        finally:
            self._requests.leave(token)
            self._requests.end(self._request)


class _SizedResponse(_Response):
    """One of which servers take the size."""

    def __len__(self) -> int:
        return len(self._response)
