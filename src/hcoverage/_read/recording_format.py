"""Decodes the bytes of a recording, as ``docs/recording-format.md`` describes them.

A recording may be half written, cut off, damaged or made to do harm. So everything in it is checked
before it is used, and all damage is reported beside what could be read. The functions here are
pure: they take bytes and return facts.

Left to others: writing recordings (``_inside.recorder_writer``), finding and opening files
(``recording_files``), merging many of them fast (``recording_batch``), and choosing what counts
(``_sources.choice``).
"""

from __future__ import annotations

import functools
import os
import re
import struct
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias, TypedDict

from hcoverage._printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

MAGIC: Final = b"\x89HCOV\r\n\x1a"
FORMAT_VERSION: Final = 5
# Since the first of these versions, only new kinds of records were added.
READABLE_VERSIONS: Final = (3, 4, 5)
MARK: Final = 0xA5
_MARKED: Final = bytes([MARK, MARK])
RECORD_FIXED: Final = 52  # bytes, before the names

_HEADER_FIXED: Final = 64
_LINES_KIND: Final = b"LINE"
_CODE_KIND: Final = b"CODE"
_ARCS_KIND: Final = b"ARCS"
_BRANCHES_KIND: Final = b"BRCH"
_CONTEXT_KIND: Final = b"CTXT"
_SEEN_KIND: Final = b"SEEN"
_SEEN: Final = struct.Struct("<8sIIII")
SEEN_FIXED: Final = _SEEN.size  # bytes, before the marks
_CODE_FIXED: Final = 8
_CHECKSUM_PRIME: Final = 1073741789
_ENTRY_PRIME: Final = 65521
_KINDS: Final = re.compile(b"LINE|CODE|BRCH|SEEN|ARCS|CTXT")
_ONE_ARC: Final = 1
_ONE_ARC_NUMBERS: Final = 2
_TRAIL: Final = 2
_TRAIL_NUMBERS: Final = 3
_RAISED: Final = 3
_RAISED_NUMBERS: Final = 4
_BRANCHES_FIXED: Final = 16
_BY_INSTRUCTION: Final = 1
_BY_STARTS: Final = 2
_MARKS_OF_A_UNIT: Final = 3
_SOURCE_FOUND: Final = 1
_SOURCE_READ: Final = 2
_ALIGNMENT: Final = 8
_LONGEST_NUMBER: Final = 20

# Far more than the recorder writes, and far less than would hurt the reader.
LARGEST_SEGMENT: Final = 64 << 20  # bytes
MOST_RECORDS: Final = 20_000  # in a segment
SEEN_FOR_ONE: Final = 10  # this many records of a context's marks read as fast as one other
_LONGEST_METADATA: Final = 4 << 20
_LONGEST_NAME: Final = 64 << 10
_LONGEST_CONTEXT: Final = 16 << 10  # two of them, joined, fit into the bounds of data files
_MOST_CONTEXTS: Final = 1000  # that are not separated
_AND: Final = "\n"
_MOST_RESUMPTIONS: Final = 1000
MOST_LINES: Final = 1 << 20
_MOST_INSTRUCTIONS: Final = 1 << 24  # bytes of one code object

_NO_CONTEXT: Final[tuple[str, ...]] = ("",)
_MARK_TO_TRUE: Final = bytes(byte == MARK for byte in range(256))


class RecordingError(Exception):
    """A file is not a recording, or so damaged that nothing in it can be used."""


class NothingRecordedError(RecordingError):
    """A recording was only begun: its process was killed before it had anything to record."""


class Loss(NamedTuple):
    """What a process could not record.

    Attributes:
        error: The ``errno`` of the last failure, a reason of the recorder's own, or 0.
        times: How many times something was not recorded.
    """

    error: int
    times: int


