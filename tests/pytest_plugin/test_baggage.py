"""`--hcov-baggage`: what tests ask a service for at once, on two processes, is each test's own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from coverage import CoverageData
from tests.forks import forked
from tests.wsgi_server import SERVE

from hcov._pytest.baggage import with_member
from hcoverage.middleware import context_in

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.usefixtures("clean_environment")

PYTEST: Final = ("pytest", "-p", "no:cacheprovider", "--hcov-report=")
CONTEXTS: Final = (*PYTEST, "--hcov", "--hcov-context=test")
# Each test waits until another process's test is in the same function of the service.
SERVICE: Final = f"""\
import lib
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    lib.answer(environ["PATH_INFO"].strip("/"))
    return [environ.get("HTTP_BAGGAGE", "").encode()]
{SERVE}"""
LIB: Final = """\
import threading
meet = threading.Barrier({parties}).wait
def answer(word):
    meet()
    if word == "one":
        x = 1
    else:
        x = 2
    meet()
"""
ONE, OTHER, BOTH = 6, 8, 9
# The service is everybody's: what starts the workers starts it.
CONFTEST: Final = """\
import os, subprocess, sys
def pytest_configure(config):
    if "PYTEST_XDIST_WORKER" not in os.environ:
        config.service = subprocess.Popen(
            [sys.executable, "service.py"], stdout=subprocess.PIPE, text=True
        )
        os.environ["PORT"] = config.service.stdout.readline().strip()
def pytest_unconfigure(config):
    if "PYTEST_XDIST_WORKER" not in os.environ:
        config.service.kill()
        config.service.communicate()
"""
# `httpx` is imported while a test runs.
CLIENTS: Final = ("by_urllib", "by_http_client", "by_requests", "by_httpx", "by_httpx_at_once")
TESTS: Final = """\
import asyncio, http.client, os, urllib.request
import pytest, requests
HERE = "http://127.0.0.1:" + os.environ["PORT"] + "/"
def by_urllib(url, headers):
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
        return answer.read().decode()
def by_http_client(url, headers):
    host, _, path = url.removeprefix("http://").partition("/")
    connection = http.client.HTTPConnection(host)
    connection.request("GET", "/" + path, headers=headers)
    text = connection.getresponse().read().decode()
    connection.close()
    return text
def by_requests(url, headers):
    with requests.Session() as session:
        return session.get(url, headers=headers).text
def by_httpx(url, headers):
    import httpx
    with httpx.Client() as client:
        return client.get(url, headers=headers).text
def by_httpx_at_once(url, headers):
    import httpx
    async def ask():
        async with httpx.AsyncClient() as client:
            return (await client.get(url, headers=headers)).text
    return asyncio.run(ask())
@pytest.mark.parametrize("get", [{clients}], ids=lambda get: get.__name__)
def test_it(get):
    name = "hcoverage.context=" + __name__ + ".py::test_it%5B" + get.__name__ + "%5D"
    assert get(HERE + {word!r}, {{"baggage": "mine=1;p, other=2"}}) == "mine=1;p, other=2, " + name
    assert get(HERE + {word!r}, {{}}) == name
"""
needs_recorder = pytest.mark.skipif(sys.version_info < (3, 12), reason="needs sys.monitoring")


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / ".coveragerc").write_text("[run]\nparallel = True\n")
    (tmp_path / "service.py").write_text(SERVICE)
    (tmp_path / "conftest.py").write_text(CONFTEST)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_tests(*clients: str, parties: int) -> None:
    Path("lib.py").write_text(LIB.format(parties=parties))
    for word in ("one", "two"):
        text = TESTS.format(clients=", ".join(clients), word=word)
        Path(f"test_{word}.py").write_text(text)


def of_word(word: str, *clients: str) -> set[str]:
    return {f"test_{word}.py::test_it[{client}]" for client in clients}


def run(*command: str) -> str:
    done = forked(*command)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def contexts(lines: Sequence[int]) -> list[set[str]]:
    data = CoverageData()
    data.read()
    found = data.contexts_by_lineno(str(Path("lib.py").resolve()))
    data.close(force=True)
    return [{*found[line]} for line in lines]


@pytest.mark.thorough
@needs_recorder
def test_two_tests_that_run_at_once_are_told_apart() -> None:
    write_tests(*CLIENTS, parties=2)
    run(*CONTEXTS, "--hcov-baggage", "-n", "2", "--dist=loadfile")
    one, two = of_word("one", *CLIENTS), of_word("two", *CLIENTS)
    assert contexts([ONE, OTHER, BOTH]) == [one, two, one | two]


@needs_recorder
@pytest.mark.parametrize(
    "around", [(), pytest.param(("hcov", "run", "-q", "--"), marks=pytest.mark.thorough)]
)
def test_so_it_is_one_after_the_other_and_by_the_configuration_file(around: Sequence[str]) -> None:
    write_tests("by_urllib", parties=1)
    Path("pytest.ini").write_text(
        "[pytest]\nhcov = true\nhcov_context = test\nhcov_baggage = true\n"
    )
    run(*((*around, sys.executable, "-m") if around else ()), *PYTEST)
    one, two = of_word("one", "by_urllib"), of_word("two", "by_urllib")
    assert contexts([ONE, OTHER, BOTH]) == [one, two, one | two]


def test_what_sends_is_as_it_was_when_the_run_is_over() -> None:
    Path("test_one.py").write_text(
        "import http.client\n"
        "def test_it():\n"
        "    assert hasattr(http.client.HTTPConnection.putheader, '__wrapped__')\n"
    )
    Path("conftest.py").write_text("")
    program = (
        "import http.client, sys, pytest\n"
        f"status = pytest.main({[*CONTEXTS[1:], '--hcov-baggage']!r})\n"
        "assert not hasattr(http.client.HTTPConnection.putheader, '__wrapped__')\n"
        "assert not [each for each in sys.meta_path if 'hcov' in type(each).__module__]\n"
        "sys.exit(status)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.any_python
def test_without_contexts_it_does_nothing_and_says_so() -> None:
    Path("test_one.py").write_text("def test_it():\n    pass\n")
    Path("conftest.py").write_text("")
    out = run(*PYTEST, "--hcov-baggage")
    assert "hcov: --hcov-baggage does nothing without --hcov-context=test [usage]" in out


@pytest.mark.any_python
@pytest.mark.parametrize("before", ["", "a=1", " a=1;b , c=2 "])
@pytest.mark.parametrize("name", ["test_it.py::test[a,b;c=\u20ac %]", "t\\n"])
def test_a_name_is_put_behind_what_is_there_and_read_again(before: str, name: str) -> None:
    header = with_member(before, name)
    assert header.startswith(before)
    assert context_in(header) == name
    assert with_member(header, "another") == header
    assert header.isascii()
    assert not {*header.removeprefix(before)} & {*' "\\;'} or before


@pytest.mark.any_python
def test_where_there_is_no_room_or_no_test_the_header_stays() -> None:
    assert with_member("a=1", "") == "a=1"
    long = "a=" + "1" * 8180
    assert with_member(long, "test") == long
