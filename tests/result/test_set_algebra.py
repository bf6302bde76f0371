"""`hcov diff`, `only` and `common`: what a change lost, what one origin adds, what both ran."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from click.testing import CliRunner, Result
from coverage import CoverageData
from hypothesis import given, strategies as st

import hcoverage
from hcov._cli.main import main

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


# Statements: 1, 3, 4, 6, 8.
SOURCE: Final = """\
a = [1,
     2]
b = 2
if a:

    c = 3

d = 4
"""
HERE: Final = os.uname().nodename.replace(".", "_")


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a module; we are in it."""
    (tmp_path / "one.py").write_text(SOURCE)
    (tmp_path / ".coveragerc").write_text(
        "[run]\nparallel = True\n[paths]\napp =\n    .\n    /app\n"
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(
    name: str,
    lines: Mapping[str, Collection[int]] | None = None,
    *,
    arcs: Mapping[str, Collection[tuple[int, int]]] | None = None,
    context: str = "",
) -> str:
    data = CoverageData(basename=name)
    if Path(name).exists():
        data.read()
    data.set_context(context)
    if lines is not None:
        data.add_lines({os.path.abspath(path): found for path, found in lines.items()})  # noqa: PTH100
    if arcs is not None:
        data.add_arcs({os.path.abspath(path): found for path, found in arcs.items()})  # noqa: PTH100
    data.close(force=True)
    return name


def read(name: str) -> CoverageData:
    data = CoverageData(basename=name)
    data.read()
    return data


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def origins() -> None:
    """A merged result of three origins."""
    Path("data").mkdir()
    write(f"data/.coverage.{HERE}.pid7.Xabcdefx", {"one.py": [1, 2, 3]}, context="test_unit")
    write(f"data/.coverage.{HERE}.pid8.Xabcdefx", {"one.py": [1, 2, 4]}, context="test_unit")
    there = {"/app/one.py": [1, 2, 3, 6, 8]}
    write("data/.coverage.0123456789ab.pid1.Xabcdefx", there, context="test_shop")
    hcoverage.combine(["data"], command=7)


class TestDiff:
    def test_it_tells_statements_in_ranges_of_both_sides(self) -> None:
        write("a", {"one.py": [1, 3, 4, 6]})
        write("b", {"one.py": [2, 8]})
        done = run("diff", "a", "b")
        assert done.exit_code == 0
        # Line 2 is of the statement in line 1, and line 5 is none.
        assert done.stdout == (
            "lost: in a, not in b: 3 lines\n  one.py: 3-6\n"
            "gained: in b, not in a: 1 line\n  one.py: 8\n"
        )

    def test_nothing_lost_is_no_failure(self) -> None:
        write("a", {"one.py": [1]})
        write("b", {"one.py": [1, 3]})
        assert run("diff", "--fail-on-loss", "a", "b").exit_code == 0
        assert run("diff", "--fail-on-loss", "b", "a").exit_code == 1
        assert run("diff", "b", "a").exit_code == 0

    def test_the_data_is_what_the_first_alone_has_with_its_contexts(self) -> None:
        write("a", {"one.py": [1, 3]}, context="t1")
        write("a", {"one.py": [4], "two.py": [1]}, context="t2")
        write("b", {"one.py": [1, 4], "two.py": [1]}, context="other")
        assert run("diff", "-o", "lost", "a", "b").exit_code == 0
        lost = read("lost")
        path = str(Path("one.py").absolute())
        assert lost.measured_files() == {path}
        assert lost.contexts_by_lineno(path) == {3: ["t1"]}
        lost.close(force=True)

    def test_branches_that_only_one_took_are_told_where_the_line_does_not(self) -> None:
        shared = [(-1, 1), (1, 3), (3, 4), (8, -1)]
        write("a", arcs={"one.py": [*shared, (4, 8), (4, 6), (6, 8)]})
        write("b", arcs={"one.py": [*shared, (4, 6), (6, 8)]})
        done = run("diff", "a", "b", "-o", "lost")
        assert "lost: in a, not in b: 0 lines and 1 branch\n  one.py: 4->8\n" in done.stdout
        lost = read("lost")
        assert lost.arcs(str(Path("one.py").absolute())) == [(4, 8)]
        lost.close(force=True)

    def test_paths_of_containers_are_mapped(self) -> None:
        write("a", {"one.py": [1]})
        write("b", {"/app/one.py": [1]})
        assert run("diff", "--fail-on-loss", "a", "b").exit_code == 0

    def test_no_file_in_common_hints_at_paths(self) -> None:
        write("a", {"/ci/one.py": [1]})
        write("b", {"/ci/two.py": [1]})
        assert "no file in common" in run("diff", "a", "b").stderr

    def test_missing_sources_are_told_by_lines_that_ran(self) -> None:
        write("a", {"gone.py": [1, 2, 4]})
        write("b", {"gone.py": [4]})
        assert "  gone.py: 1-2\n" in run("diff", "a", "b").stdout

    def test_a_source_that_changed_after_the_first_is_pointed_out(self) -> None:
        write("a", {"one.py": [1]})
        write("b", {"one.py": [3]})
        os.utime("a", (1, 1))
        assert "one.py: 1  (its source has changed since)" in run("diff", "a", "b").stdout

    def test_files_that_reports_omit_are_left_out(self) -> None:
        with Path(".coveragerc").open("a") as rcfile:
            rcfile.write("[report]\nomit = one.py\n")
        write("a", {"one.py": [1]})
        write("b", {"one.py": [3]})
        assert "one.py" not in run("diff", "a", "b").stdout

    def test_origins_of_the_last_run_are_operands(self) -> None:
        origins()
        done = run("diff", "origin:main", "origin:0123456789ab")
        assert "lost: in origin:main, not in origin:0123456789ab: 0 lines\n" in done.stdout
        assert "  one.py: 6-8\n" in done.stdout


class TestOnly:
    def test_it_tells_what_no_other_origin_ran(self) -> None:
        origins()
        assert run("only", "container").stdout == (
            "only container 0123456789ab: 2 lines\n  one.py: 6-8\n"
        )

    def test_the_data_has_the_contexts_of_the_tests(self) -> None:
        origins()
        done = run("only", "container", "-o", "only")
        assert "wrote only" in done.stderr
        data = read("only")
        by_line = data.contexts_by_lineno(str(Path("one.py").absolute()))
        assert by_line == {6: ["test_shop"], 8: ["test_shop"]}
        data.close(force=True)

    def test_no_such_origin_lists_those_there_are(self) -> None:
        origins()
        done = run("only", "web")
        assert done.exit_code == 1
        assert "there are: main, subprocesses, container 0123456789ab" in done.stderr

    def test_without_origins_it_says_who_writes_them(self) -> None:
        write(".coverage", {"one.py": [1]})
        done = run("only", "main")
        assert done.exit_code == 1
        assert "`hcov run`" in done.stderr


class TestCommon:
    def test_it_tells_what_both_ran(self) -> None:
        write("a", {"one.py": [1, 3, 4]}, context="t1")
        write("b", {"one.py": [2, 4, 8]}, context="t2")
        done = run("common", "a", "b", "-o", "both")
        assert done.stdout == "common: in a and in b: 2 lines\n  one.py: 1, 4\n"
        both = read("both")
        assert both.contexts_by_lineno(str(Path("one.py").absolute())) == {4: ["t1"]}
        both.close(force=True)


class TestBadInputs:
    @pytest.mark.parametrize("command", ["diff", "common"])
    def test_lines_and_branches_cannot_be_mixed(self, command: str) -> None:
        write("a", {"one.py": [1]})
        write("b", arcs={"one.py": [(-1, 1)]})
        done = run(command, "a", "b")
        assert done.exit_code == 1
        assert "a has line data and b has branch data" in done.stderr

    def test_a_data_file_that_is_missing(self) -> None:
        write("a", {"one.py": [1]})
        done = run("diff", "a", "b")
        assert done.exit_code == 1
        assert "there is no data file b" in done.stderr

    @pytest.mark.parametrize("content", [b"", b"not a database", b"SQLite format 3\0" * 60])
    def test_a_file_that_is_no_data_file(self, content: bytes) -> None:
        write("a", {"one.py": [1]})
        Path("b").write_bytes(content)
        done = run("diff", "a", "b")
        assert done.exit_code == 1
        assert "b is not a data file that can be read" in done.stderr

    def test_a_directory_is_no_data_file(self) -> None:
        write("a", {"one.py": [1]})
        done = run("common", ".", "a")
        assert done.exit_code == 1
        assert "it is not a regular file" in done.stderr

    def test_data_without_lines_is_fine(self) -> None:
        write("a", {"one.py": [1]})
        write("b", {})
        assert run("diff", "a", "b", "--fail-on-loss").exit_code == 1
        assert run("diff", "b", "a", "--fail-on-loss").exit_code == 0

    def test_a_source_outside_the_project_is_in_no_result(self, tmp_path: Path) -> None:
        secret = tmp_path.parent / "secret.py"
        secret.write_text("password = 1\n")
        write("a", {"one.py": [1], str(secret): [1]})
        write("b", {"one.py": [1]})
        done = run("diff", "a", "b", "-o", "lost")
        secret.unlink()
        assert "secret" not in done.stdout
        lost = read("lost")
        assert lost.measured_files() == set()
        lost.close(force=True)


def _measured(
    found: dict[tuple[str, str], set[int]], *, arcs: bool
) -> tuple[hcoverage.Measured, dict[str, set[int]]]:
    from hcoverage._read.part import Part

    part = Part(
        paths={path: ("", 0) for path, _ in found}, contexts={name: name for _, name in found}
    )
    by_file: dict[str, set[int]] = {}
    for (path, context), numbers in found.items():
        if arcs:
            part.arcs[path, context] = {(number << 32) + number + 1 for number in numbers}
        else:
            part.lines[path, context] = sum(1 << number for number in numbers)
        by_file.setdefault(path, set()).update(numbers)
    return hcoverage.Measured(part), {path: rows for path, rows in by_file.items() if rows}


def _numbers(measured: hcoverage.Measured) -> dict[str, set[int]]:
    if measured.part.arcs:
        arcs = measured.arcs_by_file()
        return {path: {start for start, _ in found} for path, found in arcs.items()}
    return {path: set(lines) for path, lines in measured.by_file().items()}


RESULTS: Final = st.dictionaries(
    st.tuples(st.sampled_from("ab"), st.sampled_from(["", "t"])), st.sets(st.integers(1, 20))
)


@given(first=RESULTS, second=RESULTS, arcs=st.booleans())
def test_results_are_what_sets_of_lines_or_arcs_give(
    first: dict[tuple[str, str], set[int]],
    second: dict[tuple[str, str], set[int]],
    arcs: bool,  # noqa: FBT001
) -> None:
    ours, mine = _measured(first, arcs=arcs)
    theirs, others = _measured(second, arcs=arcs)
    files = {*mine, *others}
    for result, act in (
        (ours.minus(theirs), set.difference),
        (ours.common(theirs), set.intersection),
        (ours.union(theirs), set.union),
    ):
        expected = {path: act(mine.get(path, set()), others.get(path, set())) for path in files}
        assert _numbers(result) == {path: rows for path, rows in expected.items() if rows}
