"""One analysis of what was measured, whatever a run makes of it; its text is coverage.py's."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import coverage.control
import pytest
from coverage import CoverageException
from tests.forks import forked

import hcoverage
from hcov._cli.main import main
from hcov._tell.analysis import analysed

if TYPE_CHECKING:
    from collections.abc import Callable

RCFILE: Final = "[run]\nparallel = True\nsource = .\n"
pytestmark = pytest.mark.usefixtures("clean_environment")


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / ".coveragerc").write_text(RCFILE)
    (tmp_path / "app.py").write_text(
        "import subprocess, sys\nsubprocess.run([sys.executable, 'child.py'], check=True)\n"
    )
    (tmp_path / "child.py").write_text("import sys\nif len(sys.argv) > 9:\n    print()\n")
    (tmp_path / "not_run.py").write_text("x = [\n    1,\n]\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def hcov(*arguments: str) -> int:
    """Run hcov here, where what coverage.py does can be counted."""
    with pytest.raises(SystemExit) as end:
        main(arguments)
    return int(str(end.value.code))


@pytest.fixture
def analyses(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []
    analyse: Callable[..., Any] = vars(coverage.control)["analysis_from_file_reporter"]

    def counted(data: Any, precision: Any, file_reporter: Any, filename: str) -> Any:  # noqa: ANN401
        found.append(Path(filename).name)
        return analyse(data, precision, file_reporter, filename)

    monkeypatch.setattr(coverage.control, "analysis_from_file_reporter", counted)
    return found


def test_each_file_is_analysed_once_for_all_reports_tables_and_pages(
    analyses: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "summary.md")
    reports = ("--html", "--xml", "--json", "--lcov")
    assert hcov("run", *reports, "--", sys.executable, "app.py") == 0
    out, said = capfd.readouterr()
    assert sorted(analyses) == ["app.py", "child.py", "not_run.py"]
    assert "TOTAL" in out
    assert "who ran what:" in said
    assert "child.py" in Path("summary.md").read_text()
    assert "child.py" in Path("htmlcov/origins.html").read_text()
    assert {"coverage.xml", "coverage.json", "coverage.lcov"} <= {
        path.name for path in Path().iterdir()
    }


SETTINGS: Final = {
    "none": "",
    "branches and missing lines": "[run]\nbranch = True\n[report]\nshow_missing = True\n",
    "sorted, precise": "[report]\nsort = -miss\nprecision = 2\n",
    "skipped": "[report]\nskip_covered = True\nskip_empty = True\n",
    "markdown": "[report]\nformat = markdown\n",
    "under": "[report]\nfail_under = 90.5\n",
    "all": "[report]\nfail_under = 100\n",
    "of nothing": "[report]\ninclude = nothing/*\n",
    "wrong": "[report]\nfail_under = 101\n",
    "no source": "[report]\nshow_missing = True\n",
    "no source, and no matter": "[report]\nignore_errors = True\n",
}


@pytest.mark.parametrize("settings", SETTINGS)
def test_what_is_printed_is_what_the_command_coverage_prints(settings: str) -> None:
    text = RCFILE + SETTINGS[settings]
    if "[run]" in SETTINGS[settings]:
        text = text.replace("[run]\nbranch", "branch")
    Path(".coveragerc").write_text(text)
    data = coverage.Coverage(data_file=".coverage").get_data()
    lines = {str(Path("app.py").absolute()): [1, 2], str(Path("child.py").absolute()): [1, 2]}
    if "branch" in text:
        data.add_arcs({path: [(-1, 1), (1, 2), (2, -1)] for path in lines})
    else:
        data.add_lines(lines)
    data.write()
    if "no source" in settings:
        Path("app.py").unlink()
    environment = hcoverage.unmeasured_environment(os.environ)
    theirs, ours = (forked(module, "report", env=environment) for module in ("coverage", "hcov"))
    assert (ours.returncode, ours.stdout) == (theirs.returncode, theirs.stdout)
    warned = re.findall(r"CoverageWarning: (.*)", theirs.stderr)
    assert re.findall(r"coverage\.py: (.*)", ours.stderr) == warned


def test_what_cannot_be_read_is_not_left_open() -> None:
    # That it was, `_databases_closed` tells.
    Path(".coverage").write_bytes(b"of no database" * 20)
    rcfile = hcoverage.read_rcfile(Path(".coveragerc"))
    with pytest.raises(CoverageException), analysed(Path(".coverage"), rcfile):
        pytest.fail("it was read")


def test_what_paths_are_mapped_into_is_not_left_open_either() -> None:
    Path(".coveragerc").write_text(f"{RCFILE}[paths]\napp =\n    .\n    /app\n")
    assert hcov("run", "--html", "--json", "--xml", "--", sys.executable, "app.py") == 0
    # Whether a database is open is looked at after each test, `_databases_closed`.
    assert Path("coverage.json").is_file()


def test_a_plugin_of_the_project_reports_too(capfd: pytest.CaptureFixture[str]) -> None:
    Path("of_project.py").write_text(
        "import coverage\nclass P(coverage.CoveragePlugin): pass\n"
        "def coverage_init(registry, options): registry.add_file_tracer(P())\n"
    )
    Path(".coveragerc").write_text(f"{RCFILE}plugins = of_project\n")
    with contextlib.suppress(KeyError):
        del sys.modules["of_project"]
    subprocess.run(
        [sys.executable, "-m", "hcov", "run", "--", sys.executable, "app.py"], check=True
    )
    assert "TOTAL" in capfd.readouterr().out


UNREADABLE: Final = {
    "an encoding that nobody knows": b"# coding: no-such-codec\n",
    "one that is not for text": b"# coding: rot13\n",
    "Latin-1, and it does not say so": b"# caf\xe9\n",
    "two encodings": b"\xef\xbb\xbf# coding: latin-1\n",
    "UTF-16": "x = 1\n".encode("utf-16"),
    "a NUL": b"x = '\0'\n",
}


@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize("text", UNREADABLE)
def test_a_source_that_cannot_be_read_is_named(
    text: str, *, ignored: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("not_run.py").write_bytes(UNREADABLE[text])
    Path(".coveragerc").write_text(f"{RCFILE}[report]\nignore_errors = {ignored}\n")
    data = coverage.Coverage(data_file=".coverage").get_data()
    data.add_lines({str(Path("child.py").absolute()): [1, 2]})
    data.touch_file(str(Path("not_run.py").absolute()))
    data.write()
    assert hcov("report") == (0 if ignored else 1)
    said = "".join(capfd.readouterr())
    assert re.search(r"Couldn't parse .*/not_run\.py'", said)
    assert ("TOTAL" in said) == ignored
