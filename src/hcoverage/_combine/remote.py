"""Fetches data files and recordings from URLs with fsspec: `s3://bucket/run-42/` and the like.

fsspec and its S3 support are the extra `hcoverage[remote]`, imported only if a URL is given.
Nothing is ever changed or deleted at a URL.
"""

from __future__ import annotations

import dataclasses
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any, Final

from hcoverage._combine.archives import is_archive
from hcoverage._data_directory.names import is_data_file_name, is_recording
from hcoverage._errors import CombineError, MissingExtraError, NoInputError
from hcoverage._untrusted.file import LARGEST, UntrustedDataError
from hcoverage._untrusted.set_aside import SetAside

_URL: Final = r"[A-Za-z][A-Za-z0-9+.-]+://"
_MOST_FILES: Final = 100_000
_PIECE: Final = 4 << 20  # bytes
_AT_ONCE: Final = 16


@dataclasses.dataclass
class Fetched:
    """The files that were fetched from a URL.

    Attributes:
        files: The local path of each file, and its URL.
        set_aside: The files that were not fetched, and why.
    """

    files: dict[Path, str] = dataclasses.field(default_factory=dict)
    set_aside: list[SetAside] = dataclasses.field(default_factory=list)


def is_url(path: str) -> bool:
    """Return whether a path is a URL."""
    return re.match(_URL, path) is not None


def fetch(url: str, directory: Path) -> Fetched:
    """Fetch a file, or the data files and recordings directly under a directory or prefix.

    Args:
        url: The URL of the file, directory or prefix.
        directory: An empty directory of our own to fetch into.

    Returns:
        The local files, and those that could not be fetched.

    Raises:
        MissingExtraError: fsspec, or the library that it needs for this URL, is not installed.
        NoInputError: There is nothing at the URL.
        CombineError: The URL cannot be listed.
    """
    system, found = _listed(url)
    scheme = url.partition("://")[0]
    fetched = Fetched()

    def fetch_one(number: int, path: str) -> tuple[Path, str, str]:
        base = PurePosixPath(path).name
        copy = directory / str(number) / base
        try:
            copy.parent.mkdir()
            _download(system, path, copy)
        except Exception as error:  # noqa: BLE001 - each of fsspec's systems has its own
            copy.unlink(missing_ok=True)
            return copy, path, str(error) or type(error).__name__
        return copy, path, ""

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for copy, path, reason in pool.map(fetch_one, range(len(found)), found):
            name = f"{scheme}://{path.lstrip('/')}"
            if reason:
                fetched.set_aside.append(SetAside(Path(name), f"it cannot be fetched: {reason}"))
            else:
                fetched.files[copy] = name
    return fetched


def _listed(url: str) -> tuple[Any, list[str]]:
    try:
        import fsspec  # type: ignore[import-not-found,import-untyped,unused-ignore] # noqa: PLC0415

        system, root = fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise MissingExtraError(
            f"{url} cannot be read ({error}): pip install 'hcoverage[remote]'"
        ) from error
    except ValueError as error:
        raise CombineError(f"{url} cannot be read: {error}") from error
    try:
        # An older, cached listing may be another run's.
        system.invalidate_cache()
        entries = system.ls(root, detail=True)
    except FileNotFoundError as error:
        raise NoInputError(f"nothing to combine at {url}: there is no such object") from error
    except Exception as error:
        raise CombineError(f"{url} cannot be read: {str(error) or type(error).__name__}") from error
    paths = sorted(entry["name"] for entry in entries if entry["type"] == "file")
    if paths != [root]:
        paths = [path for path in paths if _is_wanted(PurePosixPath(path).name)]
    if len(paths) > _MOST_FILES:
        raise CombineError(f"{url} has more than {_MOST_FILES} files: combine them in parts")
    return system, paths


def _is_wanted(name: str) -> bool:
    return is_data_file_name(name) or is_recording(Path(name)) or is_archive(Path(name))


def _download(system: Any, path: str, copy: Path) -> None:  # noqa: ANN401 - fsspec is no dependency
    size = 0
    with system.open(path, "rb") as source, copy.open("xb") as destination:
        while piece := source.read(_PIECE):
            size += len(piece)
            if size > LARGEST:
                raise UntrustedDataError(f"it is larger than {LARGEST} bytes")
            destination.write(piece)
