"""Records what coverage.py's C tracer sees, at the moment when it sees it.

The tracer keeps a set of lines, or of arcs, for each source in memory; if the process is killed, it
is lost. The tracer adds to such a set at each line, and Python's set then compares the new item
with its items. So we put *traps* into the sets, one for each possible line or arc: objects with the
hash of the number that they stand for. When a line runs for the first time, the set compares it
with its trap. The trap marks the line in a recording (`recorder`), and makes room for the plain
number. From then on the line costs the same as without us. The kernel has the mark, so nothing
needs to happen when the process ends, no thread has to look now and then, and nothing is flushed.

When a function first starts, its bytecode shows which arcs are possible (`_possible_arcs`). Items
without a trap, such as a line that the source does not have, show in the size of the set. They are
recorded with the next item that has a trap, and when the process ends by itself.

Before coverage.py reads its sets, the traps are removed. When a dynamic context begins, what has
run gets traps again, and its marks other places; coverage.py itself then saves nothing.

`autosave` loads this module, which needs `recorder` and its parts beside it. Like these it is a
guest: it takes no lock, prints nothing, and lets no exception of its own reach the application.
Nothing in it is newer than Python 3.8, and it must be compiled under a name that no other code has.
"""

import dis
import os
import sys
from posix import (
    O_CLOEXEC,
    O_RDONLY,
    close as _close,
    open as _open,
    read as _read,
    stat as _stat,
)

# Functions look builtins up in this copy, which stays as it is when the application replaces some.
if "__hcoverage__" not in __builtins__:  # type: ignore[operator, used-before-def]
    __builtins__ = {**__builtins__, "__hcoverage__": True}  # type: ignore[assignment, dict-item]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import CodeType, FrameType, ModuleType
    from typing import Any, Final, Optional

_OLDEST_COVERAGE: "Final" = 7  # its tracers had dictionaries before

_MOST_LINES: "Final" = 1 << 17  # of a source, with traps
_LARGEST_SOURCE: "Final" = 1 << 23  # bytes, of one whose lines are counted
_ONE_ARC: "Final" = 1  # a kind of entry, see `recorder_arcs`
_CACHE: "Final" = 0
_EXTENDED_ARG: "Final" = dis.EXTENDED_ARG
_JUMPS: "Final" = frozenset((*dis.hasjrel, *dis.hasjabs))
_IS_JUMP: "Final" = bytes(operation in _JUMPS for operation in range(256))
_ABSOLUTE: "Final" = frozenset(dis.hasjabs)
_BACKWARD: "Final" = frozenset(code for code in _JUMPS if "BACKWARD" in dis.opname[code])
_PROTECTS: "Final" = frozenset(code for code in _JUMPS if dis.opname[code].startswith("SETUP_"))
_UNIT: "Final" = 2 if sys.version_info >= (3, 10) else 1  # bytes for each unit of a jump's argument

_READ_ONLY: "Final" = O_RDONLY | O_CLOEXEC
# Modules of functions that no mock is.
_NEVER_MOCKED: "Final" = ("coverage.", "posixpath", "genericpath", __name__)
_HEAP_TYPE: "Final" = 1 << 9  # Py_TPFLAGS_HEAPTYPE: none of the interpreter's own classes
_FILE_TYPE: "Final" = 0o170000
_REGULAR_FILE: "Final" = 0o100000
# `id` is audited: a hook of the application, and that of `hcov affected`, would be called.
_identity: "Final" = object.__hash__
_int, _len, _range, _set, _type, _abs = int, len, range, set, type, abs
_int_equals = int.__eq__


class _Trap(int):
    """Stands in a set for a line, or an arc, that has not run yet."""

    __slots__ = ()
    __hash__ = int.__hash__

    def __eq__(self, other: "Any") -> bool:  # noqa: PYI032 - numbers alone are in such a set
        try:
            code = _find_frame().f_back.f_code
        except BaseException as error:
            if not _is_ours(error):
                raise
            return False  # An audit hook has refused it; `record_rest` records what is added.
        name = code.co_filename
        if name == _OWN_FILE:  # our own code adds or removes traps
            return _type(other) is _Trap and _int_equals(self, other)
        source = _sources.get(name)
        if source is None or _type(other) is not _int:
            return False
        try:
            source.note(other, code)
        except RecursionError:
            return False  # The application is at the limit of its stack: the trap stays.
        except BaseException as error:  # noqa: BLE001 - none of ours may reach the application
            source.fails(error)
        source.seen.discard(self)
        source.seen.add(other)
        return True  # so the tracer has nothing to add


