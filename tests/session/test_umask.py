"""Whatever the umask of who runs hcov, and whoever a process runs as, it is measured."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
from coverage import CoverageData

import hcoverage

RCFILE: Final = "[run]\nparallel = True\nsource = .\n[paths]\napp =\n    .\n    /app\n"
APP: Final = "import sys\nprint('out')\nprint('err', file=sys.stderr)\n"
HCOV: Final = (sys.executable, "-m", "hcov")
pytestmark = pytest.mark.usefixtures("clean_environment")


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project that everybody may read; the current directory."""
    (tmp_path / ".coveragerc").write_text(RCFILE)
    (tmp_path / "app.py").write_text(APP)
    for path in (tmp_path, *tmp_path.iterdir()):
        path.chmod(0o755 if path.is_dir() else 0o644)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def lines_of_app() -> list[int]:
    data = CoverageData(".coverage")
    data.read()
    return sorted(data.lines(str(Path("app.py").absolute())) or [])


@pytest.fixture(params=["python_image", "base_image"])
def image(request: pytest.FixtureRequest) -> str:
    """An image where the recorder measures, and one where coverage.py does."""
    name: str = request.getfixturevalue(request.param)
    return name


@pytest.mark.engine
@pytest.mark.sampled(2)
@pytest.mark.parametrize("isolated", [(), ("-I",)], ids=["", "python -I"])
@pytest.mark.parametrize("user", ["0:0", "1000:1000"])
@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077], ids=oct)
def test_a_container_of_any_user_is_measured_and_does_not_notice(
    image: str, container_label: str, umask: int, user: str, isolated: tuple[str, ...]
) -> None:
    run = ["docker", "run", "--rm", "--label", container_label, "--user", user, "-w", "/app"]
    app = ["-v", f"{Path.cwd()}/app.py:/app/app.py:ro", image]
    done = subprocess.run(
        [*HCOV, "run", "-q", "--", *run, *app, "python3", *isolated, "/app/app.py"],
        capture_output=True,
        text=True,
        check=False,
        umask=umask,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "out\n", "err\n")
    assert lines_of_app() == [1, 2, 3]


@pytest.mark.parametrize("core", ["recorder", "coverage"])
@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077], ids=oct)
def test_what_a_session_gives_to_others_is_readable(umask: int, core: str) -> None:
    if core == "recorder" and sys.version_info < (3, 12):
        pytest.skip("the recorder needs Python 3.12")
    before = os.umask(umask)
    try:
        with hcoverage.open_session(core=core) as session:
            contexts = hcoverage.Contexts(session.data_dir, with_this_process=False)
            shut = [path for path in given_to_others(session) if not is_open(path)]
            assert stat.S_IMODE(session.data_dir.stat().st_mode) == 0o777
            contexts.end()
    finally:
        os.umask(before)
    assert shut == []


def given_to_others(session: hcoverage.Session) -> list[Path]:
    """List all that processes of the session read, here and in containers."""
    startup = Path(session.environment["HCOVERAGE_SESSION"])
    copy = startup.with_name("copy")
    hcoverage.copy_startup_directory(
        startup, copy, place="/place", data_dir="/place/data", rcfile="/place/data/.coveragerc"
    )
    hcoverage.add_coverage_for(sys.version_info[:2], copy)
    hooks = [session.hook, *session.hook.parent.glob("*coverage_hook.py")]
    sessions = session.hook.with_name("coverage.sessions")
    # Other sessions may use this environment, too, and end now.
    hooks += [sessions, *sessions.glob(f"{os.getpid()}-*")]
    places = (startup.parent, startup, copy, session.data_dir)
    found = [path for place in places for path in (place, *place.rglob("*"))]
    assert {"sitecustomize.py", ".coveragerc", "__pycache__"} <= {path.name for path in found}
    return [path for path in (*found, *hooks) if not path.is_symlink()]


def is_open(path: Path) -> bool:
    wanted = 0o005 if path.is_dir() else 0o004
    return path.stat().st_mode & wanted == wanted
