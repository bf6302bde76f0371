"""Steps of a build that ran Python are told: what a build runs cannot be measured."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

import hcoverage
import hdocker
from hdocker._door.build_steps import Steps, starts_python

if TYPE_CHECKING:
    from collections.abc import Iterator

STARTS: Final = (
    "python3 check.py",
    "/usr/local/bin/python3.12 -m shop.check",
    "cd /app && FLAG=1 exec python -c 'import shop'",
    "pip install . && python manage.py migrate",
    "--mount=type=cache,target=/root --network=none pytest -q",
    '["python3", "check.py"]',
    '["/bin/sh", "-c", "echo one; ./check.py"]',
    "sh -ec 'coverage run -m pytest'",
    "uv run --frozen pytest",
    "poetry run python check.py",
    "if true; then python3 check.py; fi",
    "set -e\npython3 check.py\n",
    "python3 -X dev check.py | tee log",
)
STARTS_NONE: Final = (
    "apt-get update && apt-get install -y python3 python3-dev",
    "pip install -r requirements.txt",
    "python -m pip install --upgrade pip",
    "python3 -I -m venv /venv",
    "python3 --version",
    "rm -rf /usr/lib/python3 tests/check.py",
    "echo 'python3 check.py'",
    '["pip", "install", "."]',
    "[not JSON",
    "uv sync",
    "useradd python",
    "echo 'never closed",
    "",
)


@pytest.mark.parametrize("text", STARTS)
def test_a_step_that_starts_a_program_in_python(text: str) -> None:
    assert starts_python(f"RUN {text}")


@pytest.mark.parametrize("text", STARTS_NONE)
def test_a_step_that_starts_none(text: str) -> None:
    assert not starts_python(f"RUN {text}")
    assert not starts_python(f"COPY {text}")


STEP: Final = "RUN python3 check.py"
CLASSIC: Final = "Step 1/2 : FROM base\n", f"Step 2/2 : {STEP}", "\n"


def lines_of(*said: str) -> bytes:
    return b"".join(b'{"stream":%s}\r\n' % json.dumps(each).encode() for each in said)


def vertex(name: str, *, state: str) -> bytes:
    """A vertex as BuildKit tells of it: before it is started, and then."""
    digest = f"sha256:{'0' * 64}".encode()
    text = name.encode()
    length = bytes([len(text) & 0x7F | 0x80, len(text) >> 7]) if len(text) > 0x7F else b""
    after = {"new": b"", "ran": b"\x2a\x02\x08\x01", "cached": b"\x20\x01\x2a\x02\x08\x01"}
    known = b"\x0a" + bytes([len(digest)]) + digest
    return known + b"\x1a" + (length or bytes([len(text)])) + text + after[state]


def vertices(*states: str, step: str = STEP) -> bytes:
    head = vertex("[internal] load build definition", state="ran")
    return head + b"".join(vertex(f"[stage-1 2/2] {step}", state=state) for state in states)


def trace(content: bytes) -> bytes:
    said = {"id": "moby.buildkit.trace", "aux": base64.b64encode(content).decode()}
    return json.dumps(said, separators=(",", ":")).encode() + b"\r\n"


SAID: Final = {
    "classic": (lines_of(*CLASSIC, " ---> Running in 0123456789ab"), True),
    "classic, from the cache": (lines_of(*CLASSIC, " ---> Using cache"), False),
    "podman": (lines_of(f"[1/2] STEP 2/2: {STEP}\n", "--> 0123"), True),
    "podman, from the cache": (lines_of(f"STEP 2/2: {STEP}\n", "--> Using cache 0123"), False),
    "BuildKit": (vertices("new", "ran", "ran"), True),
    "BuildKit, from the cache": (vertices("new", "cached"), False),
    "BuildKit, a long one": (vertices("ran", step=f"{STEP} {'x' * 300}"), True),
    "BuildKit, not begun": (vertices("new", "new"), False),
    "BuildKit, in JSON": (trace(vertices("ran")) + trace(vertices("ran")), True),
    "another step": (vertices("ran", step="RUN make"), False),
}


@pytest.mark.parametrize("size", [1, 7, 1 << 16])
@pytest.mark.parametrize("kind", SAID)
def test_what_an_engine_says_is_understood_in_any_pieces(kind: str, size: int) -> None:
    content, ran = SAID[kind]
    steps = Steps()
    found = [
        step for at in range(0, len(content), size) for step in steps.take(content[at : at + size])
    ]
    found += steps.end()
    assert len(found) == ran
    assert all(step.startswith(STEP) for step in found)


# With real builders -------------------------------------------------------------------------------

DOCKERFILE: Final = """\
FROM {image} AS check
COPY word check.py /app/
RUN python3 /app/check.py && echo checked
RUN pip --version || echo python3 check.py
FROM check
RUN ["python3", "/app/check.py"]
"""
BUILDERS: Final = {
    "classic": "DOCKER_BUILDKIT=0 docker build",
    "BuildKit": "DOCKER_BUILDKIT=1 docker build",
    "buildx": "docker buildx build",
    "an older client's BuildKit": "DOCKER_BUILDKIT=1 /usr/bin/docker build",
}


@pytest.fixture
def project(
    python_image: str, compose: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:  # `compose` brings the plugins
    assert compose
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IMAGE", name := f"hcoverage-test-{uuid.uuid4().hex[:12]}")
    Path(".coveragerc").write_text("[run]\nsource = .\n")
    Path("check.py").write_text("print('checked')\n")
    Path("word").write_text(name)
    Path("Dockerfile").write_text(DOCKERFILE.format(image=python_image))
    yield tmp_path
    command = ["docker", "image", "rm", "--force", name]
    subprocess.run(command, check=False, capture_output=True)


@pytest.mark.engine
@pytest.mark.usefixtures("clean_environment")
@pytest.mark.xdist_group("door-builds")
@pytest.mark.skipif(sys.platform != "linux", reason="the engine has the door's socket here")
@pytest.mark.sampled
@pytest.mark.parametrize("quiet", ["", "--quiet"])
@pytest.mark.parametrize("builder", BUILDERS)
@pytest.mark.usefixtures("project")
def test_a_step_of_a_build_that_ran_python_is_told_once(builder: str, quiet: str) -> None:
    if "/usr/bin" in BUILDERS[builder] and not os.access("/usr/bin/docker", os.X_OK):
        pytest.skip("there is one client here")
    build = f"{BUILDERS[builder]} {quiet} --tag $IMAGE ."
    # Then all of it is in the cache. Of a quiet one that is known by the second alone.
    for ran in (2,) if quiet else (2, 0):
        with hcoverage.open_session() as session:
            with hdocker.containers_measured(session.environment) as environment:
                command = ["sh", "-c", build]
                subprocess.run(command, env=environment, check=True, capture_output=True)
            problems = [each for each in session.problems() if "build" in each]
        assert len(problems) == bool(ran)
        for problem in problems:
            assert problem.startswith(f"{ran} steps of builds ran Python")
            assert "`RUN python3 /app/check.py && echo checked`" in problem
            assert "pip" not in problem
