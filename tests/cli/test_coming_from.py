"""The page for who comes from the original helpers: each row of its table, run for real."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

import hcoverage
import hdocker

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Venv

PAGE: Final = Path(__file__).parents[2] / "docs" / "coming-from.md"
LITERAL: Final = b"import coverage; coverage.process_startup()"
RCFILE: Final = "[run]\nparallel = True\n[paths]\napp =\n    .\n    /app\n"
APP: Final = "import sys\nif sys.argv[1:]:\n    print('marked')\n"
# A "dockerized tool": its words are joined for a shell, and it knows nothing of measuring.
TOOL: Final = """\
import os, shlex, subprocess, sys
import hdocker

join = {"spaces": " ".join, "quoted": shlex.join}[sys.argv[1]]
settings, image, *words = sys.argv[2:]
command = hdocker.get_docker_base_cmd(**eval(settings))
command += ["-v", f"{os.getcwd()}:/src", "-w", "/src", image, *words]
sys.exit(subprocess.run(join(command), shell=True).returncode)
"""
AUTO: Final = "dict(measure='auto')"

# Each row's first column, and where it is tested.
ROWS: Final = {
    "`coverage.pth` with `import coverage; coverage.process_startup()`": "test_the_old_hook",
    "`hcoverage.inject()`": "test_the_old_hook",
    "`except (OSError, ImportError)` around it": "test_what_inject_raises",
    "`hcoverage.remove()`": "test_the_old_hook",
    "`hcoverage.generate_coverage_dockerfile()`": "test_lines_for_a_dockerfile",
    "`hcoverage.coverage_subprocess_commands()`": "test_step_by_step",
    "`hcoverage.coverage_commands_subprocess()`": "test_step_by_step",
    "`hcoverage.combine_commands()`": "test_step_by_step",
    "`hcoverage.coverage_combine()`": "test_step_by_step",
    "`hdocker.get_docker_base_cmd(use_sudo)` in a test": "test_lines_for_a_dockerfile",
    "`hdocker.get_docker_base_cmd(use_sudo)` in production code": "test_a_tool_outside_of_a_run",
    "`--user $(id -u):$(id -g)` behind it": "test_a_tool_as_ones_own_user",
    '`" ".join(command)`': "test_a_tool_in_a_run",
    "`hdocker.build_container_image(image_name, dockerfile, force_rebuild, use_sudo, "
    "use_cache=…)`": "test_an_image_in_a_run_and_outside",
}


def test_each_row_has_a_test() -> None:
    rows = re.findall(r"^\| (.*?) \|", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert rows[0] == "old call"
    assert rows[1:] == list(ROWS)
    assert set(ROWS.values()) <= globals().keys()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project, and an environment that nothing of measuring is in."""
    wanted = hcoverage.unmeasured_environment(os.environ)
    for name in os.environ.keys() - wanted.keys():
        monkeypatch.delenv(name)
    for name, value in wanted.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    path = tmp_path / "project"
    path.mkdir()
    monkeypatch.chdir(path)
    (path / ".coveragerc").write_text(RCFILE)
    (path / "app.py").write_text(APP)
    (path / "tool.py").write_text(TOOL)
    return path


def run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )


def executed(name: str) -> list[int]:
    """The lines of a file that ran, by coverage.py's report of the merged data."""
    done = run(sys.executable, "-m", "coverage", "json", "-q", "-o", "-")
    assert done.returncode == 0, done.stdout + done.stderr
    lines: list[int] = json.loads(done.stdout)["files"][name]["executed_lines"]
    return lines


