"""Origins: who ran a line, the command itself, its subprocesses or an image."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from coverage import CoverageData
from tests.forks import hcov

import hcoverage
import hdocker

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

pytestmark = pytest.mark.usefixtures("clean_environment")

RCFILE: Final = (
    "[run]\nparallel = True\nbranch = {branch}\nsource = .\n[paths]\napp =\n    .\n    /app\n"
)
PROGRAM: Final = """\
import os, subprocess, sys
def in_child():
    return "child"
def in_fork():
    return "fork"
if sys.argv[1:] == ["child"]:
    in_child()
else:
    subprocess.run([sys.executable, __file__, "child"], check=True, cwd="/")
    if os.fork() == 0:
        in_fork()
        sys.exit()
    os.wait()
"""
CHILD, FORK, PARENT = 3, 5, 9
HERE: Final = os.uname().nodename.replace(".", "_")
recorder_only = pytest.mark.skipif(sys.version_info < (3, 12), reason="the recorder needs 3.12")


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with an rcfile and a program that starts itself and forks; we are in it."""
    (tmp_path / ".coveragerc").write_text(RCFILE.format(branch=False))
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def data_file(host: str, pid: int, lines: Collection[int], *, context: str = "") -> Path:
    path = Path(f"data/.coverage.{host}.pid{pid}.Xabcdefx")
    data = CoverageData(basename=str(path))
    data.set_context(context)
    data.add_lines({str(Path("program.py").absolute()): lines})
    data.close(force=True)
    return path


def lines_by_origin() -> dict[str, set[int]]:
    origins = hcoverage.read_origins(".coverage")
    program = str(Path("program.py").absolute())
    return {name: set(origins.ran(name).by_file().get(program, ())) for name in origins.names}


def forge_origins(result: Path, path: str, *, origin: str = "main") -> None:
    """Write into a data file that an origin ran a file."""
    from hcoverage._read.part import Part
    from hcoverage._result.origin_data import write_origins

    forged = Part({path: ("", 0)}, {origin: origin}, {(path, origin): 2})
    write_origins(forged, {}, result)


def add_lines(data: CoverageData) -> None:
    (path,) = data.measured_files()
    data.add_lines({path: [4]})


def add_many_files(data: CoverageData) -> None:
    data.add_lines({f"/app/{number}.py": [4] for number in range(3000)})


def touch(data: CoverageData) -> None:
    data.touch_file("/app/touched.py")


def add_a_context(data: CoverageData) -> None:
    data.set_context("another")
    add_lines(data)


def purge(data: CoverageData) -> None:
    data.purge_files(list(data.measured_files()))


def update(data: CoverageData) -> None:
    other = CoverageData("data/other")
    other.add_lines({"/app/other.py": [1]})
    other.close(force=True)
    data.update(other)


WRITES: Final = (add_lines, add_many_files, touch, add_a_context, purge, update)


