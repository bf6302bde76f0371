"""Where containers have the code is found, not configured: by content, and by the ends of paths.

A copy of the project in another place stands for the image. It is measured there for real; then the
data is made to say that another machine wrote it, and the copy is removed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from coverage import CoverageData
from tests import forks

import hcoverage

if TYPE_CHECKING:
    from collections.abc import Mapping

pytestmark = pytest.mark.usefixtures("clean_environment")

needs_recorder = pytest.mark.skipif(sys.version_info < (3, 12), reason="has no sys.monitoring")

RCFILE: Final = "[run]\nparallel = True\nsource = .\n"
PATHS: Final = "[paths]\ncode =\n    .\n    {}\n"
MAIN: Final = """\
import sys

from shop import cart, stock

cart.total([1, 2])
if "more" in sys.argv:
    stock.left()
"""
CART: Final = """\
def total(prices):
    return sum(prices)


def empty():
    return 0
"""
STOCK: Final = """\
# What is there.
def left():
    return 1
"""
FILES: Final = {
    "main.py": MAIN,
    "shop/__init__.py": "",
    "shop/cart.py": CART,
    "shop/stock.py": STOCK,
    "other/__init__.py": "",
}


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project, without `[paths]`; the current directory."""
    project = tmp_path / "project"
    write(project, {**FILES, ".coveragerc": RCFILE})
    monkeypatch.chdir(project)
    return project


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where the image has the project; there is nothing here."""
    return tmp_path / "srv" / "code"


def write(directory: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        file = directory / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def record_elsewhere(
    place: Path,
    *arguments: str,
    files: Mapping[str, str] = FILES,
    host: str = "",
    python: str | Path = sys.executable,
) -> Path:
    """Record main.py at a place that is gone afterwards; give the directory with the recordings."""
    kept = Path("data").absolute()
    kept.mkdir(exist_ok=True)
    with hcoverage.open_session() as session:
        write(place, files)  # now: what was here before is not read, since it is known here
        command = [python, *(arguments or ("main.py",))]
        subprocess.run(command, cwd=place, env=session.environment, check=True)
        for file in session.data_dir.glob("*.hcrec"):
            say_it_was(file, host)
            file.rename(kept / file.name)
    shutil.rmtree(place)
    return kept


def measure_elsewhere(place: Path, *arguments: str, files: Mapping[str, str] = FILES) -> Path:
    """Have coverage.py measure main.py at such a place, as in a baked image."""
    write(place, files)
    kept = Path("data").absolute()
    kept.mkdir(exist_ok=True)
    environment = {**os.environ, "COVERAGE_FILE": str(kept / ".coverage.elsewhere.pid7.Xabcdefx")}
    options = [f"--rcfile={Path('.coveragerc').absolute()}", "--source=."]
    command = [sys.executable, "-m", "coverage", "run", *options, *(arguments or ("main.py",))]
    subprocess.run(command, cwd=place, env=environment, check=True)
    (written,) = kept.glob(".coverage.elsewhere.*")
    written.rename(written.with_name(written.name[: len(".coverage.elsewhere.pid7.Xabcdefx")]))
    shutil.rmtree(place)
    return kept


def say_it_was(recording: Path, host: str = "") -> None:
    """Have a recording tell another host, whose name has to be as long."""
    content = bytearray(recording.read_bytes())
    end = 64 + int.from_bytes(content[12:16], "little")
    own = os.uname().nodename.encode()
    other = host.encode() or b"e" * len(own)
    content[64:end] = content[64:end].replace(b"host=%s\0" % own, b"host=%s\0" % other, 1)
    checked = bytes(content[:52] + content[64:end])
    content[52:56] = (int.from_bytes(checked, "little") % 1073741789).to_bytes(4, "little")
    recording.write_bytes(content)


def merged(name: str = ".coverage") -> dict[str, list[int]]:
    data = CoverageData(basename=name)
    data.read()
    here = Path.cwd()
    return {
        str(Path(file).relative_to(here)) if Path(file).is_relative_to(here) else file: [
            line for line in sorted(data.lines(file) or ()) if line
        ]
        for file in data.measured_files()
    }


def ran() -> dict[str, list[int]]:
    """The lines of what ran; what nothing ran of `source` is merged, too."""
    return {name: lines for name, lines in merged().items() if lines}


RAN: Final = {"main.py": [1, 3, 5, 6], "shop/cart.py": [1, 2, 5], "shop/stock.py": [2]}


@needs_recorder
def test_what_ran_elsewhere_is_under_its_paths_here(project: Path, place: Path) -> None:
    data = record_elsewhere(place)
    result = hcoverage.combine([data])
    assert ran() == RAN
    assert merged().keys() == FILES.keys()
    (tree,) = result.mapped
    assert (tree.there, tree.here, tree.by_content) == (str(place), str(project), True)
    assert tree.sources >= len(RAN)
    assert (result.unmapped, result.other_versions, result.paths_suggestion.text) == ((), (), "")


@needs_recorder
@pytest.mark.parametrize("relative", [False, True])
def test_the_same_as_with_paths_in_the_rcfile(place: Path, *, relative: bool) -> None:
    data = record_elsewhere(place, "main.py", "more")
    rcfile = f"{RCFILE}relative_files = {relative}\n"
    Path(".coveragerc").write_text(rcfile)
    hcoverage.combine([data], data_file="found", keep=True)
    Path(".coveragerc").write_text(rcfile + PATHS.format(place))
    result = hcoverage.combine([data], data_file="told", keep=True)
    assert merged("found") == merged("told")
    assert merged("found")["shop/stock.py"] == [2, 3]
    assert result.mapped == ()


@needs_recorder
def test_the_rcfiles_own_paths_win(project: Path, place: Path) -> None:
    write(project / "copy", FILES)
    Path(".coveragerc").write_text(RCFILE + PATHS.format(place).replace("    .\n", "    copy\n"))
    result = hcoverage.combine([record_elsewhere(place)])
    assert {name.split("/")[0] for name in ran()} == {"copy"}
    assert result.mapped == ()


@needs_recorder
def test_a_process_of_this_machine_is_where_it_says(place: Path) -> None:
    data = record_elsewhere(place, host=os.uname().nodename)
    result = hcoverage.combine([data])
    assert ran() == {}
    assert (result.mapped, result.unmapped) == ((), ())


@needs_recorder
def test_an_image_with_another_version_is_told_file_by_file(project: Path, place: Path) -> None:
    older = {**FILES, "shop/cart.py": f"# Copyright\n{CART}", "shop/stock.py": f"\n\n{STOCK}"}
    result = hcoverage.combine([record_elsewhere(place, files=older)])
    assert ran() == {"main.py": RAN["main.py"]}
    assert [(Path(other.path), Path(other.there)) for other in result.other_versions] == [
        (project / name, place / name) for name in ("shop/cart.py", "shop/stock.py")
    ]
    assert result.unmapped == ()


@needs_recorder
def test_the_command_tells_what_it_found_and_which_image_to_build_anew(place: Path) -> None:
    record_elsewhere(place, files={**FILES, "shop/cart.py": f"# Copyright\n{CART}"})
    done = hcov("combine", "data")
    assert done.returncode == 0, done.stderr
    assert f"  {place} of containers is . here: " in done.stderr
    assert (
        "left out: another version of shop/cart.py ran in a container, as "
        f"{place}/shop/cart.py: build its image anew" in done.stderr
    )
    assert "has changed since it ran" not in done.stderr


@needs_recorder
def test_the_only_source_is_another_version(project: Path, place: Path) -> None:
    data = record_elsewhere(place, files={"main.py": "print()\n"})
    write(project, {"data/.keep": ""})
    record_elsewhere(place / "again", files=FILES)
    result = hcoverage.combine([data])
    (other,) = result.other_versions
    assert (Path(other.path), Path(other.there)) == (project / "main.py", place / "main.py")
    assert merged()["main.py"] == RAN["main.py"]


@needs_recorder
def test_two_that_are_the_same_are_told_with_paths_that_decide(project: Path, place: Path) -> None:
    text = "print('a service')\n"
    write(project, {"services/a/app.py": text, "services/b/app.py": text})
    record_elsewhere(place, "app.py", files={"app.py": text})
    done = hcov("combine", "--keep", "data")
    assert "app.py' of a container may be services/a/app.py or services/b/app.py" in done.stderr
    assert done.stderr.endswith(f"[paths]\nsource1 =\n    services/a\n    {place}\n")
    paste(done.stderr)
    result = hcoverage.combine(["data"])
    assert ran() == {"services/a/app.py": [1]}
    assert result.paths_suggestion.text == ""


RCFILES: Final = {
    ".coveragerc": RCFILE,
    "setup.cfg": "[metadata]\nname = shop\n\n[coverage:run]\nsource = .\n",
    "tox.ini": "[tox]\n\n[coverage:run]\nsource = .\n",
    "pyproject.toml": "[tool.coverage.run]\nsource = ['.']\n",
    ".coveragerc.toml": "[tool.coverage.run]\nsource = ['.']\n",
}
SECTIONS: Final = {
    ".coveragerc": "[paths]\nsource1 =\n    .\n    /app\n",
    "setup.cfg": "[coverage:paths]\nsource1 =\n    .\n    /app\n",
    "tox.ini": "[coverage:paths]\nsource1 =\n    .\n    /app\n",
    "pyproject.toml": "[tool.coverage.paths]\nsource1 = ['.', '/app']\n",
    ".coveragerc.toml": "[tool.coverage.paths]\nsource1 = ['.', '/app']\n",
}


@pytest.mark.sampled
@pytest.mark.parametrize("has_section", [False, True])
@pytest.mark.parametrize("rcfile", RCFILES)
def test_what_is_told_to_be_pasted_maps(
    project: Path, place: Path, rcfile: str, *, has_section: bool
) -> None:
    # A flat copy of what is inside of a package here, and no content to find it by.
    flat = {"main.py": "import cart\n\ncart.total([])\n", "cart.py": CART}
    write(project, {f"src/shop/{name}": text for name, text in flat.items()})
    write(project, {"src/shop/__init__.py": ""})
    shutil.rmtree(project / "shop")
    (project / "main.py").unlink()
    data = measure_elsewhere(place, files=flat)
    (project / ".coveragerc").unlink()
    (project / rcfile).write_text(RCFILES[rcfile] + SECTIONS[rcfile] * has_section)
    done = hcov("combine", "--keep", "data")
    assert (
        "/cart.py' of a container may be src/shop/cart.py here (and 1 more source)" in done.stderr
    )
    paste(done.stderr)
    result = hcoverage.combine([data])
    assert ran() == {"src/shop/cart.py": [1, 2, 5], "src/shop/main.py": [1, 3]}
    assert (result.mapped, result.unmapped) == ((), ())


def paste(told: str) -> None:
    """Do what the end of a combine tells to do for sources that it could not map."""
    found = re.search(
        r"paste this into (the section of paths in )?(\S+): \[unmapped\]\n(.*)", told, re.DOTALL
    )
    assert found
    in_section, name, text = found.groups()
    before = Path(name).read_text() if Path(name).exists() else ""
    # The section is the last one.
    Path(name).write_text(f"{before}{text}")
    assert ("paths]" in text) == (not in_section)


@needs_recorder
def test_another_file_beside_it_decides_between_two(project: Path, place: Path) -> None:
    text = "import one\n"
    for name in ("a", "b"):
        write(
            project, {f"services/{name}/app.py": text, f"services/{name}/one.py": f"{name} = 1\n"}
        )
    data = record_elsewhere(place, "app.py", files={"app.py": text, "one.py": "b = 1\n"})
    hcoverage.combine([data])
    assert ran() == {"services/b/app.py": [1], "services/b/one.py": [1]}


@needs_recorder
def test_two_images_with_another_program_in_the_same_place(project: Path, place: Path) -> None:
    for name in ("a", "b"):
        source = {"app.py": f"print('{name}')\n"}
        write(project / "services" / name, source)
        data = record_elsewhere(place, "app.py", files=source)
    hcoverage.combine([data])
    assert ran() == {"services/a/app.py": [1], "services/b/app.py": [1]}


@needs_recorder
def test_what_is_not_here_is_told(place: Path) -> None:
    data = record_elsewhere(place, "only_there.py", files={**FILES, "only_there.py": MAIN})
    result = hcoverage.combine([data])
    assert [source.path for source in result.unmapped] == [str(place / "only_there.py")]
    assert "only_there.py" not in merged()
    # No entry of [paths] would map it.
    assert result.paths_suggestion.text == ""


@needs_recorder
def test_what_is_not_here_is_told_by_the_command(place: Path) -> None:
    record_elsewhere(place, "only_there.py", files={**FILES, "only_there.py": MAIN})
    done = hcov("combine", "data")
    assert done.returncode == 0, done.stderr
    (told,) = [line for line in done.stderr.splitlines() if "only_there.py" in line]
    assert told == (
        f"hcov: left out: {place}/only_there.py ran in a container, but has no source here that a "
        "report could show [not-here]"
    )
    assert "[unmapped]" not in done.stderr


@needs_recorder
def test_of_much_that_is_not_here_the_directories_are_told(place: Path) -> None:
    others = {f"others/m{number}.py": "one = 1\n" for number in range(12)}
    program = "import " + ", ".join(name[:-3].replace("/", ".") for name in others)
    record_elsewhere(place, "only_there.py", files={**FILES, **others, "only_there.py": program})
    told = hcov("combine", "data").stderr
    assert f"hcov: left out: 13 files below {place} ran in a container, but have no" in told


@needs_recorder
@pytest.mark.parametrize(
    "hidden", [".venv/lib", "env/lib", "data", "node_modules/x", "build/lib", "site-packages"]
)
def test_no_file_of_others_in_the_project_is_taken_for_the_source(
    project: Path, place: Path, hidden: str
) -> None:
    (project / "shop" / "cart.py").unlink()
    write(project, {f"{hidden}/shop/cart.py": CART, "env/pyvenv.cfg": ""})
    result = hcoverage.combine([record_elsewhere(place)])
    assert [source.path for source in result.unmapped] == [str(place / "shop/cart.py")]
    assert not any(name.endswith("cart.py") for name in ran())


@needs_recorder
def test_no_file_outside_the_project_is_taken_for_the_source(
    project: Path, place: Path, tmp_path: Path
) -> None:
    (project / "shop" / "cart.py").rename(tmp_path / "cart.py")
    (project / "cart.py").symlink_to(tmp_path / "cart.py")
    (project / "linked").symlink_to(tmp_path)
    result = hcoverage.combine([record_elsewhere(place)])
    assert [source.path for source in result.unmapped] == [str(place / "shop/cart.py")]
    assert not any(name.endswith("cart.py") for name in ran())


@needs_recorder
@pytest.mark.parametrize(
    ("source", "names"),
    [("", set()), ("source_pkgs = shop\n", {"shop/cart.py", "shop/stock.py"})],
)
def test_installed_packages_are_the_projects_if_the_rcfile_says_so(
    project: Path, place: Path, monkeypatch: pytest.MonkeyPatch, source: str, names: set[str]
) -> None:
    Path(".coveragerc").write_text(f"[run]\nparallel = True\n{source}")
    monkeypatch.syspath_prepend(str(project))
    venv.create(place, symlinks=True)
    (packages,) = place.glob("lib/python*/site-packages")
    files = {str((packages / name).relative_to(place)): text for name, text in FILES.items()}
    program = "import shop.cart, shop.stock"
    data = record_elsewhere(place, "-c", program, files=files, python=place / "bin" / "python")
    hcoverage.combine([data])
    assert {name for name, lines in merged().items() if lines} == names


@pytest.mark.parametrize("branch", [False, True])
def test_data_of_coverage_is_found_by_names_and_lines(
    project: Path, place: Path, *, branch: bool
) -> None:
    Path(".coveragerc").write_text(f"{RCFILE}branch = {branch}\n")
    data = measure_elsewhere(place)
    result = hcoverage.combine([data])
    assert {name: lines for name, lines in merged().items() if lines} == RAN
    (tree,) = result.mapped
    assert (tree.there, tree.here, tree.by_content) == (str(place), str(project), False)


def test_data_of_coverage_with_lines_that_cannot_run_here_is_of_another_version(
    project: Path, place: Path
) -> None:
    older = {**FILES, "shop/stock.py": "def left():\n    return 1\n"}
    result = hcoverage.combine([measure_elsewhere(place, files=older)])
    assert {name: lines for name, lines in merged().items() if lines} == {
        name: RAN[name] for name in ("main.py", "shop/cart.py")
    }
    (other,) = result.other_versions
    assert (Path(other.path), Path(other.there)) == (
        project / "shop/stock.py",
        place / "shop/stock.py",
    )


@needs_recorder
def test_recordings_show_where_data_of_coverage_belongs(project: Path, place: Path) -> None:
    write(project / "deep" / "down", FILES)
    for name in FILES:
        (project / name).unlink()
    data = record_elsewhere(place)
    measure_elsewhere(place, "main.py", "more")
    hcoverage.combine([data])
    assert merged()["deep/down/shop/stock.py"] == [2, 3]


def hcov(*arguments: str) -> subprocess.CompletedProcess[str]:
    return forks.hcov(*arguments, env=hcoverage.unmeasured_environment(os.environ))
