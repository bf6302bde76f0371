"""The rcfile: finds the one that counts, and reads it with coverage.py.

coverage.py defines what the settings mean, their file formats, and where it looks for them.
`_session.guest_settings` makes the settings for measured processes.
"""

from __future__ import annotations

import configparser
import contextlib
import os
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from hcoverage._errors import NoRcfileError, RcfileError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from coverage.config import CoverageConfig

_RCFILE_VARIABLE: Final = "COVERAGE_RCFILE"


class Rcfile(NamedTuple):
    """A coverage.py configuration as read, or coverage.py's defaults if there is none.

    Attributes:
        path: The absolute path of the file; None if there is none.
        settings: The settings as coverage.py reads them.
        core: The core that our own section asks for; None if it does not.
        is_named: Whether somebody named the file. coverage.py reads a file differently if it
            finds it by itself: `[run]` in a `tox.ini` counts only if the file was named.
    """

    path: Path | None
    settings: CoverageConfig
    core: str | None = None
    is_named: bool = True

    @property
    def container_sides(self) -> tuple[str, ...]:
        """The `[paths]` patterns that map to the host: all but the first of each entry."""
        return tuple(side for sides in self.settings.paths.values() for side in sides[1:])

    @property
    def config_file(self) -> str | bool:
        """The argument `config_file` that makes `coverage.Coverage` read the same file."""
        return str(self.path) if self.is_named and self.path else True

    @property
    def options(self) -> list[str]:
        """The options that make the command `coverage` read the same file."""
        return [f"--rcfile={self.path}"] if self.is_named and self.path else []

    def changed(self, **settings: Any) -> Rcfile:  # noqa: ANN401 - whatever coverage.py has
        """Return a copy with some settings changed, by coverage.py's attribute names."""
        changed = self.settings.copy()
        for name, value in settings.items():
            setattr(changed, name, value)
        return self._replace(settings=changed)


def find_rcfile(directory: Path) -> Path | None:
    """Find the rcfile that coverage.py would use when started in a directory.

    That is the file named by COVERAGE_RCFILE, else the first in the directory that has settings.

    Args:
        directory: Where to look; like coverage.py, this does not search parent directories.

    Returns:
        Its path, or None if no file has coverage.py settings.

    Raises:
        NoRcfileError: The file named by COVERAGE_RCFILE does not exist.
        RcfileError: A candidate cannot be parsed.
    """
    from coverage.config import CoverageConfig, config_files_to_try  # noqa: PLC0415

    for name, is_ours, is_named in config_files_to_try(config_file=True):
        path = directory / name
        if is_named and not path.is_file():
            raise _no_rcfile_of_variable(path)
        with explained(path):
            if CoverageConfig().from_file(str(path), _ignore, our_file=is_ours):
                return path
    return None


def read_rcfile(path: str | os.PathLike[str] | None = None) -> Rcfile:
    """Read an rcfile as coverage.py does.

    Args:
        path: The rcfile, in any format that coverage.py reads; None for the one that it would find
            in the current directory, else its defaults.

    Returns:
        The rcfile, with its absolute path.

    Raises:
        NoRcfileError: It does not exist.
        RcfileError: coverage.py cannot use it.
        OSError: It cannot be read.
    """
    if path is None:
        found = find_rcfile(Path.cwd())
        with explained(found):
            settings = _settings(found is not None)
            core = _own_core(found)
        return Rcfile(found, settings, core, is_named=False)
    absolute = Path(os.path.abspath(path))  # noqa: PTH100 - as the user wrote it, links kept
    if not absolute.exists():
        raise NoRcfileError(
            f"no rcfile at {absolute}: name the one to use, or let `hcov init` write a .coveragerc"
        )
    absolute.read_bytes()  # a file that cannot be read is an OSError, not «not a config file»
    with explained(absolute):
        settings = _settings(str(absolute))
        core = _own_core(absolute)
    return Rcfile(absolute, settings, core)


def as_rcfile(rcfile: str | os.PathLike[str] | Rcfile | None) -> Rcfile:
    """Return an rcfile; read it with `read_rcfile` if it is given as a path."""
    return rcfile if isinstance(rcfile, Rcfile) else read_rcfile(rcfile)


def _settings(config_file: str | bool) -> CoverageConfig:  # noqa: FBT001 - coverage.py's argument
    # Imported late, so that `inject` can report a missing coverage.py in its own words. Not
    # `coverage.Coverage(config_file=…)`: in a process that the hook measures, that would stop
    # the measuring (`_prevent_sub_process_measurement`).
    from coverage.config import read_coverage_config  # noqa: PLC0415

    return read_coverage_config(config_file=config_file, warn=_ignore)


@contextlib.contextmanager
def explained(path: Path | None) -> Iterator[None]:
    """Turn all errors that an rcfile causes into one of ours that names it.

    These are not only coverage.py's own errors: a value of an unexpected type makes Python raise
    its own.
    """
    try:
        yield
    except (OSError, ImportError):  # the system's errors and ours
        raise
    except Exception as error:
        raise RcfileError(f"coverage.py cannot use {path}: {error}") from error


def _no_rcfile_of_variable(path: Path) -> NoRcfileError:
    return NoRcfileError(
        f"no rcfile at {path}, which {_RCFILE_VARIABLE} names: "
        f"name another, or `unset {_RCFILE_VARIABLE}`"
    )


def _ignore(_message: str, /) -> None:
    # coverage.py will repeat its warnings when it reports.
    pass


def _own_core(path: Path | None) -> str | None:
    """Read the core from our own section, which coverage.py ignores."""
    if path is None:
        return None
    text = path.read_text(encoding="utf-8-sig")  # as coverage.py reads it
    if path.suffix == ".toml":
        found = tomllib.loads(text).get("tool", {}).get("hcoverage", {}).get("core")
        return None if found is None else str(found)
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(text)
    return parser.get("hcoverage", "core", fallback=None)
