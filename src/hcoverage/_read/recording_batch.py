"""Merges recordings as fast as their bytes can be read: a bitwise OR over the maps of lines.

Processes of one program record the same sources. So for each source, interpreter and context, the
maps of all processes become one number, and coverage.py's decision about a source is made once.
This runs in worker processes.

Whatever is not exactly as the recorder writes it is left to `recording_format`, which can read
damaged files and defines all the rest of the format.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from hcoverage._inside import recorder_writer
from hcoverage._read.recording_format import (
    LARGEST_SEGMENT,
    MARK,
    MOST_LINES,
    MOST_RECORDS,
    RECORD_FIXED,
    SEEN_FIXED,
    SEEN_FOR_ONE,
    Loss,
    NothingRecordedError,
    ProcessIdentity,
    RecordingError,
    SourceLines,
    checked_length,
    contexts_of,
    more_length,
    parse_entries,
    parse_header,
    parse_record,
    parse_segment,
    read_seen,
    with_entries,
    with_slots,
)
from hcoverage._untrusted.file import UntrustedDataError, read_regular
from hcoverage._untrusted.set_aside import SetAside

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from hcoverage._read.origins import Origins

_NAMES: Final = struct.Struct("<II")
_NAMES_AT: Final = 44
# One object for all: it is sent between processes with each segment.
_NO_CONTEXT: Final = frozenset({""})

# A record up to its marks: it names the source, but not what ran.
_Head: TypeAlias = bytes

# Turns marks into digits: so a map of lines becomes a binary number with a bit for each line.
_TO_DIGITS: Final = bytes(b"01"[byte == MARK] for byte in range(256))


class _Section(NamedTuple):
    """What ran, in one segment, in one context, or in several that cannot be separated."""

    contexts: tuple[str, ...]
    lines: list[tuple[_Head, int]]
    seen: list[tuple[_Head, int]]
    arcs: list[tuple[_Head, list[bytes]]]

    @classmethod
    def of(cls, contexts: tuple[str, ...]) -> _Section:
        """Return an empty section."""
        return cls(contexts, [], [], [])

    def is_used(self) -> bool:
        """Return whether something ran: reserved room may be unused."""
        marked = any(marks for _, marks in (*self.lines, *self.seen))
        return marked or any(entries for _, entries in self.arcs)


# The origin, and all that decides, beside a source itself, how coverage.py would have measured it.
# Processes with the same key differ only in their identity.
GroupKey: TypeAlias = tuple[str, ...]


class ReadSegment(NamedTuple):
    """A segment that was read.

    Attributes:
        file: Its path.
        key: The group it belongs to.
        process: The process that wrote it.
        number: Its number among the segments of the process.
        loss: What could not be recorded, if anything.
        damage: What is wrong with it, in words.
        contexts: The dynamic contexts in which something ran; an empty text stands for none.
        has_together: Whether something ran for several contexts that were not separated.
    """

    file: str
    key: GroupKey
    process: ProcessIdentity
    number: int
    loss: Loss | None = None
    damage: tuple[str, ...] = ()
    contexts: frozenset[str] = _NO_CONTEXT
    has_together: bool = False


class RanSource(NamedTuple):
    """A source, and what ran of it in each context.

    Attributes:
        source: The source, without anything that ran.
        lines: By contexts, a number whose bit *n* is set if line *n* ran.
        more: By contexts, everything else.
    """

    source: SourceLines
    lines: Mapping[str, int] = {}
    more: Mapping[str, SourceLines] = {}

    @classmethod
    def of(cls, source: SourceLines) -> RanSource:
        """Convert what ran of a source in one context."""
        return cls(source, more={source.context: source})

    @property
    def path(self) -> str:
        """The path of the source."""
        return self.source.path

    @property
    def module(self) -> str:
        """The name of the module, or an empty string."""
        return self.source.module


class Recorded:
    """The joined content of some recordings.

    Attributes:
        processes: One process of each group.
        lines: By group, head of a record and context, the marks as one number.
        arcs: By group, head of a record and context, the entries.
        others: By group, the sources that `recording_format` read.
        segments: The segments that were read.
        unreadable: The files that could not be read, and why.
        empty: The files whose processes were killed before they had anything to record.
    """

    def __init__(self) -> None:
        self.processes: dict[GroupKey, ProcessIdentity] = {}
        self.lines: dict[GroupKey, dict[_Head, dict[str, int]]] = {}
        self.arcs: dict[GroupKey, dict[_Head, dict[str, set[bytes]]]] = {}
        self.others: dict[GroupKey, list[SourceLines]] = {}
        self.segments: list[ReadSegment] = []
        self.unreadable: list[SetAside] = []
        self.empty: list[str] = []

    def add(self, other: Recorded) -> None:
        """Add the content of other recordings; `other` must not be used afterwards."""
        for key, process in other.processes.items():
            self.processes.setdefault(key, process)
        for key, maps in other.lines.items():
            mine = self.lines.setdefault(key, {})
            for head, by_context in maps.items():
                known = mine.setdefault(head, {})
                for context, marks in by_context.items():
                    known[context] = known.get(context, 0) | marks
        for key, trails in other.arcs.items():
            found = self.arcs.setdefault(key, {})
            for head, in_contexts in trails.items():
                told = found.setdefault(head, in_contexts)
                for context, entries in in_contexts.items():
                    told.setdefault(context, entries).update(entries)
        for key, sources in other.others.items():
            self.others.setdefault(key, []).extend(sources)
        self.segments += other.segments
        self.unreadable += other.unreadable
        self.empty += other.empty

    def sources(self, key: GroupKey) -> Iterator[RanSource]:
        """Yield the sources of a group; a source with several heads comes once for each."""
        for head, by_context in self.lines.get(key, {}).items():
            yield _with_marks(head, by_context)
        for head, in_contexts in self.arcs.get(key, {}).items():
            told = {each: _with_arcs(head, entries) for each, entries in in_contexts.items()}
            yield RanSource(_source(head), more=told)
        for source in self.others.get(key, ()):
            yield RanSource.of(source)


# The name of a host, and the id of a container on it, or an empty string.
Machine: TypeAlias = tuple[str, str]


def this_machine() -> Machine:
    """Return the machine, or container, that this process runs on."""
    return os.uname().nodename, recorder_writer.container_id()


def read_batch(
    files: Sequence[str],
    *,
    here: Machine | None = None,
    origins: Origins | None = None,
) -> Recorded:
    """Read recordings and merge their content.

    Args:
        files: Segments.
        here: The machine whose processes are kept apart from those of all others.
        origins: Finds the origin of a process; None if origins do not matter.

    Returns:
        Their content.
    """
    reader = _SegmentReader(here=here, origins=origins)
    for file in files:
        try:
            content, _ = read_regular(file, LARGEST_SEGMENT)
            reader.add(file, content)
        except NothingRecordedError:
            reader.found.empty.append(file)
        except (RecordingError, UntrustedDataError, OSError) as error:
            reader.found.unreadable.append(SetAside(Path(file), _reason(error)))
    reader.finish()
    return reader.found


class _Layout:
    """The sequence of records in a segment that has records of lines only.

    Attributes:
        heads: The heads of the records.
        counts: How many marks each has.
        form: Splits a segment into heads and marks in turn.
        ones: A number with the lowest bit of each byte of all marks set.
    """

    def __init__(self, records: Iterable[tuple[_Head, int, int]]) -> None:
        """Lay out records with known heads, lengths and counts."""
        heads, lengths, counts = zip(*records, strict=True)
        fields = (
            f"{len(head)}s{count}s{length - len(head) - count}x"
            for head, length, count in zip(heads, lengths, counts, strict=True)
        )
        self.heads: tuple[_Head, ...] = heads
        self.counts: tuple[int, ...] = counts
        self.form = struct.Struct("<" + "".join(fields))
        self.ones = int.from_bytes(bytes([1]) * sum(counts), "little")

    def marks_in(self, content: bytes, position: int) -> int | None:
        """Return all marks of a segment as one number; None if its layout is another one."""
        end = position + self.form.size
        if end > len(content):
            return None
        parts = self.form.unpack_from(content, position)
        if parts[::2] != self.heads or not _is_zero(content, end):
            return None
        marks = int.from_bytes(b"".join(parts[1::2]), "little")
        # Checks all bytes at once: each is a mark or zero.
        return marks if (marks & self.ones) * MARK == marks else None

    def split(self, marks: int) -> Iterator[tuple[_Head, int]]:
        """Yield the marks of each record."""
        content = marks.to_bytes(sum(self.counts), "little")
        position = 0
        for head, count in zip(self.heads, self.counts, strict=True):
            yield head, int.from_bytes(content[position : position + count], "little")
            position += count


class _Damaged(Exception):  # noqa: N818 - it never leaves this module
    """A segment differs from what the recorder writes."""


class _SegmentReader:
    """Reads segments one after the other, and remembers what has been checked."""

    def __init__(self, *, here: Machine | None, origins: Origins | None) -> None:
        self.found = Recorded()
        self._here = here
        self._origins = origins
        # Heads with a right checksum, and their content: the record's length, how many bytes of
        # marks or entries it has, and for marks, a number with the lowest bit of each byte set.
        self._heads: dict[_Head, tuple[int, int, int]] = {}
        self._names: dict[_Head, int] = {}
        self._ones: dict[int, int] = {}
        self._entries: set[bytes] = set()
        # Processes of one program mostly have one layout. By first record: the last layout that
        # began with it, or None after the first one. And the joined marks of each layout.
        self._layouts: dict[bytes, _Layout | None] = {}
        self._together: dict[tuple[GroupKey, _Layout], int] = {}

    def add(self, file: str, content: bytes) -> None:
        """Add a segment."""
        process, number, size, position = parse_header(content)
        key = self._group(process)
        loss = Loss(*struct.unpack_from("<II", content, 56))
        try:
            _expect(len(content) == size)
            sections = []
            if not self._read_as_before(key, content, position):
                sections = self._read_records(content, position)
                first = sections[0]
                if len(sections) == 1 and first.lines and not (first.arcs or first.seen):
                    self._remember(content[position : position + RECORD_FIXED], first.lines)
        except (_Damaged, struct.error):
            segment = parse_segment(Path(file), content)
            self.found.others.setdefault(key, []).extend(segment.sources)
            found = frozenset(source.context for source in segment.sources)
            read = ReadSegment(file, key, process, number, segment.loss, segment.damage, found)
        else:
            for section in sections:
                for context in section.contexts:
                    self._add_lines(key, context, section.lines)
                    self._add_lines(key, context, section.seen)
                    self._add_arcs(key, context, section.arcs)
            told = loss if loss.times else None
            found, has_together = _contexts(sections)
            read = ReadSegment(file, key, process, number, told, (), found, has_together)
        self.found.segments.append(read)

    def finish(self) -> None:
        """Move everything that was read into `found`."""
        for (key, layout), marks in self._together.items():
            self._add_lines(key, "", layout.split(marks))
        self._together.clear()

    def _read_as_before(self, key: GroupKey, content: bytes, position: int) -> bool:
        """Read a segment with the layout of the last one that had the same first record."""
        layout = self._layouts.get(content[position : position + RECORD_FIXED])
        marks = layout.marks_in(content, position) if layout is not None else None
        if layout is None or marks is None:
            return False
        self._together[key, layout] = self._together.get((key, layout), 0) | marks
        return True

    def _remember(self, beginning: bytes, lines: list[tuple[_Head, int]]) -> None:
        """Remember the layout of a segment, if an earlier one had the same first record."""
        if beginning not in self._layouts:
            self._layouts[beginning] = None
            return
        facts = ((head, *self._heads[head][:2]) for head, _ in lines)
        self._layouts[beginning] = _Layout(facts)

    def _read_records(self, content: bytes, position: int) -> list[_Section]:
        end = len(content) - SEEN_FIXED
        sections = [_Section.of(("",))]
        codes: dict[tuple[int, int], _Head] = {}
        records = 0
        while position <= end:
            is_seen = content.startswith(b"SEEN", position)
            records += 1 if is_seen else SEEN_FOR_ONE
            if records > MOST_RECORDS * SEEN_FOR_ONE:
                raise _Damaged
            if is_seen:
                length, found = self._read_seen(content, position, codes)
                sections[-1].seen.append(found)
            else:
                length, head = self._read_record(content, position, sections)
                if head.startswith(b"BRCH") and length:
                    codes[position, self._names[head]] = head
            if not length:
                break
            position += length
        if not _is_zero(content, position):
            raise _Damaged
        return sections

    def _read_record(
        self, content: bytes, position: int, sections: list[_Section]
    ) -> tuple[int, _Head]:
        """Read a record into the last section, or begin a new one.

        Returns:
            Its length, which is 0 at the end of the records, and its head.
        """
        # Finds the marks; errors in these numbers show in the checksum.
        path, module = _NAMES.unpack_from(content, position + _NAMES_AT)
        start = position + RECORD_FIXED + path + module
        if content.startswith((b"CODE", b"BRCH"), position):
            start += more_length(content, position, start)
        head = content[position:start]
        facts = self._heads.get(head) or self._check(head, content, position)
        if facts is None:
            return 0, head
        length, count, ones = facts
        if ones:
            marks = int.from_bytes(content[start : start + count], "little")
            # Checks all bytes at once: each is a mark or zero.
            if (marks & ones) * MARK != marks:
                raise _Damaged
            sections[-1].lines.append((head, marks))
        elif head.startswith(b"ARCS"):
            sections[-1].arcs.append((head, self._split(content[start : start + count])))
        elif head.startswith(b"CTXT"):
            sections.append(_Section.of(contexts_of(_source(head).path)))
        return length, head

    def _read_seen(
        self, content: bytes, position: int, codes: Mapping[tuple[int, int], _Head]
    ) -> tuple[int, tuple[_Head, int]]:
        """Read a context's marks of code: the record's length, the code's head, the marks."""
        seen = read_seen(content, position)
        if seen is None or position + seen.length > len(content):
            raise _Damaged
        length, place, name, count = seen
        head = codes.get((place, name))
        if head is None:
            raise _Damaged
        start = position + SEEN_FIXED
        ones = self._ones.get(count)
        if ones is None:
            ones = self._ones[count] = int.from_bytes(bytes([1]) * count, "little")
        marks = int.from_bytes(content[start : start + count], "little")
        if (marks & ones) * MARK != marks:
            raise _Damaged
        return length, (head, marks)

    def _check(self, head: _Head, content: bytes, position: int) -> tuple[int, int, int] | None:
        """Check the head of a record and remember it; return None at the end of the records."""
        if not any(head[:4]):
            return None
        length = checked_length(content, position)
        if length is None or position + length > len(content):
            raise _Damaged
        count = int.from_bytes(head[16:20], "little")
        damage: list[str] = []
        source = parse_record(head, 0, len(head), damage)
        if damage:
            raise _Damaged
        if source.branching:
            self._names[head] = source.branching[0].name
        has_marks = head.startswith((b"LINE", b"CODE", b"BRCH"))
        ones = int.from_bytes(bytes([1]) * count, "little") if has_marks else 0
        self._heads[head] = facts = (length, count, ones)
        return facts

    def _add_lines(self, key: GroupKey, context: str, lines: Iterable[tuple[_Head, int]]) -> None:
        merged = self.found.lines.setdefault(key, {})
        for head, marks in lines:
            by_context = merged.get(head)
            if by_context is None:
                merged[head] = {context: marks}
            else:
                by_context[context] = by_context.get(context, 0) | marks

    def _add_arcs(self, key: GroupKey, context: str, arcs: list[tuple[_Head, list[bytes]]]) -> None:
        if arcs:
            merged = self.found.arcs.setdefault(key, {})
            for head, entries in arcs:
                merged.setdefault(head, {}).setdefault(context, set()).update(entries)

    def _split(self, body: bytes) -> list[bytes]:
        """Split an arcs record into its entries, all of them whole."""
        entries = []
        position, end, known = 0, len(body) - 4, self._entries
        while position <= end and body[position]:
            length = 4 + 4 * body[position + 1]
            entry = body[position : position + length]
            if entry not in known:
                self._check_entry(entry, length)
            entries.append(entry)
            position += length
        if not _is_zero(body, position):
            raise _Damaged
        return entries

    def _check_entry(self, entry: bytes, length: int) -> None:
        damage: list[str] = []
        read = list(parse_entries(entry, "", damage))
        if damage or len(read) != 1 or len(entry) != length:
            raise _Damaged
        self._entries.add(entry)

    def _group(self, process: ProcessIdentity) -> GroupKey:
        key = (
            self._origins.of_process(process) if self._origins else "",
            process.prefix,
            process.base_prefix,
            process.stdlib,
            process.python,
            process.context,
            "branch" if process.branch else "",
            "here" if (process.host, process.container) == self._here else "",
        )
        self.found.processes.setdefault(key, process)
        return key


