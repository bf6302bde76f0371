"""`--hcov-context=test`: what runs anywhere for a test has its node id as coverage.py's context."""

from __future__ import annotations

import json
import re
import sys
import textwrap
from pathlib import Path
from typing import Final

import pytest
from coverage import CoverageData
from tests.forks import forked

pytestmark = pytest.mark.usefixtures("clean_environment")

PYTEST: Final = ("pytest", "-p", "no:cacheprovider", "--hcov-report=")
CONTEXTS: Final = (*PYTEST, "--hcov", "--hcov-context=test")
WITHOUT: Final = re.compile(r"^hcov: (\d+ process\w*) ran without a test's context, ", re.MULTILINE)
LIB: Final = """\
def one():
    return 1

def two():
    return 2

if __name__ == "__main__":
    one()
"""
# Its handler is called anew for each request, while the server goes on running.
SERVICE: Final = """\
import socketserver
import lib
class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        word = self.rfile.readline().decode().strip()
        self.wfile.write(str(getattr(lib, word)()).encode())
server = socketserver.TCPServer(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
"""
INTERRUPT: Final = "process.send_signal(2)"
# SIGKILL: it has no time to save anything. Before 3.12 `auto` takes coverage.py's core, as well.
KILL: Final = "process.kill()" if sys.version_info >= (3, 12) else INTERRUPT
TESTS: Final = f"""\
import socket
import subprocess
import sys
import pytest
import lib

@pytest.fixture(scope="session")
def service():
    process = subprocess.Popen(
        [sys.executable, "service.py"], stdout=subprocess.PIPE, text=True
    )
    yield int(process.stdout.readline())
    {KILL}
    process.wait()
    process.stdout.close()

def ask(port, word):
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(word.encode() + b"\\n")
        with connection.makefile() as answer:
            return answer.read()

def test_first(service):
    assert ask(service, "one") == "1"

def test_second(service):
    assert ask(service, "two") == "2"

def test_third(service):
    assert ask(service, "one") == "1"

def test_here():
    assert lib.two() == 2

def test_subprocess():
    subprocess.run([sys.executable, "lib.py"], check=True)
"""


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose tests ask a session-long service, a subprocess, and its own code."""
    (tmp_path / ".coveragerc").write_text("[run]\nparallel = True\n")
    (tmp_path / "lib.py").write_text(LIB)
    (tmp_path / "service.py").write_text(SERVICE)
    (tmp_path / "test_lib.py").write_text(TESTS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def let_the_service_save(core: str) -> None:
    """End the service by SIGINT where a kill would lose what coverage.py has not saved yet."""
    if core == "coverage":
        ended = TESTS.replace(KILL, INTERRUPT)
        Path("test_lib.py").write_text(ended)


def run(*command: str) -> str:
    done = forked(*command)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def contexts(line: int, name: str = "lib.py") -> set[str]:
    """Give the contexts of a line in `.coverage`."""
    data = CoverageData()
    data.read()
    found = data.contexts_by_lineno(str(Path(name).resolve()))
    data.close(force=True)
    return set(found[line])


def named_in_html(line: int, name: str = "lib_py.html") -> set[str]:
    """Give the contexts that coverage.py's HTML shows at a line."""
    page = (Path("htmlcov") / name).read_text(encoding="utf-8")
    (names,) = re.findall(r"^ *contexts = (\{.*?\});?$", page, re.DOTALL | re.MULTILINE)
    (shown,) = re.findall(rf'id="ctxs{line}">.*?<span class="ctxs">(.*?)</span>', page)
    known = json.loads(names)
    width = int(shown[0])  # of each key that follows
    return {known[shown[at : at + width]] for at in range(1, len(shown), width)}


def of_tests(*names: str) -> set[str]:
    return {f"test_lib.py::test_{name}" for name in names}


