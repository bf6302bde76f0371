"""What gunicorn serves: each request is a task for the worker, and says which process answered."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import tasks  # type: ignore[import-not-found]

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIEnvironment

    Query = dict[str, list[str]]


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    handler = HANDLERS.get(environ["PATH_INFO"], missing)
    status, answer = handler(parse_qs(environ["QUERY_STRING"]))
    start_response(status, [("Content-Type", "application/json")])
    return [json.dumps({"answer": answer, "pid": os.getpid()}).encode()]


def order(query: Query) -> tuple[str, object]:
    prices = [int(price) for price in query["price"]]
    return "200 OK", tasks.total.delay(prices).get()


def pay(query: Query) -> tuple[str, object]:
    return "200 OK", tasks.charge.delay(int(query["amount"][0])).get()


def send(query: Query) -> tuple[str, object]:
    error = tasks.deliver.delay(query["to"][0]).get(propagate=False)
    return "422 Unprocessable Content", str(error)


def slow(query: Query) -> tuple[str, object]:
    # As long as it takes, its worker serves nobody else: a second request goes to a second worker.
    seconds = float(query["seconds"][0])
    time.sleep(seconds)
    return "200 OK", seconds


def missing(_: Query) -> tuple[str, object]:
    return "404 Not Found", "nothing here"


HANDLERS = {"/order": order, "/pay": pay, "/send": send, "/slow": slow}
