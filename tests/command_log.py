"""What the commands of a test came to, so that a failure is understood from the run's log alone.

Tests start processes in their own ways, and the product starts some in the test's process; all of
them are a `subprocess.Popen`, so that is where it is noted.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shlex
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_MOST_COMMANDS: Final = 20
_MOST_TEXT: Final = 4000  # characters of a stream
_MOST_FILES: Final = 60
_DATA_DIRECTORIES: Final = ("coverage_data", "data")


@dataclasses.dataclass
class _Command:
    """A command, and as much as the test has seen of its end."""

    argv: object
    directory: str
    status: int | None = None
    streams: tuple[object, object] | None = None

    def tell(self) -> Iterator[str]:
        words = (
            self.argv if isinstance(self.argv, str) else shlex.join(map(_text, _words(self.argv)))
        )
        status = "not waited for" if self.status is None else f"status {self.status}"
        yield f"$ {words}    # in {self.directory}: {status}"
        if self.streams is None:
            yield "  (what it wrote was not read to its end by `communicate`)"
            return
        for name, stream in zip(("stdout", "stderr"), self.streams, strict=True):
            if stream:
                yield f"  {name}: " + _text(stream)[-_MOST_TEXT:].rstrip().replace("\n", "\n    ")


_commands: list[_Command] = []


class _Noted(subprocess.Popen[Any]):
    """As its base, and what it is and came to is noted."""

    def __init__(self, args: Any, *more: Any, **options: Any) -> None:  # noqa: ANN401
        directory = options.get("cwd")
        if directory is None:
            with contextlib.suppress(OSError):  # it was removed
                directory = Path.cwd()
        self._noted = _Command(args, _text(directory))
        _commands.append(self._noted)
        super().__init__(args, *more, **options)

    def communicate(self, *arguments: Any, **options: Any) -> tuple[Any, Any]:  # noqa: ANN401
        self._noted.streams = streams = super().communicate(*arguments, **options)
        self._noted.status = self.returncode
        return streams

    def wait(self, timeout: float | None = None) -> int:
        self._noted.status = status = super().wait(timeout)
        return status

    def poll(self) -> int | None:
        self._noted.status = status = super().poll()
        return status


def note_commands() -> None:
    """Note what this process starts from here on."""
    subprocess.Popen = _Noted  # type: ignore[misc]


def note_command(argv: object, status: int, streams: tuple[object, object]) -> None:
    """Note what another process started for this one, and what it came to."""
    _commands.append(_Command(argv, _text(Path.cwd()), status, streams))


def forget_commands() -> None:
    """Begin anew, for another test."""
    _commands.clear()


def told_commands() -> str:
    """What was started since, the last ones last, each with its status and streams."""
    left_out = len(_commands) - _MOST_COMMANDS
    lines = [f"({left_out} commands before these)"] if left_out > 0 else []
    for command in _commands[-_MOST_COMMANDS:]:
        lines += command.tell()
    return "\n".join(lines)


def told_data_directories(places: Iterable[Path]) -> str:
    """What lies in the data directories that are right below some places, and notes in full."""
    lines = []
    for place in dict.fromkeys(places):
        for name in _DATA_DIRECTORIES:
            with contextlib.suppress(OSError):
                lines += _tell_directory(place / name)
    return "\n".join(lines)


def _tell_directory(directory: Path) -> list[str]:
    files = sorted(directory.iterdir())
    lines = [f"{directory}: {len(files) or 'nothing'}"]
    for file in files[:_MOST_FILES]:
        lines.append(f"  {file.lstat().st_size:>9} {file.name}")
        if file.suffix == ".txt":
            lines.append("    " + file.read_text(errors="replace")[-_MOST_TEXT:].rstrip())
    return lines


def _words(argv: object) -> Iterable[object]:
    return argv if isinstance(argv, (list, tuple)) else [argv]


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    return os.fspath(value) if isinstance(value, os.PathLike) else str(value)