class Trail(NamedTuple):
    """A branch that was taken, and the lines that it leads to before the next branch.

    Which of these lines makes the arc depends on where statements begin, which the source shows.

    Attributes:
        line: The line of the branch.
        destination: The line of the instruction that it went to, or None.
        leaves: The target of the arc that leaves the code object, if the trail ends with one.
        lines: The lines on the way.
    """

    line: int
    destination: int | None
    leaves: int | None
    lines: tuple[int, ...]

    def arc(self, statements: Mapping[int, int]) -> tuple[int, int] | None:
        """Return the arc that coverage.py makes of it.

        Args:
            statements: Maps each line of a multi-line statement to its first line.
        """
        line = statements.get(self.line, self.line)
        for target in self.lines:
            first = statements.get(target, target)
            if first != line:
                return line, first
        if self.leaves is not None:
            return line, self.leaves
        if self.destination is not None and self.destination != self.line:
            return self.line, self.destination
        return None


class Raised(NamedTuple):
    """An exception that was handled in a code object with branches, or left it.

    Attributes:
        first: The first line of the code object.
        name: The checksum of the code object's description, which identifies it.
        place: Where the exception came from, in code units.
        handler: Where it was handled, or -1 if it left the code.
    """

    first: int
    name: int
    place: int
    handler: int


class Seen(NamedTuple):
    """The head, before the marks, of a record with a context's marks of a code object.

    Attributes:
        length: The length of the record, in bytes.
        place: The position in the segment of the code's own record.
        name: The checksum of the code's description there.
        marks: The number of marks.
    """

    length: int
    place: int
    name: int
    marks: int


class BranchingCode(NamedTuple):
    """What ran of a code object with branches, by places in its bytecode.

    Attributes:
        first: Its first line.
        name: The checksum of its description.
        by_instruction: Whether `started` has every instruction, not only the starts of lines.
        tells_lines: Whether it is also the only record of the lines that ran.
        content: Its bytecode.
        line_table: Its line table.
        exception_table: Its exception table.
        started: Where lines started, in code units.
        left: Jumps, returns and instructions that ran, and branches that jumped.
        ran_on: Branches that did not jump.
        slots: The marked ones of all its slots (`recorder_flow.Flow.slots`), if it was recorded by
            slots, and not by the three above.
    """

    first: int
    name: int
    by_instruction: bool
    tells_lines: bool
    content: bytes
    line_table: bytes
    exception_table: bytes
    started: frozenset[int]
    left: frozenset[int]
    ran_on: frozenset[int]
    slots: frozenset[int] = frozenset()

    def with_marks_of(self, other: BranchingCode) -> BranchingCode:
        """Return it with the marks of another record of the same code added."""
        return self._replace(
            started=self.started | other.started,
            left=self.left | other.left,
            ran_on=self.ran_on | other.ran_on,
            slots=self.slots | other.slots,
        )


class SourceLines(NamedTuple):
    """The lines of one source file that one process ran, or some of them.

    Attributes:
        path: The real absolute path, where the process ran.
        module: The name of the module, or an empty string.
        size: The size of the source when it first ran, or None if it did not exist.
        checksum: Its CRC-32, or None if its size and time are enough to recognise it.
        modified: Its modification time in nanoseconds since the epoch, or None.
        lines: The numbers of the lines that ran.
        arcs: Pairs of lines that ran one after the other, if branches are recorded.
        trails: Branches that were taken.
        branching: Code with branches, for Pythons that report no arcs (3.12 and 3.13).
        raised: Exceptions in such code.
        context: The dynamic context, such as a test, or an empty string.
    """

    path: str
    module: str
    size: int | None
    checksum: int | None
    modified: int | None
    lines: frozenset[int]
    arcs: frozenset[tuple[int, int]] = frozenset()
    trails: frozenset[Trail] = frozenset()
    branching: tuple[BranchingCode, ...] = ()
    raised: frozenset[Raised] = frozenset()
    context: str = ""


# An entry of an arcs record.
Entry: TypeAlias = Trail | Raised | tuple[int, int]


