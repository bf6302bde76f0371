"""What a service runs for a request is of the test that sent it, however many it answers at once.

Real services, which answer three tests at once in each round; each waits until all three are in the
same function. A round is of tests of its own. More rounds: `HCOVERAGE_ROUNDS=20`.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from coverage import CoverageData
from tests.wsgi_server import SERVE

from hcoverage.middleware import asgi, context_in, wsgi

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.usefixtures("clean_environment")

HCOV: Final = (sys.executable, "-m", "hcov")
ROUNDS: Final = int(os.environ.get("HCOVERAGE_ROUNDS", "3"))
TESTS: Final = ("one", "two", "three")
# Lines are found by the names in their comments.
HANDLERS: Final = """\
{a}def work(name, meet):
    {w}meet()  # all
    for number in range(5):  # all
        if name == "one":  # all
            total = 1  # one
        elif name == "two":  # two three
            total = 2  # two
        else:
            total = 3  # three
    {w}meet()  # all
    return same(total)  # all
def same(total): return total  # all, import
def items(name):
    yield b"("  # all
    if name == "one":  # all
        yield b"1"  # one
    yield b")"  # all
{a}def one(meet):
    return {w}work("one", meet)  # one
{a}def two(meet):
    return {w}work("two", meet)  # two
{a}def three(meet):
    return {w}work("three", meet)  # three
"""
THREADS: Final = f"""\
import threading
import handlers
meet = threading.Barrier(3).wait
def application(environ, start_response):
    name = environ["PATH_INFO"].strip("/")
    getattr(handlers, name)(meet)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return handlers.items(name)
{SERVE}"""
TASKS: Final = """\
import asyncio, handlers
from hcoverage.middleware import asgi
barrier = asyncio.Barrier(3)
@asgi
async def application(scope, receive, send):
    name = scope["path"].strip("/")
    await asyncio.create_task(getattr(handlers, name)(barrier.wait))
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for item in handlers.items(name):
        await asyncio.sleep(0)
        await send({"type": "http.response.body", "body": item, "more_body": True})
async def answer(reader, writer):
    path = (await reader.readline()).split()[1].decode()
    headers = []
    while line := (await reader.readline()).strip():
        key, _, value = line.partition(b":")
        headers.append((key.strip().lower(), value.strip()))
    async def send(message):
        if message["type"] == "http.response.start":
            writer.write(b"HTTP/1.0 200 OK\\r\\n\\r\\n")
        else:
            writer.write(message["body"])
            await writer.drain()
    await application({"type": "http", "path": path, "headers": headers}, None, send)
    writer.close()
async def main():
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
try:
    asyncio.run(main())
except KeyboardInterrupt:
    pass
"""
SERVICES: Final = {"threads": (THREADS, "", ""), "tasks": (TASKS, "async ", "await ")}
needs_recorder = pytest.mark.skipif(sys.version_info < (3, 12), reason="needs sys.monitoring")


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_service(kind: str, *, branch: bool = False) -> None:
    service, begin, wait = SERVICES[kind]
    Path("service.py").write_text(service)
    Path("handlers.py").write_text(HANDLERS.format(a=begin, w=wait))
    Path(".coveragerc").write_text(f"[run]\nsource = .\nbranch = {branch}\n")


@contextlib.contextmanager
def served(*options: str) -> Iterator[int]:
    """Run the service measured, and give its port."""
    command = [*HCOV, "run", *options, "--", sys.executable, "service.py"]
    with (
        Path("told.txt").open("w") as told,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=told, text=True) as process,
    ):
        assert process.stdout
        try:
            yield int(process.stdout.readline())
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate()


def told() -> str:
    return Path("told.txt").read_text()


def ask(port: int, name: str, baggage: str) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", f"/{name}", headers={"Baggage": baggage} if baggage else {})
    answer = connection.getresponse().read()
    connection.close()
    return answer


def ask_at_once(port: int, number: int) -> None:
    threads = [
        threading.Thread(target=ask, args=(port, name, f"a=b, hcoverage.context={name}%20{number}"))
        for name in TESTS
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def contexts_of(file: str) -> dict[int, set[str]]:
    data = CoverageData()
    data.read()
    found = data.contexts_by_lineno(str(Path(file).resolve()))
    data.close(force=True)
    return {line: set(contexts) for line, contexts in found.items()}


def expected(rounds: int) -> dict[int, set[str]]:
    """Give the tests of each line that has a comment."""
    found = {}
    for line, text in enumerate(Path("handlers.py").read_text().splitlines(), 1):
        _, _, comment = text.partition("  # ")
        if comment:
            names = TESTS if comment.startswith("all") else comment.split()
            found[line] = {f"{name} {number}" for name in names for number in range(rounds)}
            if "import" in comment:
                found[line].add("")
    return found


@needs_recorder
@pytest.mark.parametrize("branch", [False, True], ids=["lines", "branches"])
@pytest.mark.parametrize("kind", SERVICES)
def test_each_line_names_its_own_test_though_three_run_at_once(kind: str, *, branch: bool) -> None:
    write_service(kind, branch=branch)
    with served("--context", "") as port:
        for number in range(ROUNDS):
            ask_at_once(port, number)
    found = contexts_of("handlers.py")
    assert {line: found[line] for line in expected(1)} == expected(ROUNDS)


# Python changes threads wherever it can; each request is a test's of its own.
SWITCHING: Final = """\
import random, sys, threading
import handlers
from hcoverage.middleware import wsgi
@wsgi
def application(environ, start_response):
    getattr(handlers, environ["name"])(len)
    return handlers.items(environ["name"])
def ask(number):
    for time in range(20):
        name = random.choice(["one", "two", "three"])
        test = f"{name}%20{number}-{time}"
        response = application({"HTTP_BAGGAGE": "hcoverage.context=" + test, "name": name}, None)
        list(response)
        response.close()
