"""Whatever a container writes into the data directory: it does nothing, and shows nothing.

Each test forges what a container could have written, and looks at what came of it.
"""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from coverage import CoverageData
from hypothesis import HealthCheck, given, settings, strategies as st
from tests import forks
from tests.inside.recorder.test_recordings_merge import arcs_record, segment

import hcoverage
from hcoverage._read.recording_files import read_segment
from hcoverage._read.recording_format import RecordingError
from hcoverage._untrusted.database import confined, load, refuse_excess
from hcoverage._untrusted.file import UntrustedDataError

if TYPE_CHECKING:
    from collections.abc import Callable

RCFILE: Final = "[run]\nparallel = True\n{}[paths]\napp =\n    .\n    /app\n"
TEXT: Final = "nobody may see this"
BAD_NAME: Final = ".coverage.h.pid2.Xb"
PLUGIN: Final = """\
import coverage

class Tracer(coverage.CoveragePlugin, coverage.FileTracer):
    def file_reporter(self, filename):
        return Reporter(filename)

class Other(coverage.CoveragePlugin):
    pass

class Reporter(coverage.FileReporter):
    def lines(self):
        return {1}

def coverage_init(reg, options):
    reg.add_file_tracer(Tracer())
    reg.add_configurer(Other())
"""
MANY_CONTEXTS: Final = """
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000)
    INSERT INTO context (context) SELECT i FROM n
"""


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data directory of a project, which is the current directory."""
    project = tmp_path / "project"
    data = project / "coverage_data"
    data.mkdir(parents=True)
    data.chmod(0o777)
    (project / ".coveragerc").write_text(RCFILE.format(""))
    (project / "one.py").write_text("a = 1\nb = 2\nc = 3\n")
    (tmp_path / "secret.py").write_text(f"x = 1  # {TEXT}\n")
    monkeypatch.chdir(project)
    return data


def data_file(path: Path, *measured: str) -> Path:
    data = CoverageData(basename=str(path))
    data.add_lines({name: [1] for name in measured})
    data.write()
    data.close()
    return path


def recording(
    path: Path, *measured: str, first: int = 1, marks: bytes = b"\xa5", context: bytes = b""
) -> Path:
    """Write a recording as `docs/recording-format.md` has it, all checksums right."""
    metadata = b"host=h\0python=3.13.0\0argv=python\0context=" + context
    records = b"".join(_record(name.encode(), first, marks) for name in measured)
    start = -(-(64 + len(metadata)) // 8) * 8
    fixed = b"\x89HCOV\r\n\x1a" + struct.pack(
        "<HHIQIIQ8sI", 3, 0, len(metadata), start + len(records), 7, 1, 1, b"forgedby", 1
    )
    header = fixed + struct.pack("<III", _checksum(fixed + metadata), 0, 0)
    path.write_bytes((header + metadata).ljust(start, b"\0") + records)
    return path


def _checksum(content: bytes) -> int:
    return int.from_bytes(content, "little") % 1073741789


def _record(name: bytes, first: int, marks: bytes) -> bytes:
    length = -(-(52 + len(name) + len(marks)) // 8) * 8
    beginning = b"LINE" + struct.pack("<I", length)
    rest = struct.pack("<IIIQqIII", first, len(marks), 0, 0, 0, 0, len(name), 0) + name
    checksum = struct.pack("<I", _checksum(beginning + rest))
    return (beginning + checksum + rest + marks).ljust(length, b"\0")


def merged_files() -> set[str]:
    data = CoverageData(basename=".coverage")
    data.read()
    return set(data.measured_files())


def changed(path: Path, *statements: str) -> Path:
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        for statement in statements:
            database.execute(statement)
    return path


# Files outside the project -----------------------------------------------------------------------


def by_its_name(secret: Path) -> str:
    return str(secret)


def by_dots_through_a_mapping(_secret: Path) -> str:
    return "/app/../secret.py"


def by_a_link_in_the_project(secret: Path) -> str:
    Path("link.py").symlink_to(secret)
    return str(Path("link.py").absolute())


def by_a_link_in_the_data_directory(secret: Path) -> str:
    link = Path("coverage_data", "link.py").absolute()
    link.symlink_to(secret)
    return str(link)


def by_a_mapped_link(secret: Path) -> str:
    Path("link.py").symlink_to(secret)
    return "/app/link.py"


WAYS: Final[tuple[Callable[[Path], str], ...]] = (
    by_its_name,
    by_dots_through_a_mapping,
    by_a_link_in_the_project,
    by_a_link_in_the_data_directory,
    by_a_mapped_link,
)
REPORTS: Final = (
    ["report", "--show-missing"],
    ["html"],
    ["xml"],
    ["json", "--show-contexts"],
    ["lcov"],
    ["annotate", "--directory=annotated"],
)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("forge", [data_file, recording])
def test_a_file_outside_the_project_is_not_merged_and_is_told(
    tmp_path: Path, data: Path, way: Callable[[Path], str], forge: Callable[..., Path]
) -> None:
    named = way(tmp_path / "secret.py")
    data_file(data / ".coverage.h.pid1.Xa", "/app/one.py")
    forge(data / (BAD_NAME if forge is data_file else "h.2.hcrec"), named, "/etc/shadow")
    result = hcoverage.combine([data])
    assert merged_files() == {str(Path("one.py").absolute())}
    # coverage.py's own rules may have left out a recorded one before.
    assert result.outside or forge is recording


@pytest.mark.thorough
def test_no_report_shows_text_of_a_file_outside_the_project(tmp_path: Path, data: Path) -> None:
    secret = tmp_path / "secret.py"
    named = {way(secret) for way in (by_its_name, by_dots_through_a_mapping, by_a_mapped_link)}
    Path("coverage_data/other.py").symlink_to(secret)
    named.add(str(Path("coverage_data/other.py").absolute()))
    data_file(data / BAD_NAME, "/app/one.py", "/etc/shadow", *named)
    recording(data / "h.2.hcrec", "/app/one.py", "/etc/shadow", *named)
    hcoverage.combine([data])
    secret_names = ("shadow", "secret.py", "link.py", "other.py")
    made = b""
    for arguments in REPORTS:
        done = subprocess.run(
            [sys.executable, "-m", "coverage", *arguments],
            capture_output=True,
            check=True,
            env=hcoverage.unmeasured_environment(os.environ),
        )
        made += done.stdout + done.stderr
    reports = [path for path in Path().rglob("*") if path.is_file() and not path.is_symlink()]
    made += b"".join(path.read_bytes() for path in reports)
    assert b"one.py" in made
    assert TEXT.encode() not in made
    for name in secret_names:
        assert name.encode() not in made.replace(str(tmp_path).encode(), b"")


def test_the_command_says_what_it_left_out_and_how_to_have_it(data: Path) -> None:
    data_file(data / BAD_NAME, "/app/one.py", "/etc/passwd")
    done = hcov("combine", "coverage_data")
    assert done.returncode == 0
    assert "left out: /etc/passwd is outside the project: name its directory" in done.stderr


def test_what_source_pkgs_names_in_site_packages_stays(data: Path) -> None:
    import click

    Path(".coveragerc").write_text(RCFILE.format("source_pkgs = click\n"))
    assert click.__file__
    data_file(data / BAD_NAME, click.__file__, "/etc/passwd")
    hcoverage.combine([data])
    assert click.__file__ in merged_files()
    assert {Path(name).parent for name in merged_files()} == {Path(click.__file__).parent}


@pytest.mark.parametrize(("place", "is_reported"), [(".", True), ("..", False)])
def test_a_source_in_an_archive_is_where_the_archive_is(
    data: Path, place: str, *, is_reported: bool
) -> None:
    with zipfile.ZipFile(Path(place, "bundle.zip"), "w") as archive:
        archive.writestr("inside.py", "x = 1\n")
    source = os.path.realpath(Path(place, "bundle.zip", "inside.py"))
    data_file(data / ".coverage.h.pid1.Xa", source, os.path.realpath("one.py"))
    result = hcoverage.combine([data])
    assert (source in result.outside) is not is_reported
    assert (source in merged_files()) is is_reported


def test_what_source_names_outside_the_directory_stays(tmp_path: Path, data: Path) -> None:
    library = tmp_path / "library"
    library.mkdir()
    (library / "two.py").write_text("a = 1\n")
    Path(".coveragerc").write_text(RCFILE.format(f"source = .,{library}\n"))
    data_file(data / BAD_NAME, str(library / "two.py"), str(tmp_path / "secret.py"))
    hcoverage.combine([data])
    assert merged_files() == {str(library / "two.py"), str(Path("one.py").absolute())}


@pytest.mark.parametrize(
    "pattern", ["{}/*", "../library/*", "{}/deep/t?o.py", "{}/*/two.py", "{}/deep/two.py"]
)
def test_what_include_names_outside_the_directory_stays(
    tmp_path: Path, data: Path, pattern: str
) -> None:
    library = tmp_path / "library"
    two = library / "deep" / "two.py"
    two.parent.mkdir(parents=True)
    two.write_text("a = 1\n")
    Path(".coveragerc").write_text(RCFILE.format(f"include = {pattern.format(library)}\n"))
    data_file(data / BAD_NAME, str(two), str(tmp_path / "secret.py"))
    hcoverage.combine([data])
    assert merged_files() == {str(two)}


def test_what_a_pattern_of_include_fits_stays_where_packages_are_installed_and_nowhere_else(
    tmp_path: Path, data: Path
) -> None:
    import click

    elsewhere = tmp_path / "click" / "core.py"
    elsewhere.parent.mkdir()
    elsewhere.write_text("a = 1\n")
    Path(".coveragerc").write_text(RCFILE.format("include = */click/*\n"))
    data_file(data / BAD_NAME, click.__file__, str(elsewhere), "/etc/passwd")
    result = hcoverage.combine([data])
    assert merged_files() == {click.__file__}
    assert result.outside == (str(elsewhere),)


def test_data_that_only_we_can_have_written_is_merged_as_coverage_does(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir(mode=0o700)
    data_file(own / ".coverage.h.pid1.Xa", str(tmp_path / "secret.py"))
    hcoverage.combine([own])
    assert merged_files() == {str(tmp_path / "secret.py")}


def test_a_fifo_or_a_device_as_measured_source_stops_nothing(data: Path) -> None:
    os.mkfifo("pipe.py")
    names = [str(Path("pipe.py").absolute()), "/dev/zero", "/app/one.py"]
    data_file(data / BAD_NAME, *names)
    recording(data / "h.2.hcrec", *names)
    hcoverage.combine([data])
    assert merged_files() == {str(Path("one.py").absolute())}


@pytest.mark.thorough
@pytest.mark.parametrize("plugins", ["", "plugins = my_plugin\n"])
def test_a_plugin_that_is_not_here_does_not_end_the_report(
    data: Path, monkeypatch: pytest.MonkeyPatch, plugins: str
) -> None:
    Path("my_plugin.py").write_text(PLUGIN)
    Path("page.html").write_text("<p>\n")
    monkeypatch.setenv("PYTHONPATH", str(Path.cwd()))
    Path(".coveragerc").write_text(RCFILE.format(plugins))
    for number, plugin in enumerate(["my_plugin.Tracer", "my_plugin.Other", "no.Such"]):
        names = [f"/app/{name}" for name in ("page.html", f"{number}.html", "one.py")]
        Path(f"{number}.html").write_text("<p>\n")
        written = data_file(data / f".coverage.h.pid{number}.Xa", "/app/one.py", names[number != 0])
        changed(written, f"INSERT INTO tracer VALUES (2, '{plugin}')")  # noqa: S608 - forged here
    done = hcov("combine", "coverage_data")
    assert done.returncode == 0, done.stderr
    assert "left out: 2.html was measured by 'no.Such', which is no plugin here" in done.stderr
    known = {"page.html"} if plugins else set()
    assert {Path(name).name for name in merged_files()} == {"one.py", *known}
    report = [sys.executable, "-m", "coverage", "report"]
    subprocess.run(report, check=True, env=hcoverage.unmeasured_environment(os.environ))


# Sizes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [BAD_NAME, "h.2.0123456789abcdef-1.hcrec"])
def test_ten_gigabytes_of_nothing_are_refused_at_once(data: Path, name: str) -> None:
    with (data / name).open("wb") as file:
        file.write(b"SQLite format 3\0")
        file.truncate(10 << 30)
    data_file(data / ".coverage.h.pid1.Xa", "/app/one.py")
    (item,) = hcoverage.combine([data]).set_aside
    assert item.path.name == name
    assert "10737418240 bytes" in item.reason


def test_a_recorded_map_of_more_lines_than_any_file_has_is_damage(data: Path) -> None:
    many = recording(data / "h.2.hcrec", "/app/one.py", marks=b"\xa5" * (8 << 20))
    segment = read_segment(many)
    assert not any(source.lines for source in segment.sources)
    assert "more than can be right" in segment.damage[0]


def test_a_recorded_map_that_begins_at_line_four_thousand_million_is_damage(data: Path) -> None:
    assert read_segment(recording(data / "h.2.hcrec", "/app/one.py", first=(1 << 32) - 2)).damage


@pytest.mark.parametrize("forged", [(-(2**31), -1), (1, 2**31 - 1), (1, 0, 0, 2**31 - 1)])
def test_recorded_arcs_of_more_lines_than_any_file_has_do_not_cost_the_others(
    data: Path, forged: tuple[int, ...]
) -> None:
    (data.parent / ".coveragerc").write_text(RCFILE.format("branch = True\n"))
    facts = {"host": "h", "python": "3.14.0", "branch": "1"}
    for process, (name, entry) in enumerate({"one": forged, "two": (1, 2)}.items(), 1):
        records = [arcs_record(f"/app/{name}.py", [entry])]
        (data / f"{name}.hcrec").write_bytes(segment(process, 1, facts, records))
    (item,) = hcoverage.combine([data]).set_aside
    assert item.path.name == "one.hcrec"
    assert "more than can be right" in item.reason
    assert "two.py" in {Path(name).name for name in merged_files()}


def test_a_claimed_length_of_2_to_the_60_is_damage(data: Path) -> None:
    file = recording(data / "h.2.hcrec", "/app/one.py")
    content = bytearray(file.read_bytes())
    content[16:24] = (1 << 60).to_bytes(8, "little")
    metadata = content[64 : 64 + int.from_bytes(content[12:16], "little")]
    content[52:56] = _checksum(bytes(content[:52]) + metadata).to_bytes(4, "little")
    file.write_bytes(content)
    assert read_segment(file).damage[0].startswith("cut off")


@pytest.mark.parametrize("context", [b"x" * 1_000_000, b"\x1b" * 60_000, b"\xff\xfe"])
def test_whatever_context_a_recording_names_the_others_are_merged(
    data: Path, context: bytes
) -> None:
    recording(data / "h.2.hcrec", "/app/two.py", context=context)
    recording(data / "h.3.hcrec", "/app/one.py")
    assert len(hcoverage.combine([data]).merged) == 2
    assert "one.py" in {Path(name).name for name in merged_files()}


@pytest.mark.thorough
def test_a_recording_of_more_sources_than_can_be_right_does_not_cost_the_others(data: Path) -> None:
    recording(data / "h.2.hcrec", *(f"/none/{number}.py" for number in range(21_000)))
    recording(data / "h.3.hcrec", "/app/two.py")
    (item,) = hcoverage.combine([data]).set_aside
    assert item.path.name == "h.2.hcrec"
    assert "more than can be right" in item.reason
    assert "two.py" in {Path(name).name for name in merged_files()}


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("statement", "what"),
    [
        (MANY_CONTEXTS, "contexts"),
        ("UPDATE line_bits SET numbits = zeroblob(100000000)", "lines"),
        ("INSERT INTO arc VALUES (1, 1, 4000000000, 1)", "lines"),
        ("INSERT INTO arc VALUES (1, 1, -1, -4000000000)", "lines"),
        ("UPDATE file SET path = hex(zeroblob(1000000))", "characters"),
        ("INSERT INTO context (context) SELECT hex(zeroblob(1000000))", "characters"),
    ],
)
def test_a_data_file_beyond_all_bounds_is_refused(data: Path, statement: str, what: str) -> None:
    bad = changed(context_file(data / BAD_NAME), statement)
    with pytest.raises(UntrustedDataError, match=rf"it has \d+ {what}.* more than can be right"):
        opened(bad)
    data_file(data / ".coverage.h.pid1.Xa", "/app/one.py")
    (item,) = hcoverage.combine([data]).set_aside
    assert item.path == bad


def opened(file: Path) -> sqlite3.Connection:
    database = confined()
    try:
        load(database, file.read_bytes())
        refuse_excess(database)
    except UntrustedDataError:
        database.close()
        raise
    return database


@pytest.mark.parametrize("number", ["1.5", "1e-300", "'one'", "x'31'", "NULL", "9e999"])
@pytest.mark.parametrize("arc", ["{}, 1", "1, {}"])
def test_arcs_that_are_no_whole_numbers_are_refused(data: Path, arc: str, number: str) -> None:
    arcs = "DELETE FROM line_bits", f"INSERT INTO arc VALUES (1, 1, {arc.format(number)})"  # noqa: S608
    changed(data_file(data / BAD_NAME, "/app/one.py"), *arcs)
    data_file(data / ".coverage.h.pid1.Xa", "/app/two.py")
    (item,) = hcoverage.combine([data]).set_aside
    assert item.path.name == BAD_NAME
    assert "values of the wrong type" in item.reason
    with pytest.raises(UntrustedDataError, match="values of the wrong type"):
        opened(data / BAD_NAME)


def context_file(path: Path) -> Path:
    data_file(path, "/app/one.py")
    return changed(path, "INSERT OR IGNORE INTO context (context) VALUES ('test')")


# Schemas -----------------------------------------------------------------------------------------

FORGED: Final = {
    "trigger": ["CREATE TRIGGER t AFTER INSERT ON file BEGIN DELETE FROM file; END"],
    "view": ["CREATE VIEW v AS SELECT 1"],
    "view in place of a table": [
        "ALTER TABLE file RENAME TO f",
        "CREATE VIEW file AS SELECT id, '/etc/shadow' AS path FROM f",
    ],
    "generated column": [
        "ALTER TABLE tracer ADD COLUMN g text GENERATED ALWAYS AS (hex(tracer)) VIRTUAL"
    ],
    "default that calls a function": ["ALTER TABLE tracer ADD COLUMN g text DEFAULT (hex('a'))"],
    "check that calls a function": [
        "DROP TABLE tracer",
        "CREATE TABLE tracer (file_id integer primary key, tracer text CHECK (length(tracer)))",
    ],
    "index on an expression": ["CREATE INDEX i ON file (length(path))"],
    "virtual table": ["CREATE VIRTUAL TABLE x USING fts5(y)"],
    "table too many": ["CREATE TABLE more (a)"],
    "table too few": ["DROP TABLE tracer"],
    "two versions": ["INSERT INTO coverage_schema VALUES (7)"],
    "path that is a blob": ["UPDATE file SET path = x'00ff'"],
    "line numbers that are text": ["UPDATE line_bits SET numbits = 'abc'"],
    "path that is not UTF-8": ["UPDATE file SET path = CAST(x'ff' AS text)"],
}


@pytest.mark.parametrize("kind", FORGED)
def test_a_forged_schema_is_set_aside_and_does_nothing(data: Path, kind: str) -> None:
    bad = changed(data_file(data / BAD_NAME, "/app/two.py"), *FORGED[kind])
    before = bad.read_bytes()
    data_file(data / ".coverage.h.pid1.Xa", "/app/one.py")
    (item,) = hcoverage.combine([data]).set_aside
    assert item.path == bad
    assert bad.read_bytes() == before
    assert merged_files() == {str(Path("one.py").absolute())}


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO file (path) VALUES ('x')",
        "ATTACH '/tmp/other' AS other",
        "PRAGMA writable_schema = ON",
        "SELECT load_extension('x')",
        "SELECT randomblob(1000000000)",
        "CREATE TEMP TABLE t (a)",
        "SELECT * FROM sqlite_temp_master",
        "VACUUM INTO '/tmp/other'",
    ],
)
def test_the_connection_can_do_nothing_but_read(data: Path, statement: str) -> None:
    database = opened(data_file(data / BAD_NAME, "/app/one.py"))
    try:
        assert database.execute("SELECT path FROM file").fetchall() == [("/app/one.py",)]
        with pytest.raises(sqlite3.Error):
            database.execute(statement)
    finally:
        database.close()


def test_a_journal_beside_a_data_file_is_not_played_back(data: Path) -> None:
    file = data_file(data / BAD_NAME, "/app/one.py")
    journal = data / f"{BAD_NAME}-journal"
    journal.write_bytes(b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + bytes(4096))
    opened(file).close()
    assert journal.exists()


# Names -------------------------------------------------------------------------------------------


def test_control_characters_in_names_are_harmless_where_they_are_printed(data: Path) -> None:
    data_file(data / ".coverage.h.pid1.Xa", "/app/one.py", "/nowhere/\x1b[2Jx.py")
    data_file(data / ".coverage.\x1b[31mhost\u202e.pid3.Xa", "/app/one.py")
    (data / ".coverage.h.\x1b]0;title\x07.pid2\nhcov: error: forged").touch()
    done = hcov("combine", "coverage_data")
    printed = done.stdout + done.stderr
    assert done.returncode == 3
    assert all(char.isprintable() or char == "\n" for char in printed)
    assert not any(line.startswith("hcov: error") for line in printed.splitlines())
    assert r"\x1b[31mhost\u202e" in printed
    assert not any("\x1b" in name for name in merged_files())


def hcov(*arguments: str) -> subprocess.CompletedProcess[str]:
    return forks.hcov(*arguments, env=hcoverage.unmeasured_environment(os.environ))


# Fuzzing; `dev/fuzz` goes on for longer ----------------------------------------------------------

_QUICK: Final = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def mutated(content: bytes, seed: int) -> bytes:
    chance = random.Random(seed)  # noqa: S311 - the same each time
    changed = bytearray(content)
    for _ in range(chance.choice((1, 2, 8, 64))):
        at = chance.randrange(len(changed))
        changed[at] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
    return bytes(changed[: chance.choice((len(changed), chance.randrange(len(changed))))])


@_QUICK
@given(seed=st.integers(0, 1 << 32))
def test_a_mutated_recording_is_read_or_refused(data: Path, seed: int) -> None:
    file = recording(data / "h.2.hcrec", "/app/one.py", "/app/two.py", marks=b"\xa5\0" * 50)
    file.write_bytes(mutated(file.read_bytes(), seed))
    try:
        segment = read_segment(file)
    except RecordingError:
        return
    assert all(len(source.lines) <= 1 << 20 for source in segment.sources)


@_QUICK
@given(seed=st.integers(0, 1 << 32))
def test_a_mutated_data_file_is_read_or_refused(data: Path, seed: int) -> None:
    file = data / BAD_NAME
    if not (data / "whole").exists():
        data_file(data / "whole", "/app/one.py", "/app/two.py")
    file.write_bytes(mutated((data / "whole").read_bytes(), seed))
    try:
        database = opened(file)
    except UntrustedDataError:
        return
    try:
        for table in ("file", "context", "line_bits", "arc", "tracer", "meta"):
            database.execute(f"SELECT * FROM {table}").fetchall()  # noqa: S608
    except (sqlite3.Error, UnicodeDecodeError):
        pass
    finally:
        database.close()