class ProcessIdentity(NamedTuple):
    """The process that wrote a recording.

    Attributes:
        token: 16 hexadecimal digits that no other process has.
        host: The name of the host or container.
        pid: The process id, as the process saw it.
        parent_pid: The id of its parent when recording started.
        started: When recording started, in nanoseconds since the epoch.
        forked_from: The token of the process that this one is a fork of, or an empty string. Lines
            of files that the parent had met before the fork are in the parent's recording.
        root_pid: The id of the process that began the chain of forks that led to this one, or 0.
        container: The id of the container, or an empty string.
        image: The name of the container's image, or an empty string.
        context: coverage.py's static context, or an empty string.
        branch: Whether arcs are recorded.
        core: ``coverage`` if coverage.py's tracer measured the process, else an empty string.
        python: The version of Python, such as ``3.13.0``.
        implementation: The cache tag, such as ``cpython-313``.
        executable: The interpreter.
        prefix: ``sys.prefix``.
        base_prefix: ``sys.base_prefix``.
        stdlib: The directory of the standard library.
        cwd: The working directory when recording started, or an empty string.
        argv: The command line, with the interpreter's own options.
    """

    token: str
    host: str
    pid: int
    parent_pid: int
    started: int
    forked_from: str
    root_pid: int
    container: str
    image: str
    context: str
    branch: bool
    core: str
    python: str
    implementation: str
    executable: str
    prefix: str
    base_prefix: str
    stdlib: str
    cwd: str
    argv: tuple[str, ...]


class Segment(NamedTuple):
    """One file of a recording.

    Attributes:
        file: Its path.
        process: The process that wrote it.
        part: Its number among the segments of the process, from 1.
        sources: What ran; one source file may be in several entries.
        loss: What could not be recorded, if anything.
        damage: What is wrong with the file, in words; empty when nothing is.
    """

    file: Path
    process: ProcessIdentity
    part: int
    sources: tuple[SourceLines, ...]
    loss: Loss | None
    damage: tuple[str, ...]

    @classmethod
    def of(cls, process: ProcessIdentity, sources: Iterable[SourceLines]) -> Segment:
        """Join several parts of a process's data into one segment."""
        return cls(Path(), process, 1, tuple(sources), None, ())


def context_of(name: str) -> str:
    """Return the context that a recording names, made fit for a data file."""
    return printable(name[:_LONGEST_CONTEXT])[:_LONGEST_CONTEXT]


def contexts_of(name: str) -> tuple[str, ...]:
    """Return the contexts that a recording names together, without knowing which one ran."""
    names = name[:_LONGEST_NAME].split(_AND)[:_MOST_CONTEXTS]
    return tuple(dict.fromkeys(map(context_of, names)))


def in_context(process: ProcessIdentity, context: str) -> ProcessIdentity:
    """Return a process with a dynamic context added to its static one."""
    both = "|".join(filter(None, (process.context, context)))  # like coverage.py's collector
    return process._replace(context=both)


def parse_segment(file: Path, content: bytes) -> Segment:
    process, part, size, position = parse_header(content)
    damage = []
    if len(content) < size:
        damage.append(f"cut off: {len(content)} of {size} bytes are there")
    elif len(content) > size:
        damage.append(f"{len(content) - size} bytes too long")
        content = content[:size]
    sources = tuple(_parse_records(content, position, damage))
    loss = Loss(_integer(content, 56, 4), _integer(content, 60, 4))
    return Segment(file, process, part, sources, loss if loss.times else None, tuple(damage))


def parse_header(content: bytes) -> tuple[ProcessIdentity, int, int, int]:
    """Read the header.

    Returns:
        The process, the number of the segment, its size, and the position of the first record.
    """
    if content[: len(MAGIC)] != MAGIC:
        # The recorder writes the first four bytes last. A process that is killed before that leaves
        # an empty file, zeros, or a part of the header; and never a record.
        if not content[:4].strip(b"\0") and not _KINDS.search(content):
            raise NothingRecordedError("empty")
        raise RecordingError("not a recording")
    if len(content) < _HEADER_FIXED:
        msg = "cut off in the header"
        raise RecordingError(msg)
    version = _integer(content, 8, 2)
    if version not in READABLE_VERSIONS:
        msg = f"format version {version}; this is a reader of version {FORMAT_VERSION}"
        raise RecordingError(msg)
    length = _integer(content, 12, 4)
    metadata = content[_HEADER_FIXED : _HEADER_FIXED + length]
    if length > _LONGEST_METADATA or len(metadata) < length:
        msg = "cut off in the header"
        raise RecordingError(msg)
    if _checksum(content[:52] + metadata) != _integer(content, 52, 4):
        msg = "the header is damaged"
        raise RecordingError(msg)
    process = _parse_process(content, metadata)
    return process, _integer(content, 48, 4), _integer(content, 16, 8), _align(64 + length)


