"""Autosave: writes coverage.py's data to disk while the process still runs.

coverage.py writes at exit, so a process that is killed loses everything. Here a thread looks once a
second at coverage.py's data in memory and, if there is more than before, writes all of it into a
data file of its own. It only reads coverage.py's data: coverage.py's own save would empty it while
the application may be adding to it. Nor does it touch coverage.py's file: a kill during a write
would leave that broken. Our file is renamed into place once it is whole, and removed once
coverage.py has saved at the end. `os._exit`, `os.exec…` and `atexit._clear` skip that end, so they
save first. A note is there as long as a kill would lose what has run since the last time.

`startup` runs this file in any Python that is to be measured, from a copy: it needs only the
standard library and the running coverage.py, and nothing newer than Python 3.8. It must be compiled
under a name in angle brackets, since coverage.py does not measure such sources.
"""

import atexit
import os
import sys
from _signal import (  # type: ignore[import-not-found]
    SIG_BLOCK,
    SIG_SETMASK,
    SIGXFSZ,
    pthread_sigmask,
    valid_signals,
)
from _thread import RLock, allocate_lock, get_ident, get_native_id, start_new_thread
from atexit import register as _register_at_exit
from posix import (
    O_CLOEXEC,
    O_CREAT,
    O_RDONLY,
    O_TRUNC,
    O_WRONLY,
    close as _close,
    getpid as _getpid,
    open as _open,
    read as _read,
    rename as _rename,
    stat as _stat,
    uname as _uname,
    unlink as _unlink,
    urandom as _urandom,
    write as _write,
)
from sys import gettrace as _gettrace
from time import monotonic as _now
from zlib import crc32

try:
    from _signal import sigtimedwait
except ImportError:  # macOS
    sigtimedwait = None

try:
    import resource

    _limits, _LARGEST_FILE = resource.getrlimit, resource.RLIMIT_FSIZE
except ImportError:  # a minimal build
    _limits, _LARGEST_FILE = (lambda _: (-1, -1)), 0

# Functions look builtins up in this copy, which stays as it is when the application replaces some.
if "__hcoverage__" not in __builtins__:  # type: ignore[operator, used-before-def]
    __builtins__ = {**__builtins__, "__hcoverage__": True}  # type: ignore[assignment, dict-item]

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable
    from typing import Any

_FIRST = 0.1  # seconds until the first look, for processes that are killed soon
_INTERVAL = 1.0  # seconds between looks
_PATIENCE = 5.0  # seconds to wait while another thread saves; a disk can hang
_THREAD_GONE = 1000  # looks at /proc; it takes the kernel some microseconds
_SCHEMA = 7  # coverage.py's schema of data files that is written here, see its docs/dbschema.rst
_STATEMENT = 200_000  # characters; SQLite takes a million
# Of a line where coverage.py packs an arc into one number; the second before 7.16 or so.
_LINE_BITS = 28
_FEWER_LINE_BITS = 20
_TEMPORARY = ".autosave."
_FILE_TYPE = 0o170000
_REGULAR_FILE = 0o100000
_TRACED_BY_OTHERS = (
    b"what it ran after it had set a trace function of its own (`sys.settrace`), as debuggers do: "
    b"coverage.py sees nothing then; the recorder, on Python 3.12 or later, does"
)


def start(container: str, recording: "dict[str, Any] | None", *, is_ours: bool) -> None:
    """From now on, save the data of the coverage.py that measures this process.

    If called again, it does nothing.

    Args:
        container: The name of this container. There sources have other paths than where the data
            will be read, so a note identifies them.
        recording: The arguments for `coverage_marks.start`; None to not call it.
        is_ours: Whether we started it; else the application did, and it saves elsewhere.
    """
    import coverage

    measuring = getattr(coverage.process_startup, "coverage", None)
    if measuring is None or hasattr(coverage.process_startup, "hcoverage_autosave"):
        return
    marks = _start_marks(measuring, recording) if recording else None
    kind = _Autosave if marks is None else _Recorded
    coverage.process_startup.hcoverage_autosave = kind(  # type: ignore[attr-defined]
        measuring, container, marks, is_ours=is_ours
    )


