"""The project's own test, which knows nothing of coverage: services up, used, and down."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection

WORKERS = 4


def compose(*arguments: str) -> str:
    command = ["docker", "compose", *arguments]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def get(address: str, target: str) -> tuple[int, object, int]:
    with contextlib.closing(HTTPConnection(address)) as connection:
        connection.request("GET", target)
        response = connection.getresponse()
        body = json.load(response)
        return response.status, body["answer"], body["pid"]


def wait_until_up(address: str) -> None:
    while True:
        with contextlib.suppress(OSError, ValueError):
            get(address, "/")
            return
        time.sleep(0.1)


def check(address: str) -> None:
    assert get(address, "/order?price=20&price=22")[:2] == (200, 42)
    assert get(address, "/pay?amount=42")[:2] == (200, "charged 42")
    assert get(address, "/send?to=nowhere")[:2] == (422, "no such address: nowhere")
    assert get(address, "/nowhere")[0] == 404
    pids: set[int] = set()
    with ThreadPoolExecutor(WORKERS) as clients:
        while len(pids) < WORKERS:
            answers = clients.map(lambda _: get(address, "/slow?seconds=0.05"), range(WORKERS))
            pids |= {pid for _, _, pid in answers}


compose("up", "--detach")
try:
    address = compose("port", "web", "8000")
    wait_until_up(address)
    check(address)
finally:
    start = time.monotonic()
    compose("down")
    sys.stdout.write(f"down after {time.monotonic() - start:.1f} s\n")