class TestOfProcesses:
    @recorder_only
    def test_a_recorded_fork_belongs_to_what_it_is_a_fork_of(self) -> None:
        done = hcov("run", "--core=recorder", "--", sys.executable, "program.py")
        assert done.returncode == 0, done.stderr
        found = lines_by_origin()
        assert list(found) == ["main", "subprocesses"]
        assert {PARENT, FORK} <= found["main"]
        assert CHILD not in found["main"]
        assert CHILD in found["subprocesses"]
        assert hcoverage.read_origins(".coverage").processes == {"main": 2, "subprocesses": 1}

    def test_coverage_py_tells_the_command_from_all_others_in_a_table(self) -> None:
        done = hcov("run", "--core=coverage", "--html", "--", sys.executable, "program.py")
        assert done.returncode == 0, done.stderr
        found = lines_by_origin()
        assert PARENT in found["main"]
        assert {CHILD, FORK}.isdisjoint(found["main"])
        assert {CHILD, FORK} <= found["subprocesses"]
        title, headings, *rows, page = done.stderr.splitlines()[-5:]
        assert page == "hcov: wrote htmlcov/origins.html: who ran what, file by file"
        assert "program.py" in Path("htmlcov/origins.html").read_text()
        assert title == "hcov: who ran what:"
        assert headings.split("  ")[1] == "origin"
        assert [row.split() for row in rows] == [
            ["main", "1", "1", "7", "1"],
            ["subprocesses", "2", "1", "11", "5"],
        ]
        assert len({len(line) for line in (headings, *rows)}) == 1

    @pytest.mark.parametrize("core", ["auto", "coverage"])
    def test_a_command_that_is_no_python_has_its_first_python_as_main(self, core: str) -> None:
        script = f"'{sys.executable}' program.py; true"
        done = hcov("run", "-q", f"--core={core}", "--", "sh", "-c", script)
        assert (done.returncode, done.stderr) == (0, "")  # quiet: no table either
        assert PARENT in lines_by_origin()["main"]

    def test_branches_have_origins(self) -> None:
        Path(".coveragerc").write_text(RCFILE.format(branch=True))
        done = hcov("run", "--core=coverage", "--", sys.executable, "program.py")
        assert done.returncode == 0, done.stderr
        origins = hcoverage.read_origins(".coverage")
        (path,) = origins.only("subprocesses").arcs_by_file()
        only = origins.only("subprocesses").arcs_by_file()[path]
        assert (6, 7) in only
        assert (6, 9) not in only
        # The fork was the parent until it was forked.
        assert (6, 9) in origins.ran("main").arcs_by_file()[path]
        assert (10, 13) in origins.only("main").arcs_by_file()[path]


class TestOfHosts:
    def test_other_hosts_are_told_by_their_names(self) -> None:
        data_file(HERE, 7, [1])
        data_file(HERE, 8, [2])
        data_file("0123456789ab", 1, [3])
        data_file("build-7", 1, [4])
        hcoverage.combine(["data"], command=7)
        assert lines_by_origin() == {
            "main": {1},
            "subprocesses": {2},
            "container 0123456789ab": {3},
            "host build-7": {4},
        }

    def test_a_container_that_left_word_of_its_image_is_told_by_it(self) -> None:
        Path("data/image.0123456789ab.txt").write_text("shop:1\x1b[2J")
        data_file("0123456789ab", 1, [3])
        hcoverage.combine(["data"])
        assert lines_by_origin() == {"image shop:1 [2J": {3}}

    def test_without_a_command_nobody_is_main(self) -> None:
        data_file(HERE, 7, [1])
        hcoverage.combine(["data"])
        assert lines_by_origin() == {"processes": {1}}


