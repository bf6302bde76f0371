"""Looks at a project: what its files contain, and what its tests run with.

The files are those that git knows or would add; without git, all of `project_files`. What a
difference means is left to `needs`.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import os
import platform
import re
import stat
import subprocess
import sys
from importlib import metadata
from typing import TYPE_CHECKING, Final

from hcoverage._affected.blocks import shape_of
from hcoverage._affected.facts import FileFacts, ProjectState
from hcoverage._sources.project_files import project_files

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

# Files that runs leave behind, hcov's or others', if git does not ignore them.
_LEFT_BY_RUNS: Final = (
    r"(^|/)(\.coverage(\..*)?|coverage\.(xml|json|lcov)|htmlcov/.*|coverage_data/.*|"
    r"\.(hcov|pytest|mypy|ruff)_cache/.*|__pycache__/.*|[^/]*\.egg-info/.*)$"
)
# Lines of an installed distribution's list of files, with their hashes.
_SAME_ANYWHERE: Final = (
    r"(?!\.\.|__editable__|[^,]*\.pth,)"
    r"([^,]*\.dist-info/entry_points\.txt|((?!\.dist-info/)[^,])*),sha256"
)
_PIECE: Final = 1 << 20  # bytes
_ENVIRONMENT_VARIABLES: Final = ("PYTEST_ADDOPTS", "PYTEST_PLUGINS", "PYTHONOPTIMIZE")


def look_at_project(
    root: Path,
    beside: Iterable[str] = (),
    known: Mapping[str, FileFacts] | None = None,
    *,
    split: bool = True,
) -> ProjectState:
    """Look at a project.

    Args:
        root: Its directory.
        beside: Relative paths of other files to look at, such as generated ones.
        known: What is known already; a source with the same digest is not split again.
        split: Whether to split sources, which takes a hundred times as long as digesting them.
    """
    return ProjectState(_environment(root), look_at_files(root, beside, known, split=split))


def look_at_files(
    root: Path,
    beside: Iterable[str] = (),
    known: Mapping[str, FileFacts] | None = None,
    *,
    split: bool = True,
) -> dict[str, FileFacts]:
    """Look at the files of a project, as `look_at_project` does."""
    known = known or {}
    others = (path for path in beside if not re.search(_LEFT_BY_RUNS, path))
    waiting = sorted({*_own_files(root), *others})
    found: dict[str, FileFacts] = {}
    while waiting:
        path = waiting.pop()
        facts = _facts(root, path, known.get(path), split=split)
        if facts is not None:
            found[path] = facts
        elif is_repository(root / path):
            waiting += (f"{path.rstrip('/')}/{each}" for each in _own_files(root / path))
    return dict(sorted(found.items()))


def content_of(path: Path) -> bytes | None:
    """Return a file's content; None if it is no regular file that can be read."""
    found = _content(str(path))
    return None if found is None else found[0]


def facts_of(content: bytes, *, is_source: bool, known: FileFacts | None = None) -> FileFacts:
    """Return the facts about a file's content.

    Args:
        content: The content.
        is_source: Whether it is Python.
        known: The facts about an earlier content of the file.
    """
    digest = _digest(content)
    if known is not None and known.digest == digest and (known.shape or not is_source):
        return known
    return FileFacts(digest, shape_of(content) if is_source else None)


def is_repository(path: Path) -> bool:
    """Return whether a directory is a submodule, or another repository: git lists only itself.

    Args:
        path: The directory, or any other path.
    """
    git_file = path / ".git"
    if git_file.is_file():  # Another work tree of this repository is another project.
        return b"/worktrees/" not in git_file.read_bytes()
    return git_file.is_dir()


def git(root: Path, *arguments: str) -> bytes | None:
    """Return the output of git; None if there is no git, or it fails."""
    command = ["git", "-C", str(root), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, check=False, env=_plain_environment())
    except OSError:
        return None
    return None if done.returncode else done.stdout


