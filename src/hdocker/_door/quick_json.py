"""JSON without the module `json`, which takes longer to load than all else that podman waits for.

It calls the compiled half of `json` directly. If a Python does not have that, it uses `json`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

try:
    from _json import encode_basestring_ascii, make_encoder, make_scanner
except ImportError:  # another Python than CPython
    make_scanner = None  # type: ignore[assignment, misc]


class _Settings:
    """The settings that the compiled half reads; the values are the defaults of `json`."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float
    memo: dict[str, str] = {}  # noqa: RUF012 - it is asked for by name


def read(text: bytes) -> Any:  # noqa: ANN401 - what JSON has
    """Decode JSON.

    Raises:
        ValueError: It is no JSON.
    """
    if make_scanner is None:
        import json

        return json.loads(text)
    try:
        scan = make_scanner(_Settings())  # type: ignore[arg-type] # what has these names will do
        return scan(text.decode().lstrip(), 0)[0]
    except StopIteration:
        raise ValueError("it is no JSON") from None


def written(value: object) -> bytes:
    """Encode what `read` returns."""
    if make_scanner is None:
        import json

        return json.dumps(value).encode()
    encode = make_encoder({}, str, encode_basestring_ascii, None, ": ", ", ", False, False, True)  # noqa: FBT003
    return "".join(encode(value, 0)).encode()
