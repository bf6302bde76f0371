"""The data directory: the one place that processes and containers write into.

World-writable, because a container's user is nobody in particular; so what lies in it is untrusted,
and nothing that we execute or believe is kept there.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hcoverage._atomic_write import write_atomically
from hcoverage._data_directory.move import move
from hcoverage._errors import DataDirectoryBusyError
from hcoverage._untrusted.file import UntrustedDataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

RCFILE_NAME: Final = ".coveragerc"

_MODE: Final = 0o777
_DATA_FILE_PREFIX: Final = ".coverage."
# SQLite's own files beside a data file that is being written.
_COMPANIONS: Final = ("-journal", "-wal", "-shm")
RECORDING_SUFFIX: Final = ".hcrec"
CONTEXT_SUFFIX: Final = ".hctest"
# `.coverage.{hostname}.pid{pid}.X{random}x`, see SUFFIX_PATTERN in coverage/sqldata.py; before
# coverage.py 7.10 without the letters.
_DATA_FILE_NAME: Final = re.compile(r".*\.(?P<host>[^./]+)\.(?:pid)?(?P<pid>\d{1,10})\.[^/]*")
_RECORDING_NAME: Final = re.compile(r"(?P<host>.+)\.(?P<pid>\d{1,10})\.[0-9a-f]{16}\.\d+\.hcrec.*")
# Before the host's name in those of a container, which may have the host's own: one for each
# container (`_inside.process`), or one for all where coverage.py is in the image (`IN_CONTAINER`).
IN_CONTAINER: Final = "in-container"
_CONTAINER_IN_NAME: Final = re.compile(
    rf"\.coverage\.(?P<mark>in-[0-9a-f]+-[0-9a-f]+|{IN_CONTAINER})\.(?P<host>[^./]+)"
    r"\.(?:pid)?\d{1,10}\.[^/]*"
)
# What `_inside.process` leaves where coverage.py measures a container.
_IMAGE_NOTE: Final = re.compile(r"image\.(.+)\.txt")
# What `_inside.autosave` leaves there: what the sources were.
_SOURCES_NOTE: Final = re.compile(r"sources\..+\.txt")
_SOURCE_LINE: Final = re.compile(r"(?P<size>\d{1,10}) (?P<checksum>\d{1,10}) (?P<path>/.+)")
_SOURCES_BYTES: Final = 4 << 20
_PROBLEM_PREFIX: Final = "problem."
# Of processes that coverage.py measured because they had it do so, as `coverage run` does.
_ITSELF_NOTE: Final = re.compile(r"itself\.(?P<host>.+)\.(?P<pid>\d{1,10})\.txt")
_PROBLEM_BYTES: Final = 2000
# Of a process that could not be measured. Notes of images and of commands say what they are about.
_NOTE_OF_PROCESS: Final = re.compile(r"problem\.(?P<host>[^/]+)\.(?P<pid>\d{1,10})\.txt")
# What `_inside.autosave` was writing when its process was killed.
_UNFINISHED_PREFIX: Final = ".autosave."
_PREVIOUS: Final = "previous"
_RUN_PREFIX: Final = "run-"


def make(directory: Path) -> None:
    """Make the data directory, so that any user may write into it.

    Args:
        directory: The data directory; it may be there already.

    Raises:
        OSError: Something else has its place, or it cannot be made or opened up to others.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if stat.S_IMODE(directory.stat().st_mode) != _MODE:
            directory.chmod(_MODE)
    except OSError as error:
        raise type(error)(
            error.errno,
            f"cannot use {directory} as data directory ({error.strerror}): "
            "remove what is in its place, make it writable for you, or name another",
        ) from error


def put_rcfile(directory: Path, text: str) -> None:
    """Put the rcfile where containers find it, as `.coveragerc` in the data directory.

    Raises:
        OSError: It cannot be written.
    """
    write_atomically(directory / RCFILE_NAME, text)


