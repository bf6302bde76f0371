"""What gunicorn serves: a few requests, each answered with the pid of the worker that did it."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIEnvironment

    Body = dict[str, object]


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    handler = HANDLERS.get(environ["PATH_INFO"], missing)
    try:
        status, body = handler(parse_qs(environ["QUERY_STRING"]))
    except ValueError as error:
        status, body = "400 Bad Request", {"error": str(error)}
    start_response(status, [("Content-Type", "application/json")])
    return [json.dumps({**body, "pid": os.getpid()}).encode()]


def total(query: dict[str, list[str]]) -> tuple[str, Body]:
    numbers = [int(number) for number in query.get("n", [])]
    return "200 OK", {"total": sum(numbers)}


def slow(query: dict[str, list[str]]) -> tuple[str, Body]:
    # As long as it takes, its worker serves nobody else: a second request goes to a second worker.
    seconds = float(query["seconds"][0])
    time.sleep(seconds)
    return "200 OK", {"slept": seconds}


def missing(_: dict[str, list[str]]) -> tuple[str, Body]:
    return "404 Not Found", {"error": "nothing here"}


HANDLERS = {"/total": total, "/slow": slow}