def _start_marks(measuring: "Any", recording: "dict[str, Any]") -> "Any":
    """Record what coverage.py measures, if that is possible."""
    try:
        import _hcoverage_coverage_marks  # type: ignore[import-not-found]

        return _hcoverage_coverage_marks.start(
            measuring, line_bits=line_bits(measuring._collector), load=__import__, **recording
        )
    except (OSError, ImportError, AttributeError, ValueError):
        return None  # Then the data is saved now and then.


class _Saving:
    """The steps at the end of the process, whether coverage.py knows of that end or not."""

    def __init__(self, measuring: "Any", container: str, *, is_ours: bool) -> None:
        self._measuring = measuring
        self._sources = _SourcesNote(container) if container else None
        self._coverage_ends = measuring._atexit
        self._directory = self._problems = os.getenv("HCOVERAGE_DATA_DIR")
        self._is_ours = is_ours
        self._ended = False
        self._traced = get_ident() if _is_traced_by_coverage() else None
        atexit.unregister(measuring._atexit)
        measuring._atexit = self.end  # coverage.py's handler of SIGTERM calls it
        atexit.register(self.end)
        self._keep_registered()
        for name in ("_exit", "execv", "execve"):
            self._save_before(os, name)

    def save(self, patience: float = _PATIENCE) -> None:
        """Save what is new, unless another thread is saving for longer than `patience` seconds."""
        raise NotImplementedError

    def end(self, event: str = "atexit") -> None:
        """Let coverage.py save its data; then ours is not needed."""
        self._ended = True
        mask = _block_size_signal()
        try:
            is_taken_away = self._is_taken_away()
            self._before_end()
            if not self._measuring._auto_save:
                self._note_other()
                # Whoever makes a `Coverage`, if only to read, turns this off. What has run counts.
                self._measuring._auto_save = self._is_ours and self._measuring._started
            self._finish(event)
            if is_taken_away:
                self._note_taken_away()
        except Exception as error:  # noqa: BLE001 - Python would print it
            self._save_instead(error)
        finally:
            self._close()
            _take_size_signal(mask)

    def _before_end(self) -> None:
        """Prepare for coverage.py's save."""

    def _finish(self, event: str) -> None:
        """Let coverage.py save its data; then ours is removed."""
        self._note_sources()
        with _Beside(self._measuring._data):
            self._coverage_ends(event)

    def _save_instead(self, error: Exception) -> None:
        """Save the data that coverage.py could not; by default it is recorded already."""

    def _loses_nothing(self) -> None:
        """Remove the note that a kill would lose something: this process ends by itself."""

    def _close(self) -> None:
        """Close everything."""

    def _keep_registered(self) -> None:
        clear = atexit._clear

        def _clear() -> None:
            clear()
            _register_at_exit(self.end)

        atexit._clear = _clear

    def _save_before(self, module: "Any", name: str) -> None:
        real = getattr(module, name)

        def wrapper(*args: "Any", **kwargs: "Any") -> "Any":
            self.save()
            self._loses_nothing()
            return real(*args, **kwargs)

        _replace(module, name, wrapper)

    def _note_sources(self) -> None:
        if self._sources is not None and self._measuring._collector is not None:
            self._sources.add([*self._measuring._collector.data], self._measuring._data)

    def _is_taken_away(self) -> bool:
        """Return whether the application has replaced coverage.py's trace function."""
        was_traced = self._traced == get_ident() and self._measuring._started
        return was_traced and not _is_traced_by_coverage()

    def _note_taken_away(self) -> None:
        if self._directory:
            name = f"problem.{_uname().nodename}.{_getpid()}.txt"
            _put(_join(self._directory, name), _TRACED_BY_OTHERS)

    def _note_other(self) -> None:
        """Write a note that the application runs coverage.py itself, as with `coverage run`."""
        if self._directory:
            name = f"itself.{_uname().nodename}.{_getpid()}.txt"
            _put(_join(self._directory, name), b"")

    def _note(self, error: Exception) -> None:
        """Write a note for the end of the run, once."""
        directory, self._problems = self._problems, None
        if not directory:
            return
        when = "when it ended; it may be lost" if self._ended else "while it ran"
        text = f"data was not saved {when} ({type(error).__name__}: {error})"
        name = f"problem.{_uname().nodename}.{_getpid()}.txt"
        try:
            _put(_join(directory, name), text.encode("utf-8", "replace"))
        except OSError:
            pass


