"""Reading recordings: whole, cut off, damaged, or made to do harm, never a wrong line.

Of the places to cut and to damage each third is tried; each one, and more damage, with

    HCOVERAGE_CORPUS=full python -m pytest tests/inside/recorder/test_recordings.py
"""

from __future__ import annotations

import os
import random
import shutil
import sys
import time
from binascii import crc32
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.forks import forked
from tests.sampling import FULL

from hcoverage._inside import recorder_sources
from hcoverage._read.branches import lines_that_ran, opcodes_of
from hcoverage._read.recording_files import read_files, read_segment
from hcoverage._read.recording_format import (
    MAGIC,
    RECORD_FIXED,
    SEEN_FIXED,
    RecordingError,
    Segment,
    checked_length,
    more_length,
    parse_header,
)
from hcoverage._sources.identity import with_checksum

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.inside.recorder.conftest import Bench, MakeBench

pytestmark = pytest.mark.skipif(sys.version_info < (3, 12), reason="needs sys.monitoring")


EACH = 1 if FULL else 3
# What `sitecustomize` does for lines to be marked, and for instructions, and sources told by time.
HOW = {
    "lines": "import hcrecorder\nhcrecorder.start()\n",
    "instructions": (
        "import hcrecorder\nhcrecorder._LONG_LINE_TABLES = (0, 0)\n"
        "hcrecorder.start(settled_before=1 << 62)\n"
    ),
}
if sys.version_info < (3, 14):
    HOW["branches in a context"] = (
        "import hcrecorder, hcrecorder_contexts\nhcrecorder.start(branch=True)\n"
        "hcrecorder_contexts.by_hand(hcrecorder).switch('a')\n"
    )


@pytest.fixture(scope="module", params=HOW)
def recorded(
    request: pytest.FixtureRequest,
    make_bench: MakeBench,
    tmp_path_factory: pytest.TempPathFactory,
) -> Bench:
    """A bench on which a program with three modules has run, in one segment."""
    bench = make_bench(tmp_path_factory.mktemp("recorded"))
    bench.customize(HOW[request.param])
    bench.write("import one, two\nif one.x:\n    y = 1\nelse:\n    y = 2\n")
    bench.write("x = 1\ndef never():\n    return 1\n", "one.py")
    bench.write("def f():\n    return 1\nf()\n", "two.py")
    bench.run("app.py")
    return bench


