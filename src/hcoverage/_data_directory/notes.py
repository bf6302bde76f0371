"""Notes: files in the data directory by which processes and containers report more than data.

Anybody may have written a note, so only a little is read, and made safe to print.
"""

from __future__ import annotations

import os
import re
import stat
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

# Written by `_inside.process` if coverage.py measures a container: its image.
_IMAGE_NOTE: Final = r"image\.(.+)\.txt"
# Written by `_inside.autosave` in such a container: the state of the sources.
_SOURCES_NOTE: Final = r"sources\..+\.txt"
_SOURCE_LINE: Final = r"(?P<size>\d{1,10}) (?P<checksum>\d{1,10}) (?P<path>/.+)"
_SOURCES_BYTES: Final = 4 << 20
_PROBLEM_PREFIX: Final = "problem."
# For processes that had coverage.py measure them, such as `coverage run`.
_ITSELF_NOTE: Final = r"itself\.(?P<host>.+)\.(?P<pid>\d{1,10})\.txt"
# Of processes measured by coverage.py that got requests of other tests than their context.
_REQUESTS_NOTE: Final = r"requests\.(?P<host>.+)\.(?P<pid>\d{1,10})\.txt"
# Of processes whose coverage.py saves now and then: they have not ended by themselves.
_UNSAVED_NOTE: Final = r"unsaved\.(?P<host>.+)\.(?P<pid>\d{1,10})\.txt"
_PROBLEM_BYTES: Final = 2000
# For a process that could not be measured. Problems of images and commands name their subject.
_NOTE_OF_PROCESS: Final = r"problem\.(?P<host>[^/]+)\.(?P<pid>\d{1,10})\.txt"
# A process that may write no more bytes can still make a file.
_NO_TEXT: Final = "it had no room to write down why, by a full disk or a limit on the size of files"
# All notes but problems.
_PATTERNS: Final = (_IMAGE_NOTE, _SOURCES_NOTE, _ITSELF_NOTE, _REQUESTS_NOTE, _UNSAVED_NOTE)
# Most files are no notes, and this skips them quickly.
_PREFIXES: Final = tuple(f"{pattern.partition(chr(92))[0]}." for pattern in _PATTERNS)


def is_note(name: str) -> bool:
    """Return whether a file is a note, by its name."""
    return name.startswith(_PROBLEM_PREFIX) or any(_is(each, name) for each in _PATTERNS)


def problems(directory: Path) -> list[str]:
    """Read the hook's notes on processes that it could not measure, safe to print."""
    return [_read_note(note) for note in _problem_notes(directory)]


def image_notes(directory: Path) -> dict[str, str]:
    """Read the notes on containers' images, by the containers' host names; safe to print."""
    notes = _notes(directory, _IMAGE_NOTE)
    return {re.sub(_IMAGE_NOTE, r"\1", note.name): _text_of(note).strip() for note in notes}


def measured_themselves(directory: Path) -> list[int]:
    """List this machine's processes that had coverage.py measure them and save elsewhere."""
    here = os.uname().nodename
    return [pid for host, pid in _processes(directory, _ITSELF_NOTE) if host == here]


def asked_for_others(directory: Path) -> list[tuple[str, int]]:
    """List the processes that got requests of other tests than their context: host and id."""
    return _processes(directory, _REQUESTS_NOTE)


def ended_unsaved(directory: Path) -> list[tuple[str, int]]:
    """List the processes that may have run more than coverage.py has saved: host and id."""
    return _processes(directory, _UNSAVED_NOTE)


def source_notes(directory: Path) -> dict[str, set[tuple[int, int]]]:
    """Read the state of the sources that coverage.py measured in containers.

    Returns:
        For each path, the sizes in bytes and CRC-32s that it had.
    """
    found: dict[str, set[tuple[int, int]]] = {}
    for note in _notes(directory, _SOURCES_NOTE):
        for line in _content_of(note, _SOURCES_BYTES).splitlines():
            told = re.fullmatch(_SOURCE_LINE, line)
            if told:
                identity = int(told["size"]), int(told["checksum"])
                found.setdefault(told["path"], set()).add(identity)
    return found


def _problem_notes(directory: Path) -> list[Path]:
    return sorted(entry for entry in directory.iterdir() if entry.name.startswith(_PROBLEM_PREFIX))


def _processes(directory: Path, pattern: str) -> list[tuple[str, int]]:
    names = (re.fullmatch(pattern, note.name) for note in _notes(directory, pattern))
    return [(name["host"], int(name["pid"])) for name in names if name]


def _notes(directory: Path, pattern: str) -> list[Path]:
    return sorted(entry for entry in directory.iterdir() if _is(pattern, entry.name))


def _is(pattern: str, name: str) -> bool:
    return name.startswith(_PREFIXES) and re.fullmatch(pattern, name) is not None


def notes(directory: Path) -> list[Path]:
    """List all notes in a directory."""
    others = (note for pattern in _PATTERNS for note in _notes(directory, pattern))
    return [*_problem_notes(directory), *others]


def _read_note(note: Path) -> str:
    who = re.fullmatch(_NOTE_OF_PROCESS, note.name)
    text = _text_of(note) or _NO_TEXT
    return f"process {who['pid']} on {who['host']}: {text}" if who else text


def _text_of(note: Path) -> str:
    text = _content_of(note, _PROBLEM_BYTES)
    return "".join(c if c.isprintable() else " " for c in text)


def _content_of(note: Path, limit: int) -> str:
    try:
        # Follow no link, wait for no FIFO: any container may have put it there.
        descriptor = os.open(note, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
            return file.read(limit).decode(errors="replace") if regular else "not a file"
    except OSError as error:
        return error.strerror or "unreadable"
