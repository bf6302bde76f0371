"""Makes the input of a merge available as local files: directories, files, archives and URLs.

Archives are unpacked and URLs fetched into a private directory that lives as long as the merge.
Such originals are not ours to delete; messages use the names that files have there.

Left to others: which files of a directory count (`_data_directory`), and all content of files.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from hcoverage._errors import NoInputError

# Imported where needed: most runs have only a data directory, and archive modules load slowly.
# ruff: noqa: PLC0415

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from hcoverage._untrusted.set_aside import SetAside


class Inputs:
    """The input of a merge.

    Attributes:
        paths: Directories and files on this machine, absolute; for archives and URLs, the files
            that were in them.
        set_aside: Files of archives and URLs that are not among them, and why.
        origins: For files that are copies, the name to show.
        is_trusted: Whether nobody but us can have written into the directories.
    """

    def __init__(self) -> None:
        self.paths: list[Path] = []
        self.set_aside: list[SetAside] = []
        self.origins: dict[Path, Path] = {}
        self.is_trusted = True

    def shown(self, path: Path) -> Path:
        """Return the name of a file for messages."""
        return self.origins.get(path, path)

    def may_be_removed(self, path: Path) -> bool:
        """Return whether a file is an original, and not a copy from an archive or URL."""
        return path not in self.origins

    @property
    def foreign_directories(self) -> list[Path]:
        """The directories that others can write to."""
        return [path for path in self.paths if path.is_dir() and _others_write_to(path)]


@contextlib.contextmanager
def opened(paths: Iterable[str | os.PathLike[str]]) -> Iterator[Inputs]:
    """Make all input available on this machine, for the length of a `with` block.

    Args:
        paths: Directories, data files, recordings, archives, and URLs for fsspec.

    Raises:
        NoInputError: One of them does not exist.
        MissingExtraError: A URL needs the extra `hcoverage[remote]`.
        CombineError: A URL cannot be read.
    """
    inputs = Inputs()
    with contextlib.ExitStack() as stack:
        for given in paths:
            name = os.fspath(given)
            path = Path(name).absolute()
            if path.is_dir():
                inputs.paths.append(path)
                inputs.is_trusted = inputs.is_trusted and not _others_write_to(path)
            else:
                _add_file(inputs, name, stack)
        yield inputs


def _add_file(inputs: Inputs, name: str, stack: contextlib.ExitStack) -> None:
    from hcoverage._combine.archives import is_archive
    from hcoverage._combine.remote import is_url

    path = Path(name).absolute()
    if is_url(name):
        _add_url(inputs, name, _private_directory(stack))
    elif not os.path.lexists(path):
        raise NoInputError(f"nothing to combine at {path}: there is no such file or directory")
    elif is_archive(path):
        inputs.is_trusted = False
        _add_archive(inputs, path, path, _private_directory(stack))
    else:
        inputs.paths.append(path)
        inputs.is_trusted = inputs.is_trusted and not _others_write_to(path.parent)


def _add_url(inputs: Inputs, url: str, directory: Path) -> None:
    from hcoverage._combine.archives import is_archive
    from hcoverage._combine.remote import fetch

    inputs.is_trusted = False
    fetched = fetch(url, directory)
    inputs.set_aside += fetched.set_aside
    for number, (file, name) in enumerate(fetched.files.items()):
        if is_archive(file):
            inside = directory / f"unpacked-{number}"
            inside.mkdir()
            _add_archive(inputs, file, Path(name), inside)
        else:
            inputs.paths.append(file)
            inputs.origins[file] = Path(name)


def _add_archive(inputs: Inputs, archive: Path, name: Path, directory: Path) -> None:
    from hcoverage._combine.archives import unpack

    unpacked = unpack(archive, directory)
    for item in unpacked.set_aside:
        inside = item.path.relative_to(archive)
        inputs.set_aside.append(dataclasses.replace(item, path=name / inside))
    for file, member in unpacked.files.items():
        inputs.paths.append(file)
        inputs.origins[file] = name / member.lstrip("/")


def _private_directory(stack: contextlib.ExitStack) -> Path:
    return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hcov-inputs-")))


def _others_write_to(directory: Path) -> bool:
    try:
        return is_open_to_all(directory) or directory.stat().st_uid != os.geteuid()
    except OSError:
        return True


def is_open_to_all(directory: Path) -> bool:
    """Return whether anybody can write into a directory, as containers can into a data directory.

    Raises:
        OSError: It does not exist.
    """
    # The group does not count: with the usual umask of 002 each user has an own group.
    return bool(directory.stat().st_mode & stat.S_IWOTH)