class _Recorded(_Saving):
    """Saving for processes that record at once all that runs (`coverage_marks`)."""

    def __init__(self, measuring: "Any", container: str, marks: "Any", *, is_ours: bool) -> None:
        super().__init__(measuring, container, is_ours=is_ours)
        self._marks = marks

    def save(self, patience: float = _PATIENCE) -> None:  # noqa: ARG002 - it takes no time
        """Record the rest."""
        try:
            self._marks.record_rest()
        except Exception as error:  # noqa: BLE001 - the application goes on as if we were not there
            self._marks.writer.note_loss(error)

    def _before_end(self) -> None:
        self._marks.end()

    def _finish(self, event: str) -> None:
        measuring = self._measuring
        if self._marks.has_contexts:
            # The recording has it all; and at a SIGTERM coverage.py would save without being asked.
            measuring._auto_save = False
            self._coverage_ends("atexit")
            return
        super()._finish(event)
        if not measuring._auto_save or _exists(measuring._data.data_filename()):
            self._marks.discard()


class _Autosave(_Saving):
    """Saving for processes whose data is saved each second."""

    def __init__(self, measuring: "Any", container: str, _marks: None, *, is_ours: bool) -> None:
        super().__init__(measuring, container, is_ours=is_ours)
        self._file = _DataFile(measuring if is_ours else None)
        self._note_of_loss = ""
        self._may_lose()
        self._begin()
        for name in ("fork", "forkpty"):
            self._pause_during(os, name)
        os.register_at_fork(
            before=self._pause, after_in_parent=self._go_on, after_in_child=self._begin_in_child
        )

    def save(self, patience: float = _PATIENCE) -> None:
        """Save what is new, unless another thread is saving for longer than `patience` seconds."""
        # Reentrant, for a signal handler that ends the process while the same thread is saving.
        if not self._saving.acquire(patience > 0, patience if patience > 0 else -1):
            return
        try:
            self._note_sources()
            self._file.save()
        except Exception as error:  # noqa: BLE001 - application and coverage.py go on as if we were not there
            self._note(error)
        finally:
            self._saving.release()

    def _before_end(self) -> None:
        self._ticker.stop()

    def _finish(self, event: str) -> None:
        super()._finish(event)
        self._file.give_way()

    def _save_instead(self, error: Exception) -> None:
        self._file.measuring = self._measuring  # It has stopped, and is not the current one.
        self.save()
        self._note(error)

    def _may_lose(self) -> None:
        """Write a note that a kill would lose what has run since the last save."""
        if self._note_of_loss or not (self._is_ours and self._directory):
            return
        name = f"unsaved.{_uname().nodename}.{_getpid()}.txt"
        try:
            _put(_join(self._directory, name), b"")
            self._note_of_loss = _join(self._directory, name)
        except OSError:
            pass

    def _loses_nothing(self) -> None:
        note, self._note_of_loss = self._note_of_loss, ""
        if note:
            try:
                _unlink(note)
            except OSError:
                pass

    def _close(self) -> None:
        self._file.close()
        self._loses_nothing()

    def _begin(self) -> None:
        self._control = RLock()
        self._saving = RLock()
        self._pauses = 0
        self._due = _now() + _FIRST
        self._ticker = _Ticker(self._tick, _FIRST)

    def _tick(self) -> float:
        self.save(patience=0)
        self._may_lose()
        self._due = _now() + _INTERVAL
        return _INTERVAL

    # Fork: our thread is stopped first, so that it is in the middle of nothing and holds none of
    # SQLite's locks; and Python 3.12 and later warn if a process with threads forks.

    def _pause(self) -> None:
        with self._control:
            self._pauses += 1
            self._ticker.stop()

    def _go_on(self) -> None:
        with self._control:
            self._pauses = max(self._pauses - 1, 0)
            if not self._pauses and not self._ended:
                # At the planned time: if each fork put it off, it might never come.
                self._ticker = _Ticker(self._tick, max(self._due - _now(), 0))

    def _begin_in_child(self) -> None:
        self._file.begin_anew()
        self._note_of_loss = ""  # That is the parent's.
        if not self._ended:
            self._begin()

    def _pause_during(self, module: "Any", name: str) -> None:
        """Pause longer than the handlers of forks: Python 3.13 counts threads after these ran."""
        real = getattr(module, name)

        def wrapper() -> "Any":
            in_child = False
            try:
                self._pause()  # a signal handler of the application may raise in it
                result = real()
                in_child = not (result[0] if isinstance(result, tuple) else result)
                return result
            finally:
                if in_child:
                    # Not in a handler of forks: those of `subprocess` run it, too.
                    self._may_lose()
                else:
                    self._go_on()

        _replace(module, name, wrapper)


