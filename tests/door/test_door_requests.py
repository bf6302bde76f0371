"""What the door reads of a client's request, and what it changes in a container's creation."""

from __future__ import annotations

import itertools
import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from hdocker._door.creation import BindMount, reader_of
from hdocker._door.labels import LABEL, Marks
from hdocker._door.requests import Body, UnknownProtocolError, read_answer, read_request, status_of

if TYPE_CHECKING:
    from pathlib import Path

CHUNKS = b"PUT /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
MOUNT = BindMount("/here", "/opt/hcoverage", read_only=True)


def ends(raw: bytes, step: int) -> int:
    """Where a request ends in bytes that come a few at a time."""
    received = b""
    fed = 0
    while (request := read_request(received)) is None:
        received += raw[fed : fed + step]
        fed += step
    body = Body(request.length, keep=True)
    at = len(request.raw)
    while True:
        at += body.take(received[at:])
        if body.has_ended:
            return at
        assert fed < len(raw)
        received += raw[fed : fed + step]
        fed += step


@pytest.mark.parametrize("step", [1, 2, 7, 1000])
@pytest.mark.parametrize(
    "raw",
    [
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET /_ping HTTP/1.1\nHost: x\n\n",
        b"POST /a HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
        b"POST /a HTTP/1.1\r\nCONTENT-LENGTH:5\r\ncontent-length: 5\r\n\r\nhello",
        b"POST /a HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        CHUNKS + b"0005;x=1\r\nhe\r\no\r\n00\r\nA: b\r\n\r\n",
    ],
)
def test_where_a_request_ends_does_not_depend_on_how_it_comes(raw: bytes, step: int) -> None:
    assert ends(raw + b"GET /next HTTP/1.1\r\n\r\n", step) == len(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\n",
        b"GET /\r\n\r\n",
        b"\r\nGET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: b\r\n folded\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nhello\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nhello\r\n",
    ],
)
def test_what_is_not_understood_is_told_to_be_so(raw: bytes) -> None:
    with pytest.raises(UnknownProtocolError):
        ends(raw, 1000)


def test_another_body_leaves_the_other_fields_as_they_were() -> None:
    raw = (
        b"POST /v1.41/containers/%63reate?name=a HTTP/1.1\r\nhost: docker\r\nX-Odd :  a,b \r\n"
        b"Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"
    )
    request = read_request(raw)
    assert request is not None
    assert (request.method, request.path) == ("POST", "/v1.41/containers/create")
    assert request.waits_to_continue
    assert request.with_body(b"{}") == (
        b"POST /v1.41/containers/%63reate?name=a HTTP/1.1\r\nhost: docker\r\nX-Odd :  a,b \r\n"
        b"Content-Length: 2\r\n\r\n{}"
    )


def test_an_answers_status() -> None:
    answer = read_answer(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\n\r\nstream")
    assert answer is not None
    assert (status_of(answer), answer.has_length) == (101, False)
    with pytest.raises(UnknownProtocolError):
        read_answer(b"SSH-2.0")


def test_which_requests_create_a_container() -> None:
    prefixes = ("", "/v1.41", "/v4.0.0")
    for prefix, libpod in itertools.product(prefixes, ("", "/libpod")):
        path = f"{prefix}{libpod}/containers/create"
        reader = reader_of("POST", path)
        assert reader is not None
        assert ("Libpod" in reader.__name__) == bool(libpod)
        assert reader_of("GET", path) is None
        assert reader_of("POST", f"{path}/x") is None
    assert reader_of("POST", "/v1.41/services/create") is None


def changed(body: bytes, path: str = "/containers/create", **labels: str) -> dict[str, Any]:
    reader = reader_of("POST", path)
    assert reader is not None
    model: dict[str, Any] = json.loads(reader(body).changed([MOUNT], {"A": "ours"}, labels))
    return model


def test_what_is_added_to_a_container_of_dockers_api() -> None:
    body = b'{"image": "i", "Env": ["A=theirs", "B=1", "C"], "hostconfig": {"Memory": 1e3}} rest'
    model = changed(body)
    assert model["Env"] == ["B=1", "C", "A=ours"]
    added = {"Type": "bind", "Source": "/here", "Target": "/opt/hcoverage", "ReadOnly": True}
    assert model["HostConfig"] == {"Memory": 1000, "Mounts": [added]}
    reader = reader_of("POST", "/containers/create")
    assert reader is not None
    # As it was written: Go takes no 1000.0 where it wants an integer.
    assert b'"Memory": 1e3' in reader(body).changed([MOUNT], {}, {})


def test_what_is_added_to_a_container_of_podmans_api() -> None:
    body = json.dumps({"image": "i", "env": {"A": "theirs", "B": "1"}, "mounts": None}).encode()
    model = changed(body, "/v4.0.0/libpod/containers/create")
    assert model["env"] == {"A": "ours", "B": "1"}
    assert model["mounts"] == [
        {
            "type": "bind",
            "source": "/here",
            "destination": "/opt/hcoverage",
            "options": ["rbind", "ro"],
        }
    ]


def test_what_a_container_has_mounted() -> None:
    reader = reader_of("POST", "/containers/create")
    assert reader is not None
    host = {
        "Binds": ["/a:/b/:ro", "name:/c"],
        "Mounts": [{"Type": "volume", "Source": "/d", "target": "/e"}],
        "Tmpfs": {"/f": ""},
    }
    body = {"Image": "i", "Env": ["A=1", "B"], "Volumes": {"/g": {}}, "HostConfig": host}
    asked = reader(json.dumps(body).encode())
    assert asked.targets == ["/b", "/c", "/e", "/f", "/g"]
    assert asked.sources == ["/a", "name", "/d"]
    assert asked.variables == {"A": "1", "B": None}
    assert not asked.lenders


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b'{"Image": NaN}',
        b'{"Image": 1}',
        b'{"Env": {}}',
        b'{"HostConfig": []}',
        b'{"Image": "\xff"}',
        b"[" * 100_000,
    ],
)
def test_what_the_engine_would_refuse_is_not_read(body: bytes) -> None:
    reader = reader_of("POST", "/containers/create")
    assert reader is not None
    with pytest.raises(ValueError, match=r".*"):
        reader(body)


def test_of_names_that_differ_in_case_the_last_one_counts() -> None:
    model = changed(b'{"Image": "i", "ENV": ["X=1"], "env": ["Y=1"], "Labels": {"a": "b"}}', c="d")
    assert model["Env"] == ["Y=1", "A=ours"]
    assert model["Labels"] == {"a": "b", "c": "d"}


def test_composes_mark_is_another_in_the_engine_and_its_own_for_clients(tmp_path: Path) -> None:
    marks = Marks(tmp_path / "marks")
    assert marks.restored(b"anything") == (b"anything", b"")
    own = {LABEL: "0123456789abcdef" * 4}
    session = marks.changed(own)
    assert session[LABEL] != own[LABEL]
    assert re.fullmatch("[0-9a-f]{64}", session[LABEL])
    assert marks.changed(own) == session
    assert marks.changed({LABEL: "odd"}) == marks.changed({}) == {}
    said = f'[{{"Labels": {{"{LABEL}": "{session[LABEL]}"}}}}]\n' * 3
    # Also for the proxy that comes after one that was killed, however the answer comes.
    for step in (1, 5, 63, 64, 1000):
        again = Marks(tmp_path / "marks")
        passed_on, rest = b"", b""
        for at in range(0, len(said), step):
            some, rest = again.restored(rest + said[at : at + step].encode())
            passed_on += some
        assert rest == b""
        assert passed_on.decode() == said.replace(session[LABEL], own[LABEL])
