"""Recognises coverage.py's documented hook where ours belongs, and keeps it while ours is there.

coverage.py's documentation has people write `import coverage; coverage.process_startup()` into a
`.pth` file, and calls that file `coverage.pth`. Our hook does the same and more, so it replaces the
line. The old file is kept beside it, under a name that Python does not read, and put back
afterwards; after a kill the next run does that. `hook` decides which file is ours to write.
"""

from __future__ import annotations

import ast
import os
import shutil
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

_KEPT: Final = ".kept-by-hcoverage"
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"

# The documented line, and that of our own recipe for images, which looks before it imports.
_LINE: Final = "import coverage; coverage.process_startup()"
_LOOKING: Final = f'import os; os.getenv("COVERAGE_PROCESS_START") and exec("{_LINE}")'
_LINES: Final = frozenset(ast.dump(ast.parse(line)) for line in (_LINE, _LOOKING))
_ENTRY: Final = b"coverage:process_startup"


def is_documented(path: Path) -> bool:
    """Return whether a `.pth` or `.start` file has coverage.py's documented line, in any spelling.

    Args:
        path: The file. If it is missing or cannot be read, the answer is no.
    """
    try:
        return has_documented_line(path.read_bytes())
    except OSError:
        return False


def has_documented_line(content: bytes) -> bool:
    """Return whether the content of such a file has the documented line."""
    return any(map(_is_documented_line, content.splitlines()))


def keep(path: Path) -> None:
    """Keep a copy beside a file, with owner, mode and times, before the file is replaced.

    Raises:
        OSError: The copy cannot be made.
    """
    kept = _kept(path)
    kept.unlink(missing_ok=True)  # left by a run that was killed in this very moment
    try:
        os.link(path, kept, follow_symlinks=False)
    except OSError:  # a file system without links, or somebody else's file
        shutil.copy2(path, kept, follow_symlinks=False)


def among_kept_lines(path: Path, ours: str) -> bytes:
    """Return the kept file's text with our hook in place of the documented line.

    Args:
        path: The hook.
        ours: The hook's text, whole lines.
    """
    text = ours.encode()
    try:
        lines = _kept(path).read_bytes().splitlines(keepends=True)
    except OSError:  # no file is kept
        return text
    rendered = b""
    for line in lines:
        if not _is_documented_line(line):
            rendered += line
        elif text not in rendered:
            rendered += text
    return rendered


def put_back(path: Path) -> None:
    """Remove our hook, and put back the file that it replaced.

    Raises:
        OSError: The directory cannot be written.
    """
    if os.path.lexists(_kept(path)):
        _kept(path).replace(path)
    else:
        path.unlink(missing_ok=True)


def is_kept(path: Path) -> bool:
    """Return whether a replaced file is kept for a path."""
    return os.path.lexists(_kept(path))


def forget(path: Path) -> None:
    """Remove the kept file, once somebody has written a newer one."""
    _kept(path).unlink(missing_ok=True)


def _kept(path: Path) -> Path:
    return path.with_name(f"{path.name}{_KEPT}")


def _is_documented_line(line: bytes) -> bool:
    # As `site` reads a line: without a byte order mark.
    stripped = line.removeprefix(_BYTE_ORDER_MARK).strip()
    if stripped == _ENTRY:
        return True
    if b"process_startup" not in stripped:
        return False
    try:
        return ast.dump(ast.parse(stripped)) in _LINES
    except (SyntaxError, ValueError):  # ValueError: a null byte
        return False