# Returns its caller's frame (`recorder`).
_find_frame: "Any" = sys._getframe
# coverage.py packs an arc into one number, see its tracer.c: so many bits for each line, then one
# for each that is negative.
_line_bits = 28
# Whether our code has caused an error (`recorder`).
_is_ours: "Any" = None
_OWN_FILE: "Final" = _Trap.__eq__.__code__.co_filename
# By the file names in code objects.
_sources: "dict[str, _Source]" = {}
# The traps of lines, from 1 on; each is used in the sets of all sources.
_traps_of_lines: "list[_Trap]" = []


def start(
    measuring: "Any",
    directory: str,
    *,
    container: "Optional[str]",
    image: str,
    settled_before: int,
    line_bits: int,
    load: "Callable[[str], Any]",
) -> "Optional[Marks]":
    """Record what a coverage.py measures from now on, if traps can do that.

    Args:
        measuring: The coverage.py that measures this process.
        directory: The directory of the recording.
        container: As `recorder.start` takes it.
        image: As `recorder.start` takes it.
        settled_before: As `recorder.start` takes it.
        line_bits: How many bits a line has where this coverage.py packs an arc into one number.
        load: Imports a module from beside this one.

    Returns:
        The object that records, or None if traps cannot be used.
    """
    import coverage

    global _find_frame, _is_ours, _line_bits  # noqa: PLW0603 - one process, one recording
    collector = measuring._collector
    branch = bool(collector.branch)
    if (
        sys.implementation.name != "cpython"
        or not getattr(sys, "_is_gil_enabled", bool(1).__bool__)()
        or coverage.version_info[0] < _OLDEST_COVERAGE
        or not all(_type(tracer).__name__ == "CTracer" for tracer in collector.tracers)
        or measuring._plugins.file_tracers
        or (branch and not getattr(getattr(collector, "core", collector), "packed_arcs", True))
    ):
        return None
    _line_bits = line_bits
    recorder = load("_hcoverage_recorder")
    writing, sources = recorder.part(recorder.WRITER_PART), recorder.part(recorder.SOURCES_PART)
    _find_frame, _is_ours = recorder._frame_finder(), recorder.is_ours
    arcs = load("_hcoverage_recorder_arcs") if branch else None
    if sys.version_info < (3, 13):
        _map_without_descriptor(writing)
    recorder.own_files.add(_OWN_FILE)
    recorder.own_globals(globals())
    context = collector.static_context or ""
    writer = writing.Writer(
        os.path.abspath(directory), context, container, image, branch=branch, core="coverage"
    )
    kind_of_answer = measuring._inorout.disp_class
    return Marks(collector, sources, arcs, writer, settled_before, kind_of_answer=kind_of_answer)