@pytest.mark.parametrize("core", ["auto", "coverage"])
class TestWhoRanIt:
    @pytest.mark.sampled
    @pytest.mark.parametrize("around", [(), ("hcov", "run", "--core={core}", "--")])
    def test_test_subprocess_and_service(self, core: str, around: tuple[str, ...]) -> None:
        """Tests that take turns at the service are told apart, though nothing calls into it."""
        let_the_service_save(core)
        outer = [word.format(core=core) for word in around]
        before = [*outer, sys.executable, "-m"] if outer else []
        out = run(*before, *CONTEXTS, f"--hcov-core={core}")
        assert not WITHOUT.search(out)
        assert contexts(2) == of_tests("first", "third", "subprocess")
        assert contexts(5) == of_tests("second", "here")
        assert contexts(6, "service.py") == of_tests("first", "second", "third")
        assert contexts(8) == of_tests("subprocess")
        assert "" in contexts(1)  # imported by no test

    @pytest.mark.thorough
    def test_under_xdist_each_worker_has_its_own(self, core: str) -> None:
        let_the_service_save(core)
        out = run(*CONTEXTS, f"--hcov-core={core}", "-n2", "--dist=load")
        assert not WITHOUT.search(out)
        assert contexts(2) == of_tests("first", "third", "subprocess")
        assert contexts(5) == of_tests("second", "here")

    @pytest.mark.thorough
    def test_the_static_context_stays_before_it(self, core: str) -> None:
        let_the_service_save(core)
        with Path(".coveragerc").open("a") as rcfile:
            rcfile.write("context = nightly\n")
        run(*CONTEXTS, f"--hcov-core={core}")
        assert contexts(2) == {
            f"nightly|{name}" for name in of_tests("first", "third", "subprocess")
        }
        assert "nightly" in contexts(1)


@pytest.mark.thorough
class TestBesides:
    def test_without_them_there_are_none(self) -> None:
        out = run(*PYTEST, "--hcov")
        assert not WITHOUT.search(out)
        assert contexts(2) == {""}

    def test_pytest_cov_has_its_own_in_its_process(self) -> None:
        run(*PYTEST, "--hcov", "--hcov-context=test", "--cov=.", "--cov-context=test")
        assert contexts(2) == of_tests("first", "third", "subprocess")
        assert contexts(5) == {*of_tests("second"), "test_lib.py::test_here|run"}

    def test_coverages_html_names_the_test(self) -> None:
        with Path(".coveragerc").open("a") as rcfile:
            rcfile.write("[html]\nshow_contexts = True\n")
        run(*CONTEXTS, "--hcov-report=html")
        assert named_in_html(8) == of_tests("subprocess")

    def test_a_very_long_name_is_cut_alike_everywhere(self) -> None:
        Path("test_lib.py").write_text(
            textwrap.dedent(
                """\
                import subprocess, sys, pytest, lib
                @pytest.mark.parametrize("x", [0], ids=["n" * 5000])
                def test_it(x):
                    lib.one()
                    subprocess.run([sys.executable, "lib.py"], check=True)
                """
            )
        )
        run(*CONTEXTS)
        (name,) = contexts(2)
        assert name.startswith("test_lib.py::test_it[nnn")
        assert len(name) < 2100

    def test_a_name_with_any_character_is_printable(self) -> None:
        Path("test_lib.py").write_text(
            "import subprocess, sys, pytest\n"
            "@pytest.mark.parametrize('x', ['\\x1b[31m\\n\\u202e'])\n"
            "def test_it(x):\n"
            "    subprocess.run([sys.executable, 'lib.py'], check=True)\n"
        )
        run(*CONTEXTS)
        (name,) = contexts(2)
        assert name.isprintable()


@pytest.mark.thorough
class TestToldWhereItCannot:
    EMPTY: Final = (
        "import subprocess, sys\n"
        "def test_empty():\n"
        "    subprocess.run([sys.executable, 'lib.py'], check=True, env={})\n"
    )

    @pytest.mark.parametrize(
        ("core", "around"),
        [("auto", ()), ("coverage", ()), ("auto", ("hcov", "run", "--"))],
        ids=["auto", "coverage", "inside hcov run"],
    )
    def test_a_process_that_is_started_with_an_empty_environment(
        self, core: str, around: tuple[str, ...]
    ) -> None:
        Path("test_empty.py").write_text(self.EMPTY)
        outer = (*around, sys.executable, "-m") if around else ()
        out = run(*outer, *CONTEXTS, f"--hcov-core={core}")
        (told,) = WITHOUT.findall(out)
        assert told == "1 process"
        assert contexts(8) == {"", *of_tests("subprocess")}

    def test_also_if_there_is_no_other(self) -> None:
        """With pytest-cov, whose own process is not ours to tell of."""
        Path("test_lib.py").write_text(self.EMPTY)
        out = run(*CONTEXTS, "--cov=.")
        assert WITHOUT.findall(out) == ["1 process"]