def _parse_process(content: bytes, metadata: bytes) -> ProcessIdentity:
    facts: dict[str, str] = {}
    argv = []
    for entry in metadata.split(b"\0"):
        key, value = _parse_fact(entry)
        if key == "argv":
            argv.append(value)
        else:
            facts[key] = value
    return ProcessIdentity(
        token=content[40:48].hex(),
        host=facts.get("host", ""),
        pid=_integer(content, 24, 4),
        parent_pid=_integer(content, 28, 4),
        started=_integer(content, 32, 8),
        forked_from=facts.get("forked_from", ""),
        root_pid=_number(facts.get("root_pid", "")),
        container=facts.get("container", ""),
        image=facts.get("image", ""),
        context=context_of(facts.get("context", "")),
        branch=facts.get("branch") == "1",
        core=facts.get("core", ""),
        python=facts.get("python", ""),
        implementation=facts.get("implementation", ""),
        executable=facts.get("executable", ""),
        prefix=facts.get("prefix", ""),
        base_prefix=facts.get("base_prefix", ""),
        stdlib=facts.get("stdlib", ""),
        cwd=facts.get("cwd", ""),
        argv=tuple(argv),
    )


def _number(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) < _LONGEST_NUMBER else 0


@functools.lru_cache(maxsize=4096)  # processes of one program have most in common
def _parse_fact(entry: bytes) -> tuple[str, str]:
    key, _, value = entry.partition(b"=")
    return key.decode("ascii", "replace"), os.fsdecode(value)


def _parse_records(content: bytes, position: int, damage: list[str]) -> Iterator[SourceLines]:
    """Read the records one after the other; go on after a damaged one, if possible.

    Args:
        content: The segment.
        position: The position of its first record.
        damage: Damage is added here.
    """
    resumptions = records = 0
    contexts = _NO_CONTEXT
    codes: dict[int, SourceLines] = {}
    while position + _ALIGNMENT <= len(content):
        length = checked_length(content, position)
        if length is not None:
            is_seen = content.startswith(_SEEN_KIND, position)
            records += 1 if is_seen else SEEN_FOR_ONE
            if records > MOST_RECORDS * SEEN_FOR_ONE:
                damage.append(f"over {MOST_RECORDS} records, more than can be right")
                return
            if content[position : position + 4] == _CONTEXT_KIND:
                contexts = contexts_of(parse_record(content, position, length, damage).path)
            else:
                for source in _parse_any(content, position, length, codes, damage):
                    yield from (source._replace(context=each) for each in contexts)
            position += length
            continue
        if content.count(0, position) == len(content) - position:
            return
        contexts = _NO_CONTEXT  # they may be damaged themselves
        following = _next_kind(content, position + _ALIGNMENT)
        if following is None and _is_unfinished(content, position):
            return
        if resumptions == 0:
            damage.append(f"unfinished or damaged at byte {position}")
        resumptions += 1
        if following is None or resumptions > _MOST_RESUMPTIONS:
            return
        position = following


def _parse_any(
    content: bytes, position: int, length: int, codes: dict[int, SourceLines], damage: list[str]
) -> Iterator[SourceLines]:
    """Read a record; keep one of a code object for the records that refer to it."""
    kind = content[position : position + 4]
    seen = read_seen(content, position) if kind == _SEEN_KIND else None
    if seen is not None:
        yield from _parse_seen(content, position, seen, codes, damage)
        return
    source = parse_record(content, position, length, damage)
    if kind == _BRANCHES_KIND:
        codes[position] = source
    yield source


def _is_unfinished(content: bytes, position: int) -> bool:
    """Return whether a process was killed while it wrote the record at a position, its last one.

    It had not come to the first four bytes, so it had nothing to mark there yet.
    """
    return not any(content[position : position + 4]) and _MARKED not in content[position:]