class Marks:
    """Records the sources that coverage.py's tracers meet.

    Attributes:
        has_contexts: Whether dynamic contexts have begun. The recording alone has what ran in them.
    """

    def __init__(
        self,
        collector: "Any",
        sources: "Any",
        arcs: "Optional[ModuleType]",
        writer: "Any",
        settled_before: int,
        *,
        kind_of_answer: "Callable[[], Any]",
    ) -> None:
        self.writer = writer
        self.has_contexts = False
        self.sources = sources
        self.arcs = arcs
        self._collector = collector
        self._settled_before = settled_before
        self._directories: dict[str, str] = {}
        self._by_path: dict[str, _Source] = {}
        self._should_trace = collector.should_trace
        self._kind_of_answer = kind_of_answer
        self._flush = collector.flush_data
        self._ended = False
        collector.flush_data = self._flush_data
        collector.should_trace = self._meet
        collector.switch_context = self._switch_context
        for tracer in collector.tracers:
            tracer.should_trace = self._meet
            tracer.switch_context = self._switch_context
        os.register_at_fork(after_in_child=self._begin_in_child)

    def record_rest(self) -> None:
        """Record items that had no trap."""
        for source in [*self._by_path.values()]:
            source.record_rest()

    def end(self) -> None:
        """Remove all traps: coverage.py is about to save everything."""
        self._ended = True
        self.record_rest()

    def discard(self) -> None:
        """Remove the recording: coverage.py has saved its content."""
        self.writer.discard()

    def _meet(self, filename: str, frame: "FrameType") -> "Any":
        """Handle coverage.py's question whether a source is measured; arm it if so."""
        try:
            disposition = self._should_trace(filename, frame)
        except Exception as error:
            if not _raised_by_coverage(error):
                raise
            # The application would get it: its working directory is gone, or nothing can be opened.
            self.writer.note_loss(OSError(getattr(error, "errno", 0), ""))
            return self._not_measured(filename)
        try:
            # What Cython compiled shows frames that do not run: traps would mark its caller.
            if frame is not _find_frame().f_back:
                return disposition
            if disposition.trace and not disposition.file_tracer and not self._ended:
                self._add(filename, disposition.source_filename, frame)
        except UnicodeError:
            pass  # No name of a file.
        except BaseException as error:  # noqa: BLE001 - or coverage.py's measuring would end
            self.writer.note_loss(error)
        return disposition

    def _not_measured(self, filename: str) -> "Any":
        """Return coverage.py's answer for a source that it does not measure."""
        answer = self._kind_of_answer()
        answer.original_filename = answer.canonical_filename = filename
        answer.source_filename = answer.file_tracer = None
        answer.reason = "it has failed"
        answer.trace = answer.has_dynamic_filename = False
        return answer

    def _add(self, filename: str, path: str, frame: "FrameType") -> None:
        source = self._by_path.get(path)
        if source is None:
            find, describe = self.sources.find_source, self.sources.describe_source
            real, module = find(filename, frame.f_globals, self._directories)
            described = describe(real, module, self._settled_before)
            seen = self._collector.data.setdefault(path, _set())
            kind = _Lines if self.arcs is None else _Arcs
            source = kind(self, described, seen, path, frame.f_code)
            source = self._by_path.setdefault(path, source)
            source.arm()
        _sources[filename] = source

    def _flush_data(self) -> "Any":
        for source in self._by_path.values():
            source.disarm()
        try:
            return self._flush()
        finally:
            if not self._ended:
                for source in self._by_path.values():
                    source.arm()

    def _switch_context(self, name: "Optional[str]") -> "Any":
        """Attribute what runs from now on to a dynamic context, like coverage.py's collector.

        That would write into its database each time, which a kill can leave half written.
        """
        self.has_contexts = True
        try:
            sources = [*self._by_path.values()]
            for source in sources:
                source.record_rest()
            self.writer.heading = self.writer.heading_of(name or "")
            for source in sources:
                source.begin_context()
        except Exception as error:  # noqa: BLE001 - or coverage.py's measuring would end
            self.writer.note_loss(error)
        return self._collector.covdata.set_context(_joined(self._collector.static_context, name))

    def _begin_in_child(self) -> None:
        for source in self._by_path.values():
            source.begin_anew()


