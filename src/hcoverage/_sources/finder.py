"""Finds the file on this machine for a source that ran elsewhere, as in a container.

A recording has the path of each source there, its size and CRC-32; coverage.py's data has the path
and the lines that ran. The same file is somewhere in the project here, usually with the same end of
its path: `/srv/code/shop/cart.py` is `shop/cart.py`. So each source that is found by its content
maps a directory there to a directory here (a *tree*). Where content cannot decide, the trees do:
for files with the same text, for empty ones, and for those that have changed.

Only regular files below the project's roots are candidates, whatever the data says. Others decide
what is measured and apply `[paths]` (`_combine.recorded_data`, `_result.merged`).
"""

from __future__ import annotations

import collections
import functools
import os
import posixpath
from binascii import crc32
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from hcoverage._sources.project_files import project_files
from hcoverage._untrusted.file import UntrustedDataError, read_regular

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set as AbstractSet
    from pathlib import Path

# Bounds, since anybody may have written the data.
_MOST_SOURCES: Final = 20_000  # that are searched for
_MOST_CANDIDATES: Final = 64  # for one source; with more, none is likelier
_LONGEST_PATH: Final = 4096  # PATH_MAX of Linux
_DEEPEST: Final = 64  # directories
_LARGEST_SOURCE: Final = 16 << 20  # bytes

# Places with installed code only, never a project's.
_OF_THE_SYSTEM: Final = (
    *("/bin/", "/etc/", "/lib/", "/lib64/", "/sbin/"),
    *("/usr/bin/", "/usr/lib/", "/usr/lib64/", "/usr/sbin/", "/usr/share/"),
    *("/usr/local/bin/", "/usr/local/lib/", "/usr/local/sbin/"),
)


class FoundTree(NamedTuple):
    """A directory of containers, or other machines, that has the sources of a directory here.

    Attributes:
        there: The directory there.
        here: The directory here.
        sources: How many of its measured sources were found.
        by_content: Whether some were found by content, and not only by names and lines.
    """

    there: str
    here: str
    sources: int
    by_content: bool


class UnmappedSource(NamedTuple):
    """A source that ran elsewhere and was not found here, or not for certain.

    Attributes:
        path: Its path there.
        candidates: The files here that it may be.
    """

    path: str
    candidates: tuple[str, ...] = ()


class Ran(NamedTuple):
    """A source that ran elsewhere.

    Attributes:
        path: Its path there.
        size: Its size when it ran, or None if that is not known.
        checksum: Its CRC-32, or None.
        lines: If size and checksum are not known, a number whose bit *n* is set if line *n* ran.
    """

    path: str
    size: int | None = None
    checksum: int | None = None
    lines: int = 0


# A directory there, and the one here that has the same sources.
_Tree: TypeAlias = tuple[str, str]


