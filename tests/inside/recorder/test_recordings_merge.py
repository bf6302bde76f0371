"""Merging recordings fast gives what reading them one by one gives, damaged ones too."""

from __future__ import annotations

import shutil
import struct
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import pytest
from coverage import CoverageData
from coverage.config import CoverageConfig, read_coverage_config
from hypothesis import given, settings, strategies as st
from tests.inside.recorder.one_by_one import add_to_data, put_into

from hcoverage._combine.recorded_data import read_recorded_data
from hcoverage._read.recording_files import read_files
from hcoverage._read.worker_pool import WorkerPool

if TYPE_CHECKING:
    from collections.abc import Sequence

Entry: TypeAlias = tuple[int, ...]

SOURCES: Final = ("/code/a.py", "/code/pkg/b.py", "/omitted/c.py")
HEADER: Final = 64


def lines_record(source: str, first: int, lines: frozenset[int]) -> bytes:
    marks = bytearray(max(lines, default=0) + 1)
    for line in lines:
        marks[line] = 0xA5
    return _record(b"LINE", source, first, bytes(marks))


def code_record(source: str, first: int, ran: frozenset[int], without_line: int) -> bytes:
    """A code object of a hundred instructions, each in a line of its own."""
    table = b"\xf0" + b"\0" + b"\xd8\0\0" * 99
    marks = bytearray(200)
    for instruction in ran:
        marks[2 * instruction] = 0xA5
    more = struct.pack("<III", len(table), 1, 2 * without_line) + table
    return _record(b"CODE", source, first, bytes(marks), more)


def arcs_record(source: str, entries: Sequence[Entry]) -> bytes:
    body = b""
    for numbers in entries:
        content = struct.pack(f"<{len(numbers)}i", *numbers)
        kind = 1 if len(numbers) == 2 else 2
        body += struct.pack("<BBH", kind, len(numbers), _checksum(content, 65521)) + content
    return _record(b"ARCS", source, 0, body)


def context_record(name: str) -> bytes:
    return _record(b"CTXT", name, 0, b"")


def _checksum(content: bytes, prime: int = 1073741789) -> int:
    return int.from_bytes(content, "little") % prime