def _next_kind(content: bytes, position: int) -> int | None:
    """Return where the next possible record begins."""
    starts = (match.start() for match in _KINDS.finditer(content, position))
    return next((start for start in starts if start % _ALIGNMENT == 0), None)


def checked_length(content: bytes, position: int) -> int | None:
    """Return the length of the record at a position, or None if no whole record begins there."""
    kind = content[position : position + 4]
    if kind == _SEEN_KIND:
        seen = read_seen(content, position)
        return None if seen is None else seen.length
    if not _KINDS.fullmatch(kind) or position + RECORD_FIXED > len(content):
        return None
    path = _integer(content, position + 44, 4)
    module = _integer(content, position + 48, 4)
    length = _integer(content, position + 4, 4)
    marks = RECORD_FIXED + path + module
    marks += more_length(content, position, position + marks)
    if path > _LONGEST_NAME or module > _LONGEST_NAME or position + marks > len(content):
        return None
    count = _integer(content, position + 16, 4)
    if _align(marks + count) != length:
        return None
    if kind in (_CODE_KIND, _BRANCHES_KIND) and count > _MOST_INSTRUCTIONS:
        return None
    checked = content[position : position + 8] + content[position + 12 : position + marks]
    checksum = _checksum(checked)
    return length if checksum == _integer(content, position + 8, 4) else None


def read_seen(content: bytes, position: int) -> Seen | None:
    """Read the head of a record with a context's marks of a code object.

    Args:
        content: The segment.
        position: The position of the record.

    Returns:
        None if anything but the marks is not whole.
    """
    start = position + SEEN_FIXED
    if start > len(content):
        return None
    beginning, check, place, name, count = _SEEN.unpack_from(content, position)
    length = int.from_bytes(beginning[4:], "little")
    checked = _checksum(beginning + content[position + 12 : start])
    if checked != check or length != _align(SEEN_FIXED + count):
        return None
    return Seen(length, place, name, count)


def _parse_seen(
    content: bytes,
    position: int,
    seen: Seen,
    codes: Mapping[int, SourceLines],
    damage: list[str],
) -> Iterator[SourceLines]:
    """Read a context's marks of a code object.

    Args:
        content: The segment.
        position: The position of the record.
        seen: The head of the record.
        codes: The records of code that were read before, by position.
        damage: Damage is added here.
    """
    source = codes.get(seen.place)
    if source is None or not source.branching or source.branching[0].name != seen.name:
        damage.append(f"what ran at byte {position} is of code that cannot be read")
        return
    start = position + SEEN_FIXED
    if start + seen.marks > len(content):
        damage.append(f"cut off in what {source.path!r} ran")
    yield with_slots(source, content[start : start + seen.marks], damage)


def with_slots(source: SourceLines, marks: bytes, damage: list[str]) -> SourceLines:
    """Return the source of a code object with a context's marks added.

    Args:
        source: The source, without anything that ran.
        marks: The marks of its slots.
        damage: Damage is added here.
    """
    unreadable = len(marks) - marks.count(0) - marks.count(MARK)
    if unreadable:
        damage.append(f"{unreadable} marks of branches in {source.path!r} cannot be read")
    none: frozenset[int] = frozenset()
    slots = frozenset(compress(range(len(marks)), marks.translate(_MARK_TO_TRUE)))
    (code,) = source.branching
    return source._replace(
        branching=(code._replace(started=none, left=none, ran_on=none, slots=slots),)
    )