class TestKeeping:
    def test_the_result_and_its_contexts_are_what_they_would_be_without(self) -> None:
        data_file(HERE, 7, [1, 2], context="test_one")
        data_file("0123456789ab", 7, [2, 3], context="test_one")
        hcoverage.combine(["data"], keep=True)
        merged = CoverageData(".coverage")
        merged.read()
        assert merged.measured_contexts() == {"test_one"}
        (path,) = merged.measured_files()
        assert merged.lines(path) == [1, 2, 3]
        merged.close(force=True)
        environment = hcoverage.unmeasured_environment(os.environ)
        combine = [sys.executable, "-m", "coverage", "combine", "--keep", "data"]
        subprocess.run(combine, check=True, env=environment, capture_output=True)
        theirs = CoverageData(".coverage")
        theirs.read()
        assert theirs.lines(path) == [1, 2, 3]
        theirs.close(force=True)

    def test_the_same_data_counts_for_each_origin_that_has_it(self) -> None:
        data_file(HERE, 7, [1])
        data_file("0123456789ab", 7, [1])
        hcoverage.combine(["data"], command=7)
        assert lines_by_origin() == {"main": {1}, "container 0123456789ab": {1}}

    def test_append_merges_into_what_was_known(self) -> None:
        data_file(HERE, 7, [1])
        hcoverage.combine(["data"], command=7)
        data_file(HERE, 9, [2])
        data_file("0123456789ab", 7, [3])
        hcoverage.combine(["data"], command=9, append=True)
        assert lines_by_origin() == {"main": {1, 2}, "container 0123456789ab": {3}}
        assert hcoverage.read_origins(".coverage").processes["main"] == 2

    def test_results_of_several_machines_keep_their_origins(self, tmp_path: Path) -> None:
        for number, host in enumerate(("0123456789ab", "build-7"), 1):
            data_file(HERE, 7, [number])
            data_file(host, 1, [number + 4])
            (tmp_path / f"shard-{number}").mkdir()
            result = tmp_path / f"shard-{number}" / ".coverage"
            hcoverage.combine(["data"], data_file=result, command=7)
        hcoverage.combine(["shard-1/.coverage", "shard-2/.coverage"])
        assert lines_by_origin() == {
            "main": {1, 2},
            "container 0123456789ab": {5},
            "host build-7": {6},
        }
        assert hcoverage.read_origins(".coverage").processes["main"] == 2
        assert list(tmp_path.glob("shard-*/.*")) == []

    def test_origins_of_what_is_not_in_the_result_do_not_get_into_it(self, tmp_path: Path) -> None:
        (tmp_path / "shard").mkdir()
        result = data_file(HERE, 7, [1]).rename(tmp_path / "shard" / ".coverage")
        forge_origins(result, "/etc/shadow")
        assert hcoverage.read_origins(result).part.paths.keys() == {"/etc/shadow"}
        hcoverage.combine(["shard/.coverage"])
        assert hcoverage.read_origins(".coverage").part.paths.keys() == {
            str(Path("program.py").absolute())
        }

    @pytest.mark.parametrize(("mode", "is_believed"), [(0o755, True), (0o777, False)])
    def test_they_are_not_believed_where_a_container_may_have_written_them(
        self,
        tmp_path: Path,
        mode: int,
        is_believed: bool,  # noqa: FBT001
    ) -> None:
        named = data_file(HERE, 7, [1]).rename("data/.coverage.of-nobody")
        forge_origins(named, str(tmp_path / "program.py"), origin="boss\x1b[2J")
        forge_origins(data_file(HERE, 7, [1]), str(tmp_path / "program.py"), origin="nobody")
        Path("data").chmod(mode)
        hcoverage.combine(["data"], command=7)
        names = hcoverage.read_origins(".coverage").names
        assert names == (["main", "boss\\x1b[2J"] if is_believed else ["main"])

    def test_the_same_results_are_told_as_such(self, tmp_path: Path) -> None:
        for shard in ("one", "two"):
            (tmp_path / shard).mkdir()
            data_file(HERE, 7, [1])
            data_file(HERE, 8, [2])
            result = tmp_path / shard / ".coverage"
            hcoverage.combine(["data"], data_file=result, command=7 if shard == "one" else None)
        (same,) = hcoverage.combine(["one/.coverage", "two/.coverage"]).duplicates
        assert same == tmp_path / "two" / ".coverage"

    def test_what_earlier_versions_left_is_let_be(self) -> None:
        left = Path(".hcov-origins.coverage")
        left.write_text("whatever")
        data_file(HERE, 7, [1])
        hcoverage.combine(["data"], command=7)
        assert lines_by_origin() == {"main": {1}}
        assert left.read_text() == "whatever"

    def test_appending_to_data_of_nobody_known_leaves_that_out(self) -> None:
        data_file(HERE, 7, [1]).rename(".coverage")
        data_file(HERE, 9, [2])
        hcoverage.combine(["data"], command=9, append=True)
        assert lines_by_origin() == {"main": {2}}

    def test_without_append_they_are_renewed(self) -> None:
        data_file(HERE, 7, [1])
        hcoverage.combine(["data"], command=7)
        data_file("0123456789ab", 7, [3])
        hcoverage.combine(["data"])
        assert lines_by_origin() == {"container 0123456789ab": {3}}

    def test_coverage_combine_takes_no_notice(self) -> None:
        data_file(HERE, 7, [1])
        hcoverage.combine(["data"], command=7)
        before = Path(".coverage").read_bytes()
        environment = hcoverage.unmeasured_environment(os.environ)
        combine = [sys.executable, "-m", "coverage", "combine", "--append"]
        done = subprocess.run(combine, env=environment, capture_output=True, text=True, check=False)
        assert "No data to combine" in done.stdout
        assert Path(".coverage").read_bytes() == before
        assert lines_by_origin() == {"main": {1}}

    def test_a_source_outside_the_project_has_no_origin_either(self, tmp_path: Path) -> None:
        Path("data").chmod(0o777)
        Path(".coveragerc").write_text("")  # no `source`: anything may count
        outside = tmp_path.parent / "outside.py"
        outside.write_text("secret = 1\n")
        path = data_file(HERE, 7, [1])
        data = CoverageData(basename=str(path))
        data.read()
        data.add_lines({str(outside): [1]})
        data.close(force=True)
        result = hcoverage.combine(["data"], command=7)
        outside.unlink()
        assert result.outside == (str(outside),)
        assert set(hcoverage.read_origins(".coverage").part.paths) == {
            str(Path("program.py").absolute())
        }


