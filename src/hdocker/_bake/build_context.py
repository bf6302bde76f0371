"""The build context: which files a build can see, and a digest that changes with them.

It follows `.dockerignore` like the engines. In doubt a file counts as seen: at worst that costs an
unneeded build, while the reverse would keep an outdated image.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

# Files that measuring and testing leave in a project: they change with every run and do not matter
# to an image. The engine gets them all the same.
_LEFT_BY_TESTS: Final = frozenset(
    {
        ".coverage",
        ".hypothesis",
        ".mypy_cache",
        ".pytest_cache",
        ".ruff_cache",
        "__pycache__",
        "coverage_data",
        "htmlcov",
    }
)
# Files that processes write, and those that merging has beside its result.
_DATA_FILES: Final = (".coverage.*", ".hcov-*")
_CHUNK: Final = 1 << 20


@dataclass(frozen=True)
class _Rule:
    """One line of a `.dockerignore`: path parts to match, and whether it undoes earlier matches."""

    parts: tuple[str, ...]
    keeps: bool


def ignore_file_of(context: Path, dockerfile: Path | None) -> Path | None:
    """Find the file that lists what a build does not see.

    BuildKit looks beside the Dockerfile first; see
    https://docs.docker.com/build/concepts/context/#filename-and-location
    """
    beside = dockerfile.with_name(f"{dockerfile.name}.dockerignore") if dockerfile else None
    for candidate in (beside, context / ".dockerignore"):
        if candidate is not None and candidate.is_file():
            return candidate
    return None


def digest_of(context: Path, ignore_file: Path | None) -> str:
    """Digest the names, modes and contents of all files that a build sees.

    Args:
        context: The directory.
        ignore_file: The `.dockerignore`, if there is one.

    Returns:
        A SHA-256 digest in hexadecimal.

    Raises:
        OSError: A file cannot be read.
    """
    rules = _rules(ignore_file.read_text(encoding="utf-8")) if ignore_file else []
    digest = hashlib.sha256()
    for relative, status in _entries(context, "", rules):
        digest.update(f"{relative}\0{status.st_mode:o}\0".encode(errors="surrogateescape"))
        path = context / relative
        if stat.S_ISLNK(status.st_mode):
            digest.update(os.fsencode(path.readlink()))
        elif stat.S_ISREG(status.st_mode):
            # The size separates the end of one file from the name of the next.
            digest.update(f"{status.st_size}\0".encode())
            _add_content(digest, path)
    return digest.hexdigest()


def _add_content(digest: hashlib._Hash, path: Path) -> None:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)


def _entries(
    context: Path, directory: str, rules: Sequence[_Rule]
) -> Iterator[tuple[str, os.stat_result]]:
    with os.scandir(context / directory) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        if entry.name in _LEFT_BY_TESTS or any(
            fnmatch.fnmatchcase(entry.name, pattern) for pattern in _DATA_FILES
        ):
            continue
        relative = f"{directory}/{entry.name}" if directory else entry.name
        is_directory = entry.is_dir(follow_symlinks=False)
        ignored = _is_ignored(relative, rules)
        if not ignored:
            yield relative, entry.stat(follow_symlinks=False)
        # A rule may re-include a file of an ignored directory.
        if is_directory and (not ignored or any(rule.keeps for rule in rules)):
            yield from _entries(context, relative, rules)


def _rules(text: str) -> list[_Rule]:
    rules = []
    for line in text.removeprefix("\ufeff").splitlines():
        pattern = line.strip()
        if not pattern or line.startswith("#"):
            continue
        keeps = pattern.startswith("!")
        cleaned = os.path.normpath(pattern.removeprefix("!").strip()).strip("/")
        rules.append(_Rule(tuple(cleaned.split("/")), keeps))
    return rules


def _is_ignored(relative: str, rules: Sequence[_Rule]) -> bool:
    """Return whether the last rule that matches the path, or a directory it is in, ignores it."""
    parts = relative.split("/")
    for rule in reversed(rules):
        if any(_matches(parts[:length], rule.parts) for length in range(1, len(parts) + 1)):
            return not rule.keeps
    return False


def _matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_matches(parts[skip:], pattern[1:]) for skip in range(len(parts) + 1))
    return (
        bool(parts)
        and fnmatch.fnmatchcase(parts[0], pattern[0])
        and _matches(parts[1:], pattern[1:])
    )