def parse_record(content: bytes, position: int, length: int, damage: list[str]) -> SourceLines:
    first = _integer(content, position + 12, 4)
    count = _integer(content, position + 16, 4)
    path_end = position + RECORD_FIXED + _integer(content, position + 44, 4)
    start = path_end + _integer(content, position + 48, 4)
    path = os.fsdecode(content[position + RECORD_FIXED : path_end])
    if position + length > len(content):
        damage.append(f"cut off in what {path!r} ran")
    lines: frozenset[int] = frozenset()
    entries: list[Entry] = []
    branching: tuple[BranchingCode, ...] = ()
    kind = content[position : position + 4]
    if kind == _LINES_KIND:
        lines = _parse_marks(content[start : start + count], first, path, damage)
    elif kind == _CODE_KIND:
        lines = _parse_code(content[start : position + length], first, count, path, damage)
    elif kind == _BRANCHES_KIND:
        branching = tuple(
            _parse_branching(content[start : position + length], first, count, path, damage)
        )
    elif kind == _ARCS_KIND:
        entries.extend(parse_entries(content[start : start + count], path, damage))
    known = _integer(content, position + 20, 4)
    was_found = bool(known & _SOURCE_FOUND)
    return SourceLines(
        path=path,
        module=content[path_end:start].decode("utf-8", "replace"),
        size=_integer(content, position + 24, 8) if was_found else None,
        checksum=_integer(content, position + 40, 4) if known & _SOURCE_READ else None,
        modified=_integer(content, position + 32, 8, signed=True) if was_found else None,
        lines=lines,
        branching=branching,
        **_by_kind(entries),
    )


class _Entries(TypedDict):
    """The content of arcs records, in the form of `SourceLines`."""

    arcs: frozenset[tuple[int, int]]
    trails: frozenset[Trail]
    raised: frozenset[Raised]


def _by_kind(entries: Iterable[Entry]) -> _Entries:
    found = [*entries]
    return {
        "arcs": frozenset(entry for entry in found if not isinstance(entry, Trail | Raised)),
        "trails": frozenset(entry for entry in found if isinstance(entry, Trail)),
        "raised": frozenset(entry for entry in found if isinstance(entry, Raised)),
    }


def with_entries(source: SourceLines, entries: Iterable[Entry]) -> SourceLines:
    """Return a source with the entries of its arcs records added."""
    return source._replace(**_by_kind(entries))


def _parse_marks(marks: bytes, first: int, path: str, damage: list[str]) -> frozenset[int]:
    if first + len(marks) > MOST_LINES:
        damage.append(f"line {first + len(marks) - 1} of {path!r} is more than can be right")
        return frozenset()
    unreadable = len(marks) - marks.count(0) - marks.count(MARK)
    if unreadable:
        damage.append(f"{unreadable} lines of {path!r} cannot be read")
    numbers = range(first, first + len(marks))
    return frozenset(compress(numbers, marks.translate(_MARK_TO_TRUE)))


def code_length(content: bytes, start: int) -> int:
    """Return how many bytes a code object's record has between its names and its marks."""
    return _CODE_FIXED + _integer(content, start, 4) + 4 * _integer(content, start + 4, 4)


def more_length(content: bytes, position: int, start: int) -> int:
    """Return how many bytes a record has between its names and its marks or entries.

    Args:
        content: The segment.
        position: Where the record begins.
        start: Where its names end.
    """
    kind = content[position : position + 4]
    if kind == _CODE_KIND:
        return code_length(content, start)
    if kind == _BRANCHES_KIND:
        return _BRANCHES_FIXED + sum(_integer(content, start + at, 4) for at in (4, 8, 12))
    return 0