class TestBadInputs:
    def test_no_data_file_says_how_to_get_one(self) -> None:
        with pytest.raises(hcoverage.OriginsError, match=r"no data file .*hcov run"):
            hcoverage.read_origins(".coverage")

    def test_a_data_file_without_origins_says_who_writes_them(self) -> None:
        data_file(HERE, 7, [1]).rename(".coverage")
        with pytest.raises(hcoverage.OriginsError, match=r"who ran what: .* `hcov combine`"):
            hcoverage.read_origins(".coverage")

    @pytest.mark.parametrize("several", [False, True])
    @pytest.mark.parametrize("write", WRITES, ids=[each.__name__ for each in WRITES])
    def test_origins_of_data_that_was_written_to_since_are_not_believed(
        self,
        write: Callable[[CoverageData], None],
        several: bool,  # noqa: FBT001
    ) -> None:
        data_file(HERE, 7, [1])
        if several:
            data_file("0123456789ab", 7, [3], context="a" * 5000)
        hcoverage.combine(["data"], command=7)
        assert len(lines_by_origin()) == 1 + several
        data = CoverageData(".coverage")
        data.read()
        write(data)
        data.close(force=True)
        with pytest.raises(hcoverage.OriginsError, match="has changed since its origins"):
            hcoverage.read_origins(".coverage")

    @pytest.mark.parametrize(
        "statement",
        [
            "DELETE FROM hcov_origins",
            "INSERT INTO hcov_origins SELECT * FROM hcov_origins",
            "UPDATE hcov_origins SET data = 'text'",
            "UPDATE hcov_origins SET processes = NULL",
            "UPDATE hcov_origins SET data = x''",
            "UPDATE hcov_origins SET data = x'00010203'",
            "UPDATE hcov_origins SET data = substr(data, 1, 100)",
            "UPDATE hcov_origins SET origin = CAST(x'ff' AS text)",
        ],
    )
    def test_damaged_origins_are_told_and_cost_the_data_nothing(self, statement: str) -> None:
        data_file(HERE, 7, [1])
        data_file("0123456789ab", 7, [3])
        hcoverage.combine(["data"], command=7)
        with contextlib.closing(sqlite3.connect(".coverage")) as database, database:
            database.execute(statement)
        with pytest.raises(hcoverage.OriginsError, match="cannot be read"):
            hcoverage.read_origins(".coverage")
        hcoverage.combine([".coverage"], data_file="again")
        merged = CoverageData("again")
        merged.read()
        assert merged.lines(str(Path("program.py").absolute())) == [1, 3]

    @pytest.mark.thorough
    def test_a_bomb_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        largest = 64 << 20  # a gigabyte takes long to unpack
        monkeypatch.setattr("hcoverage._result.origin_data.LARGEST", largest)
        data_file(HERE, 7, [1])
        data_file("0123456789ab", 7, [3])
        hcoverage.combine(["data"], command=7)
        compressor = zlib.compressobj()
        zeros = bytes(1 << 20)
        beginning, more = (
            compressor.compress(zeros) + compressor.flush(zlib.Z_FULL_FLUSH) for _ in range(2)
        )
        bomb = beginning + more * (largest >> 20)
        with contextlib.closing(sqlite3.connect(".coverage")) as database, database:
            database.execute("UPDATE hcov_origins SET data = ?", (bomb,))
        with pytest.raises(hcoverage.OriginsError, match="larger than can be right"):
            hcoverage.read_origins(".coverage")

    @pytest.mark.parametrize(
        "forged",
        [
            "CREATE TABLE hcov_origins (digest, processes, origin, data)",
            "CREATE TABLE hcov_origins ( digest blob, origin text, data blob DEFAULT (hex('a')) )",
            "CREATE VIEW hcov_origins AS SELECT path AS digest FROM file",
        ],
    )
    def test_a_table_of_their_name_that_is_another_is_foreign(self, forged: str) -> None:
        path = data_file(HERE, 7, [1])
        with contextlib.closing(sqlite3.connect(path)) as database, database:
            database.execute(forged)
        with pytest.raises(hcoverage.OriginsError, match=r"coverage\.py did not write it"):
            hcoverage.read_origins(path)
        with pytest.raises(hcoverage.CombineError, match=r"coverage\.py did not write it"):
            hcoverage.combine(["data"])

    def test_an_origin_that_is_not_there_lists_those_that_are(self) -> None:
        data_file(HERE, 7, [1])
        data_file("0123456789ab", 7, [3])
        hcoverage.combine(["data"], command=7)
        origins = hcoverage.read_origins(".coverage")
        with pytest.raises(hcoverage.OriginsError, match="there are: main, container 0123456789ab"):
            origins.resolve("web")
        assert origins.resolve("0123") == "container 0123456789ab"


