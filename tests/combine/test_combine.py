"""Combine: everything that can be merged is, the rest is told, and nothing is lost on the way."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from coverage import CoverageData

import hcoverage

RCFILE = "[run]\nparallel = True\n[paths]\napp =\n    .\n    /app\n"


def data_file(
    path: Path, lines: dict[str, list[int]], *, arcs: dict[str, list[tuple[int, int]]] | None = None
) -> Path:
    data = CoverageData(basename=str(path))
    if arcs is None:
        data.add_lines(lines)
    else:
        data.add_arcs(arcs)
    data.write()
    data.close()
    return path


def lines_in(path: Path) -> dict[str, list[int]]:
    data = CoverageData(basename=str(path))
    data.read()
    return {name: sorted(data.lines(name) or []) for name in data.measured_files()}


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with an rcfile, a module, and a data directory; the current directory."""
    project = tmp_path / "project"
    (project / "coverage_data").mkdir(parents=True)
    (project / ".coveragerc").write_text(RCFILE)
    (project / "one.py").write_text("a = 1\nb = 2\nc = 3\n")
    monkeypatch.chdir(project)
    return project


@pytest.fixture
def data(project: Path) -> Path:
    return project / "coverage_data"


class TestMerging:
    def test_host_and_container_lines_are_one_file_under_host_paths(
        self, project: Path, data: Path
    ) -> None:
        here = data_file(data / ".coverage.myhost.pid1.Xa", {str(project / "one.py"): [1]})
        there = data_file(data / ".coverage.0123456789ab.pid7.Xb", {"/app/one.py": [3]})
        result = hcoverage.combine([data])
        assert lines_in(project / ".coverage") == {str(project / "one.py"): [1, 3]}
        assert result.data_file == project / ".coverage"
        assert set(result.merged) == {here, there}
        assert result.set_aside == ()

    def test_says_what_coverage_combine_says(self, project: Path, data: Path) -> None:
        (project / "sub").mkdir()
        (project / "sub" / "two.py").touch()
        for number in range(20):
            lines = {f"/app/{name}.py": [number, 3 * number + 1] for name in ("one", "sub/two")}
            data_file(data / f".coverage.h.pid{number}.Xa", lines)
        hcoverage.combine([data], data_file="ours", keep=True)
        combine = [sys.executable, "-m", "coverage", "combine", "--data-file=.coverage", str(data)]
        environment = hcoverage.unmeasured_environment(os.environ)
        subprocess.run(combine, check=True, env=environment, capture_output=True)
        assert lines_in(Path("ours")) == lines_in(project / ".coverage")

    def test_branches(self, project: Path, data: Path) -> None:
        arcs = {"/app/one.py": [(-1, 1), (1, 2)]}
        data_file(data / ".coverage.h.pid1.Xa", {}, arcs=arcs)
        hcoverage.combine([data])
        merged = CoverageData(basename=".coverage")
        merged.read()
        assert sorted(merged.arcs(str(project / "one.py")) or []) == [(-1, 1), (1, 2)]

    def test_what_is_merged_is_removed_and_the_rcfile_stays(self, data: Path) -> None:
        data_file(data / ".coverage.h.pid1.Xa", {"/app/one.py": [1]})
        (data / ".coveragerc").write_text(RCFILE)
        hcoverage.combine([data])
        assert [path.name for path in data.iterdir()] == [".coveragerc"]

    def test_keep_leaves_it_there(self, data: Path) -> None:
        file = data_file(data / ".coverage.h.pid1.Xa", {"/app/one.py": [1]})
        hcoverage.combine([data], keep=True)
        assert file.exists()

    def test_append_adds_to_the_result_of_before(self, project: Path, data: Path) -> None:
        data_file(data / ".coverage.h.pid1.Xa", {"/app/one.py": [1]})
        hcoverage.combine([data])
        data_file(data / ".coverage.h.pid2.Xb", {"/app/one.py": [2]})
        hcoverage.combine([data], append=True)
        assert lines_in(project / ".coverage") == {str(project / "one.py"): [1, 2]}

    def test_without_append_the_result_of_before_is_replaced(
        self, project: Path, data: Path
    ) -> None:
        data_file(project / ".coverage", {str(project / "one.py"): [1]})
        data_file(data / ".coverage.h.pid2.Xb", {"/app/one.py": [2]})
        hcoverage.combine([data])
        assert lines_in(project / ".coverage") == {str(project / "one.py"): [2]}

    def test_other_data_beside_the_result_is_not_this_runs(self, project: Path, data: Path) -> None:
        stray = data_file(project / ".coverage.h.pid9.Xz", {"/app/one.py": [3]})
        data_file(data / ".coverage.h.pid1.Xa", {"/app/one.py": [1]})
        hcoverage.combine([data])
        assert lines_in(project / ".coverage") == {str(project / "one.py"): [1]}
        assert stray.exists()

    def test_an_awkward_path(self, project: Path) -> None:
        directory = project / 'it\'s a "dir" *; $x'
        directory.mkdir()
        data_file(directory / ".coverage.h.pid1.Xa", {"/app/one.py": [1]})
        hcoverage.combine([directory], data_file=directory / ".coverage")
        assert lines_in(directory / ".coverage") == {str(project / "one.py"): [1]}


