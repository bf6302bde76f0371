"""The rcfile: which one counts, and what coverage.py makes of it.

What the settings mean is coverage.py's business; so are the forms they may be written in, and where
it looks for them. What measured processes are given of them is `_session.guest_settings`'.
"""

from __future__ import annotations

import configparser
import contextlib
import dataclasses
import os
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hcoverage._errors import NoRcfileError, RcfileError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from coverage.config import CoverageConfig

_RCFILE_VARIABLE: Final = "COVERAGE_RCFILE"


@dataclasses.dataclass(frozen=True)
class Rcfile:
    """A coverage.py configuration that was read, or coverage.py's defaults where there is none.

    Attributes:
        path: The absolute path it was read from; None where there is none.
        settings: coverage.py's own reading of it.
        core: The core that it asks for, under a section of our own; None where it does not.
        is_named: Whether somebody named it. One that was found coverage.py finds again by itself,
            and reads otherwise: a section `[run]` of a `tox.ini` counts only where it was named.
    """

    path: Path | None
    settings: CoverageConfig
    core: str | None = None
    is_named: bool = True

    @property
    def container_sides(self) -> tuple[str, ...]:
        """The `[paths]` patterns that are mapped to the host: all but the first of each entry."""
        return tuple(side for sides in self.settings.paths.values() for side in sides[1:])

    @property
    def config_file(self) -> str | bool:
        """What to give `coverage.Coverage` for it to read the same."""
        return str(self.path) if self.is_named and self.path else True

    @property
    def options(self) -> list[str]:
        """What to give the command `coverage` for it to read the same."""
        return [f"--rcfile={self.path}"] if self.is_named and self.path else []

    def changed(self, **settings: Any) -> Rcfile:  # noqa: ANN401 - whatever coverage.py has
        """Return it with other settings, by the names of coverage.py's attributes."""
        changed = self.settings.copy()
        for name, value in settings.items():
            setattr(changed, name, value)
        return dataclasses.replace(self, settings=changed)


def find_rcfile(directory: Path) -> Path | None:
    """Find the rcfile that coverage.py would use when started in a directory.

    That is the one that COVERAGE_RCFILE names, else the first in the directory that has settings.

    Args:
        directory: Where to look; parents are not searched, as coverage.py does not.

    Returns:
        Its path, or None where no file has coverage.py settings.

    Raises:
        NoRcfileError: The one that COVERAGE_RCFILE names is not there.
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
        path: The rcfile, in any form that coverage.py reads; None for the one that it would find in
            the current directory, else its defaults.

    Returns:
        The rcfile, its path made absolute.

    Raises:
        NoRcfileError: It is not there.
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
    """Return an rcfile that may have been read already; as `read_rcfile` does where it was not."""
    return rcfile if isinstance(rcfile, Rcfile) else read_rcfile(rcfile)


def _settings(config_file: str | bool) -> CoverageConfig:  # noqa: FBT001 - coverage.py's argument
    # Imported late, so that `inject` can tell of a missing coverage.py in its own words. Not
    # `coverage.Coverage(config_file=…)`: making one in a process that the hook measures ends the
    # measuring of that process (`_prevent_sub_process_measurement`).
    from coverage.config import read_coverage_config  # noqa: PLC0415

    return read_coverage_config(config_file=config_file, warn=_ignore)


@contextlib.contextmanager
def explained(path: Path | None) -> Iterator[None]:
    """Have whatever comes of what an rcfile says be an error of ours that names it.

    That is more than coverage.py's own errors: a value of a type that it does not expect comes out
    as what Python says of it.
    """
    try:
        yield
    except (OSError, ImportError):  # the system's and ours
        raise
    except Exception as error:
        raise RcfileError(f"coverage.py cannot use {path}: {error}") from error


def _no_rcfile_of_variable(path: Path) -> NoRcfileError:
    return NoRcfileError(
        f"no rcfile at {path}, which {_RCFILE_VARIABLE} names: "
        f"name another, or `unset {_RCFILE_VARIABLE}`"
    )


def _ignore(_message: str, /) -> None:
    # What coverage.py warns of, it will warn of again when it reports.
    pass


def _own_core(path: Path | None) -> str | None:
    """Read the core from the section that coverage.py does not know, and so does not mind."""
    if path is None:
        return None
    text = path.read_text(encoding="utf-8-sig")  # as coverage.py reads it
    if path.suffix == ".toml":
        found = tomllib.loads(text).get("tool", {}).get("hcoverage", {}).get("core")
        return None if found is None else str(found)
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(text)
    return parser.get("hcoverage", "core", fallback=None)