class TestTable:
    def test_a_run_of_one_process_needs_none(self) -> None:
        done = hcov("run", "--", sys.executable, "program.py", "child")
        assert "who ran what" not in done.stderr

    def test_many_origins_are_counted_instead_of_listed(self) -> None:
        from hcov._tell.analysis import analysed
        from hcov._tell.origin_counts import counted_origins
        from hcov._tell.origin_table import table

        for number in range(14):
            data_file(f"{number:012x}", 1, [1])
        hcoverage.combine(["data"])
        with analysed(Path(".coverage"), hcoverage.read_rcfile()) as analysis:
            counted = counted_origins(Path(".coverage"), analysis)
            assert counted is not None
            lines = table(counted.origins, counted.files())
        assert len(lines) == 12
        assert lines[-1] == "and 4 more"


@pytest.mark.engine
@recorder_only
class TestOfImages:
    @pytest.mark.parametrize("core", ["recorder", "coverage"])
    def test_a_container_is_told_by_its_image(
        self, core: str, python_image: str, container_label: str
    ) -> None:
        with hcoverage.open_session(core=core) as session:
            os.environ.update(session.environment)
            run = hdocker.get_docker_base_cmd(
                image=python_image,
                options=[
                    "--label",
                    container_label,
                    "-v",
                    f"{Path.cwd()}/program.py:/app/program.py",
                ],
            )
            # One of them has no environment.
            both = 'env -i "$(command -v python3)" program.py child; python3 program.py child'
            subprocess.run([*run, "-w", "/app", python_image, "sh", "-ec", both], check=True)
            subprocess.run([sys.executable, "program.py", "child"], check=True)
            hcoverage.combine(session.data_paths(), coveragerc=session.rcfile, command=1)
        image = f"image {python_image}"
        assert list(lines_by_origin()) == ["main", image]
        processes = hcoverage.read_origins(".coverage").processes
        assert processes == {"main": 1, image: 2}
