"""Lists the project's files: those below its roots, except environments, caches and copies.

Its users: `finder`, to find which of them a container ran, and `_session.guest_settings`, for the
ends of their paths in containers.
"""

from __future__ import annotations

import collections
import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

# More than any project has; a root may be somebody's home.
_MOST_FILES: Final = 200_000

# Directories whose files are not the project's own.
_NOT_OURS: Final = frozenset({"__pycache__", "node_modules", "site-packages", "dist-packages"})
_OF_AN_ENVIRONMENT: Final = "pyvenv.cfg"
_BUILT: Final = ("build", "lib")  # setuptools leaves copies there


def project_files(
    roots: Iterable[Path | str], foreign: Iterable[Path | str] = ()
) -> Iterator[tuple[str, str]]:
    """Find the regular files of a project with names in UTF-8; no link is followed.

    Args:
        roots: Real paths of the directories, and files, that are the project's.
        foreign: Directories in which others than the project's owner write; they are left out.

    Yields:
        Each file once, with the first root that it is below; if that root is a file, with the
        file's directory.
    """
    shut = frozenset(os.path.realpath(path) for path in foreign)
    seen: set[str] = set()
    for root in sorted(map(str, roots)):
        for file in _files_below(root, shut):
            if len(seen) >= _MOST_FILES:
                return
            if file not in seen:
                seen.add(file)
                yield file, root if file != root else os.path.dirname(root)  # noqa: PTH120


def _files_below(root: str, foreign: frozenset[str]) -> Iterator[str]:
    """Yield the regular files of a project, those nearest to its root first; follow no link."""
    if os.path.isfile(root):  # noqa: PTH113 - a module that is one file
        yield root
    directories = collections.deque([root])
    while directories:
        directory = directories.popleft()
        try:
            with os.scandir(directory) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError:
            continue
        # A virtual environment is skipped, unless somebody named it as a root.
        if directory != root and any(entry.name == _OF_AN_ENVIRONMENT for entry in found):
            continue
        for entry in filter(_is_text, found):
            if entry.is_file(follow_symlinks=False):
                yield entry.path
            elif entry.is_dir(follow_symlinks=False) and _may_be_ours(entry, foreign):
                directories.append(entry.path)


def _is_text(entry: os.DirEntry[str]) -> bool:
    """Return whether a name is UTF-8; coverage.py has no others in its data."""
    try:
        return entry.name.isascii() or bool(entry.name.encode())
    except UnicodeEncodeError:
        return False


def _may_be_ours(directory: os.DirEntry[str], foreign: frozenset[str]) -> bool:
    above = os.path.basename(os.path.dirname(directory.path))  # noqa: PTH119, PTH120
    return (
        not directory.name.startswith(".")
        and directory.name not in _NOT_OURS
        and (above, directory.name) != _BUILT
        and directory.path not in foreign
    )
