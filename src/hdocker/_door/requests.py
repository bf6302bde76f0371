"""Finds where a request of HTTP/1 ends, and reads its head.

Nothing is normalised: the bytes are passed on as they were sent. What is not understood is an
error; the connection is then passed on unread.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, urlsplit

_REQUEST_LINE: Final = re.compile(rb"([!-~]+) ([!-~]+) HTTP/1\.([01])")
_DIGITS: Final = re.compile(rb"[0-9]{1,15}")
_HEXADECIMAL: Final = re.compile(rb"[0-9A-Fa-f]{1,12}")
_LONGEST_HEAD: Final = 1 << 20  # bytes, as Go's server has it
_LONGEST_CHUNK_LINE: Final = 4096


class UnknownProtocolError(Exception):
    """What a client sends is no request of HTTP/1, or its end is not certain."""


@dataclass(frozen=True)
class Head:
    """A message's first line and fields.

    Attributes:
        raw: Its bytes, with the empty line.
        first_line: The first line, without its end.
        fields: The fields in their order, the names in lower case.
    """

    raw: bytes
    first_line: bytes
    fields: tuple[tuple[bytes, bytes], ...]

    def values(self, name: bytes) -> list[bytes]:
        """Return the items that a field lists, in lower case."""
        said = (value for key, value in self.fields if key == name)
        return [item.strip().lower() for value in said for item in value.split(b",")]

    @property
    def length(self) -> int | None:
        """The number of bytes in the body; None if it comes in chunks.

        Raises:
            UnknownProtocolError: The fields say both, contradict each other, or say something else.
        """
        encodings, lengths = self.values(b"transfer-encoding"), self.values(b"content-length")
        if encodings == [b"chunked"] and not lengths:
            return None
        if encodings or len(set(lengths)) > 1 or not all(map(_DIGITS.fullmatch, lengths)):
            raise UnknownProtocolError
        return int(lengths[0]) if lengths else 0

    @property
    def has_length(self) -> bool:
        """Whether the fields say where the body ends."""
        return bool(self.values(b"transfer-encoding") or self.values(b"content-length"))


@dataclass(frozen=True)
class Request(Head):
    """The head of a request."""

    @property
    def method(self) -> str:
        """Its method."""
        return self.first_line.split(b" ")[0].decode("ascii")

    @property
    def target(self) -> str:
        """Its path and query."""
        return self.first_line.split(b" ")[1].decode("ascii")

    @property
    def path(self) -> str:
        """Its path, as the engine reads it: `%63reate` is `create`."""
        try:
            return unquote(urlsplit(self.target).path)
        except ValueError:
            return ""

    @property
    def waits_to_continue(self) -> bool:
        """Whether the client waits for "100 Continue" before it sends the body."""
        return b"100-continue" in self.values(b"expect")

    @property
    def asks_for_other_protocol(self) -> bool:
        """Whether the connection may be no HTTP any more after the answer."""
        return b"upgrade" in self.values(b"connection") or bool(self.values(b"upgrade"))

    @property
    def ends_connection(self) -> bool:
        """Whether it is the last request on its connection."""
        said = self.values(b"connection")
        is_old = self.first_line.endswith(b"1.0")
        return b"close" in said or (is_old and b"keep-alive" not in said)

    def with_body(self, body: bytes) -> bytes:
        """Return the request with another body; fields that do not depend on it are kept."""
        lines = self.raw.split(b"\n")
        told = (b"content-length", b"transfer-encoding", b"expect", b"trailer")
        kept = [lines[0], *(line for line in lines[1:-2] if _name(line) not in told)]
        end = b"\r\n" if lines[0].endswith(b"\r") else b"\n"
        length = b"Content-Length: %d" % len(body)
        return b"\n".join(kept) + b"\n" + length + end + end + body


def read_request(received: bytes) -> Request | None:
    """Read a request's head from what has come so far.

    Returns:
        The head; None if it is not complete.

    Raises:
        UnknownProtocolError: It is no request.
    """
    line, end, _ = received.partition(b"\n")
    if end and not _REQUEST_LINE.fullmatch(line.removesuffix(b"\r")):
        raise UnknownProtocolError
    head = _head(received)
    return None if head is None else Request(head.raw, head.first_line, head.fields)


def read_answer(received: bytes) -> Head | None:
    """Read an answer's head from what has come so far; return None if it is not complete.

    Raises:
        UnknownProtocolError: It is no answer.
    """
    if not b"HTTP/1.".startswith(received[:7]):
        raise UnknownProtocolError
    return _head(received)


def status_of(answer: Head) -> int:
    """Return the status of an answer; 0 if it has none."""
    words = answer.first_line.split(b" ")
    return int(words[1]) if len(words) > 1 and words[1].isdigit() else 0


class Body:
    """Follows a body to its end.

    Attributes:
        has_ended: Whether all of it has come.
        content: Its bytes, without the framing of chunks; empty unless they are to be kept.
    """

    def __init__(self, length: int | None, *, keep: bool = False) -> None:
        """Begin a body.

        Args:
            length: As `Head.length` returns it.
            keep: Whether to keep the content.
        """
        self.has_ended = length == 0
        self.content = bytearray()
        self._keep = keep
        self._in_chunks = length is None
        self._left = length or 0
        self._state = self._chunk_size if self._in_chunks else self._data

    def take(self, received: bytes, start: int = 0) -> int:
        """Take the next bytes.

        Args:
            received: What has come.
            start: Where in it they begin.

        Returns:
            How many of them were taken. The rest is not of this body, or needs more to be read.

        Raises:
            UnknownProtocolError: They are no valid chunks.
        """
        at = start
        while not self.has_ended:
            taken = self._state(received, at)
            if not taken:
                break
            at += taken
        return at - start

    def _data(self, received: bytes, at: int) -> int:
        taken = min(self._left, len(received) - at)
        if self._keep:
            self.content += received[at : at + taken]
        self._left -= taken
        if not self._left:
            self.has_ended = not self._in_chunks
            self._state = self._chunk_end
        return taken

    def _chunk_size(self, received: bytes, at: int) -> int:
        line = _line(received, at)
        if line is None:
            return 0
        size = line.split(b";")[0].strip()
        if not _HEXADECIMAL.fullmatch(size):
            raise UnknownProtocolError
        self._left = int(size, 16)
        self._state = self._data if self._left else self._trailer
        return len(line)

    def _chunk_end(self, received: bytes, at: int) -> int:
        line = _line(received, at)
        if line is None:
            return 0
        if line.strip():
            raise UnknownProtocolError
        self._state = self._chunk_size
        return len(line)

    def _trailer(self, received: bytes, at: int) -> int:
        line = _line(received, at)
        if line is None:
            return 0
        self.has_ended = not line.strip()
        return len(line)


def _line(received: bytes, at: int) -> bytes | None:
    """Return a line with its end; None if it is not complete."""
    end = received.find(b"\n", at, at + _LONGEST_CHUNK_LINE)
    if end >= 0:
        return received[at : end + 1]
    if len(received) - at >= _LONGEST_CHUNK_LINE:
        raise UnknownProtocolError
    return None


def _head(received: bytes) -> Head | None:
    end = re.search(rb"\n\r?\n", received)
    if not end:
        if len(received) > _LONGEST_HEAD:
            raise UnknownProtocolError
        return None
    raw = received[: end.end()]
    first, *lines = raw.split(b"\n")[:-2]
    if any(line[:1] in b" \t" or b":" not in line for line in lines):
        raise UnknownProtocolError
    fields = tuple((_name(line), line.partition(b":")[2].strip()) for line in lines)
    return Head(raw, first.removesuffix(b"\r"), fields)


def _name(line: bytes) -> bytes:
    return line.partition(b":")[0].lower()