def _contexts(sections: list[_Section]) -> tuple[frozenset[str], bool]:
    """Return the contexts in which something ran; without sections, just the empty one.

    Returns:
        The contexts, and whether something ran for several named ones together.
    """
    told = [each for each in sections if each.lines or each.seen or each.arcs]
    found = frozenset(context for each in told for context in each.contexts)
    if not sections or found == _NO_CONTEXT:
        return _NO_CONTEXT, False
    has_together = any(
        len(each.contexts) - ("" in each.contexts) > 1 and each.is_used() for each in told
    )
    return found, has_together


def _is_zero(content: bytes, position: int) -> bool:
    """Return whether all bytes from a position on are zero; the position is within the content."""
    return position <= len(content) and content[position:] == bytes(len(content) - position)


def _source(head: _Head) -> SourceLines:
    """Read the head of a record: a source without anything that ran."""
    return parse_record(head, 0, len(head), [])


def _with_marks(head: _Head, by_context: Mapping[str, int]) -> RanSource:
    """Read the marks of a record; most contexts share theirs with others."""
    source = _source(head)
    if head.startswith(b"LINE"):
        first = int.from_bytes(head[12:16], "little")
        bits = {marks: _bits(marks, first) for marks in {*by_context.values()}}
        return RanSource(source, {each: bits[marks] for each, marks in by_context.items()})
    read = {marks: _read_marks(head, marks) for marks in {*by_context.values()}}
    return RanSource(source, more={each: read[marks] for each, marks in by_context.items()})


def _bits(marks: int, first: int) -> int:
    """Return a number whose bit *n* is set if line *n* is marked."""
    length = (marks.bit_length() + 7) // 8
    if not length or first + length > MOST_LINES:
        return 0
    return int(marks.to_bytes(length, "big").translate(_TO_DIGITS), 2) << first


def _read_marks(head: _Head, marks: int) -> SourceLines:
    told = marks.to_bytes((marks.bit_length() + 7) // 8, "little")
    if head.startswith(b"BRCH") and not any(head[16:20]):
        return with_slots(_source(head), told, [])
    return parse_record(head + told, 0, len(head) + len(told), [])


def _with_arcs(head: _Head, entries: set[bytes]) -> SourceLines:
    return with_entries(_source(head), parse_entries(b"".join(entries), "", []))


def _expect(condition: bool) -> None:  # noqa: FBT001
    if not condition:
        raise _Damaged


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error)
