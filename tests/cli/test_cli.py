"""The command line beside `hcov run`: each step on its own, help that teaches, errors that help."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest
from tests.forks import hcov

import hcoverage
import hdocker
from hcov._cli.main import main

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Venv

RCFILE = "[run]\nparallel = True\n"
COMMANDS = ["run", "init", "inject", "remove", "combine", "report", "doctor", "commands", "docker"]


def paths(command: click.Command, *above: str) -> Iterator[tuple[str, ...]]:
    """Each command, by the words that call it."""
    yield above
    for name, inner in getattr(command, "commands", {}).items():
        yield from paths(inner, *above, name)


PATHS = list(paths(main, "hcov"))


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project; the current directory."""
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    return project


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `docker` on PATH, for what only looks whether there is one."""
    program = tmp_path / "bin" / "docker"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    return program


class TestHelp:
    def test_names_every_command(self) -> None:
        shown = hcov("--help").stdout
        assert all(f"\n  {command} " in shown for command in COMMANDS)
        assert "hcov run -- python -m pytest" in shown

    @pytest.mark.parametrize("command", COMMANDS)
    def test_every_command_has_its_own(self, command: str) -> None:
        assert hcov(command, "--help").stdout.startswith(f"Usage: hcov {command}")

    @pytest.mark.parametrize("path", PATHS, ids=" ".join)
    def test_is_whole_on_a_terminal_of_80_columns_and_has_an_example(
        self, path: tuple[str, ...]
    ) -> None:
        command: click.Command = main
        context = click.Context(main, info_name="hcov", terminal_width=80)
        for name in path[1:]:
            assert isinstance(command, click.Group)
            command = command.commands[name]
            context = click.Context(command, context, info_name=name, terminal_width=80)
        shown = command.get_help(context)
        assert max(map(len, shown.splitlines())) <= 80
        _, usage, described = shown.partition("\n")
        assert usage
        assert not re.search(r"…|\w\.\.\.$", described, flags=re.MULTILINE)
        assert re.search(rf"^  .*{' '.join(path)}", described, flags=re.MULTILINE)

    def test_of_run_lists_the_exit_statuses(self) -> None:
        shown = hcov("run", "--help").stdout
        assert all(f" {status} " in shown for status in (0, 2, 3, 125, 126, 127))

    def test_an_unknown_command_is_a_usage_error(self) -> None:
        done = hcov("rum")
        assert done.returncode == 2
        assert "No such command 'rum'" in done.stderr

    def test_version(self) -> None:
        assert "0.1" in hcov("--version").stdout


class TestInit:
    def test_writes_an_rcfile_that_serves(self, project: Path) -> None:
        assert hcov("init").returncode == 0
        rcfile = hcoverage.read_rcfile(project / ".coveragerc")
        assert rcfile.settings.sigterm
        assert rcfile.settings.concurrency == ["multiprocessing", "thread"]
        assert "/app" in rcfile.container_sides

    def test_knows_a_src_layout_and_leaves_tests_out(self, project: Path) -> None:
        (project / "src").mkdir()
        (project / "tests").mkdir()
        hcov("init")
        settings = hcoverage.read_rcfile(project / ".coveragerc").settings
        assert settings.paths["src"] == ["src", "/app", "*/site-packages"]
        assert settings.report_omit == ["tests/*"]

    def test_replaces_nothing_unless_forced(self, project: Path) -> None:
        (project / ".coveragerc").write_text("mine")
        done = hcov("init")
        assert done.returncode == 1
        assert "--force" in done.stderr
        assert (project / ".coveragerc").read_text() == "mine"
        assert hcov("init", "--force").returncode == 0
        assert hcoverage.read_rcfile(project / ".coveragerc").settings.parallel


class TestInjectAndRemove:
    def test_a_shell_that_evaluates_it_is_measured_until_it_is_removed(
        self, project: Path, fresh_venv: Venv
    ) -> None:
        (project / ".coveragerc").write_text(RCFILE)
        (project / "one.py").write_text("a = 1\n")
        script = f"""
            set -e
            eval "$({fresh_venv.word} -m hcov inject)"
            {fresh_venv.word} one.py
            eval "$({fresh_venv.word} -m hcov remove)"
            {fresh_venv.word} one.py
        """
        environment = hcoverage.unmeasured_environment(os.environ)
        subprocess.run(["sh", "-c", script], check=True, env=environment, capture_output=True)
        files = [path for path in project.glob(".coverage.*") if _measures(path, "one.py")]
        assert len(files) == 1
        assert not (fresh_venv.site_packages / "coverage.pth").exists()

    def test_without_an_rcfile_says_how_to_make_one(self) -> None:
        done = hcov("inject")
        assert done.returncode == 1
        assert "hcov init" in done.stderr

    def test_a_foreign_hook_is_told_not_removed(self, fresh_venv: Venv) -> None:
        hook = fresh_venv.site_packages / "coverage.pth"
        hook.write_text("# mine\n")
        command = [str(fresh_venv.python), "-m", "hcov", "remove"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0
        assert "hcov: warning:" in done.stderr
        assert hook.read_text() == "# mine\n"


class TestCommands:
    def test_setup_and_combine_are_the_librarys(self) -> None:
        told = "\n".join(hcoverage.coverage_subprocess_commands())
        assert hcov("commands", "setup").stdout == f"{told}\n"
        assert hcov("commands", "combine").stdout.splitlines() == hcoverage.combine_commands()

    def test_take_a_directory_an_rcfile_and_reports(self) -> None:
        done = hcov("commands", "combine", "--data-dir=a b", "--rcfile=rc", "--report=xml")
        assert done.stdout.splitlines() == hcoverage.combine_commands("a b", "rc", ["xml"])


class TestCombine:
    def test_merges_here_and_in_the_data_directory(self, project: Path) -> None:
        (project / "coverage_data").mkdir()
        for place in (".", "coverage_data"):
            _coverage_run(f"{place}/.coverage")
        done = hcov("combine")
        assert done.returncode == 0, done.stderr
        assert "merged: 2 data files of coverage.py, into .coverage" in done.stderr
        assert (project / ".coverage").exists()

    def test_3_when_a_file_is_set_aside(self, project: Path) -> None:
        _coverage_run(".coverage")
        bad = project / ".coverage.h.pid1.Xbad"
        bad.touch()
        done = hcov("combine")
        assert done.returncode == 3
        assert f"not merged: {bad.name}: it is empty" in done.stderr
        assert bad.exists()

    def test_1_when_there_is_nothing(self) -> None:
        done = hcov("combine")
        assert done.returncode == 1
        assert "no data to combine" in done.stderr

    def test_1_for_a_path_that_is_not_there(self) -> None:
        assert hcov("combine", "nosuch").returncode == 1


@pytest.mark.usefixtures("clean_environment")
class TestDocker:
    @pytest.mark.usefixtures("docker")
    def test_cmd_prints_the_librarys_command_quoted(self, project: Path) -> None:
        (project / "coverage_data").mkdir(mode=0o777)
        (project / "coverage_data").chmod(0o777)
        (project / "coverage_data" / ".coveragerc").write_text(
            f"{RCFILE}[paths]\napp =\n  .\n  /app\n"
        )
        done = hcov("docker", "cmd", "--user=65534", "my image", "--", "python", "-V")
        assert done.returncode == 0, done.stderr
        expected = hdocker.get_docker_base_cmd(user="65534")
        assert shlex.split(done.stdout) == [*expected, "my image", "python", "-V"]

    @pytest.mark.usefixtures("docker")
    def test_cmd_without_a_data_directory_says_how_to_make_it(self) -> None:
        done = hcov("docker", "cmd")
        assert done.returncode == 1
        assert "`hcov commands setup | sh -e`" in done.stderr

    @pytest.mark.usefixtures("docker", "project")
    @pytest.mark.parametrize("by_variable", [False, True])
    def test_cmd_outside_of_a_run_may_be_a_plain_one(
        self, monkeypatch: pytest.MonkeyPatch, *, by_variable: bool
    ) -> None:
        if by_variable:
            monkeypatch.setenv("HCOVERAGE_MEASURE", "auto")
        how = [] if by_variable else ["--measure=auto"]
        done = hcov("docker", "cmd", *how, "--image=shop", "--user=own", "shop")
        own = f"{os.getuid()}:{os.getgid()}"
        assert done.stdout == f"docker run --rm --user {own} shop\n", done.stderr

    @pytest.mark.engine
    def test_cmd_measures_the_image_that_it_is_told_of(
        self, project: Path, python_image: str
    ) -> None:
        """As it is read by a shell that splits at spaces, and with the client by its path."""
        (project / ".coveragerc").write_text(RCFILE)
        (project / "app.py").write_text("print('ran')\n")
        docker = shutil.which("docker")
        script = (
            f"PATH={shlex.quote(str(Path(docker or '').parent))}:$PATH; "
            f"$({sys.executable} -m hcov docker cmd --image={python_image}) "
            f"-v $PWD:/src {python_image} python3 /src/app.py"
        )
        done = hcov("run", "--", "sh", "-ec", script)
        assert (done.returncode, done.stderr.count("image hcoverage-python")) == (0, 2), done.stderr
        assert "ran" in done.stdout
        assert _measures(project / ".coverage", "app.py")

    @pytest.mark.usefixtures("docker")
    def test_build_of_a_dockerfile_that_is_not_there(self) -> None:
        done = hcov("docker", "build", "shop")
        assert done.returncode == 1
        assert "Dockerfile" in done.stderr

    def test_build_takes_build_arguments_by_name(self) -> None:
        done = hcov("docker", "build", "shop", "--build-arg=BASE")
        assert done.returncode == 2
        assert "NAME=VALUE" in done.stderr

    @pytest.mark.parametrize("separator", [["--"], []])
    def test_build_refuses_what_would_have_another_file_built(
        self, project: Path, separator: list[str]
    ) -> None:
        (project / "Dockerfile").write_text("FROM scratch\n")
        done = hcov("docker", "build", "shop", "Dockerfile", *separator, "-f", "Other")
        assert done.returncode == 1
        assert "[build-option]" in done.stderr

    @pytest.mark.usefixtures("docker")
    @pytest.mark.parametrize(
        "options", [["--target", "b"], ["Dockerfile", "--", "--target=b"]], ids=["own", "docker's"]
    )
    def test_build_takes_the_stage(self, project: Path, options: list[str]) -> None:
        (project / "Dockerfile").write_text("FROM a AS c\nFROM c\n")
        done = hcov("docker", "build", "shop", *options)
        assert done.returncode == 1
        assert "no stage 'b'" in done.stderr

    @pytest.mark.index
    def test_build_prints_the_image(self, project: Path, image_name: str, base_image: str) -> None:
        (project / "Dockerfile").write_text(f"ARG BASE\nFROM ${{BASE:-{base_image}}}\n")
        (project / ".coveragerc").write_text(RCFILE)
        build = ("docker", "build", f"--build-arg=BASE={base_image}", "--context=.", image_name)
        done = hcov(*build, "Dockerfile", "--", "--network", "host")
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"{image_name}:")
        again = hcov(*build, "Dockerfile", "--", "--network", "host")
        assert (again.stdout, again.stderr) == (done.stdout, "")


def test_nothing_is_said_of_a_reader_that_has_ended() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    run = subprocess.run(
        [sys.executable, "-m", "hcov", "commands", "combine"],
        stdout=writing,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writing)
    assert (run.returncode, run.stderr) == (1, b"")


def _coverage_run(data_file: str) -> None:
    Path("one.py").write_text("a = 1\n")
    environment = hcoverage.unmeasured_environment(os.environ)
    subprocess.run(
        [sys.executable, "-m", "coverage", "run", "--parallel-mode", "one.py"],
        env={**environment, "COVERAGE_FILE": data_file},
        check=True,
    )


def _measures(data_file: Path, name: str) -> bool:
    from coverage import CoverageData

    data = CoverageData(basename=str(data_file))
    data.read()
    return any(measured.endswith(name) for measured in data.measured_files())