# The hook ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("clean_environment")
def test_the_old_hook(fresh_venv: Venv) -> None:
    (fresh_venv.path / ".coveragerc").write_text(RCFILE)
    (fresh_venv.path / "app.py").write_text(APP)
    old = fresh_venv.site_packages / "coverage.pth"
    old.write_bytes(LITERAL)
    code = """
import hcoverage, subprocess, sys
try:
    hook = hcoverage.inject()
    assert hook.name == "coverage.pth"
    subprocess.run([sys.executable, "-I", "app.py"], check=True)
finally:
    hcoverage.remove()
"""
    done = subprocess.run(
        [fresh_venv.python, "-W", "error", "-c", code],
        cwd=fresh_venv.path,
        env=hcoverage.unmeasured_environment(os.environ),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert len(list(fresh_venv.path.glob(".coverage.*.pid*"))) == 1
    assert old.read_bytes() == LITERAL


@pytest.mark.usefixtures("clean_environment")
def test_what_inject_raises(fresh_venv: Venv) -> None:
    """Here one of each; all of them are in test_hook.py."""
    (fresh_venv.path / ".coveragerc").write_text("[run]\nbranch = perhaps\n")
    code = """
import hcoverage
for rcfile in (".coveragerc", "none"):
    try:
        hcoverage.inject(rcfile)
    except (OSError, ImportError) as error:
        print(type(error).__name__)
"""
    environment = hcoverage.unmeasured_environment(os.environ)
    command = [str(fresh_venv.python), "-c", code]
    said = subprocess.check_output(command, cwd=fresh_venv.path, env=environment, text=True)
    assert said.split() == ["RcfileError", "NoRcfileError"]


# Step by step ------------------------------------------------------------------------------------


def typed() -> None:
    run_lines(hcoverage.combine_commands())


def run_lines(commands: list[str]) -> None:
    done = run("sh", "-ec", "\n".join(commands))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("set_up", "combine"),
    [
        pytest.param(
            lambda: run_lines(hcoverage.coverage_subprocess_commands()),
            typed,
            id="commands",
            marks=pytest.mark.thorough,
        ),
        pytest.param(
            hcoverage.coverage_commands_subprocess,
            hcoverage.coverage_combine,
            id="carried out",
            marks=pytest.mark.thorough,
        ),
    ],
)
@pytest.mark.usefixtures("project")
def test_step_by_step(set_up: Callable[[], None], combine: Callable[[], None]) -> None:
    for words, lines in (["x"], [1, 2, 3]), ([], [1, 2]):
        set_up()
        done = run(sys.executable, "-m", "coverage", "run", "--parallel-mode", "app.py", *words)
        assert done.returncode == 0, done.stderr
        combine()
        assert executed("app.py") == lines
    assert Path("htmlcov", "index.html").exists()


@pytest.mark.engine
@pytest.mark.index
def test_lines_for_a_dockerfile(base_image: str, image_name: str, project: Path) -> None:
    """An image of an old Dockerfile, in a run step by step, with a container and without."""
    text = f"FROM {base_image}\nCOPY app.py /app/app.py"
    Path("Dockerfile").write_text(text + hcoverage.generate_coverage_dockerfile())
    built = run("docker", "build", "--network", "host", "--tag", image_name, str(project))
    assert built.returncode == 0, built.stdout + built.stderr
    for words, lines in (["x"], [1, 2, 3]), ([], [1, 2]):
        hcoverage.coverage_commands_subprocess()
        command = [*hdocker.get_docker_base_cmd(False), image_name]  # noqa: FBT003 - as they call it
        assert run(*command, "python3", "/app/app.py", *words).returncode == 0
        hcoverage.coverage_combine()
        assert executed("app.py") == lines
    # With nothing asked for, nothing is measured.
    assert run("docker", "run", "--rm", image_name, "python3", "/app/app.py").stderr == ""


# Tools in containers -----------------------------------------------------------------------------


