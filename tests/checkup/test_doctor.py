"""`hcov doctor`: each defect is made for real, named, and gone once its fix was typed."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import venv as venv_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from tests.forks import hcov

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import MakeVenv, Venv

pytestmark = pytest.mark.usefixtures("clean_environment")

GOOD: Final = """\
[run]
parallel = True
concurrency = multiprocessing, thread
sigterm = True
[paths]
app =
    .
    /app
"""
RECORDS: Final = sys.version_info >= (3, 12)
CORE: Final = "the recorder" if RECORDS else "coverage.py"
PAGES: Final = {page.stem for page in Path(__file__).parents[2].glob("docs/messages/*.md")}
WAYS: Final = ["subprocess", "python -I", "empty environment", "killed"]


@pytest.fixture(autouse=True)
def project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Path:
    """A project in which all is well, and a PATH without Python or docker; we are in it."""
    if "engine" not in request.fixturenames:
        # Whoever names an engine wants to hear if it does not answer.
        monkeypatch.delenv("DOCKER_HOST", raising=False)
    project = tmp_path / "project"
    project.mkdir()
    (project / ".coveragerc").write_text(GOOD)
    monkeypatch.chdir(project)
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("sh", "rm", "chmod", "cp", "mkdir"):
        (programs / name).symlink_to(str(shutil.which(name)))
    monkeypatch.setenv("PATH", str(programs))
    for name in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        monkeypatch.delenv(name, raising=False)
    return project


@pytest.fixture
def home(make_venv: MakeVenv) -> Venv:
    """The virtual environment that hcov runs in."""
    return make_venv("home", coverage_hook=True)


@pytest.fixture
def docker(tmp_path: Path) -> None:
    """Has the docker command on PATH."""
    program = shutil.which("docker", path=os.defpath + ":/usr/local/bin")
    if program is None:
        pytest.skip("there is no docker command")
    (tmp_path / "programs" / "docker").symlink_to(program)


@dataclasses.dataclass(frozen=True)
class Report:
    """What the doctor said, as JSON."""

    status: int
    findings: list[dict[str, str]]

    def not_ok(self) -> list[dict[str, str]]:
        """Give what is noted, but for what is so on each Python before 3.12."""
        old = "the recorder needs Python 3.12"
        found = [finding for finding in self.findings if finding["status"] != "ok"]
        return [finding for finding in found if RECORDS or old not in finding["detail"]]

    def only(self, status: str, check: str) -> dict[str, str]:
        """The one finding that is not as it should be."""
        (finding,) = self.not_ok()
        assert (finding["status"], finding["check"]) == (status, check), finding
        assert self.status == (status == "problem")
        return finding

    def of(self, check: str) -> list[dict[str, str]]:
        return [finding for finding in self.findings if finding["check"] == check]


def doctor(
    python: Path | str, *arguments: str, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    if python == sys.executable:
        return hcov("doctor", *arguments, env=env)
    return subprocess.run(
        [python, "-m", "hcov", "doctor", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=env,
    )


def examine(
    python: Path | str, *arguments: str, proof: bool = False, env: dict[str, str] | None = None
) -> Report:
    options = ["--json", *([] if proof else ["--no-proof"])]
    done = doctor(python, *options, *arguments, env=env)
    assert done.stderr == ""
    document: dict[str, Any] = json.loads(done.stdout)
    assert list(document) == ["findings", "problems", "notes"]
    for finding in document["findings"]:
        assert list(finding) == ["subject", "check", "status", "detail", "fix", "slug"]
        assert (finding["slug"] in PAGES) == (finding["status"] != "ok"), finding
        assert finding["fix"] or finding["status"] != "problem", "a problem without a fix"
    report = Report(done.returncode, document["findings"])
    problems = [finding for finding in report.findings if finding["status"] == "problem"]
    assert document["problems"] == len(problems)
    return report


def apply(command: str) -> None:
    subprocess.run(["sh", "-ec", command], check=True, capture_output=True)


def snapshot(*directories: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path): (path.lstat().st_mode, path.read_bytes() if path.is_file() else b"")
        for directory in directories
        for path in directory.rglob("*")
        if "__pycache__" not in path.parts
    }


class TestHealthy:
    @pytest.mark.parametrize("core", ["auto", "coverage"])
    def test_every_way_is_measured_and_nothing_is_changed(
        self, home: Venv, project: Path, core: str
    ) -> None:
        before = snapshot(project, home.path)
        report = examine(home.python, f"--core={core}", proof=True)
        core_of_run = CORE if core == "auto" else "coverage.py"
        assert report.status == 0
        for way in WAYS:
            (finding,) = report.of(way)
            assert finding["detail"] == f"measured by {core_of_run}"
        # That it is coverage.py that measures is worth a note, as a kill costs a second.
        noted = ["core"] if core == "coverage" else []
        assert [finding["check"] for finding in report.not_ok()] == noted
        assert snapshot(project, home.path) == before

    def test_only_looking_starts_no_run(self, home: Venv) -> None:
        report = examine(home.python)
        assert report.not_ok() == []
        assert report.of("subprocess") == []
        assert "for the length of a run" in report.of("hook")[0]["detail"]

    def test_is_printed_by_subject_and_summed_up(self, home: Venv) -> None:
        done = doctor(home.python, "--no-proof")
        assert done.returncode == 0
        lines = done.stdout.splitlines()
        assert lines[0] == "environment"
        assert f"Python {sys.version.split()[0]} ({home.python})" in lines
        details = [line for line in lines if line.startswith(("  ok  ", "  note  "))]
        notes = "0 notes" if RECORDS else "1 note"  # that coverage.py measures
        assert lines[-1].endswith(f": 0 problems, {notes}")
        assert len(details) == int(lines[-1].split()[0])

    @pytest.mark.thorough
    @pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
    def test_ended_early_it_leaves_nothing(self, home: Venv, signum: signal.Signals) -> None:
        hook = home.site_packages / "coverage.pth"
        with start_doctor(home) as process:
            while not hook.exists():
                assert process.poll() is None
            process.send_signal(signum)
        assert process.returncode == 1
        assert not hook.exists()

    @pytest.mark.thorough
    @pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are seen in /proc")
    def test_ended_early_it_waits_for_what_it_started(self, home: Venv, tmp_path: Path) -> None:
        """Or that would write into its directory when it has gone, as on a busy machine."""
        is_probe = "'0.py' in sys.argv[0]"
        ending = tmp_path / "ending"
        slow = (
            "import atexit, pathlib, sys, time\n"
            f"def end(): {is_probe} and (pathlib.Path({str(ending)!r}).touch(), time.sleep(5))\n"
            "atexit.register(end)\n"
        )
        (home.site_packages / "slow.py").write_text(slow)
        (home.site_packages / "slow.pth").write_text("import slow\n")
        probe = bytes(tmp_path) + b"/temporary/"
        with start_doctor(home) as process:
            while not ending.exists():
                assert process.poll() is None
            process.terminate()
        assert command_lines_with(probe) == []

    @pytest.mark.thorough
    @pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are seen in /proc")
    def test_ended_while_it_starts_something_it_ends_that(self, home: Venv, tmp_path: Path) -> None:
        """Whatever instant of the start the signal comes in: here the last one."""
        (home.site_packages / "ended.py").write_text(
            "import os, signal, subprocess, sys, time\n"
            "if '0.py' in sys.argv[0]:\n"
            "    time.sleep(5)\n"
            "start = subprocess.Popen._execute_child\n"
            "def start_and_be_ended(self, args, *more):\n"
            "    start(self, args, *more)\n"
            "    if args[-1].endswith('/0.py'):\n"
            "        os.kill(os.getpid(), signal.SIGTERM)\n"
            "subprocess.Popen._execute_child = start_and_be_ended\n"
        )
        (home.site_packages / "ended.pth").write_text("import ended\n")
        with start_doctor(home) as process:
            pass
        assert process.returncode == 1
        assert command_lines_with(bytes(tmp_path) + b"/temporary/") == []

    def test_wrong_usage_is_2(self) -> None:
        assert doctor(sys.executable, "--nosuch").returncode == 2

    @pytest.mark.thorough
    def test_inside_of_a_run_it_says_so(self, home: Venv) -> None:
        hcov = [str(home.python), "-m", "hcov"]
        command = [*hcov, "doctor", "--json", "--no-proof", "--data-dir=other"]
        done = subprocess.run(
            [*hcov, "run", "-q", "--", *command],
            capture_output=True,
            text=True,
            check=False,
        )
        found = Report(done.returncode, json.loads(done.stdout)["findings"]).not_ok()
        assert [one["detail"] for one in found] == ["this is part of a run already"]


class TestTheRcfile:
    def rcfile(self, project: Path, text: str) -> None:
        (project / ".coveragerc").write_text(text)

    @pytest.mark.any_python
    def test_without_parallel_is_as_good(self, project: Path) -> None:
        self.rcfile(project, GOOD.replace("parallel = True\n", ""))
        assert examine(sys.executable).not_ok() == []

    @pytest.mark.any_python
    def test_that_coverage_cannot_parse(self, project: Path) -> None:
        self.rcfile(project, "[run\n")
        assert "coverage.py cannot use" in examine(sys.executable).only("problem", "file")["detail"]

    @pytest.mark.any_python
    def test_that_is_not_there(self) -> None:
        finding = examine(sys.executable, "--rcfile=nosuch").only("problem", "file")
        assert "hcov init" in finding["fix"]

    @pytest.mark.thorough
    @pytest.mark.any_python
    def test_none_is_worth_a_note(self, project: Path) -> None:
        (project / ".coveragerc").unlink()
        finding = examine(sys.executable).only("note", "file")
        apply(f"{shlex.quote(sys.executable)} -m {finding['fix']}")
        assert examine(sys.executable).not_ok() == []

    @pytest.mark.thorough
    def test_that_turns_threads_off(self, project: Path) -> None:
        broken = GOOD.replace("multiprocessing, thread", "multiprocessing")
        self.rcfile(project, broken)
        finding = examine(sys.executable).only("problem", "concurrency")
        self.rcfile(project, broken.replace("concurrency = multiprocessing", finding["fix"]))
        assert examine(sys.executable).not_ok() == []

    @pytest.mark.thorough
    @pytest.mark.parametrize(
        ("check", "line", "other"),
        [
            ("sigterm", "sigterm = True", ""),
            ("paths", "    /app", "    /srv"),
            ("source", "sigterm = True", "sigterm = True\nsource = nowhere"),
            ("source_pkgs", "sigterm = True", "sigterm = True\nsource_pkgs = shop"),
        ],
    )
    @pytest.mark.any_python
    def test_that_may_surprise(self, project: Path, check: str, line: str, other: str) -> None:
        self.rcfile(project, GOOD.replace(line, other))
        assert examine(sys.executable).only("note", check)["fix"]

    def test_that_wants_a_core_that_cannot_do_it(self, project: Path) -> None:
        plugin = GOOD.replace("sigterm = True", "sigterm = True\nplugins = nosuch")
        self.rcfile(project, plugin + "[hcoverage]\ncore = recorder\n")
        finding = examine(sys.executable).only("problem", "core")
        assert "plugins (nosuch)" in finding["detail"]
        self.rcfile(project, f"{plugin}[hcoverage]\n{finding['fix']}\n")
        assert "plugins (nosuch)" in examine(sys.executable).only("note", "core")["detail"]


@pytest.mark.thorough
@pytest.mark.any_python
class TestTheDataDirectory:
    @pytest.fixture
    def data(self, project: Path) -> Path:
        """A data directory as the setup steps make it."""
        data = project / "coverage_data"
        data.mkdir()
        data.chmod(0o777)
        shutil.copy(project / ".coveragerc", data)
        (data / ".coveragerc").chmod(0o644)
        return data

    def test_as_the_setup_steps_make_it_is_well(self, data: Path) -> None:
        assert data.is_dir()
        assert examine(sys.executable).not_ok() == []

    def test_that_others_cannot_write(self, data: Path) -> None:
        data.chmod(0o700)
        finding = examine(sys.executable).only("problem", "mode")
        assert "has mode 700" in finding["detail"]
        apply(finding["fix"])
        assert examine(sys.executable).not_ok() == []

    def test_whose_rcfile_others_cannot_read(self, data: Path) -> None:
        (data / ".coveragerc").chmod(0o600)
        finding = examine(sys.executable).only("problem", "rcfile")
        apply(finding["fix"])
        assert examine(sys.executable).not_ok() == []

    def test_without_an_rcfile(self, data: Path) -> None:
        (data / ".coveragerc").unlink()
        fix = examine(sys.executable).only("note", "rcfile")["fix"]
        apply(f"{shlex.quote(sys.executable)} -m {fix}")
        assert examine(sys.executable).not_ok() == []

    def test_a_file_in_its_place(self, project: Path) -> None:
        (project / "coverage_data").touch()
        apply(examine(sys.executable).only("problem", "directory")["fix"])
        assert examine(sys.executable).not_ok() == []

    @pytest.mark.parametrize("place", ["coverage_data", "coverage_data/previous/run-x", "."])
    def test_with_data_that_was_never_merged(self, data: Path, project: Path, place: str) -> None:
        (project / place).mkdir(parents=True, exist_ok=True)
        (project / "one.py").write_text("a = 1\n")
        subprocess.run(
            [sys.executable, "-m", "coverage", "run", "one.py"],
            check=True,
            env={**os.environ, "COVERAGE_FILE": f"{place}/.coverage"},
        )
        (project / "one.py").unlink()
        finding = examine(sys.executable).only("note", "left over")
        apply(f"{shlex.quote(sys.executable)} -m {finding['fix'].partition(', or')[0]}")
        after = examine(sys.executable).not_ok()
        assert data.is_dir()
        # An empty directory of the data set aside may stay.
        assert not [one for one in after if "never merged" in one["detail"]]
        assert (project / ".coverage").exists()

    def test_into_which_a_run_is_measuring(self, project: Path) -> None:
        (project / "waits.py").write_text("print('up', flush=True)\ninput()\n")
        hcov = [sys.executable, "-m", "hcov", "run", "-q", "--data-dir", "coverage_data"]
        with subprocess.Popen(
            [*hcov, "--", sys.executable, "waits.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as run:
            assert run.stdout is not None
            assert run.stdout.readline() == "up\n"
            assert "right now" in examine(sys.executable).only("note", "lock")["detail"]
            run.communicate("\n")
        assert run.returncode == 0

    @pytest.mark.skipif(
        sys.platform != "linux" or os.geteuid() != 0, reason="mounts a small file system"
    )
    def test_on_a_disk_that_is_nearly_full(self, data: Path) -> None:
        mounted = subprocess.run(
            ["/bin/mount", "-t", "tmpfs", "-o", "size=1m,mode=777", "tmpfs", str(data)],
            check=False,
            capture_output=True,
        )
        if mounted.returncode:
            pytest.skip("mounting is not allowed")
        try:
            shutil.copy(".coveragerc", data)
            finding = examine(sys.executable).only("problem", "disk, data")
            assert "0.0 GiB free" in finding["detail"]
        finally:
            subprocess.run(["/bin/umount", str(data)], check=True)


@pytest.mark.any_python
@pytest.mark.thorough
class TestInterpreters:
    def test_no_coverage_where_hcov_is(self, home: Venv) -> None:
        (home.site_packages / "coverage").rename(home.site_packages / "gone")
        report = examine(home.python, proof=True)
        found = {one["check"]: one for one in report.not_ok()}
        assert found["coverage.py"]["fix"] == f"{home.word} -m pip install coverage"
        # Its own hook has outlived it.
        assert set(found) == {"coverage.py", "other hooks"}
        assert report.status == 1
        (home.site_packages / "gone").rename(home.site_packages / "coverage")
        assert examine(home.python, proof=True).status == 0

    @pytest.mark.skipif(shutil.which("setpriv") is None, reason="root may write everywhere")
    def test_a_site_packages_that_cannot_be_written(self, home: Venv) -> None:
        without = ["--bounding-set=-dac_override", "--inh-caps=-dac_override"]
        as_anybody = [str(shutil.which("setpriv", path=os.defpath)), *without]
        home.site_packages.chmod(0o555)
        command = [str(home.python), "-m", "hcov", "doctor", "--json"]
        done = subprocess.run(
            [*(as_anybody if os.geteuid() == 0 else []), *command],
            capture_output=True,
            text=True,
            check=False,
        )
        home.site_packages.chmod(0o755)
        found = [one for one in json.loads(done.stdout)["findings"] if one["status"] == "problem"]
        assert [one["check"] for one in found] == ["hook", "start"]
        assert "venv" in found[0]["fix"]

    def test_a_hook_of_somebody_else_in_our_place(self, home: Venv) -> None:
        (home.site_packages / "coverage.pth").write_text("import coverage\n")
        report = examine(home.python, proof=True)
        assert report.status == 1
        assert [one["check"] for one in report.not_ok()] == ["other hooks", "start"]
        apply(report.not_ok()[0]["fix"])
        assert examine(home.python, proof=True).status == 0

    @pytest.mark.parametrize("name", ["a1_coverage.pth", "coverage.pth"])
    def test_a_hook_in_an_environment_that_is_not_ours(
        self, home: Venv, tmp_path: Path, name: str
    ) -> None:
        other = bare_venv(tmp_path)
        hook = next(other.glob("lib/*/site-packages")) / name
        hook.write_text("import coverage; coverage.process_startup()\n")
        report = examine(home.python, env=with_path(other))
        apply(report.only("note", "other hooks")["fix"])
        assert examine(home.python, env=with_path(other)).not_ok() == []

    def test_a_hook_that_a_killed_run_left(self, home: Venv, project: Path) -> None:
        (project / "waits.py").write_text("print('up', flush=True)\ninput()\n")
        python = str(home.python)
        command = [python, "-m", "hcov", "run", "-q", "--", python, "waits.py"]
        with subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "TMPDIR": str(project)},  # where it leaves something
        ) as run:
            assert run.stdout is not None
            assert run.stdout.readline() == "up\n"
            held = examine(home.python, "--data-dir=other")
            assert "held by a run" in held.of("hook")[0]["detail"]
            run.send_signal(signal.SIGKILL)
        apply(examine(home.python, "--data-dir=other").only("note", "hook")["fix"])
        assert examine(home.python, "--data-dir=other").not_ok() == []

    def test_an_active_environment_without_hcov(self, home: Venv, tmp_path: Path) -> None:
        other = bare_venv(tmp_path)
        environment = {**with_path(other), "VIRTUAL_ENV": str(other)}
        report = examine(home.python, proof=True, env=environment)
        shut = {one["check"]: one for one in report.not_ok() if one["check"] != "core"}
        assert set(shut) >= {"hook", "python -I", "empty environment"}
        assert "pip install hcoverage" in shut["hook"]["fix"]
        assert "ignores PYTHONPATH" in shut["python -I"]["detail"]
        assert report.status == 1

    def test_an_active_environment_whose_python_is_gone(self, home: Venv, tmp_path: Path) -> None:
        environment = {**os.environ, "VIRTUAL_ENV": str(tmp_path / "gone")}
        finding = examine(home.python, env=environment).only("problem", "version")
        assert str(tmp_path / "gone") in finding["subject"]

    def test_others_on_path_are_told_in_one_line(self, home: Venv, tmp_path: Path) -> None:
        report = examine(home.python, proof=True, env=with_path(bare_venv(tmp_path)))
        (finding,) = report.of("started")
        assert finding["status"] == "note"
        assert "python -I, empty environment" in finding["detail"]
        assert "hcov inject" in finding["fix"]

    @pytest.mark.skipif(
        sys.prefix == sys.base_prefix, reason="a Python outside of environments is needed"
    )
    def test_a_hook_where_isolated_pythons_do_not_look(self, tmp_path: Path) -> None:
        python = os.path.realpath(sys.executable)
        # Who is not root cannot write into any other.
        (tmp_path / "sitecustomize.py").write_text(
            "import site\nsite.getsitepackages = lambda: []\n"
        )
        environment = {
            **os.environ,
            "PYTHONUSERBASE": str(tmp_path / "user"),
            "PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)]),
        }
        report = examine(python, proof=True, env=environment)
        shut = {one["check"]: one for one in report.not_ok()}
        assert shut["user site-packages"]["status"] == "note"
        assert "user's own site-packages" in shut["python -I"]["detail"]
        assert "virtual environment" in shut["python -I"]["fix"]


@pytest.mark.any_python
class TestTheEnvironment:
    def test_variables_that_are_set_already(self, fresh_venv: Venv) -> None:
        environment = {**os.environ, "COVERAGE_PROCESS_START": "/nowhere/.coveragerc"}
        finding = examine(fresh_venv.python, env=environment).only("note", "variables")
        assert finding["fix"].startswith("unset COVERAGE_PROCESS_START")


class TestContainers:
    @pytest.mark.usefixtures("docker")
    def test_an_engine_that_does_not_answer(self, tmp_path: Path) -> None:
        environment = {**os.environ, "DOCKER_HOST": f"unix://{tmp_path}/nosuch.sock"}
        finding = examine(sys.executable, env=environment).only("problem", "docker")
        assert "no docker engine answers" in finding["detail"]
        assert "DOCKER_HOST" in finding["fix"]

    def test_no_engine_at_all_is_a_problem_only_for_images(self) -> None:
        environment = {name: os.environ[name] for name in os.environ if name != "DOCKER_HOST"}
        assert examine(sys.executable, env=environment).not_ok() == []
        report = examine(sys.executable, "shop", env=environment)
        assert [one["check"] for one in report.not_ok()] == ["docker", "image"]
        assert "install it with" in report.not_ok()[0]["fix"]

    @pytest.mark.usefixtures("docker")
    def test_an_image_that_is_not_here(self, engine: str) -> None:
        finding = examine(sys.executable, "hcoverage-nosuch:latest").only("problem", "image")
        assert finding["fix"] == f"{engine} pull hcoverage-nosuch:latest"

    @pytest.mark.usefixtures("docker")
    def test_an_image_without_python(self, home: Venv, image_without_python: str) -> None:
        report = examine(home.python, image_without_python, proof=True)
        (finding,) = report.of("container")
        assert report.status == 1
        assert "no Python in it" in finding["detail"]

    @pytest.mark.usefixtures("docker")
    def test_containers_that_are_left_alone(self, home: Venv, python_image: str) -> None:
        environment = {**os.environ, "HCOVERAGE_CONTAINERS": "0"}
        finding = examine(home.python, python_image, proof=True, env=environment)
        assert finding.of("container")[0]["fix"] == "unset HCOVERAGE_CONTAINERS"

    @pytest.mark.usefixtures("docker")
    @pytest.mark.engine
    def test_an_image_whose_python_is_measured(self, home: Venv, python_image: str) -> None:
        report = examine(home.python, python_image, proof=True)
        assert report.status == 0
        found = [one for one in report.findings if python_image in one["subject"]]
        version = "Python {}.{} ".format(*sys.version_info)
        (finding,) = [one for one in found if one["check"].startswith(version)]
        assert finding["detail"] == f"measured by {CORE}, in every way"


def bare_venv(tmp_path: Path) -> Path:
    """An environment with nothing in it."""
    path = tmp_path / "other"
    venv_module.create(path, symlinks=True)
    return path


def start_doctor(home: Venv) -> subprocess.Popen[bytes]:
    command = [str(home.python), "-m", "hcov", "doctor"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def command_lines_with(text: bytes) -> list[bytes]:
    """Give the command lines of the running processes that have a text in it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            found.append((process / "cmdline").read_bytes())
    return [line for line in found if text in line]


def with_path(environment: Path) -> dict[str, str]:
    return {**os.environ, "PATH": f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}"}


@pytest.fixture(autouse=True)
def _temporary_files_are_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What it tries it tries in a temporary directory, of which nothing is left."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    yield
    assert [entry.name for entry in temporary.iterdir()] == []