def _plain_environment() -> dict[str, str]:
    # In a hook of git these variables name another index, or another repository.
    return {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}


def _own_files(root: Path) -> Iterator[str]:
    listed = git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    if listed:  # nothing at all, if an outer repository ignores the whole project
        paths = iter([os.fsdecode(name) for name in listed.split(b"\0")])
    else:
        real = os.path.realpath(root)
        inside = os.path.join(real, "")  # noqa: PTH118 - a project may have very many files
        paths = (path.removeprefix(inside) for path, _ in project_files([real]))
    return (path for path in paths if path and not re.search(_LEFT_BY_RUNS, path))


def _facts(root: Path, path: str, known: FileFacts | None, *, split: bool) -> FileFacts | None:
    found = _content(f"{root}/{path}")
    if found is None:
        return None
    content, manner = found
    is_source = path.endswith(".py") or (known is not None and known.shape is not None)
    facts = facts_of(content, is_source=is_source and split, known=known)
    return facts if facts.manner == manner else dataclasses.replace(facts, manner=manner)


def _content(path: str, manner: str = "") -> tuple[bytes, str] | None:
    """The content of a regular file, without what `Path` costs: a project may have very many.

    Of a link it is what is there; of one that leads to no file, nothing.
    """
    follow = os.O_NOFOLLOW if not manner else 0
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | follow)
    except (OSError, ValueError) as error:
        if manner:
            return b"", manner
        is_link = isinstance(error, OSError) and error.errno == errno.ELOOP
        return _content(path, f"a link to {_target(path)}") if is_link else None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return (b"", manner) if manner else None
        if not manner and status.st_mode & stat.S_IXUSR:
            manner = "may be executed"
        content = os.read(descriptor, status.st_size + 1)
        while more := os.read(descriptor, _PIECE):
            content += more
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return content, manner


def _target(path: str) -> str:
    try:
        return os.readlink(path)  # noqa: PTH115 - as it is written
    except OSError:
        return ""


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]


def _environment(root: Path) -> dict[str, str]:
    """Return what tests run with, beside the project's own files."""
    found = {
        "Python": f"{platform.python_implementation()} {sys.version.split()[0]}",
        "the system": f"{sys.platform} {platform.machine()}",
    }
    for name in _ENVIRONMENT_VARIABLES:
        if os.environ.get(name):
            found[name] = os.environ[name]
    # `python -m pytest` has the project's directory in its path, and so its own X.egg-info, too.
    beside = [place for place in sys.path if os.path.realpath(place) != os.path.realpath(root)]
    for distribution in metadata.distributions(path=beside):
        name, version = _name_and_version(distribution)
        if name:
            where = distribution.read_text("direct_url.json") or ""
            commit = re.search(r'"commit_id": *"(\w+)"', where)
            commit_of = f" {commit[1]}" if commit else ""
            found.setdefault(name, f"{version}{commit_of}{_files_of(distribution)}")
    return found


def _files_of(distribution: metadata.Distribution) -> str:
    """Return a hash of what is installed: the same version may be installed again, from elsewhere.

    Scripts and links to a checkout name the place where they are.
    """
    record = distribution.read_text("RECORD")
    if not record:
        return ""
    lines = sorted(line for line in record.splitlines() if re.match(_SAME_ANYWHERE, line))
    return f" (files {_digest(chr(10).join(lines).encode())[:8]})"


def _name_and_version(distribution: metadata.Distribution) -> tuple[str, str]:
    """What `metadata` says, which parses all of it as an e-mail for each of both."""
    head = (distribution.read_text("METADATA") or "").partition("\n\n")[0]
    name = re.search(r"^Name: *(\S+)\s*$", head, re.MULTILINE)
    version = re.search(r"^Version: *(\S+)\s*$", head, re.MULTILINE)
    if name and version:
        return name[1], version[1]
    return distribution.metadata["Name"] or "", distribution.version