def _record(kind: bytes, source: str, first: int, body: bytes, more: bytes = b"") -> bytes:
    name = source.encode()
    length = -(-(52 + len(name) + len(more) + len(body)) // 8) * 8
    begin = struct.pack("<4sI", kind, length)
    rest = struct.pack("<IIIQqIII", first, len(body), 0, 0, 0, 0, len(name), 0) + name + more
    checksum = struct.pack("<I", _checksum(begin + rest))
    return (begin + checksum + rest + body).ljust(length, b"\0")


def segment(process: int, part: int, facts: dict[str, str], records: Sequence[bytes]) -> bytes:
    metadata = b"".join(f"{key}={value}\0".encode() for key, value in facts.items())
    start = -(-(HEADER + len(metadata)) // 8) * 8
    size = start + sum(map(len, records)) + 24
    token = process.to_bytes(8, "little")
    fixed = struct.pack(
        "<8sHHIQIIQ8sI",
        b"\x89HCOV\r\n\x1a", 3, 0, len(metadata), size, process, 1, process, token, part,
    )  # fmt: skip
    header = fixed + struct.pack("<III", _checksum(fixed + metadata), 0, 0)
    return ((header + metadata).ljust(start, b"\0") + b"".join(records)).ljust(size, b"\0")


sources = st.sampled_from(SOURCES)
numbers = st.integers(-300, 300).filter(bool)
arcs = st.tuples(numbers, numbers)
trails = st.tuples(
    st.integers(1, 300),
    st.integers(0, 300),
    st.integers(-300, 0),
    st.integers(1, 300),
    st.integers(1, 300),
)
records = st.lists(
    st.builds(
        lines_record, sources, st.sampled_from([1, 1, 257]), st.frozensets(st.integers(0, 99))
    )
    | st.builds(
        code_record,
        sources,
        st.sampled_from([1, 1, 1 << 20]),
        st.frozensets(st.integers(0, 99)),
        st.integers(0, 99),
    )
    | st.builds(arcs_record, sources, st.lists(arcs | trails, max_size=5))
    | st.builds(context_record, st.sampled_from(["", "test_a", "test_b", "\x1b"])),
    max_size=8,
)


@st.composite
def segments(draw: st.DrawFn) -> list[bytes]:
    all_branch = draw(st.booleans())
    processes = [
        {
            "host": "h",
            "python": "3.14.0",
            "prefix": draw(st.sampled_from(["/usr", "/venv"])),
            "base_prefix": "/usr",
            "cwd": draw(st.sampled_from(["/code", "/tmp"])),  # noqa: S108 - no file
            "context": draw(st.sampled_from(["", "", "one"])),
            "branch": "1" if all_branch or draw(st.booleans()) else "",
        }
        for _ in range(3)
    ]
    made = []
    for number in range(draw(st.integers(1, 6))):
        process = draw(st.integers(0, len(processes) - 1))
        written = draw(records)
        # Processes of one program record the same sources.
        for again in range(draw(st.sampled_from([0, 0, 2, 3]))):
            same = [_marked_anew(record, draw(st.integers(0, 99))) for record in written]
            made.append(segment(process + 1, 10 + 10 * number + again, processes[process], same))
        content = segment(process + 1, number, processes[process], written)
        if draw(st.sampled_from([False, False, True])):
            content = _damaged(draw, content)
        made.append(content)
    return made


def _marked_anew(record: bytes, line: int) -> bytes:
    """Mark another line in a record of lines, which has the same head then."""
    start = 52 + sum(struct.unpack_from("<II", record, 44))
    count = int.from_bytes(record[16:20], "little")
    if not record.startswith((b"LINE", b"CODE")) or line >= count:
        return record
    if record.startswith(b"CODE"):
        length, offsets = struct.unpack_from("<II", record, start)
        start, line = start + 8 + length + 4 * offsets, 2 * line
    return record[: start + line] + b"\xa5" + record[start + line + 1 :]


def _damaged(draw: st.DrawFn, content: bytes) -> bytes:
    position = draw(st.integers(0, len(content) - 1))
    if draw(st.booleans()):
        return content[:position]
    byte = draw(st.sampled_from([0, 1, 0x4C, 0xA5, 0xFF]))
    return content[:position] + bytes([byte]) + content[position + 1 :]


def _content(data: CoverageData) -> dict[str, object]:
    found: dict[str, object] = {"contexts": data.measured_contexts(), "arcs": data.has_arcs()}
    for name in data.measured_files():
        by_line = data.contexts_by_lineno(name)
        contexts = {line: sorted(names) for line, names in by_line.items()}
        found[name] = (sorted(data.lines(name) or []), sorted(data.arcs(name) or []), contexts)
    data.close(force=True)
    return found


def _config(directory: Path, *, branch: bool, relative: bool) -> CoverageConfig:
    rcfile = directory / "rcfile"
    rcfile.write_text(f"[run]\nbranch = {branch}\nrelative_files = {relative}\nomit = /omitted/*\n")
    return read_coverage_config(str(rcfile), warn=pytest.fail)


@pytest.mark.thorough
@settings(max_examples=60, deadline=None)
@given(contents=segments(), branch=st.booleans(), relative=st.booleans())
def test_merging_gives_what_reading_one_by_one_gives(
    contents: list[bytes],
    branch: bool,  # noqa: FBT001
    relative: bool,  # noqa: FBT001
) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        config = _config(directory, branch=branch, relative=relative)
        files = []
        for number, content in enumerate(contents):
            files.append(directory / f"{number}.hcrec")
            files[-1].write_bytes(content)
        found = read_files(files)
        expected = CoverageData(no_disk=True)
        selected = add_to_data(found.recordings, expected, config)
        told, part = read_recorded_data(files, config)
        merged = CoverageData(no_disk=True)
        if part is not None:
            put_into(merged, part)
        assert _content(merged) == _content(expected)
        expected.close(force=True)
    assert set(told.stale) == selected.stale
    # One that was only begun holds nothing, and is no fault.
    unreadable = {item.path: item.reason for item in found.unreadable if item.reason != "empty"}
    damaged = {
        part.file for each in found.recordings for part in each.segments if part.damage
    } - unreadable.keys()
    set_aside = {item.path: item.reason for item in told.set_aside}
    assert unreadable.items() <= set_aside.items()
    assert damaged <= set_aside.keys()
    assert set(told.merged) == set(files) - set_aside.keys()


def test_merging_in_processes_gives_the_same(tmp_path: Path) -> None:
    config = _config(tmp_path, branch=False, relative=False)
    files = []
    for number in range(1, 41):
        files.append(tmp_path / f"{number:02}.hcrec")
        lines = lines_record(SOURCES[number % 2], 1, frozenset({number}))
        files[-1].write_bytes(segment(number, 1, {"host": "h", "python": "3.13.0"}, [lines]))
    (tmp_path / "40.hcrec").write_bytes(b"bad")
    shutil.copy(files[0], tmp_path / "copy.hcrec")
    with WorkerPool(2) as pool:
        told, part = read_recorded_data(files, config, executor=pool)
    assert told.merged == tuple(files[:-1])
    assert [item.path for item in told.set_aside] == [files[-1]]
    assert [process.pid for process in told.processes] == list(range(1, 40))
    assert part is not None
    merged = CoverageData(no_disk=True)
    put_into(merged, part)
    assert sorted(merged.lines(SOURCES[0]) or []) == [n + 1 for n in range(2, 40, 2)]
    assert sorted(merged.lines(SOURCES[1]) or []) == [n + 1 for n in range(1, 40, 2)]
    merged.close(force=True)