@pytest.mark.parametrize("join", ["spaces", "quoted"])
@pytest.mark.parametrize(
    ("settings", "variable"), [(AUTO, ""), ("dict()", "auto"), ("dict(use_sudo=True)", "auto")]
)
def test_a_tool_outside_of_a_run(
    image_without_python: str, project: Path, join: str, settings: str, variable: str
) -> None:
    stand_in_for_sudo(project)
    done = run(
        *(sys.executable, "tool.py", join, settings, image_without_python, "ls", "/", "app.py"),
        HCOVERAGE_MEASURE=variable,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert {"app", "opt"}.isdisjoint(done.stdout.split())
    done = run(
        *(sys.executable, "tool.py", join, settings, image_without_python, "cat"),
        "/proc/self/environ",
        HCOVERAGE_MEASURE=variable,
    )
    assert "COVERAGE" not in done.stdout
    assert not Path("coverage_data").exists()


@pytest.mark.parametrize(("way", "join"), [("hcov run", "spaces"), ("pytest --hcov", "quoted")])
def test_a_tool_in_a_run(
    python_image: str, image_without_python: str, project: Path, join: str, way: str
) -> None:
    stand_in_for_sudo(project)
    named = f"dict(image={python_image!r}, measure='auto')"
    with_sudo = f"dict(use_sudo=True, image={python_image!r}, measure='auto')"
    calls = [
        ["tool.py", join, with_sudo, python_image, "python3", "app.py"],
        ["tool.py", join, named, python_image, "python3", "app.py", "x"],
        ["tool.py", join, AUTO, image_without_python, "cat", "app.py"],
    ]
    (project / "test_tool.py").write_text(
        "import subprocess, sys\n"
        "import pytest\n\n"
        f"@pytest.mark.parametrize('call', {calls!r}, ids=['a', '$(b) \"', 'c;'])\n"
        "def test_it(call):\n"
        "    subprocess.run([sys.executable, *call], check=True)\n"
    )
    pytest_command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    if way == "hcov run":
        done = run(sys.executable, "-m", "hcov", "run", "--", *pytest_command)
    else:
        done = run(*pytest_command, "--hcov", "--hcov-context=test")
    assert done.returncode == 0, done.stdout + done.stderr
    assert executed("app.py") == [1, 2, 3]


@pytest.mark.parametrize("user", ["own", "$(id -u):$(id -g)"])
def test_a_tool_as_ones_own_user(image_without_python: str, project: Path, user: str) -> None:
    settings = f"dict(measure='auto', user={user!r})"
    done = run(
        *(sys.executable, "tool.py", "spaces", settings, image_without_python, "cp", "app.py"),
        "copied",
    )
    assert (done.returncode, done.stderr) == (0, "")
    status = (project / "copied").stat()
    assert (status.st_uid, status.st_gid) == (os.getuid(), os.getgid())


def stand_in_for_sudo(project: Path) -> None:
    """Put a `sudo` on PATH that, as the real one, has another environment for what it runs."""
    programs = project.parent / "programs"
    programs.mkdir()
    kept = " ".join(
        f"{name}={shlex.quote(os.environ[name])}"
        for name in ("PATH", "DOCKER_HOST", "HOME")
        if name in os.environ
    )
    (programs / "sudo").write_text(f'#!/bin/sh\nexec env -i {kept} "$@"\n')
    (programs / "sudo").chmod(0o755)
    os.environ["PATH"] = f"{programs}{os.pathsep}{os.environ['PATH']}"


def labels_of(image: str) -> dict[str, str]:
    done = run("docker", "image", "inspect", image)
    found: dict[str, str] = json.loads(done.stdout)[0]["Config"]["Labels"]
    return found


@pytest.mark.engine
@pytest.mark.index
def test_an_image_in_a_run_and_outside(
    base_image: str, image_name: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("Dockerfile").write_text(f"FROM {base_image}\nCOPY app.py /app/app.py\nUSER 1000\n")
    options: dict[str, Any] = {"measure": "auto", "options": ["--network", "host"], "quiet": True}
    plain = hdocker.build_container_image(image_name, "Dockerfile", **options)
    assert hdocker.build_container_image(image_name, "Dockerfile", **options) == plain
    done = run("docker", "run", "--rm", plain, "python3", "-c", "import coverage")
    assert "No module named 'coverage'" in done.stderr

    hcoverage.coverage_commands_subprocess()
    monkeypatch.setenv("COVERAGE_PROCESS_START", str(project / ".coveragerc"))
    baked = hdocker.build_container_image(
        image_name,
        "Dockerfile",
        False,  # noqa: FBT003 - as they call it
        False,  # noqa: FBT003
        use_cache=True,
        **options,
    )
    assert baked != plain
    command = [*hdocker.get_docker_base_cmd(measure="auto"), baked, "python3", "/app/app.py"]
    assert run("sh", "-c", " ".join(command)).returncode == 0
    hcoverage.coverage_combine()
    assert executed("app.py") == [1, 2]


@pytest.mark.engine
def test_an_image_without_python_is_built_in_either_case(
    image_without_python: str, image_name: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("Dockerfile").write_text(f"FROM {image_without_python}\nCOPY app.py /app.py\n")

    def build(**arguments: Any) -> str:  # noqa: ANN401
        return hdocker.build_container_image(image_name, "Dockerfile", quiet=True, **arguments)

    plain = build(measure="auto")
    monkeypatch.setenv("COVERAGE_PROCESS_START", str(project / ".coveragerc"))
    with pytest.raises(hdocker.NoPythonError):
        build()
    with pytest.raises(hdocker.NoPythonError):
        build(measure="auto", python="python3.99")  # there is one, the caller says
    for _ in range(2):  # known the second time
        with pytest.warns(hdocker.NoPythonWarning, match="has no Python") as caught:
            assert build(measure="auto") == plain
        assert caught[0].filename == __file__
        assert "hdocker.no-python" in labels_of(plain)
    monkeypatch.setenv("HCOVERAGE_MEASURE", "auto")
    with pytest.warns(hdocker.NoPythonWarning):
        assert build() == plain
    assert run("docker", "run", "--rm", plain, "cat", "/app.py").stdout == APP