class SourceFinder:
    """Finds sources, and remembers the trees that they prove.

    Args:
        roots: Real paths of the directories, and files, that are the project's.
        foreign: Directories in which others than the project's owner write; they have no sources.
    """

    def __init__(self, roots: Iterable[Path], foreign: Iterable[Path] = ()) -> None:
        self._roots = sorted({str(root) for root in roots})
        self._foreign = tuple(foreign)
        # How many sources prove a tree, by their content and by the lines that ran.
        self._by_content: collections.Counter[_Tree] = collections.Counter()
        self._by_lines: collections.Counter[_Tree] = collections.Counter()
        self._found: dict[_Tree, set[str]] = {}
        self._not_found: dict[str, tuple[str, ...]] = {}
        self._empty: set[str] = set()
        #: Sources that are installed where they ran; most of them are not the project's.
        self.installed: set[str] = set()
        self._checksum_of = functools.cache(_checksum)
        self._lines_of = functools.cache(_lines)

    @property
    def trees(self) -> tuple[FoundTree, ...]:
        """The trees that were found, those with most sources first."""
        ordered = sorted(self._found.items(), key=lambda item: (-len(item[1]), item[0]))
        return tuple(
            FoundTree(there, here, len(paths), by_content=self._by_content[there, here] > 0)
            for (there, here), paths in ordered
        )

    @property
    def unmapped(self) -> tuple[UnmappedSource, ...]:
        """Return the sources, perhaps the project's, that were not found, or not for certain.

        Installed sources, and those of the system, count only if a file here may be the same.
        """
        return tuple(
            UnmappedSource(path, candidates)
            for path, candidates in sorted(self._not_found.items())
            if path not in self._empty
            if candidates or not (self._is_installed(path) or path.startswith(_OF_THE_SYSTEM))
        )

    @property
    def not_found(self) -> AbstractSet[str]:
        """Return all sources that could not be found, the project's or not."""
        return self._not_found.keys()

    def find_recorded(self, sources: Iterable[Ran]) -> dict[Ran, str]:
        """Find sources by size and checksum.

        Args:
            sources: What ran, with size and checksum.

        Returns:
            Their places here. The file there may have changed since it ran.
        """
        return self._find(sources, self.is_same, self._by_content)

    def find_measured(self, sources: Iterable[Ran]) -> tuple[dict[Ran, str], dict[Ran, str]]:
        """Find sources by path and the lines that ran.

        Without a tree from recorded sources, a file here is the source only if its whole path below
        a root is the end of the source's path, and if it can run all lines that ran.

        Args:
            sources: What ran, with the lines.

        Returns:
            Their places here; and the places of those that cannot be the file that is there now.
        """
        found = self._find(sources, self._has_lines, self._by_lines)
        fitting = {ran: here for ran, here in found.items() if self._can_run(ran, here)}
        return fitting, {ran: here for ran, here in found.items() if ran not in fitting}

    def ending_with(self, path: str) -> list[str]:
        """Return the files here whose path ends with a whole path.

        They are what a process may have run that has changed its root (`chroot`).
        """
        places = self._files.get(posixpath.basename(path), ()) if path.startswith("/") else ()
        return [place for place in places if place.endswith(path)]

    def _find(
        self,
        sources: Iterable[Ran],
        is_same: Callable[[Ran, str], bool],
        votes: collections.Counter[_Tree],
    ) -> dict[Ran, str]:
        wanted = [ran for ran in sources if _is_sound(ran.path)][:_MOST_SOURCES]
        same = {ran: self._same(ran, is_same) for ran in wanted}
        for ran, places in same.items():
            if ran.size or ran.lines:  # an empty file is like any other empty one
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
            elif not os.path.lexists(ran.path):
                self._not_found[ran.path] = tuple(sorted(choice) or self._of_same_name(ran))
                if ran.size == 0:
                    self._empty.add(ran.path)
        return found

    def _same(self, ran: Ran, is_same: Callable[[Ran, str], bool]) -> list[str]:
        """Return the files here that may be a source, by name and content."""
        places = self._files.get(posixpath.basename(ran.path), ())
        if len(places) > _MOST_CANDIDATES:
            return []
        return [place for place in places if is_same(ran, place)]

    def _best(self, ran: Ran, places: Sequence[str]) -> list[str]:
        """Return those of several equal files that lie in the tree with most sources."""
        rank = {place: self._rank(ran, place) for place in places}
        best = max(rank.values(), default=(0,))
        return [place for place in places if rank[place] == best] if any(best[:2]) else []

    def _rank(self, ran: Ran, place: str) -> tuple[int, int, int]:
        tree = self._tree(ran.path, place)
        return self._by_content[tree], self._by_lines[tree], len(ran.path) - len(tree[0])

    def _by_trees(self, ran: Ran, shown: Mapping[str, Iterable[str]]) -> list[str]:
        """Return the files at a source's place in the trees that other sources prove."""
        places = []
        for there in _parents(ran.path):
            end = ran.path[len(there.rstrip("/")) :]
            places += [here + end for here in shown.get(there, ()) if here + end in self._root_of]
        return places

    def _by_name(self, ran: Ran) -> list[str]:
        """Return the files whose path below a root is the end of a recorded source's path.

        For an installed source, that must be its whole path below site-packages, with a package.
        """
        if ran.size is None:
            return []
        places = self._files.get(posixpath.basename(ran.path), ())[:_MOST_CANDIDATES]
        if not self._is_installed(ran.path):
            return [place for place in places if self._tree(ran.path, place)[1] in self._roots]
        return self._of_module(ran, places)

    def _of_same_name(self, ran: Ran) -> list[str]:
        """Return candidates to suggest to a person, those with the longest common path first."""
        if self._is_installed(ran.path) or ran.path.startswith(_OF_THE_SYSTEM):
            return []
        name = posixpath.basename(ran.path)
        end = f"/{name}"
        if name.startswith("__"):  # each package has such files
            end = f"/{posixpath.basename(posixpath.dirname(ran.path))}{end}"
        places = [place for place in self._files.get(name, ()) if place.endswith(end)]
        if len(places) > _MOST_CANDIDATES:
            return []
        if ran.size is None:
            places = [place for place in places if self._can_run(ran, place)]
        return sorted(places, key=lambda place: (len(self._tree(ran.path, place)[0]), place))

    def _of_module(self, ran: Ran, places: Iterable[str]) -> list[str]:
        """Return the files that are the same module of the same package as an installed source."""
        _, found, module = ran.path.rpartition("-packages/")
        return [
            place for place in places if found and "/" in module and place.endswith(f"/{module}")
        ]

    def _is_installed(self, path: str) -> bool:
        return path in self.installed or "/site-packages/" in path or "/dist-packages/" in path

    def is_same(self, ran: Ran, place: str) -> bool:
        """Return whether a file here has the content of the source that ran."""
        if ran.size is None:
            return False
        # The size alone separates most files with the same name.
        return _size(place) == ran.size and self._checksum_of(place) == ran.checksum

    def _has_lines(self, ran: Ran, place: str) -> bool:
        if not ran.lines or not self._can_run(ran, place):
            return False
        if self._is_installed(ran.path):
            return place in self._of_module(ran, [place])
        tree = self._tree(ran.path, place)
        return self._by_content[tree] > 0 or tree[1] in self._roots or _is_import_root(tree[1])

    def _can_run(self, ran: Ran, place: str) -> bool:
        return not ran.lines & ~self._lines_of(place) & ~1

    def _tree(self, path: str, place: str) -> _Tree:
        """Return two paths without their longest common end."""
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
        """The files of the project, each with the outermost root that it is below."""
        return dict(project_files(self._roots, self._foreign))

    @functools.cached_property
    def _files(self) -> dict[str, list[str]]:
        """The files of the project, by name."""
        named: dict[str, list[str]] = {}
        for file in self._root_of:
            named.setdefault(os.path.basename(file), []).append(file)  # noqa: PTH119
        return named


def _is_import_root(directory: str) -> bool:
    """Return whether a directory is not a package, so that modules may be copied out of it."""
    return not os.path.isfile(os.path.join(directory, "__init__.py"))  # noqa: PTH113, PTH118


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


def _size(place: str) -> int:
    try:
        return os.lstat(place).st_size
    except OSError:
        return -1


def _checksum(place: str) -> int:
    return crc32(_content(place))


def _lines(place: str) -> int:
    """Return the lines of a source that can run: those with more than a comment."""
    lines = (line.strip() for line in _content(place).splitlines())
    digits = ["1" if line and not line.startswith(b"#") else "0" for line in lines]
    return int("".join([*reversed(digits), "0"]), 2)


def _content(place: str) -> bytes:
    try:
        return read_regular(place, _LARGEST_SOURCE)[0]
    except (OSError, UntrustedDataError):
        return b""
