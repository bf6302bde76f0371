"""Find where a source that ran elsewhere, in a container, is on this machine.

A recording tells of each source its path there, its size and CRC-32; coverage.py's data tells its
path and the lines that ran. The same file is somewhere in the project here, mostly with the end of
its path in common: `/srv/code/shop/cart.py` is `shop/cart.py`. So each source that is found by its
content says which directory there is which directory here (a *tree*), and the trees decide for what
content does not tell: files that are alike, empty ones, and those that have changed.

Candidates are regular files below the project's roots and nothing else, whatever data says. What is
measured, and what `[paths]` says, is decided by others (`_combine_recordings`, `_merge`).
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import os
import posixpath
from binascii import crc32
from typing import TYPE_CHECKING, Final, TypeAlias

from hcoverage._combine_result import FoundTree, UnmappedSource
from hcoverage._untrusted_file import UntrustedDataError, read_regular

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

# Bounds, as what is looked for comes from anybody.
_MOST_FILES: Final = 200_000  # in the project
_MOST_SOURCES: Final = 20_000  # that are looked for
_MOST_CANDIDATES: Final = 64  # for one of them; more say nothing
_LONGEST_PATH: Final = 4096  # PATH_MAX of Linux
_DEEPEST: Final = 64  # directories
_LARGEST_SOURCE: Final = 16 << 20  # bytes

# Directories whose files are not the project's own.
_NOT_OURS: Final = frozenset({"__pycache__", "node_modules", "site-packages", "dist-packages"})
_OF_AN_ENVIRONMENT: Final = "pyvenv.cfg"
_BUILT: Final = ("build", "lib")  # setuptools leaves copies there


@dataclasses.dataclass(frozen=True)
class Ran:
    """A source that ran elsewhere.

    Attributes:
        path: Where it was.
        size: Its size then, or None where that is not known.
        checksum: Its CRC-32, or None.
        lines: Where those are not known, a number whose bit *n* is set if line *n* ran.
    """

    path: str
    size: int | None = None
    checksum: int | None = None
    lines: int = 0


# A directory there, and the one here that has the same sources.
_Tree: TypeAlias = tuple[str, str]


class SourceFinder:
    """Finds sources, and remembers which trees they have shown.

    Args:
        roots: Real paths of the directories, and files, that are the project's.
        foreign: Directories in which others than the project's owner write: no source is theirs.
    """

    def __init__(self, roots: Iterable[Path], foreign: Iterable[Path] = ()) -> None:
        self._roots = sorted({str(root) for root in roots})
        self._foreign = {os.path.realpath(path) for path in foreign}
        # How many sources have shown a tree, by their content and by the lines that ran.
        self._by_content: collections.Counter[_Tree] = collections.Counter()
        self._by_lines: collections.Counter[_Tree] = collections.Counter()
        self._found: dict[_Tree, set[str]] = {}
        self._unmapped: dict[str, tuple[str, ...]] = {}
        self._checksum_of = functools.cache(_checksum)
        self._lines_of = functools.cache(_lines)

    @property
    def trees(self) -> tuple[FoundTree, ...]:
        """Which directories there are which here, those with most sources first."""
        ordered = sorted(self._found.items(), key=lambda item: (-len(item[1]), item[0]))
        return tuple(
            FoundTree(there, here, len(paths), by_content=self._by_content[there, here] > 0)
            for (there, here), paths in ordered
        )

    @property
    def unmapped(self) -> tuple[UnmappedSource, ...]:
        """The sources that could not be found, or not for certain."""
        return tuple(UnmappedSource(*item) for item in sorted(self._unmapped.items()))

    def find_recorded(self, sources: Iterable[Ran]) -> dict[Ran, str]:
        """Find sources whose content is known.

        Args:
            sources: What ran, with size and checksum.

        Returns:
            Where they are here. Where it is another file by now, its content is not what ran.
        """
        return self._find(sources, self._has_content, self._by_content)

    def find_measured(self, sources: Iterable[Ran]) -> tuple[dict[Ran, str], dict[Ran, str]]:
        """Find sources of which no more is known than the lines that ran.

        One that no recorded source has shown the place of is found only if all of its path below a
        root is the end of the path it had, and all lines that ran are such as can run.

        Args:
            sources: What ran, with the lines.

        Returns:
            Where they are here; and the place of those that cannot be what is there now.
        """
        found = self._find(sources, self._has_lines, self._by_lines)
        fitting = {ran: here for ran, here in found.items() if self._can_run(ran, here)}
        return fitting, {ran: here for ran, here in found.items() if ran not in fitting}

    def _find(
        self,
        sources: Iterable[Ran],
        is_same: Callable[[Ran, str], bool],
        votes: collections.Counter[_Tree],
    ) -> dict[Ran, str]:
        wanted = [ran for ran in sources if _is_sound(ran.path)][:_MOST_SOURCES]
        same = {ran: self._same(ran, is_same) for ran in wanted}
        for ran, places in same.items():
            if ran.size or ran.lines:  # an empty file is like any other
                votes.update({self._tree(ran.path, place) for place in places})
        shown: dict[str, list[str]] = {}
        for there, here in {*self._by_content, *self._by_lines}:
            shown.setdefault(there, []).append(here)
        found = {}
        for ran, places in same.items():
            choice = (
                self._best(ran, places)
                or self._best(ran, self._by_trees(ran, shown))
                or self._by_name(ran)
            )
            if len(choice) == 1:
                (found[ran],) = choice
                if choice[0] in places:
                    tree = self._tree(ran.path, choice[0])
                    self._found.setdefault(tree, set()).add(ran.path)
            elif ran.size != 0 and not os.path.lexists(ran.path):
                self._unmapped[ran.path] = tuple(sorted(choice))
        return found

    def _same(self, ran: Ran, is_same: Callable[[Ran, str], bool]) -> list[str]:
        """The files here that may be a source, by name and content."""
        places = self._files.get(posixpath.basename(ran.path), ())
        if len(places) > _MOST_CANDIDATES:
            return []
        return [place for place in places if is_same(ran, place)]

    def _best(self, ran: Ran, places: Sequence[str]) -> list[str]:
        """Of files that are the same, those in the tree that most sources have shown."""
        rank = {place: self._rank(ran, place) for place in places}
        best = max(rank.values(), default=(0,))
        return [place for place in places if rank[place] == best] if any(best[:2]) else []

    def _rank(self, ran: Ran, place: str) -> tuple[int, int, int]:
        tree = self._tree(ran.path, place)
        return self._by_content[tree], self._by_lines[tree], len(ran.path) - len(tree[0])

    def _by_trees(self, ran: Ran, shown: Mapping[str, Iterable[str]]) -> list[str]:
        """What is in the place of a source, in the trees that other sources have shown."""
        places = []
        for there in _parents(ran.path):
            end = ran.path[len(there.rstrip("/")) :]
            places += [here + end for here in shown.get(there, ()) if here + end in self._root_of]
        return places

    def _by_name(self, ran: Ran) -> list[str]:
        """What is in the place of a recorded source if its path below a root says so."""
        if ran.size is None:
            return []
        places = self._files.get(posixpath.basename(ran.path), ())[:_MOST_CANDIDATES]
        return [place for place in places if self._tree(ran.path, place)[1] in self._roots]

    def _has_content(self, ran: Ran, place: str) -> bool:
        if ran.size is None:
            return False
        # Most files of a name are told apart by their size.
        return _size(place) == ran.size and self._checksum_of(place) == ran.checksum

    def _has_lines(self, ran: Ran, place: str) -> bool:
        tree = self._tree(ran.path, place)
        is_likely = self._by_content[tree] > 0 or tree[1] in self._roots
        return is_likely and ran.lines > 0 and self._can_run(ran, place)

    def _can_run(self, ran: Ran, place: str) -> bool:
        return not ran.lines & ~self._lines_of(place) & ~1

    def _tree(self, path: str, place: str) -> _Tree:
        """The longest end that two paths have in common, taken off both."""
        root = self._root_of[place]
        there, here = posixpath.split(path)[0], os.path.split(place)[0]
        while here != root and there != "/":
            (up_there, name), (up_here, own) = posixpath.split(there), os.path.split(here)
            if name != own:
                break
            there, here = up_there, up_here
        return there, here

    @functools.cached_property
    def _root_of(self) -> dict[str, str]:
        """The files of the project, and the outermost root that each is below."""
        found: dict[str, str] = {}
        for root in self._roots:
            for file in _files_below(root, self._foreign):
                if len(found) >= _MOST_FILES:
                    return found
                found.setdefault(file, root if file != root else os.path.dirname(root))  # noqa: PTH120
        return found

    @functools.cached_property
    def _files(self) -> dict[str, list[str]]:
        """The files of the project by their names."""
        named: dict[str, list[str]] = {}
        for file in self._root_of:
            named.setdefault(os.path.basename(file), []).append(file)  # noqa: PTH119
        return named


def _is_sound(path: str) -> bool:
    return (
        len(path) <= _LONGEST_PATH
        and path.count("/") <= _DEEPEST
        and path.startswith("/")
        and path.isprintable()
        and posixpath.normpath(path) == path
    )


def _parents(path: str) -> Iterator[str]:
    while path != "/":
        path = posixpath.dirname(path)
        yield path


def _files_below(root: str, foreign: set[str]) -> Iterator[str]:
    """The regular files of a project, those nearest to its root first; no link is followed."""
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
        # A virtual environment; but a root is one because somebody named it.
        if directory != root and any(entry.name == _OF_AN_ENVIRONMENT for entry in found):
            continue
        for entry in found:
            if entry.is_file(follow_symlinks=False):
                yield entry.path
            elif entry.is_dir(follow_symlinks=False) and _may_be_ours(entry, foreign):
                directories.append(entry.path)


def _may_be_ours(directory: os.DirEntry[str], foreign: set[str]) -> bool:
    above = os.path.basename(os.path.dirname(directory.path))  # noqa: PTH119, PTH120
    return (
        not directory.name.startswith(".")
        and directory.name not in _NOT_OURS
        and (above, directory.name) != _BUILT
        and directory.path not in foreign
    )


def _size(place: str) -> int:
    try:
        return os.lstat(place).st_size
    except OSError:
        return -1


def _checksum(place: str) -> int:
    return crc32(_content(place))


def _lines(place: str) -> int:
    """The lines of a source that can run: those with anything on them but a comment."""
    lines = (line.strip() for line in _content(place).splitlines())
    digits = ["1" if line and not line.startswith(b"#") else "0" for line in lines]
    return int("".join([*reversed(digits), "0"]), 2)


def _content(place: str) -> bytes:
    try:
        return read_regular(place, _LARGEST_SOURCE)[0]
    except (OSError, UntrustedDataError):
        return b""