def is_locked(directory: Path) -> bool:
    """Tell whether a run has a directory, such as the data directory, or may have it.

    Args:
        directory: The directory; whoever has it has locked it (`locked`).
    """
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True  # also where there are no locks: what may be somebody's is left alone
    finally:
        os.close(descriptor)
    return False


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Keep a second run out of the data directory for the length of a `with` block.

    Raises:
        DataDirectoryBusyError: Another run has it.
    """
    # The directory itself is locked: a lock file in it could be removed by any container.
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise DataDirectoryBusyError(
                f"another run is measuring into {directory}: wait for it, or name another directory"
            ) from error
        yield
    finally:
        os.close(descriptor)


def data_files(directory: Path) -> list[Path]:
    """List the data files in a directory, sorted; whatever else lies there is not looked at."""
    # Names, not paths, are sorted and looked at: there may be ten thousand.
    return [directory / name for name in sorted(os.listdir(directory)) if is_data_file_name(name)]  # noqa: PTH208


def is_data_file_name(name: str) -> bool:
    """Tell from its name whether coverage.py wrote a file, for one process."""
    return name.startswith(_DATA_FILE_PREFIX) and not name.endswith(_COMPANIONS)


def is_recording(file: Path) -> bool:
    """Tell from its name whether the recorder wrote a file (`docs/recording-format.md`)."""
    return _is_recording_name(file.name)


def is_note(name: str) -> bool:
    """Tell from its name whether a file tells something beside data."""
    patterns = (_IMAGE_NOTE, _SOURCES_NOTE, _ITSELF_NOTE)
    return name.startswith(_PROBLEM_PREFIX) or any(each.fullmatch(name) for each in patterns)


def process_of(name: str) -> tuple[str, int] | None:
    """Tell from the name of a data file or recording the host and the id of its process.

    Returns:
        None where the name does not say.
    """
    found = _RECORDING_NAME.fullmatch(name) or _DATA_FILE_NAME.fullmatch(name)
    if found is None:
        return None
    container = _CONTAINER_IN_NAME.fullmatch(name)
    host = str(found["host"])
    if container:
        mark = str(container["mark"])
        host = f"{mark}-{host}" if mark == IN_CONTAINER else mark
    return host, int(found["pid"])


def container_of(name: str) -> str:
    """Tell from the name of a data file the host name of its container; empty if it is of none."""
    found = _CONTAINER_IN_NAME.fullmatch(name)
    return str(found["host"]) if found else ""


def host_in_names(host: str) -> str:
    """Spell a host as coverage.py does in the names of data files: without its dots."""
    return host.replace(".", "_")


def recordings(directory: Path) -> list[Path]:
    """List the recorder's files in a directory, sorted."""
    names = sorted(filter(_is_recording_name, os.listdir(directory)))  # noqa: PTH208
    return [directory / name for name in names]


def set_previous_aside(directory: Path) -> Path | None:
    """Move what an earlier run left out of the way: it is not this run's result.

    Returns:
        Where they are now, or None where there were none.

    Raises:
        OSError: They cannot be moved.
    """
    files = left_in(directory)
    for note in _notes(directory):
        note.unlink(missing_ok=True)
    if not files:
        return None
    aside = _make_aside(directory)
    for file in files:
        file.rename(aside / file.name)
    return aside


def keep(files: Iterable[Path], place: Path) -> dict[Path, Path]:
    """Move what was not merged from a data directory that will be removed to one that stays.

    What cannot be moved, as what a container's root wrote for nobody else to read, stays.

    Args:
        files: What is to be moved.
        place: The other data directory; it is made only if it is needed.

    Returns:
        Where each was, and where it is now.
    """
    moved: dict[Path, Path] = {}
    # Another run's, which would merge what lies in it.
    is_others = is_locked(place)
    aside = None
    for file in files:
        with contextlib.suppress(OSError, UntrustedDataError):
            make(place)
            if is_others:
                aside = aside or _make_aside(place)
            is_taken = os.path.lexists(place / file.name)
            target = (aside or (_make_aside(place) if is_taken else place)) / file.name
            move(file, target)
            moved[file] = target
    return moved


def is_only_left_over(directory: Path) -> bool:
    """Tell whether a data directory holds what runs left, and nothing that somebody put there."""
    try:
        names = os.listdir(directory)  # noqa: PTH208
    except OSError:
        return False
    return bool(names) and all(
        name == _PREVIOUS or is_data_file_name(name) or _is_recording_name(name) for name in names
    )


def left_in(directory: Path) -> list[Path]:
    """List the data files and recordings in a directory."""
    return [*data_files(directory), *recordings(directory)]


def set_aside_before(directory: Path) -> list[Path]:
    """List where `set_previous_aside` put things that are still there, the oldest first."""
    parent = directory / _PREVIOUS
    if not parent.is_dir() or parent.is_symlink():
        return []
    return sorted(parent.iterdir(), key=lambda run: run.lstat().st_mtime)