@pytest.fixture(scope="module")
def packages(make_bench: MakeBench, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A bench on which a program with packages has run."""
    bench = make_bench(tmp_path_factory.mktemp("packages"))
    bench.write("import pkg.other, pkg.sub.deep, colorsys\n")
    for name in ("pkg/__init__.py", "pkg/other.py", "pkg/sub/__init__.py", "pkg/sub/deep.py"):
        bench.write("x = 1\n", name)
    (bench.root / "venv").mkdir()
    bench.env["HCOVERAGE_RECORD_SKIP"] = str(bench.site)
    bench.run("app.py")
    return bench


def _lines(segment: Segment) -> dict[str, frozenset[int]]:
    found: dict[str, frozenset[int]] = {}
    for source in segment.sources:
        name = Path(source.path).name
        found[name] = found.get(name, frozenset()) | source.lines
        opcodes = opcodes_of(segment.process.python)
        if opcodes:
            found[name] |= frozenset(lines_that_ran(source.branching, opcodes))
    return found


WHOLE = {
    "app.py": frozenset({1, 2, 3}),
    "one.py": frozenset({1, 2}),
    "two.py": frozenset({1, 2, 3}),
}


def _file(bench: Bench) -> Path:
    (file,) = bench.data.glob("*.hcrec")
    return file


def _read_copy(tmp_path: Path, content: bytes) -> Segment:
    file = tmp_path / "copy.hcrec"
    file.write_bytes(content)
    return read_segment(file)


def test_whole(recorded: Bench) -> None:
    segment = read_segment(_file(recorded))
    assert _lines(segment) == WHOLE
    assert segment.damage == ()
    assert segment.loss is None
    for source in segment.sources:
        status = Path(source.path).stat()
        assert (source.size, source.modified) == (status.st_size, status.st_mtime_ns)


@pytest.mark.thorough
def test_cut_off_at_each_byte(recorded: Bench, tmp_path: Path) -> None:
    content = _file(recorded).read_bytes()
    used = len(content.rstrip(b"\0"))
    last = 0
    for length in [*range(0, used, EACH), used, len(content) - 1]:
        try:
            segment = _read_copy(tmp_path, content[:length])
        except RecordingError:
            assert last == 0, "a longer piece has at least what a shorter one has"
            continue
        assert segment.damage, length
        found = _lines(segment)
        assert all(lines <= WHOLE[name] for name, lines in found.items())
        assert sum(map(len, found.values())) >= last
        last = sum(map(len, found.values()))
    assert last == sum(map(len, WHOLE.values()))


BITS = (0, 3, 7)


@pytest.mark.thorough
def test_each_bit_flipped(recorded: Bench, tmp_path: Path) -> None:
    content = _file(recorded).read_bytes()
    used = len(content.rstrip(b"\0"))
    told = 0
    positions = range(0, used, EACH)
    for position in positions:
        for bit in BITS if FULL else BITS[position // EACH % 3 :][:1]:
            damaged = bytearray(content)
            damaged[position] ^= 1 << bit
            try:
                segment = _read_copy(tmp_path, bytes(damaged))
            except RecordingError:
                told += 1
                continue
            found = _lines(segment)
            assert all(lines <= WHOLE[name] for name, lines in found.items())
            if found != WHOLE:
                assert segment.damage
            told += bool(segment.damage or segment.loss)
    # What is not told is padding between records, which says nothing.
    records = len(read_segment(_file(recorded)).sources)
    each = len(BITS) if FULL else 1
    assert told >= each * (len(positions) - -(-8 // EACH) * (records + 1))


@pytest.mark.thorough
def test_random_damage(recorded: Bench, tmp_path: Path) -> None:
    content = _file(recorded).read_bytes()
    choose = random.Random(1)  # noqa: S311 - the same damage each time
    for _ in range(2_000 // EACH):
        damaged = bytearray(content)
        for _ in range(choose.randint(1, 60)):
            # Any byte but a mark: what it takes to forge one is written in the format.
            damaged[choose.randrange(len(content))] = choose.choice([0, 1, 0x5A, 0xFF, 0xA4, 0x4C])
        try:
            found = _lines(_read_copy(tmp_path, bytes(damaged)))
        except RecordingError:
            continue
        assert all(lines <= WHOLE[name] for name, lines in found.items())


@pytest.mark.thorough
def test_a_record_that_a_kill_left_unfinished_is_no_damage(recorded: Bench, tmp_path: Path) -> None:
    content = _file(recorded).read_bytes()
    for begin, put in _records(content):
        before, after = content[:begin], bytes(len(content) - begin - put)
        expected = _lines(_read_copy(tmp_path, before + bytes(put) + after))
        # `memcpy` may begin at either end; the first four bytes come after all others.
        record = bytes(4) + content[begin + 4 : begin + put]
        for written in [*range(0, put, EACH), put]:
            from_start = record[:written] + bytes(put - written)
            from_end = bytes(written) + record[written:]
            for unfinished in (from_start, from_end):
                segment = _read_copy(tmp_path, before + unfinished + after)
                assert segment.damage == (), (begin, written)
                assert _lines(segment) == expected


def _records(content: bytes) -> Iterator[tuple[int, int]]:
    """Yield where each record begins, and how many bytes are written before it is there."""
    *_, position = parse_header(content)
    while (length := checked_length(content, position)) is not None:
        if content.startswith(b"SEEN", position):
            yield position, SEEN_FIXED
        else:
            names = [content[position + at : position + at + 4] for at in (44, 48)]
            put = RECORD_FIXED + sum(int.from_bytes(each, "little") for each in names)
            yield position, put + more_length(content, position, position + put)
        position += length


@pytest.mark.parametrize("recorded", ["lines"], indirect=True)
def test_goes_on_after_a_damaged_record(recorded: Bench, tmp_path: Path) -> None:
    content = bytearray(_file(recorded).read_bytes())
    second = content.index(b"LINE", content.index(b"LINE") + 1)
    content[second + 8] ^= 0xFF
    segment = _read_copy(tmp_path, bytes(content))
    assert _lines(segment) == {name: WHOLE[name] for name in ("app.py", "two.py")}
    assert segment.damage == (f"unfinished or damaged at byte {second}",)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (bytes(4096), "empty"),
        (bytes(4) + MAGIC[4:] + bytes(90), "empty"),
        (bytes(4) + MAGIC[4:] + bytes(90) + b"LINE", "not a recording"),
        (b"SQLite format 3\0" * 9, "not a recording"),
        (MAGIC, "cut off in the header"),
        (MAGIC + b"\x02" + bytes(90), "format version 2; this is a reader of version 5"),
        (MAGIC + b"\x03\0\0\0" + b"\xff" * 80, "cut off in the header"),
        (MAGIC + b"\x03" + bytes(90), "the header is damaged"),
    ],
)
def test_what_is_no_recording(tmp_path: Path, content: bytes, reason: str) -> None:
    with pytest.raises(RecordingError, match=f"^{reason}$"):
        _read_copy(tmp_path, content)


def test_links_and_pipes_are_not_opened(recorded: Bench, tmp_path: Path) -> None:
    (tmp_path / "link.hcrec").symlink_to(_file(recorded))
    os.mkfifo(tmp_path / "pipe.hcrec")
    (tmp_path / "directory.hcrec").mkdir()
    with (tmp_path / "huge.hcrec").open("wb") as file:
        file.truncate(1 << 40)
    (tmp_path / "other").write_text("not ours")
    found = read_files(tmp_path.iterdir())
    assert found.recordings == ()
    assert {each.path.name for each in found.unreadable} == {
        "link.hcrec",
        "pipe.hcrec",
        "directory.hcrec",
        "huge.hcrec",
    }


def test_many_false_beginnings_do_not_take_long(recorded: Bench, tmp_path: Path) -> None:
    content = _file(recorded).read_bytes()
    end = len(content.rstrip(b"\0")) + 8
    assert _read_copy(tmp_path, content[:end] + b"LINE" * 2_000_000).damage


def test_one_bad_file_does_not_stop_the_others(recorded: Bench, tmp_path: Path) -> None:
    shutil.copy(_file(recorded), tmp_path)
    (tmp_path / "bad.hcrec").write_bytes(b"?")
    found = read_files(tmp_path.iterdir())
    assert len(found.recordings) == len(found.unreadable) == 1


@pytest.mark.parametrize(
    "settings",
    [
        "source = pkg",
        "source = .",
        "source_pkgs = pkg.sub",
        "source_pkgs =\n    pkg\n    colorsys",
        "source_dirs = pkg/sub",
        "include = */sub/*",
        "include = pkg/*.py\nomit = */other.py",
        "omit = pkg/*",
        "source = .\nomit =\n    */sub/*\n    app.py",
        "source_pkgs = installed",
        "source = venv",
        "cover_pylib = true\ninclude = */colorsys.py",
        "relative_files = true",
        "relative_files = true\nsource = pkg",
    ],
)
def test_chooses_files_as_coverage_does(
    packages: Bench, settings: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rcfile = packages.write("[run]\n" + settings + "\n", "rcfile")
    env = {**packages.coverage_env, "COVERAGE_CORE": "sysmon"}
    command = ("run", f"--rcfile={rcfile}", "app.py")
    assert forked("coverage", *command, env=env, directory=packages.root).returncode == 0
    monkeypatch.chdir(packages.root)
    _, measured = packages.measured(rcfile)
    # Names are made relative when all is merged.
    theirs = packages.measured_by_coverage().what
    assert measured.what == {
        str(packages.root.resolve() / name): what for name, what in theirs.items()
    }


def test_context_goes_into_the_data(bench: Bench) -> None:
    bench.write("x = 1\n")
    for context in ("one", "two"):
        bench.run("app.py", env={**bench.env, "HCOVERAGE_RECORD_CONTEXT": context})
    _, measured = bench.measured()
    assert measured.contexts == {"one", "two"}


class TestSourcesKnownByTime:
    """Of a source that nobody has touched since the run began, no checksum is taken."""

    @pytest.fixture(autouse=True)
    def settled(self, bench: Bench) -> None:
        bench.customize("import hcrecorder\nhcrecorder.start(settled_before=1 << 62)\n")

    def test_it_is_current_while_size_and_time_are_the_same(self, bench: Bench) -> None:
        app = bench.write("x = 1\n")
        bench.run("app.py")
        (source,) = bench.only().sources
        status = app.stat()
        known = (source.size, source.modified, source.checksum)
        assert known == (status.st_size, status.st_mtime_ns, None)
        selected, measured = bench.measured()
        assert not selected.stale
        assert measured.what == {os.path.realpath(app): {1}}

    def test_another_time_is_told_as_a_change(self, bench: Bench) -> None:
        app = bench.write("x = 1\n")
        bench.run("app.py")
        os.utime(app, ns=(0, app.stat().st_mtime_ns + 1))
        selected, measured = bench.measured()
        assert selected.stale == {os.path.realpath(app)}
        assert measured.what == {}

    def test_its_checksum_is_that_of_what_is_there_while_it_is_the_same(self, bench: Bench) -> None:
        app = bench.write("x = 1\n")
        bench.run("app.py")
        (source,) = bench.only().sources
        assert with_checksum(source).checksum == crc32(app.read_bytes())
        app.write_text("x = 21\n")
        assert with_checksum(source) == source


def test_a_source_that_is_written_while_the_run_goes_on_has_a_checksum(bench: Bench) -> None:
    began = time.time_ns()
    bench.customize(f"import hcrecorder\nhcrecorder.start(settled_before={began} - 2 * 10**9)\n")
    app = bench.write("x = 1\n")
    # As what unpacks an archive does it.
    os.utime(app, (0, 0))
    bench.run("app.py")
    (source,) = bench.only().sources
    assert source.checksum == crc32(app.read_bytes())


@pytest.mark.parametrize("length", [0, 1, 2, 7, 64, 1000])
def test_checksum_of_a_source_is_crc_32_without_a_library(
    monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    monkeypatch.setattr(recorder_sources, "_compiled_crc32", None)
    monkeypatch.setattr(recorder_sources, "_crc_room", 1000)
    content = random.Random(length).randbytes(length)  # noqa: S311 - no secret
    assert recorder_sources.crc32(content) == crc32(content)
    assert recorder_sources._compiled_crc32 is None


def test_checksum_of_a_large_source_is_crc_32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder_sources, "_compiled_crc32", None)
    monkeypatch.setattr(recorder_sources, "_crc_room", 1000)
    assert recorder_sources.crc32(bytes(1001)) == crc32(bytes(1001))
    # It is looked for where `mmap` is; Debian's Pythons have one of the two built in.
    is_library = {"mmap", "binascii"}.isdisjoint(sys.builtin_module_names)
    assert (recorder_sources._compiled_crc32 is not None) == is_library