@pytest.mark.any_python
class TestRefused:
    @pytest.mark.parametrize("where", ["option", "file"])
    def test_another_kind_of_context(self, where: str) -> None:
        command = [*PYTEST, "--hcov"]
        if where == "option":
            command.append("--hcov-context=function")
        else:
            Path("pytest.ini").write_text("[pytest]\nhcov_context = function\n")
        done = forked(*command)
        assert done.returncode == pytest.ExitCode.USAGE_ERROR
        assert "'function'" in done.stderr

    def test_an_rcfile_with_a_dynamic_context_of_its_own(self) -> None:
        with Path(".coveragerc").open("a") as rcfile:
            rcfile.write("dynamic_context = test_function\n")
        done = forked(*CONTEXTS)
        assert done.returncode == pytest.ExitCode.USAGE_ERROR
        assert "dynamic_context, which sets other contexts: remove it" in done.stderr


# In a container of an image that knows nothing of coverage.py; its clients write to its stdin.
CONTAINER_SERVICE: Final = """\
import sys
import lib
print("up", flush=True)
for word in sys.stdin:
    print(getattr(lib, word.strip())(), flush=True)
"""
CONTAINER_TESTS: Final = """\
import os
import subprocess
import pytest
RUN = ["docker", "run", "--rm", "-i", "-v", f"{os.getcwd()}:/app", "-w", "/app"]

@pytest.fixture(scope="session")
def service():
    command = [*RUN, "--name", NAME, IMAGE, "python3", "container_service.py"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, bufsize=1, **pipes) as process:
        assert process.stdout.readline() == "up\\n"
        yield process
        subprocess.run(["docker", "kill", NAME], check=True, stdout=subprocess.DEVNULL)

def ask(service, word):
    service.stdin.write(word + "\\n")
    return service.stdout.readline().strip()

def test_first(service):
    assert ask(service, "one") == "1"

def test_second(service):
    assert ask(service, "two") == "2"

def test_third(service):
    assert ask(service, "one") == "1"

def test_container():
    subprocess.run([*RUN, IMAGE, "python3", "lib.py"], check=True)
"""


@pytest.mark.skipif(sys.version_info < (3, 12), reason="its Python is the image's")
@pytest.mark.parametrize("workers", ["-n0", "-n2"])
def test_containers_that_a_test_starts_and_one_that_runs_already(
    python_image: str, container_name: str, workers: str
) -> None:
    """Also in coverage.py's HTML: a line that only a container ran names the test."""
    Path(".coveragerc").write_text(
        "[run]\nparallel = True\n[paths]\napp =\n    .\n    /app\n[html]\nshow_contexts = True\n"
    )
    Path("container_service.py").write_text(CONTAINER_SERVICE)
    settings = f"IMAGE = {python_image!r}\nNAME = {container_name!r}\n"
    Path("test_lib.py").write_text(settings + CONTAINER_TESTS)
    run(*CONTEXTS, "--hcov-report=html", workers, "--dist=loadfile")
    assert named_in_html(2) == of_tests("first", "third", "container")
    assert named_in_html(5) == of_tests("second")
    assert named_in_html(8) == of_tests("container")


@pytest.mark.parametrize("given", [(), ("--hcov",), ("--no-hcov",)], ids=str)
@pytest.mark.any_python
def test_asked_for_without_measuring_it_says_that_it_does_nothing(given: tuple[str, ...]) -> None:
    Path("test_one.py").write_text("def test():\n    pass\n")
    command = [*PYTEST, "-q", "--hcov-context=test", *given, "test_one.py"]
    done = forked(*command)
    assert done.returncode == 0, done.stdout
    assert ("does nothing without --hcov [usage]" in done.stdout) == (not given)