class _Beside:
    """Makes coverage.py write its data file under another name, until it is whole."""

    def __init__(self, data: "Any") -> None:
        self._data = data

    def __enter__(self) -> None:
        data = self._data
        self._choose: Any = None
        # If it has written data before, it has its file open under its own name.
        if data is None or data._no_disk or data._dbs or _exists(data._filename):
            return
        self._choose = choose = data._choose_filename

        def choose_beside() -> None:
            choose()
            directory, name = _split(data._filename)
            data._filename = _join(directory, _TEMPORARY + name)

        data._choose_filename = choose_beside
        choose_beside()

    def __exit__(self, *_: object) -> None:
        data = self._data
        if self._choose is None:
            return
        del data._choose_filename
        directory, name = _split(data._filename)
        if name.startswith(_TEMPORARY):
            whole = _join(directory, name[len(_TEMPORARY) :])
            if _exists(data._filename):
                _rename(data._filename, whole)
            data._filename = whole


class _Ticker:
    """A thread that works now and then, unknown to `threading`; it handles no signals."""

    def __init__(self, work: "Callable[[], float]", pause: float) -> None:
        """Call `work` after a pause in seconds; it returns the next pause."""
        self._work = work
        self._pause = pause
        self._native_id = 0
        self._stop = allocate_lock()
        self._stop.acquire()
        self._gone = allocate_lock()
        # A thread inherits the signal mask of the one that starts it. Otherwise ours would get
        # signals that the application has blocked in order to wait for them.
        mask = pthread_sigmask(SIG_BLOCK, valid_signals())
        try:
            self._gone.acquire()
            start_new_thread(self._run, ())
        except RuntimeError:  # no more threads; exit and exec save all the same
            self._gone.release()
        finally:
            pthread_sigmask(SIG_SETMASK, mask)

    def stop(self) -> None:
        """End the thread, and wait until it has ended; may be called again."""
        try:
            self._stop.release()
        except RuntimeError:
            pass  # another call has, and the thread has not seen it yet
        if not self._gone.acquire(True, _PATIENCE):
            return
        self._gone.release()
        # For its warning about forks, Python 3.12 and later asks the kernel, which may be behind.
        task = f"/proc/self/task/{self._native_id}"
        for _ in range(_THREAD_GONE if sys.version_info >= (3, 12) else 0):
            if not _exists(task):
                break

    def _run(self) -> None:
        try:
            self._native_id = get_native_id()
            while not self._stop.acquire(True, self._pause):
                self._pause = self._work()
        finally:
            self._gone.release()