class _Source:
    """What ran of one source.

    Attributes:
        seen: coverage.py's set.
    """

    def __init__(
        self, marks: "Marks", described: bytes, seen: "set[Any]", path: str, code: "CodeType"
    ) -> None:
        self.seen = seen
        self._marks = marks
        self._described = described
        self._path = path
        self._code = code
        self._expected = _len(seen)
        self._blocks: dict[int, Any] = {}
        self.begin_anew()

    def begin_anew(self) -> None:
        """Go on in the recording of a forked child."""
        self._region: Any = None
        self._blocks.clear()

    def arm(self) -> None:
        """Add traps to the set for everything that has not run."""
        raise NotImplementedError

    def disarm(self) -> None:
        """Remove all traps from the set."""
        seen = self.seen
        self.record_rest()
        seen.difference_update({each for each in seen.copy() if _type(each) is _Trap})
        self._expected = _len(seen)

    def begin_context(self) -> None:
        """Record once more what has run, as soon as it runs again."""
        items = self.seen.copy()
        ran = [key for key in items if _type(key) is _int]
        if not ran:
            return
        self.begin_anew()
        self.seen.difference_update(ran)
        self.seen.update([_Trap(key) for key in ran])
        self._expected = _len(items)  # What another thread has added meanwhile is more.

    def note(self, key: int, _code: "CodeType") -> None:
        """Record what the tracer is about to add to the set, for a code object."""
        self._record(key)
        if _len(self.seen) != self._expected:
            self.record_rest()

    def record_rest(self) -> None:
        """Record items of the set that had no trap."""
        seen = self.seen
        if _len(seen) == self._expected:
            return
        self._expected = _len(seen)
        for key in seen.copy():
            if _type(key) is _int:
                try:
                    self._record(key)
                except RecursionError:
                    raise
                except BaseException as error:  # noqa: BLE001
                    self.fails(error)

    def fails(self, error: BaseException) -> None:
        """Note that something could not be recorded.

        Raises:
            BaseException: The error itself, where it is the application's.
        """
        self._marks.writer.note_loss(error)

    def _record(self, key: int) -> None:
        raise NotImplementedError

    def _plant(self, keys: "Iterable[int]") -> None:
        seen = self.seen
        before = _len(seen)
        seen.update([_Trap(key) for key in keys if key not in seen])
        self._expected += _len(seen) - before

    def _mark(self, line: int) -> None:
        region = self._region
        if region is None:
            room = self._marks.sources.line_room(self._described)
            region = self._region = self._marks.writer.add_lines(self._described, 0, room)
        try:
            region[line] = self._marks.writer.mark
        except IndexError:
            self._mark_outside(line)

    def _mark_outside(self, line: int) -> None:
        count = self._marks.sources.OVERFLOW_LINES
        number = line // count
        block = self._blocks.get(number)
        if block is None:
            first = number * count
            block = self._marks.writer.add_lines(self._described, first, count)
            self._blocks[number] = block
        block[line - number * count] = self._marks.writer.mark


class _Lines(_Source):
    """A source whose lines are measured."""

    def arm(self) -> None:
        count = _count_lines(self._path) or _last_line(self._code)
        count = min(count, _MOST_LINES)
        if _len(_traps_of_lines) < count:
            known = _len(_traps_of_lines)
            _traps_of_lines.extend([_Trap(line) for line in _range(known + 1, count + 1)])
        seen = self.seen
        before = _len(seen)
        if before:
            self._plant(_range(1, count + 1))
        else:
            seen.update(_traps_of_lines[:count])
            self._expected += _len(seen) - before

    def _record(self, key: int) -> None:
        self._mark(key)


class _Arcs(_Source):
    """A source whose arcs are measured."""

    def begin_anew(self) -> None:
        super().begin_anew()
        self._log: Any = None

    def arm(self) -> None:
        # By their first lines; the arcs of a function are found when it starts.
        self._codes: dict[int, list[CodeType]] = {}
        self._known: dict[int, CodeType] = {}
        entries = []
        for code in _codes_in(self._code):
            first = code.co_firstlineno
            self._codes.setdefault(first, []).append(code)
            entries += [_packed(-first, line) for _, line in _blocks_of(code) if line is not None]
        self._plant(entries)

    def note(self, key: int, code: "CodeType") -> None:
        super().note(key, code)
        if key >> 2 * _line_bits & 1 and _identity(code) not in self._known:
            codes = self._codes.pop(key & (1 << _line_bits) - 1, [])
            for each in codes if code in codes else [*codes, code]:
                self._known[_identity(each)] = each
                self._plant(_possible_arcs(each))

    def _record(self, key: int) -> None:
        first, second = _unpacked(key)
        if first > 0:
            self._mark(first)
        if second > 0:
            self._mark(second)
        if first != second:
            log = self._log
            if log is None:
                arcs: Any = self._marks.arcs
                log = self._log = arcs._ArcLog(self._marks.writer, self._described)
            log.add((_ONE_ARC, first, second))


# What is possible --------------------------------------------------------------------------------


def _count_lines(path: str) -> int:
    """Count the lines of a source; return 0 if it cannot be read."""
    try:
        # Opening anything else can block, or take what the application waits for.
        if _stat(path).st_mode & _FILE_TYPE != _REGULAR_FILE:
            return 0
        descriptor = _open(path, _READ_ONLY)
        try:
            content = _read(descriptor, _LARGEST_SOURCE)
        finally:
            _close(descriptor)
    except (OSError, ValueError):
        return 0
    return content.count(b"\n") + content.count(b"\r") + 1