def _parse_code(
    content: bytes, first: int, count: int, path: str, damage: list[str]
) -> frozenset[int]:
    """Return the lines of the instructions that ran.

    Args:
        content: The bytes after the names: numbers, offsets, the line table, marks.
        first: The first line of the code object.
        count: How many bytes its instructions have.
        path: Its source.
        damage: Damage is added here.
    """
    start = code_length(content, 0)
    table_start = start - _integer(content, 0, 4)
    content_marks = content[start : start + count].ljust(count, b"\0")
    unreadable = count - content_marks.count(0) - content_marks.count(MARK)
    if unreadable:
        damage.append(f"{unreadable} instructions of {path!r} cannot be read")
    marks = bytearray(content_marks[::2])
    for position in range(_CODE_FIXED, table_start, 4):
        offset = _integer(content, position, 4)
        if offset < count:
            marks[offset // 2] = 0
    try:
        from hcoverage._read.line_tables import lines_of_instructions  # noqa: PLC0415 - seldom

        lines = lines_of_instructions(content[table_start:start], first, len(marks))
    except ValueError as error:
        damage.append(f"lines of {path!r} cannot be read: {error}")
        return frozenset()
    if not all(line is None or 0 <= line < MOST_LINES for line in lines):
        damage.append(f"lines of {path!r} are more than can be right")
        return frozenset()
    ran = compress(lines, marks.translate(_MARK_TO_TRUE))
    return frozenset(line for line in ran if line is not None)


def _parse_branching(
    content: bytes, first: int, count: int, path: str, damage: list[str]
) -> Iterator[BranchingCode]:
    """Read a code object with branches.

    Args:
        content: The bytes after the names: flags, three lengths, the parts of these lengths, marks.
        first: The first line of the code object.
        count: How many bytes of marks it has.
        path: Its source.
        damage: Damage is added here.
    """
    flags, *lengths = (_integer(content, at, 4) for at in range(0, _BRANCHES_FIXED, 4))
    start = _BRANCHES_FIXED + sum(lengths)
    units, odd = divmod(lengths[0], 2)
    expected = (_MARKS_OF_A_UNIT * units, 0) if flags & _BY_STARTS else (_MARKS_OF_A_UNIT * units,)
    if odd or not units or count not in expected:
        damage.append(f"branches of {path!r} cannot be read")
        return
    marks = content[start : start + count].ljust(count, b"\0")
    unreadable = count - marks.count(0) - marks.count(MARK)
    if unreadable:
        damage.append(f"{unreadable} marks of branches in {path!r} cannot be read")
    started, left, ran_on = (
        frozenset(compress(range(units), marks[at : at + units].translate(_MARK_TO_TRUE)))
        for at in range(0, _MARKS_OF_A_UNIT * units, units)
    )
    tables = start - lengths[2]
    yield BranchingCode(
        first=first,
        name=_checksum(content[:start]),
        by_instruction=bool(flags & _BY_INSTRUCTION),
        tells_lines=bool(flags & (_BY_INSTRUCTION | _BY_STARTS)),
        content=content[_BRANCHES_FIXED : _BRANCHES_FIXED + lengths[0]],
        line_table=content[tables - lengths[1] : tables],
        exception_table=content[tables:start],
        started=started,
        left=left,
        ran_on=ran_on,
    )


def parse_entries(body: bytes, path: str, damage: list[str]) -> Iterator[Entry]:
    """Read entries up to the first that is not whole, or whose line is impossible."""
    position = 0
    while position + 4 <= len(body) and any(body[position : position + 4]):
        kind, count = body[position], body[position + 1]
        content = body[position + 4 : position + 4 + 4 * count]
        numbers = [_integer(content, at, 4, signed=True) for at in range(0, len(content), 4)]
        checksum = _checksum(content, _ENTRY_PRIME)
        whole = len(numbers) == count and checksum == _integer(body, position + 2, 2)
        farthest = 0 if kind == _RAISED else max(map(abs, numbers), default=0)
        if whole and farthest > MOST_LINES:
            damage.append(f"line {farthest} of {path!r} is more than can be right")
            return
        if whole and kind == _ONE_ARC and count == _ONE_ARC_NUMBERS:
            yield numbers[0], numbers[1]
        elif whole and kind == _TRAIL and count >= _TRAIL_NUMBERS:
            line, destination, leaves, *lines = numbers
            yield Trail(line, destination or None, leaves or None, tuple(lines))
        elif whole and kind == _RAISED and count == _RAISED_NUMBERS:
            yield Raised(*numbers)
        else:
            damage.append(f"arcs of {path!r} cannot be read from entry at {position} on")
            return
        position += 4 + 4 * count


def _checksum(content: bytes, prime: int = _CHECKSUM_PRIME) -> int:
    return int.from_bytes(content, "little") % prime


def _integer(content: bytes, position: int, size: int, *, signed: bool = False) -> int:
    return int.from_bytes(content[position : position + size], "little", signed=signed)


def _align(length: int) -> int:
    return -(-length // _ALIGNMENT) * _ALIGNMENT