class _SourcesNote:
    """Notes the size and CRC-32 of the sources that a process ran, which its data file lacks.

    By them the reading machine finds the sources (`_sources.finder`), whatever their paths there.
    """

    def __init__(self, container: str) -> None:
        self._container = container
        self._told: dict[str, str] = {}

    def add(self, names: "list[str]", data: "Any") -> None:
        """Add sources that are not in the note yet, beside the data."""
        new = [name for name in names if name not in self._told and _is_text(name)]
        for name in new:
            self._told[name] = _identity(name)
        if new:
            directory, _ = _split(data.base_filename())
            note = f"sources.{self._container}.{_getpid()}.txt"
            _put(_join(directory, note), "".join(self._told.values()).encode())


class _DataFile:
    """A data file with all that coverage.py has measured in this process so far."""

    def __init__(self, own: "Any") -> None:
        """Prepare to write it.

        Args:
            own: The coverage.py that we started; None if the application did.
        """
        import sqlite3

        import coverage
        from coverage import sqldata

        self._own = own
        self.measuring: Any = None
        self._current = coverage.Coverage.current
        self._version = coverage.__version__
        self._numbits = coverage.numbits.nums_to_numbits
        self._schema = sqldata.SCHEMA
        if sqldata.SCHEMA_VERSION != _SCHEMA:
            raise RuntimeError(f"coverage.py {coverage.__version__} has another schema")
        self._connect = sqlite3.connect
        self._coverage: Any = None
        self._database: sqlite3.Connection | None = None
        self.begin_anew()
        self._forget()

    def save(self) -> None:
        """Write the file, if coverage.py has more data than the file."""
        measuring = self._current() or self.measuring
        if measuring is None:
            return
        if not measuring._auto_save:
            # Another coverage.py measures, and it saves elsewhere; or one was made, which turns off
            # what we started. What that has seen counts.
            if self._own is None:
                self.give_way()
                return
            measuring = self._own
        if measuring is not self._coverage:
            self.begin_anew()
            self._forget()
            self._coverage = measuring
        if self._gather(measuring._collector):
            self._unwritten = True
        if self._unwritten:
            self._publish(measuring)
            self._unwritten = False

    def begin_anew(self) -> None:
        """Use another file for all new data from now on."""
        self.close()
        self._path: str | None = None
        self._unwritten = False
        self._ids: dict[tuple[str, str | None], int] = {}

    def give_way(self) -> None:
        """Remove the file if coverage.py has its own, or wants none."""
        measuring = self._coverage
        if self._path is None or measuring is None:
            return
        if measuring._auto_save and not _exists(measuring._data.data_filename()):
            return
        try:
            _unlink(self._path)
        except OSError:
            pass
        self._path = None

    def close(self) -> None:
        database, self._database = self._database, None
        if database is not None:
            database.close()

    def _forget(self) -> None:
        self._seen: dict[tuple[str, str], set[Any]] = {}
        self._lengths: dict[str, int] = {}
        self._context: str | None = None
        self._names: dict[str, str] = {}

    def _gather(self, collector: "Any") -> bool:
        """Take over what is new; return whether there was anything.

        Every call into SQLite lets the application's threads run, and while they are busy it takes
        5 ms to get a turn again. So there are few calls, however much there is to take over.
        """
        context = getattr(collector.covdata, "_current_context", None) or ""
        if context != self._context or collector.should_start_context:
            # Whenever the context changes, coverage.py empties what it has counted.
            self._lengths.clear()
            self._context = context
        rows = []
        files = []
        # Copied in one step each, since the application's threads add to them.
        for name, measured in list(collector.data.items()):
            if len(measured) == self._lengths.get(name, 0):
                continue
            measured = set(measured)  # noqa: PLW2901
            self._lengths[name] = len(measured)
            seen = self._seen.setdefault((context, name), set())
            new = measured - seen
            if not new or not _is_text(name):
                continue
            seen |= new
            files.append(name)
            rows += self._rows(collector, self._id(name), self._id("", context), seen, new)
        if not rows:
            return False
        self._add(collector, files, context, rows)
        return True

    def _rows(
        self,
        collector: "Any",
        file_id: int,
        context_id: int,
        seen: "set[Any]",
        new: "Iterable[Any]",
    ) -> "list[str]":
        key = f"({file_id},{context_id},"
        if not collector.branch:
            return [key + "x'" + bytes(self._numbits(seen)).hex() + "')"]
        if getattr(getattr(collector, "core", collector), "packed_arcs", False):
            bits = line_bits(collector)
            new = [_unpacked(arc, bits) for arc in new]
        return [key + "{},{})".format(*arc) for arc in new]

    def _add(self, collector: "Any", files: "list[str]", context: str, rows: "list[str]") -> None:
        database = self._database
        if database is None:
            database = self._open(collector.branch)
        insert = "INSERT OR REPLACE INTO {} VALUES "
        tracers = [
            f"({self._id(name)},{_quoted(collector.file_tracers[name])})"
            for name in files
            if collector.file_tracers.get(name)
        ]
        names = [f"({self._id(name)},{_quoted(self._name(name))})" for name in files]
        contexts = ["({},{})".format(self._id("", context), _quoted(context))]
        _execute(database, insert.format("file"), names)
        _execute(database, insert.format("context"), contexts)
        _execute(database, insert.format("tracer"), tracers)
        _execute(database, insert.format("arc" if collector.branch else "line_bits"), rows)

    def _open(self, branch: bool) -> "sqlite3.Connection":
        database = self._connect(
            ":memory:", check_same_thread=False, isolation_level=None, cached_statements=0
        )
        meta = {
            "version": self._version,
            "has_arcs": str(int(branch)),
            "sys_argv": str(getattr(sys, "argv", None)),
        }
        rows = [f"({_quoted(key)},{_quoted(meta[key])})" for key in meta]
        database.executescript(
            self._schema
            + f"INSERT INTO coverage_schema VALUES ({_SCHEMA});"
            + "INSERT INTO meta VALUES {};".format(",".join(rows))
        )
        self._database = database
        return database

    def _publish(self, measuring: "Any") -> None:
        database = self._database
        if database is None:
            return
        base = measuring._data.base_filename()
        if self._path is None:
            self._path = "{}.{}.pid{}.X{}x".format(
                base, _uname().nodename.replace(".", "_"), _getpid(), _urandom(3).hex()
            )
        directory, name = _split(self._path)
        temporary = _join(directory, _TEMPORARY + name)
        try:
            if hasattr(database, "serialize"):
                _put(temporary, database.serialize())
            else:  # before Python 3.11
                database.execute("VACUUM INTO ?", (temporary,))
            _rename(temporary, self._path)
        except Exception:
            try:
                _unlink(temporary)
            except OSError:
                pass
            raise

    def _id(self, name: str, context: "str | None" = None) -> int:
        # Files and contexts could be counted separately; one count for both does no harm.
        return self._ids.setdefault((name, context), len(self._ids) + 1)

    def _name(self, name: str) -> str:
        if name not in self._names:
            # Names are canonical already; to make them so again would take many system calls.
            maps = self._coverage.config.relative_files or self._coverage._collector.file_tracers
            self._names[name] = self._coverage._file_mapper(name) if maps else name
        return self._names[name]


