"""What we merge is what `coverage combine` merges, held by generated data.

`HCOVERAGE_EXAMPLES` is how many examples are tried; the default is for every day.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from coverage import CoverageData
from coverage.config import read_coverage_config
from coverage.data import combine_parallel_data
from coverage.exceptions import CoverageException
from coverage.files import PathAliases, set_relative_directory
from hypothesis import HealthCheck, assume, given, settings, strategies as st
from hypothesis.configuration import set_hypothesis_home_dir

import hcoverage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

set_hypothesis_home_dir(Path(__file__).parents[2] / ".cache" / "hypothesis")

EXAMPLES: Final = int(os.environ.get("HCOVERAGE_EXAMPLES", "60"))
SOURCES: Final = ("a.py", "src/a.py", "src/pkg/b.py", "lib/c.py")
# Where the measured paths begin; {here} is the project.
ROOTS: Final = ("{here}/", "/app/", "/ci/work 1/", "C:\\ci\\", "", "/elsewhere/src/", "src\\")
PATHS: Final = (
    "",
    "[paths]\nall =\n    .\n    /app\n",
    "[paths]\nall =\n    src/\n    /app/src\n    */work 1/src\n    C:\\ci\\src\n",
    "[paths]\none =\n    {here}/src\n    /app/src\ntwo =\n    ./lib\n    */lib\n",
)


@dataclass(frozen=True)
class Written:
    """What one process writes."""

    name: str
    data: Mapping[str, Mapping[str, frozenset[Any]]]
    touched: tuple[str, ...] = ()
    tracers: Mapping[str, str] = field(default_factory=dict)
    copies: int = 0


names = st.builds("{}{}".format, st.sampled_from(ROOTS), st.sampled_from(SOURCES))
contexts = st.sampled_from(["", "one", "test_é|run", "0"])
numbers = st.integers(1, 20) | st.integers(1, 70_000)
lines = st.frozensets(numbers, max_size=8)
ends = numbers | numbers.map(int.__neg__)
arcs = st.frozensets(st.tuples(ends, ends), max_size=8)


@st.composite
def runs(draw: st.DrawFn) -> tuple[bool, list[Written]]:
    has_arcs = draw(st.booleans())
    what = st.dictionaries(names, arcs if has_arcs else lines, max_size=4)
    hosts = draw(st.lists(st.sampled_from(["h", "g.x", "0123456789ab"]), min_size=1, max_size=6))
    return has_arcs, [
        Written(
            name=f".coverage.{host}.pid{number}.Xabcdefx",
            data=draw(st.dictionaries(contexts, what, max_size=3)),
            touched=tuple(draw(st.lists(names, max_size=2))),
            # The same plugin for a path wherever it is; others are a conflict.
            tracers=dict.fromkeys(draw(st.lists(st.just("/elsewhere/t.html"), max_size=1)), "p.q"),
            copies=draw(st.sampled_from([0, 0, 0, 1])),
        )
        for number, host in enumerate(hosts)
    ]


def write(directory: Path, has_arcs: bool, run: Written) -> None:  # noqa: FBT001
    file = directory / run.name
    data = CoverageData(basename=str(file))
    add = data.add_arcs if has_arcs else data.add_lines
    add({})
    here = directory.parent
    for context, what in run.data.items():
        data.set_context(context)
        add({_at(here, name): numbers for name, numbers in what.items()})
    data.touch_files([_at(here, name) for name in run.touched])
    if run.tracers:
        data.touch_files(list(run.tracers))
        data.add_file_tracers(run.tracers)
    data.close(force=True)
    for copy in range(run.copies):
        shutil.copy(file, f"{file}{copy}")


def _at(here: Path, name: str) -> str:
    return name.replace("{here}", str(here))


def content(data_file: Path) -> dict[str, object]:
    data = CoverageData(basename=str(data_file))
    data.read()
    try:
        found: dict[str, object] = {"contexts": data.measured_contexts(), "arcs": data.has_arcs()}
        for name in data.measured_files():
            found[name] = (
                sorted(data.lines(name) or []),
                sorted(data.arcs(name) or []),
                {
                    line: sorted(contexts)
                    for line, contexts in data.contexts_by_lineno(name).items()
                },
                data.file_tracer(name),
            )
        return found
    finally:
        data.close(force=True)


def combine_as_coverage_does(directory: Path, rcfile: Path, result: Path) -> None:
    """What `coverage combine --keep` does."""
    config = read_coverage_config(str(rcfile), warn=pytest.fail)
    set_relative_directory()
    aliases = PathAliases(relative=config.relative_files)
    for local, *patterns in config.paths.values():
        for pattern in patterns:
            aliases.add(pattern, local)
    prefix = CoverageData(basename=str(directory / ".coverage"))
    combine_parallel_data(prefix, aliases, [str(directory)], strict=True, keep=True)
    prefix.close(force=True)
    (directory / ".coverage").rename(result)


@pytest.fixture
def project() -> Iterator[Path]:
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as name:
        here = Path(name).resolve()
        for source in SOURCES:
            (here / source).parent.mkdir(parents=True, exist_ok=True)
            (here / source).touch()
        os.chdir(here)
        yield here
        os.chdir(before)


def _forget_what_is_not_here(data_file: Path) -> None:
    """Take out what no report could be made with; where nothing is here, we keep all as well."""
    with contextlib.closing(sqlite3.connect(data_file)) as database, database:
        files = database.execute("SELECT id, path FROM file").fetchall()
        tracers = {row[0] for row in database.execute("SELECT file_id FROM tracer")}
        missing = [each for each, path in files if not Path(path).exists()]
        gone = {*missing} - tracers
        for each in gone if len(missing) < len(files) else ():
            for table, column in (("line_bits", "file_id"), ("arc", "file_id"), ("file", "id")):
                database.execute(f"DELETE FROM {table} WHERE {column} = ?", (each,))  # noqa: S608


@pytest.mark.thorough
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(run=runs(), paths=st.sampled_from(PATHS), relative=st.booleans())
def test_the_same_as_coverage_combine(
    project: Path,
    run: tuple[bool, list[Written]],
    paths: str,
    relative: bool,  # noqa: FBT001
) -> None:
    # Absolute paths of that are coverage.py's names then; see the next test for ours.
    assume(not (relative and "{here}" in paths))
    has_arcs, files = run
    data = project / "data"
    shutil.rmtree(data, ignore_errors=True)
    data.mkdir()
    rcfile = project / ".coveragerc"
    rcfile.write_text(f"[run]\nrelative_files = {relative}\n{_at(project, paths)}")
    for file in files:
        write(data, has_arcs, file)
    theirs, ours = project / "theirs", project / "ours"
    combine_as_coverage_does(data, rcfile, theirs)
    result = hcoverage.combine([data], coveragerc=rcfile, data_file=ours, keep=True)
    _forget_what_is_not_here(theirs)
    assert content(ours) == content(theirs)
    assert result.set_aside == ()
    assert len(result.merged) == len(list(data.iterdir()))
    assert set(result.duplicates) >= {path for path in data.iterdir() if path.name[-1].isdigit()}
    os.remove(theirs)  # noqa: PTH107
    os.remove(ours)  # noqa: PTH107


def test_with_relative_files_a_source_has_one_name(project: Path) -> None:
    """Where `[paths]` has an absolute path coverage.py has two, and reports the source twice."""
    data = project / "data"
    data.mkdir()
    for number, name in enumerate(["src/a.py", "/app/src/a.py"]):
        what = {"": {name: frozenset({number + 1})}}
        write(data, False, Written(f".coverage.h.pid{number}.Xabcdefx", what))  # noqa: FBT003
    rcfile = project / ".coveragerc"
    rcfile.write_text(
        f"[run]\nrelative_files = True\n[paths]\none =\n    {project}/src\n    /app/src\n"
    )
    hcoverage.combine([data], data_file="ours")
    found = content(Path("ours"))
    assert found["src/a.py"] == ([1, 2], [], {1: [""], 2: [""]}, "")
    assert [name for name in found if name.endswith("a.py")] == ["src/a.py"]


def test_conflicting_plugins_set_aside_what_coverage_refuses(project: Path) -> None:
    data = project / "data"
    data.mkdir()
    for number, tracer in enumerate(["one", "two", "one"]):
        tracers = {"/t.html": tracer}
        what = {"": {"/t.html": frozenset({number + 1}), "/x.py": frozenset({number + 1})}}
        write(data, False, Written(f".coverage.h.pid{number}.Xabcdefx", what, tracers=tracers))  # noqa: FBT003
    rcfile = project / ".coveragerc"
    rcfile.write_text("[run]\n")
    with pytest.raises(CoverageException, match="Conflicting file tracer"):
        combine_as_coverage_does(data, rcfile, project / "theirs")
    (data / ".coverage").unlink()
    result = hcoverage.combine([data], data_file="ours")
    (item,) = result.set_aside
    assert item.path.name == ".coverage.h.pid1.Xabcdefx"
    assert "'two' in it" in item.reason
    found = content(Path("ours"))
    assert found["/t.html"] == ([1, 3], [], {1: [""], 3: [""]}, "one")
    assert [path.name for path in data.iterdir()] == [item.path.name]
