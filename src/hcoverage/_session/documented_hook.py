"""coverage.py's documented hook where ours belongs: recognised, kept for as long as ours is there.

Its documentation has people write `import coverage; coverage.process_startup()` into a `.pth` file,
and `coverage.pth` is what they call it. Ours does the same and more, so it takes the line's place.
The file is kept beside it, where Python does not read it, and put back as it was. After a kill
whoever comes next does that. Which file is ours to write is `hook`'s business.
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

# As the documentation has it, and as our own recipe for images does, which looks before it imports.
_LINE: Final = "import coverage; coverage.process_startup()"
_LOOKING: Final = f'import os; os.getenv("COVERAGE_PROCESS_START") and exec("{_LINE}")'
_LINES: Final = frozenset(ast.dump(ast.parse(line)) for line in (_LINE, _LOOKING))
_ENTRY: Final = b"coverage:process_startup"


def is_documented(path: Path) -> bool:
    """Tell whether a `.pth` or `.start` file has coverage.py's documented line, as bytes may vary.

    Args:
        path: The file; one that is not there or cannot be read has not.
    """
    try:
        return has_documented_line(path.read_bytes())
    except OSError:
        return False


def has_documented_line(content: bytes) -> bool:
    """Tell the same of the content of such a file."""
    return any(map(_is_documented_line, content.splitlines()))


def keep(path: Path) -> None:
    """Keep a file beside itself, with its owner, mode and times, before another takes its place.

    Raises:
        OSError: It cannot be kept.
    """
    kept = _kept(path)
    kept.unlink(missing_ok=True)  # of a run that was killed in this very moment
    try:
        os.link(path, kept, follow_symlinks=False)
    except OSError:  # a file system without links, or somebody else's file
        shutil.copy2(path, kept, follow_symlinks=False)


def among_kept_lines(path: Path, ours: str) -> bytes:
    """Render a hook of ours in the place of the documented line, beside the other lines kept.

    Args:
        path: The hook.
        ours: Its text, whole lines.
    """
    text = ours.encode()
    try:
        lines = _kept(path).read_bytes().splitlines(keepends=True)
    except OSError:  # nothing is kept
        return text
    rendered = b""
    for line in lines:
        if not _is_documented_line(line):
            rendered += line
        elif text not in rendered:
            rendered += text
    return rendered


def put_back(path: Path) -> None:
    """Take a hook of ours away, and put back what was kept of before.

    Raises:
        OSError: It cannot be written there.
    """
    if os.path.lexists(_kept(path)):
        _kept(path).replace(path)
    else:
        path.unlink(missing_ok=True)


def is_kept(path: Path) -> bool:
    """Tell whether something is kept that was at a place before."""
    return os.path.lexists(_kept(path))


def forget(path: Path) -> None:
    """Remove what is kept, where somebody has written a newer file in the meantime."""
    _kept(path).unlink(missing_ok=True)


def _kept(path: Path) -> Path:
    return path.with_name(f"{path.name}{_KEPT}")


def _is_documented_line(line: bytes) -> bool:
    # As `site` reads it: without a byte order mark.
    stripped = line.removeprefix(_BYTE_ORDER_MARK).strip()
    if stripped == _ENTRY:
        return True
    if b"process_startup" not in stripped:
        return False
    try:
        return ast.dump(ast.parse(stripped)) in _LINES
    except (SyntaxError, ValueError):  # ValueError: a null byte
        return False