def problems(directory: Path) -> list[str]:
    """Read what the hook noted where it could not measure, made safe to print."""
    return [_read_note(note) for note in _problem_notes(directory)]


def image_notes(directory: Path) -> dict[str, str]:
    """Read which images containers said that they are of, by their hosts, made safe to print."""
    notes = _image_notes(directory)
    return {_IMAGE_NOTE.sub(r"\1", note.name): _text_of(note).strip() for note in notes}


def measured_themselves(directory: Path) -> list[int]:
    """List the processes of this machine that had coverage.py measure them, and save elsewhere."""
    names = (_ITSELF_NOTE.fullmatch(note.name) for note in _itself_notes(directory))
    host = os.uname().nodename
    return [int(name["pid"]) for name in names if name and name["host"] == host]


def source_notes(directory: Path) -> dict[str, set[tuple[int, int]]]:
    """Read what the sources were that coverage.py measured in containers.

    Returns:
        The sizes, in bytes, and CRC-32s that a path had.
    """
    found: dict[str, set[tuple[int, int]]] = {}
    for note in _source_notes(directory):
        for line in _content_of(note, _SOURCES_BYTES).splitlines():
            told = _SOURCE_LINE.fullmatch(line)
            if told:
                identity = int(told["size"]), int(told["checksum"])
                found.setdefault(told["path"], set()).add(identity)
    return found


def discard(directory: Path) -> None:
    """Remove the data directory if nothing is left in it but what we and the hook wrote."""
    with contextlib.suppress(FileNotFoundError):  # what is measured may have removed it
        (directory / RCFILE_NAME).unlink(missing_ok=True)
        clear(directory)
    with contextlib.suppress(OSError):
        # Refused while anything is left, also what a container wrote a moment ago.
        directory.rmdir()


def clear(directory: Path) -> None:
    """Remove what we and the hook wrote beside data, but for the rcfile."""
    for note in _notes(directory):
        note.unlink(missing_ok=True)
    for pattern in (f"{_UNFINISHED_PREFIX}*", f"*{CONTEXT_SUFFIX}"):
        for part in directory.glob(pattern):
            part.unlink(missing_ok=True)
    for emptied in (*set_aside_before(directory), directory / _PREVIOUS):
        with contextlib.suppress(OSError):
            emptied.rmdir()


def _make_aside(directory: Path) -> Path:
    parent = directory / _PREVIOUS
    if parent.is_symlink():  # a container's, to have things put elsewhere
        parent.unlink()
    parent.mkdir(exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=parent, prefix=_RUN_PREFIX))
    # As open as where it comes from: what is in it may not be believed more than before.
    make(aside)
    return aside


def _is_recording_name(name: str) -> bool:
    return RECORDING_SUFFIX in name and (
        name.endswith(RECORDING_SUFFIX) or f"{RECORDING_SUFFIX}.lost-" in name
    )


def _problem_notes(directory: Path) -> list[Path]:
    return sorted(entry for entry in directory.iterdir() if entry.name.startswith(_PROBLEM_PREFIX))


def _image_notes(directory: Path) -> list[Path]:
    return sorted(entry for entry in directory.iterdir() if _IMAGE_NOTE.fullmatch(entry.name))


def _source_notes(directory: Path) -> list[Path]:
    return sorted(entry for entry in directory.iterdir() if _SOURCES_NOTE.fullmatch(entry.name))


def _itself_notes(directory: Path) -> list[Path]:
    return sorted(entry for entry in directory.iterdir() if _ITSELF_NOTE.fullmatch(entry.name))


def _notes(directory: Path) -> list[Path]:
    return [
        *_problem_notes(directory),
        *_image_notes(directory),
        *_source_notes(directory),
        *_itself_notes(directory),
    ]


def _read_note(note: Path) -> str:
    who = _NOTE_OF_PROCESS.fullmatch(note.name)
    return f"process {who['pid']} on {who['host']}: {_text_of(note)}" if who else _text_of(note)


def _text_of(note: Path) -> str:
    text = _content_of(note, _PROBLEM_BYTES)
    return "".join(c if c.isprintable() else " " for c in text)


def _content_of(note: Path, limit: int) -> str:
    try:
        # No link is followed and no fifo waited for: any container may have put it there.
        descriptor = os.open(note, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
            return file.read(limit).decode(errors="replace") if regular else "not a file"
    except OSError as error:
        return error.strerror or "unreadable"
