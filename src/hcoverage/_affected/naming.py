"""Finds who names a file: sources by their modules' names, data by the names of the files.

Who opened a file is known only of Python, and only of who opened it first: a library may keep it in
memory, or read it in C. So whoever has its name in his text counts as well.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hcoverage._affected.project_state import content_of
from hcoverage._affected.shared_state import Place

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from hcoverage._affected.facts import FileFacts

_MAY_NAME_A_MODULE: Final = (".py", ".toml", ".cfg", ".ini")
# Templates name templates; nobody goes deeper.
_DEEPEST: Final = 4
_LARGEST: Final = 1 << 20  # bytes; a larger file is no template


def mentioned_files(root: Path, paths: Collection[str], files: Iterable[str]) -> frozenset[str]:
    """Return those sources whose module names occur in other sources or configuration files.

    Args:
        root: The project's directory.
        paths: Relative paths of the sources.
        files: The paths of all files.
    """
    named: dict[str, set[str]] = defaultdict(set)
    for path in paths:
        named[_module_name(Path(path))].add(path)
    texts = [path for path in files if path.endswith(_MAY_NAME_A_MODULE)]
    found: set[str] = set()
    for path, name, _ in _named_in(root, named, texts):
        found |= named[name] - {path}
    return frozenset(found)


def namers(root: Path, path: str, files: Mapping[str, FileFacts]) -> frozenset[Place]:
    """Return where a file is named, or another one that names it.

    Args:
        root: The project's directory.
        path: The file.
        files: All files as they are now.
    """
    found: set[Place] = set()
    known, names = {path}, {Path(path).name}
    for _ in range(_DEEPEST):
        more = set()
        for other, _, line in _named_in(root, names, files):
            if files[other].shape is not None:
                found.add(Place(other, _block_at(files[other], line)))
            elif other not in known:
                more.add(other)
        known |= more
        names = {Path(other).name for other in more}
    return frozenset(found)


def _named_in(
    root: Path, names: Iterable[str], files: Iterable[str]
) -> Iterable[tuple[str, str, int]]:
    """Yield each file, name and line in which one of some names occurs."""
    words = b"|".join(re.escape(os.fsencode(name)) for name in names)
    if not words:
        return
    word = re.compile(rb"(?<!\w)(?:" + words + rb")(?!\w)")
    for path in files:
        content = content_of(root / path) or b""
        if path.endswith(".py") or len(content) <= _LARGEST:
            for each in word.finditer(content):
                line = content.count(b"\n", 0, each.start()) + 1
                yield path, os.fsdecode(each[0]), line


def _block_at(facts: FileFacts, line: int) -> str:
    blocks = facts.shape.blocks if facts.shape is not None else ()
    return next((block.name for block in blocks if block.first <= line <= block.last), "")


def _module_name(path: Path) -> str:
    return path.parent.name if path.stem == "__init__" and path.parent.name else path.stem