class TestDuplicates:
    def test_files_of_the_same_data_are_counted_and_removed(self, data: Path) -> None:
        # As coverage.py writes them: who and when differ, and the lines do not.
        for number, lines in enumerate([[1, 2], [1, 2], [1, 3]]):
            path = data_file(data / f".coverage.h.pid{number}.Xabcdefx", {"/app/one.py": lines})
            with contextlib.closing(sqlite3.connect(path)) as database, database:
                database.execute("INSERT INTO meta VALUES ('sys_argv', ?)", (f"run {number}",))
        result = hcoverage.combine([data])
        assert [path.name for path in result.duplicates] == [".coverage.h.pid1.Xabcdefx"]
        assert len(result.merged) == 3
        assert list(data.iterdir()) == []

    def test_a_name_that_claims_to_be_a_duplicate_is_not_believed(
        self, project: Path, data: Path
    ) -> None:
        for number in (1, 2):
            name = f".coverage.h.pid{number}.Xabcdefx.Habcdefghijh"
            data_file(data / name, {"/app/one.py": [number]})
        assert hcoverage.combine([data]).duplicates == ()
        assert lines_in(project / ".coverage") == {str(project / "one.py"): [1, 2]}


def cut_off(path: Path) -> None:
    whole = data_file(path, {f"/app/{n}.py": list(range(100)) for n in range(200)}).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def forged(path: Path) -> None:
    data_file(path, {"/app/one.py": [1]})
    with sqlite3.connect(path) as database:
        database.execute("CREATE TRIGGER t AFTER INSERT ON file BEGIN DELETE FROM file; END")
    database.close()


def of_another_schema(path: Path) -> None:
    data_file(path, {"/app/one.py": [1]})
    with sqlite3.connect(path) as database:
        database.execute("UPDATE coverage_schema SET version = 999")
    database.close()


def link_to_good_data(path: Path) -> None:
    elsewhere = data_file(path.parent.parent / "elsewhere", {"/app/one.py": [1]})
    path.symlink_to(elsewhere)


BAD = {
    "empty": lambda path: path.touch(),
    "random bytes": lambda path: path.write_bytes(os.urandom(5000)),
    "text": lambda path: path.write_text("hello"),
    "cut off": cut_off,
    "directory": lambda path: path.mkdir(),
    "fifo": os.mkfifo,
    "dangling link": lambda path: path.symlink_to("nowhere"),
    "link": link_to_good_data,
    "forged schema": forged,
    "another schema": of_another_schema,
}