def _is_traced_by_coverage() -> bool:
    trace = _gettrace()
    try:
        module = getattr(trace, "__module__", None) or type(trace).__module__
        return str(module).partition(".")[0] == "coverage"
    except Exception:  # noqa: BLE001 - it may be of a class of the application's
        return False


def _replace(module: "Any", name: str, wrapper: "Callable[..., Any]") -> None:
    wrapper.__name__ = wrapper.__qualname__ = name
    wrapper.__doc__ = getattr(module, name).__doc__
    setattr(module, name, wrapper)


# Like functions of `os.path`; but those call others by names that the application can replace.


def _join(directory: str, name: str) -> str:
    return directory + "/" + name if directory else name


def _split(path: str) -> "tuple[str, str]":
    directory, slash, name = path.rpartition("/")
    return directory or slash, name


def _exists(path: str) -> bool:
    try:
        _stat(path)
    except (OSError, ValueError):
        return False
    return True


def _block_size_signal() -> "Any":
    """Keep a limit on the size of files from ending the process, as coverage.py writes.

    Python ignores the signal, but the application may have restored its default action.

    Returns:
        The mask of signals before that; None where there is no limit.
    """
    limit, _ = _limits(_LARGEST_FILE)
    return pthread_sigmask(SIG_BLOCK, (SIGXFSZ,)) if limit >= 0 else None