sys.setswitchinterval(1e-6)
threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


@needs_recorder
@pytest.mark.parametrize("branch", [False, True], ids=["lines", "branches"])
def test_threads_that_change_at_each_step_mix_nothing_up(*, branch: bool) -> None:
    write_service("threads", branch=branch)
    Path("handlers.py").write_text(HANDLERS.format(a="", w="").replace("meet()", "meet([])"))
    Path("service.py").write_text(SWITCHING)
    command = [*HCOV, "run", "-q", "--context", "start", "--", sys.executable, "service.py"]
    subprocess.run(command, check=True)
    found: dict[str, set[int]] = {}
    for line, contexts in contexts_of("handlers.py").items():
        for context in contexts - {"start"}:
            found.setdefault(context, set()).add(line)
    lines: dict[str, set[int]] = {name: set() for name in TESTS}
    for line, contexts in expected(1).items():
        for context in contexts - {""}:
            lines[context.removesuffix(" 0")].add(line)
    assert len(found) == 160
    commented = {*expected(1)}
    for context, ran in found.items():
        assert ran & commented == lines[context.partition(" ")[0]], context


@needs_recorder
@pytest.mark.thorough
@pytest.mark.parametrize("branch", [False, True], ids=["lines", "branches"])
def test_all_together_are_what_runs_without_contexts(*, branch: bool) -> None:
    write_service("threads", branch=branch)
    reports = []
    for options in ((), ("--context", "start")):
        with served(*options) as port:
            ask_at_once(port, 0)
        report = [sys.executable, "-m", "coverage", "json", "-q", "-o", "-"]
        done = subprocess.run(report, capture_output=True, text=True, check=True)
        reports.append(json.loads(done.stdout)["files"]["handlers.py"])
    assert reports[0] == reports[1]


@needs_recorder
def test_what_cannot_be_told_apart_is_of_all_that_run_and_that_is_told() -> None:
    write_service("threads")
    service = THREADS.replace(
        "    getattr(handlers, name)(meet)\n",
        "    meet()\n"
        "    if name == 'one':\n"
        "        thread = threading.Thread(target=handlers.one, args=(len,))\n"
        "        thread.start()\n"
        "        thread.join()\n"
        "    meet()\n",
    )
    Path("service.py").write_text(service)
    Path("handlers.py").write_text(
        "def one(meet):\n    return 1\ndef items(name):\n    return []\n"
    )
    with served("--context", "start") as port:
        ask_at_once(port, 0)
    assert contexts_of("handlers.py")[2] == {"one 0", "two 0", "three 0", "start"}
    assert "hcov: 1 process answered requests of several tests at once" in told()


@pytest.mark.parametrize(("test", "is_told"), [("start", False), ("one", True)])
def test_what_the_coverage_core_cannot_tell_apart_is_told(test: str, *, is_told: bool) -> None:
    write_service("threads")
    Path("service.py").write_text(THREADS.replace("Barrier(3)", "Barrier(1)"))
    with served("--core", "coverage", "--context", "start") as port:
        assert ask(port, "one", f"hcoverage.context={test}") == b"(1)"
    assert {context for found in contexts_of("handlers.py").values() for context in found} == {
        "start"
    }
    assert ("hcov: 1 process answered requests of other tests" in told()) == is_told


@needs_recorder
def test_without_a_header_all_is_as_it_was() -> None:
    write_service("threads")
    Path("service.py").write_text(THREADS.replace("Barrier(3)", "Barrier(1)"))
    with served("--context", "start") as port:
        assert ask(port, "one", "") == ask(port, "one", "x=y") == b"(1)"
        ask(port, "one", "hcoverage.context=a%0Ab")
        ask(port, "two", "hcoverage.context=../../x%00")
        ask(port, "three", "hcoverage.context=" + "%F0%9F%98%80" * 700)
    found = contexts_of("handlers.py")
    text = Path("handlers.py").read_text().splitlines()
    one, two, three = (
        text.index(f'    return work("{name}", meet)  # {name}') + 1 for name in TESTS
    )
    assert found[one] == {"start", "a\\nb"}
    assert found[two] == {"../../x\\x00"}
    assert found[three] == {"start"}  # too long for a header
    assert "at once" not in told()


def test_where_nothing_is_measured_the_application_is_what_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "_hcoverage_process", raising=False)
    application: Any = object()
    assert [wsgi(application), asgi(application)] == [application, application]


def test_importing_it_loads_nothing_that_a_service_has_not() -> None:
    program = (
        "import sys, http.server, wsgiref.simple_server\nbefore = {*sys.modules}\n"
        "import hcoverage.middleware\nprint(*sorted({*sys.modules} - before))"
    )
    loaded = subprocess.check_output([sys.executable, "-c", program], text=True).split()
    assert {name.partition(".")[0] for name in loaded} <= {
        *("__future__", "_typing", "hcoverage", "importlib", "typing")
    }


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("hcoverage.context=a", "a"),
        (" x=1 , hcoverage.context = t%20%C3%A9%2Cb ; p=1, y=2", "t é,b"),
        ("hcoverage.context=", ""),
        ("hcoverage.context", ""),
        ("xhcoverage.context=a", ""),
        ("hcoverage.context=a,hcoverage.context=b", "a"),
        ("hcoverage.context=%0A%1b%ff", "\\n\\x1b\N{REPLACEMENT CHARACTER}"),
        ("hcoverage.context=" + "a" * 8000, "a" * 2048),
        ("hcoverage.context=" + "a" * 9000, ""),
        (",=;" * 2000, ""),
    ],
)
def test_a_header_is_read_whatever_it_holds(header: str, name: str) -> None:
    assert context_in(header) == name