def _last_line(code: "CodeType") -> int:
    lines = [line for each in _codes_in(code) for _, line in _blocks_of(each) if line is not None]
    return max(lines, default=0)


def _codes_in(code: "CodeType") -> "Iterator[CodeType]":
    """Yield a code object and all code objects in it."""
    found = [code]
    while found:
        code = found.pop()
        yield code
        found += [constant for constant in code.co_consts if _type(constant) is _type(code)]


def _blocks_of(code: "CodeType") -> "list[tuple[int, Optional[int]]]":
    """Return the offsets in a code object's instructions where lines begin, and these lines."""
    if sys.version_info < (3, 10):
        return _line_starts(code)
    return [(start, line) for start, _, line in code.co_lines()]


def _line_starts(code: "CodeType") -> "list[tuple[int, Optional[int]]]":
    """Read the line table of Pythons before 3.10, see `Objects/lnotab_notes.txt`."""
    found: list[tuple[int, Optional[int]]] = []
    offset, line = 0, code.co_firstlineno
    table = code.co_lnotab
    for place in _range(0, _len(table) - 1, 2):
        if table[place]:
            if not found or found[-1][1] != line:
                found.append((offset, line))
            offset += table[place]
        step = table[place + 1]
        line += step - 256 if step >= 128 else step  # noqa: PLR2004 - a signed byte
    if not found or found[-1][1] != line:
        found.append((offset, line))
    return found


def _possible_arcs(code: "CodeType") -> "set[int]":
    """Return all possible arcs of a code object, packed, and some impossible ones."""
    blocks = _blocks_of(code)
    numbers = _numbers_of_blocks(blocks, _len(code.co_code))
    following: list[set[int]] = [{number + 1} for number in _range(_len(blocks))]
    if following:
        following[-1] = _set()
    for origin, end, target in _jumps_in(code):
        if target >= _len(numbers) or not blocks:
            continue
        for number in _range(numbers[origin], numbers[min(end, _len(numbers) - 1)] + 1):
            following[number].add(numbers[target])
    first = code.co_firstlineno
    arcs = _set()
    for number, (_, line) in enumerate(blocks):
        if line is None:
            continue
        arcs |= {_packed(line, -first), _packed(-first, line)}
        arcs |= {_packed(line, to) for to in _lines_reached(blocks, following, number)}
    return arcs


def _lines_reached(
    blocks: "list[tuple[int, Optional[int]]]", following: "list[set[int]]", number: int
) -> "set[int]":
    """Return the lines that follow a block, past blocks without a line or of the same line."""
    lines = _set()
    own = blocks[number][1]
    past = {number}
    left = [*following[number]]
    while left:
        each = left.pop()
        line = blocks[each][1]
        if line is not None:
            lines.add(line)
        if (line is None or line == own) and each not in past:
            past.add(each)
            left += following[each]
    return lines


def _numbers_of_blocks(blocks: "list[tuple[int, Optional[int]]]", size: int) -> "list[int]":
    """Return the number of the block for each offset of the instructions."""
    numbers: list[int] = []
    ends = [start for start, _ in blocks[1:]] + [size]
    for number, end in enumerate(ends):
        numbers += [number] * (end - _len(numbers))
    return numbers


def _jumps_in(code: "CodeType") -> "Iterator[tuple[int, int, int]]":
    """Yield the possible jumps: the range that they come from, and the offset that they lead to."""
    content = code.co_code
    operations = content[::2].translate(_IS_JUMP)
    at = operations.find(1)
    while at >= 0:
        offset = 2 * at
        target = _target(content, offset)
        end = target - 2 if content[offset] in _PROTECTS else offset
        yield offset, end, target
        at = operations.find(1, at + 1)
    table = getattr(code, "co_exceptiontable", b"")
    numbers = _numbers_in(table)
    for start in numbers:
        length, target, _ = next(numbers), next(numbers), next(numbers)
        yield 2 * start, 2 * (start + length - 1), 2 * target


