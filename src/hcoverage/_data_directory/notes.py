"""Notes: what processes, containers and images tell beside data, as files in the data directory.

Anybody may have written one, so little is read of it, and it is made safe to print.
"""

from __future__ import annotations

import os
import re
import stat
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

# What `_inside.process` leaves where coverage.py measures a container.
_IMAGE_NOTE: Final = r"image\.(.+)\.txt"
# What `_inside.autosave` leaves there: what the sources were.
_SOURCES_NOTE: Final = r"sources\..+\.txt"
_SOURCE_LINE: Final = r"(?P<size>\d{1,10}) (?P<checksum>\d{1,10}) (?P<path>/.+)"
_SOURCES_BYTES: Final = 4 << 20
_PROBLEM_PREFIX: Final = "problem."
# Of processes that coverage.py measured because they had it do so, as `coverage run` does.
_ITSELF_NOTE: Final = r"itself\.(?P<host>.+)\.(?P<pid>\d{1,10})\.txt"
_PROBLEM_BYTES: Final = 2000
# Of a process that could not be measured. Notes of images and of commands say what they are about.
_NOTE_OF_PROCESS: Final = r"problem\.(?P<host>[^/]+)\.(?P<pid>\d{1,10})\.txt"
# What the names of all but problems begin with: most files are no notes, and not looked at more.
_PREFIXES: Final = ("image.", "sources.", "itself.")


def is_note(name: str) -> bool:
    """Tell from its name whether a file tells something beside data."""
    patterns = (_IMAGE_NOTE, _SOURCES_NOTE, _ITSELF_NOTE)
    return name.startswith(_PROBLEM_PREFIX) or any(_is(each, name) for each in patterns)


def problems(directory: Path) -> list[str]:
    """Read what the hook noted where it could not measure, made safe to print."""
    return [_read_note(note) for note in _problem_notes(directory)]


def image_notes(directory: Path) -> dict[str, str]:
    """Read which images containers said that they are of, by their hosts, made safe to print."""
    notes = _notes(directory, _IMAGE_NOTE)
    return {re.sub(_IMAGE_NOTE, r"\1", note.name): _text_of(note).strip() for note in notes}


def measured_themselves(directory: Path) -> list[int]:
    """List the processes of this machine that had coverage.py measure them, and save elsewhere."""
    names = (re.fullmatch(_ITSELF_NOTE, note.name) for note in _notes(directory, _ITSELF_NOTE))
    host = os.uname().nodename
    return [int(name["pid"]) for name in names if name and name["host"] == host]


def source_notes(directory: Path) -> dict[str, set[tuple[int, int]]]:
    """Read what the sources were that coverage.py measured in containers.

    Returns:
        The sizes, in bytes, and CRC-32s that a path had.
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


def _notes(directory: Path, pattern: str) -> list[Path]:
    return sorted(entry for entry in directory.iterdir() if _is(pattern, entry.name))


def _is(pattern: str, name: str) -> bool:
    return name.startswith(_PREFIXES) and re.fullmatch(pattern, name) is not None


def notes(directory: Path) -> list[Path]:
    """List all notes in a directory."""
    return [
        *_problem_notes(directory),
        *_notes(directory, _IMAGE_NOTE),
        *_notes(directory, _SOURCES_NOTE),
        *_notes(directory, _ITSELF_NOTE),
    ]


def _read_note(note: Path) -> str:
    who = re.fullmatch(_NOTE_OF_PROCESS, note.name)
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