class TestBadFiles:
    @pytest.mark.parametrize("kind", BAD)
    def test_one_bad_file_never_costs_the_others(
        self, project: Path, data: Path, kind: str
    ) -> None:
        data_file(data / ".coverage.h.pid1.Xa", {"/app/one.py": [1]})
        bad = data / ".coverage.h.pid2.Xb"
        BAD[kind](bad)
        data_file(data / ".coverage.h.pid3.Xc", {"/app/one.py": [3]})
        result = hcoverage.combine([data])
        assert lines_in(project / ".coverage") == {str(project / "one.py"): [1, 3]}
        assert [item.path for item in result.set_aside] == [bad]
        assert result.set_aside[0].reason
        assert os.path.lexists(bad)

    def test_branches_among_lines_are_set_aside_with_the_name_of_the_other(
        self, project: Path, data: Path
    ) -> None:
        data_file(data / ".coverage.h.pid1.Xa", {"/app/one.py": [1]})
        odd = data_file(data / ".coverage.h.pid2.Xb", {}, arcs={"/app/one.py": [(1, 2)]})
        (item,) = hcoverage.combine([data]).set_aside
        assert item.path == odd
        assert ".coverage.h.pid1.Xa" in item.reason
        assert lines_in(project / ".coverage") == {str(project / "one.py"): [1]}

    def test_the_majority_decides_and_the_odd_one_is_told_by_its_process(
        self, project: Path, data: Path
    ) -> None:
        odd = data_file(data / ".coverage.h.pid17.Xabcdefx", {"/app/one.py": [1]})
        for number in range(2):
            path = data / f".coverage.h.pid{number}.Xabcdefx"
            data_file(path, {}, arcs={"/app/one.py": [(1, number + 2)]})
        (item,) = hcoverage.combine([data]).set_aside
        assert item.path == odd
        assert "line data (of process 17 on h)" in item.reason
        assert "and 1 more have branch data" in item.reason
        assert lines_in(project / ".coverage") == {str(project / "one.py"): [1, 2, 3]}

    def test_an_rcfile_that_wants_branches_decides_against_the_majority(
        self, project: Path, data: Path
    ) -> None:
        (project / ".coveragerc").write_text(RCFILE.replace("[paths]", "branch = True\n[paths]"))
        for number in range(2):
            data_file(data / f".coverage.h.pid{number}.Xabcdefx", {"/app/one.py": [1]})
        data_file(data / ".coverage.h.pid2.Xabcdefx", {}, arcs={"/app/one.py": [(2, 3)]})
        assert len(hcoverage.combine([data]).set_aside) == 2
        assert lines_in(project / ".coverage") == {str(project / "one.py"): [2, 3]}

    def test_what_is_appended_to_decides_and_is_not_lost(self, project: Path, data: Path) -> None:
        data_file(project / ".coverage", {}, arcs={"/app/one.py": [(1, 2)]})
        for number in range(2):
            data_file(data / f".coverage.h.pid{number}.Xabcdefx", {"/app/one.py": [3]})
        assert len(hcoverage.combine([data], append=True).set_aside) == 2
        assert lines_in(project / ".coverage") == {"/app/one.py": [1, 2]}

    def test_a_journal_is_no_data_file(self, data: Path) -> None:
        data_file(data / ".coverage.h.pid1.Xa", {"/app/one.py": [1]})
        (data / ".coverage.h.pid1.Xa-journal").write_bytes(b"x")
        assert hcoverage.combine([data]).set_aside == ()


class TestNothingIsLost:
    def test_nothing_to_merge_says_what_to_do(self, project: Path, data: Path) -> None:
        with pytest.raises(hcoverage.NoDataError, match="hcov run"):
            hcoverage.combine([data])
        assert not (project / ".coverage").exists()

    def test_only_bad_files_are_named_and_kept(self, project: Path, data: Path) -> None:
        bad = data / ".coverage.h.pid1.Xa"
        bad.touch()
        with pytest.raises(hcoverage.CombineError, match=r"pid1.*it is empty"):
            hcoverage.combine([data])
        assert bad.exists()
        assert not (project / ".coverage").exists()

    def test_a_path_that_is_not_there(self) -> None:
        with pytest.raises(FileNotFoundError, match="nosuch"):
            hcoverage.combine(["nosuch"])

    def test_when_coverage_cannot_combine_all_is_as_it_was(self, project: Path, data: Path) -> None:
        data_file(project / ".coverage", {str(project / "one.py"): [2]})
        file = data_file(data / ".coverage.h.pid1.Xa", {"/app/one.py": [1]})
        with pytest.raises(hcoverage.NoRcfileError, match="no rcfile at"):
            hcoverage.combine([data], coveragerc="nosuch.rc")
        assert file.exists()
        assert lines_in(project / ".coverage") == {str(project / "one.py"): [2]}
        assert not list(project.glob(".hcov-*"))

    def test_a_result_that_cannot_be_put_in_place_removes_nothing(
        self, project: Path, data: Path
    ) -> None:
        (project / ".coverage").mkdir()
        file = data_file(data / ".coverage.h.pid1.Xa", {"/app/one.py": [1]})
        with pytest.raises(OSError, match="directory"):
            hcoverage.combine([data])
        assert file.exists()
        assert not list(project.glob(".hcov-*"))


def test_the_result_is_what_every_report_reads(data: Path) -> None:
    data_file(data / ".coverage.h.pid1.Xa", {"/app/one.py": [1, 2]})
    hcoverage.combine([data])
    command = [sys.executable, "-m", "coverage", "json", "-q"]
    environment = hcoverage.unmeasured_environment(os.environ)
    subprocess.run(command, check=True, env=environment)
    report = json.loads(Path("coverage.json").read_text())
    assert report["files"]["one.py"]["missing_lines"] == [3]