def _take_size_signal(mask: "Any") -> None:
    if mask is not None and sigtimedwait is not None:
        sigtimedwait((SIGXFSZ,), 0)
        pthread_sigmask(SIG_SETMASK, mask)


def _put(path: str, content: bytes) -> None:
    """Write a file, and close it at once, since this is a guest."""
    limit, _ = _limits(_LARGEST_FILE)  # negative for none
    if 0 <= limit < len(content):  # the kernel would send a signal
        raise OSError(f"the limit on the size of files is {limit} bytes")
    descriptor = _open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
    try:
        rest = memoryview(content)
        while rest:
            rest = rest[_write(descriptor, rest) :]
    finally:
        _close(descriptor)


def _identity(path: str) -> str:
    content = b""
    try:
        # Opening anything else can block, or take what the application waits for.
        if _stat(path).st_mode & _FILE_TYPE != _REGULAR_FILE:
            return ""
        descriptor = _open(path, O_RDONLY | O_CLOEXEC)
        try:
            while part := _read(descriptor, 1 << 20):
                content += part
        finally:
            _close(descriptor)
    except (OSError, ValueError):
        return ""
    return f"{len(content)} {crc32(content)} {path}\n"


def _execute(database: "sqlite3.Connection", insert: str, rows: "Iterable[str]") -> None:
    """Insert rows in as few statements as SQLite's limit allows."""
    statement: list[str] = []
    size = 0
    for row in rows:
        if size + len(row) > _STATEMENT and statement:
            database.execute(insert + ",".join(statement))
            statement = []
            size = 0
        statement.append(row)
        size += len(row) + 1
    if statement:
        database.execute(insert + ",".join(statement))


def line_bits(collector: "Any") -> int:
    """Return how many bits a line has where coverage.py packs an arc into one number."""
    constants = type(collector).flush_data.__code__.co_consts
    return _FEWER_LINE_BITS if (1 << _FEWER_LINE_BITS) - 1 in constants else _LINE_BITS


def _unpacked(packed: int, bits: int) -> "tuple[int, int]":
    """Return the two line numbers that coverage.py's C tracer packs into one, see its tracer.c."""
    mask = (1 << bits) - 1
    first, second = packed & mask, packed >> bits & mask
    return (
        -first if packed >> 2 * bits & 1 else first,
        -second if packed >> 2 * bits + 1 & 1 else second,
    )


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False  # Neither SQLite nor coverage.py can store it.
    return True


def _quoted(text: str) -> str:
    return "'" + text.encode("utf-8", "replace").decode().replace("'", "''").replace("\0", "") + "'"
