"""JSON as podman's hook reads and writes it: what the module `json` makes of the same."""

from __future__ import annotations

import json
from typing import Final

import pytest

from hdocker._door import quick_json

TEXTS: Final = (
    '{"process": {"env": ["A=1", "B=ä 😀"], "uid": 0}, "mounts": null, "ok": [true, false]}',
    '"\\ud83d\\ude00 \\u0000 \\"quoted\\""',
    "[1.0, 1e3, -0.0, 12345678901234567890123, 1e400]",
    ' \r\n\t{"a": [], "b": {}} trailing',
    "[]",
)


@pytest.mark.parametrize("text", TEXTS)
def test_it_is_read_and_written_alike(text: str) -> None:
    expected, _ = json.JSONDecoder().raw_decode(text.lstrip())
    found = quick_json.read(text.encode())
    assert found == expected
    assert quick_json.written(found).decode() == json.dumps(expected)


@pytest.mark.parametrize("text", ["", "{", '{"a" 1}', "nothing", '["\x01"]'])
def test_what_is_none_is_refused_alike(text: str) -> None:
    for read in (quick_json.read, json.loads):
        with pytest.raises(ValueError, match=r"."):
            read(text.encode())