def _target(content: bytes, offset: int) -> int:
    """Return the offset that a jump leads to."""
    operation = content[offset]
    argument = content[offset + 1]
    shift, before = 8, offset - 2
    while before >= 0 and content[before] == _EXTENDED_ARG:
        argument |= content[before + 1] << shift
        shift, before = shift + 8, before - 2
    if operation in _ABSOLUTE:
        return argument * _UNIT
    following = offset + 2
    while following < _len(content) and content[following] == _CACHE:
        following += 2  # distances count from after the inline caches
    return following - 2 * argument if operation in _BACKWARD else following + argument * _UNIT


def _numbers_in(table: bytes) -> "Iterator[int]":
    """Read a table of exceptions, see `Objects/exception_handling_notes.txt` of CPython."""
    number = 0
    for byte in table:
        number = number << 6 | byte & 63
        if not byte & 64:
            yield number
            number = 0


def _raised_by_coverage(error: BaseException) -> bool:
    """Return whether an error comes of what coverage.py did; it may have called a mock.

    If a signal handler has raised it meanwhile, it is the application's. A handler is known by its
    arguments: it gets the frame that it interrupts. Another thread of the application may have it
    raised (`PyThreadState_SetAsyncExc`): an error of a class that nobody there raises.
    """
    before: Any = None
    trace = error.__traceback__
    while trace is not None:
        frame = trace.tb_frame
        if before is not None and _has(frame.f_locals.values(), before):
            return False
        before = frame
        trace = trace.tb_next
    kind = _type(error)
    raised_in, made_in = _name_in(before.f_globals), _name_in(kind.__dict__, "__module__")
    return (
        not kind.__flags__ & _HEAP_TYPE
        or made_in.startswith("coverage.")
        or not raised_in.startswith(_NEVER_MOCKED)
    )


def _name_in(names: "Any", key: str = "__name__") -> str:
    name = names.get(key)
    return name if _type(name) is str else ""


def _has(values: "Iterable[Any]", frame: "FrameType") -> bool:
    """Return whether a frame is among arguments, or in one that takes several."""
    for value in values:
        if value is frame or (_type(value) is tuple and any([each is frame for each in value])):  # noqa: C419
            return True
    return False


def _joined(static: "Optional[str]", dynamic: "Optional[str]") -> "Optional[str]":
    """Return the name of a dynamic context as coverage.py would write it."""
    return static + "|" + dynamic if static and dynamic else static or dynamic


def _packed(first: int, second: int) -> int:
    bits = _line_bits
    return (
        _abs(first) | _abs(second) << bits | (first < 0) << 2 * bits | (second < 0) << 2 * bits + 1
    )


def _unpacked(packed: int) -> "tuple[int, int]":
    bits = _line_bits
    mask = (1 << bits) - 1
    first, second = packed & mask, packed >> bits & mask
    return (
        -first if packed >> 2 * bits & 1 else first,
        -second if packed >> 2 * bits + 1 & 1 else second,
    )


def _map_without_descriptor(writing: "Any") -> None:
    """Make the recorder's mappings keep no descriptor, as they do from Python 3.13 on.

    Before that `mmap` keeps a duplicate, which the application would find. An anonymous mapping
    needs none, so the file is mapped over it.
    """
    try:
        import _ctypes
        import mmap
    except ImportError:
        return

    class Pointer(_ctypes._SimpleCData):  # type: ignore[type-arg]
        _type_ = "P"

    class Byte(_ctypes._SimpleCData):  # type: ignore[type-arg]
        _type_ = "c"

    try:
        itself: Any = None
        function = _ctypes.dlsym(_ctypes.dlopen(itself, 2), "mmap")
    except OSError:
        return
    call, address_of = _ctypes.call_function, _ctypes.addressof
    new, shared, protection = mmap.mmap, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE
    fixed = 0x10
    otherwise = writing.map_segment

    def map_file(descriptor: int, size: int) -> "Any":
        try:
            memory = new(-1, size)
            address = address_of(Byte.from_buffer(memory))
            flags = shared | fixed
            place = Pointer(address), Pointer(size), protection, flags, descriptor, Pointer(0)
            if call(function, place) == -1:
                return otherwise(descriptor, size)
        except (OSError, ValueError):
            return None
        return memoryview(memory)

    writing.map_segment = map_file
