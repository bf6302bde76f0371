"""Asks git which lines of which files have changed since a branch left a revision."""

from __future__ import annotations

import codecs
import os
import re
from typing import TYPE_CHECKING, Final

from hcoverage._affected.decision import RevisionError, merge_base
from hcoverage._affected.project_state import git

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_HUNK: Final = rb"@@ -\d+(?:,(\d+))? \+(\d+)(?:,(\d+))? @@"
_FILE: Final = b"+++ "
_PREFIX: Final = b"b/"
# Options that overrule the user's configuration.
_DIFF: Final = (
    *("-c", "core.quotePath=false", "diff", "--no-color", "--no-ext-diff", "--no-textconv"),
    *("--unified=0", "--inter-hunk-context=0", "--find-renames", "--relative"),
    *("--src-prefix=a/", "--dst-prefix=b/"),
)


def changed_lines(root: Path, revision: str) -> dict[str, frozenset[int]]:
    """Return the lines that are new, or have changed, since a branch left a revision.

    Changes that are not committed count, and files that git does not have yet. In a renamed file
    only lines count that differ from the old file's.

    Args:
        root: The project's directory.
        revision: The revision.

    Returns:
        The lines, counted from 1, by the real path of the file.

    Raises:
        RevisionError: There is no such revision, or no git.
    """
    base = merge_base(root, revision)
    text = git(root, *_DIFF, base, "--")
    others = git(root, "ls-files", "-z", "--others", "--exclude-standard")
    if text is None or others is None:
        raise RevisionError(f"git cannot tell what has changed since {revision}")
    found = dict(lines_of_diff(text))
    for name in filter(None, others.split(b"\0")):
        found[os.fsdecode(name)] = _all_lines(root / os.fsdecode(name))
    return {os.path.realpath(root / name): lines for name, lines in found.items()}


def lines_of_diff(text: bytes) -> Iterator[tuple[str, frozenset[int]]]:
    """Yield the new lines of each file in a diff without context.

    Args:
        text: What `git diff` prints.

    Yields:
        Paths, and lines counted from 1.
    """
    path, lines = "", set[int]()
    rest = iter(text.split(b"\n"))
    for line in rest:
        hunk = re.match(_HUNK, line)
        if hunk is not None:
            old, new = (1 if count is None else int(count) for count in hunk.group(1, 3))
            lines.update(range(int(hunk[2]), int(hunk[2]) + new))
            _skip(rest, old + new)  # They may look like headers.
        elif line.startswith(_FILE):
            if path:
                yield path, frozenset(lines)
            path, lines = _path(line.removeprefix(_FILE)), set()
    if path:
        yield path, frozenset(lines)


def _skip(lines: Iterator[bytes], number: int) -> None:
    for _ in range(number):
        next(lines, None)


def _path(name: bytes) -> str:
    """Return the path that a diff names; empty if the file is gone."""
    name = name.removesuffix(b"\t")  # git adds it to a name with a space in it
    if name.startswith(b'"'):
        name = codecs.escape_decode(name.strip(b'"'))[0]
    return os.fsdecode(name.removeprefix(_PREFIX)) if name.startswith(_PREFIX) else ""


def _all_lines(path: Path) -> frozenset[int]:
    try:
        return frozenset(range(1, path.read_bytes().count(b"\n") + 2))
    except OSError:
        return frozenset()
