"""The rcfile: find it, have coverage.py check it, and render it for where it will be read.

What the settings mean is coverage.py's business. This module only moves them: into INI text that
any coverage.py reads under the name `.coveragerc` (containers; TOML files too), and into the form
that processes of one run share on the host, where relative paths would otherwise be taken from
whatever directory a process happens to start in.
"""

from __future__ import annotations

import configparser
import dataclasses
import io
import os
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hcoverage._errors import NoRcfileError, RcfileError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from coverage.config import CoverageConfig

_SECTIONS: Final = ("run", "report", "html", "xml", "json", "lcov", "paths")

# coverage.py's own order of search, `config_files_to_try` in coverage/config.py.
_CANDIDATES: Final = (".coveragerc", ".coveragerc.toml", "setup.cfg", "tox.ini", "pyproject.toml")


@dataclasses.dataclass(frozen=True)
class Rcfile:
    """A coverage.py configuration that was read and found usable.

    Attributes:
        path: The absolute path it was read from.
        sections: Its coverage.py sections as INI values, variables not yet substituted.
        settings: coverage.py's own reading of it.
        core: The core that it asks for, under a section of our own; None where it does not.
    """

    path: Path
    sections: Mapping[str, Mapping[str, str]]
    settings: CoverageConfig
    core: str | None = None

    @property
    def container_sides(self) -> tuple[str, ...]:
        """The `[paths]` patterns that are mapped to the host: all but the first of each entry."""
        return tuple(side for sides in self.settings.paths.values() for side in sides[1:])

    def text(self, **run: str) -> str:
        """Render the settings as the text of a `.coveragerc`, whatever form they were read from.

        Args:
            run: Settings under `[run]` to have instead of those that were read.
        """
        return _render({**self.sections, "run": {**self.sections.get("run", {}), **run}})

    def shared_text(self, directory: Path, data_file: Path, startup: Path) -> str:
        """Render the settings so that they mean the same in whatever directory a process starts.

        coverage.py takes relative paths from the directory in which each process starts, so a child
        that starts elsewhere would measure other sources and strand its data file there.

        Args:
            directory: Where relative paths are taken from: the directory that the run starts in.
            data_file: The absolute path, without the parallel suffix, of every data file.
            startup: The session's startup directory, whose files are not the application's.

        Returns:
            The text of a `.coveragerc`.
        """
        run = dict(self.sections.get("run", {}))
        run["data_file"] = _literal(data_file)
        if "concurrency" in run:
            # Its part is done by the hook and `_autosave`. And it sets COVERAGE_RCFILE in every
            # process, which sends a `coverage combine` of the command's own to our data.
            others = [item for item in _split(run.pop("concurrency")) if item != "multiprocessing"]
            if others:
                run["concurrency"] = ", ".join(others)
        for option, absolute in _ABSOLUTE.items():
            if option in run:
                run[option] = "\n".join(["", *absolute(directory, _split(run[option]))])
        run["omit"] = "\n".join([run.get("omit", ""), f"{_literal(startup)}/*"])
        return _render({**self.sections, "run": run})


def find_rcfile(directory: Path) -> Path | None:
    """Find the rcfile that coverage.py would use when started in a directory.

    Args:
        directory: Where to look; parents are not searched, as coverage.py does not.

    Returns:
        Its path, or None where no file has coverage.py settings.

    Raises:
        RcfileError: A candidate cannot be parsed.
    """
    for name in _CANDIDATES:
        path = directory / name
        # The first two are coverage.py's own; the others count only where they have its settings.
        if path.is_file() and (name in _CANDIDATES[:2] or _sections_of(path, ours=False)):
            return path
    return None


def read_rcfile(path: str | os.PathLike[str]) -> Rcfile:
    """Read an rcfile and check that the processes of a run can share it.

    Args:
        path: The rcfile, in any form that coverage.py reads.

    Returns:
        The rcfile, its path made absolute.

    Raises:
        NoRcfileError: It is not there.
        RcfileError: coverage.py cannot parse it, or `parallel` is not on.
        OSError: It cannot be read.
    """
    absolute = Path(os.path.abspath(path))  # noqa: PTH100 - as the user wrote it, links kept
    if not absolute.exists():
        raise NoRcfileError(
            f"no rcfile at {absolute}: name the one to use, or let `hcov init` write a .coveragerc"
        )
    absolute.read_bytes()  # a file that cannot be read is an OSError, not «not a config file»
    settings = settings_of(absolute)
    if not settings.parallel:
        where = "[tool.coverage.run]" if absolute.name == "pyproject.toml" else "[run]"
        raise RcfileError(
            f"{absolute} does not set parallel, so processes would overwrite each other's data: "
            f"add `parallel = {'true' if absolute.suffix == '.toml' else 'True'}` under {where}"
        )
    sections = _sections_of(absolute, ours=True, plugins=settings.plugins)
    own = _own_section(absolute)
    return Rcfile(absolute, sections, settings, own.get("core"))


def settings_of(path: Path | None) -> CoverageConfig:
    """Read what coverage.py makes of an rcfile, or of having none.

    Raises:
        RcfileError: coverage.py cannot use it.
    """
    # Imported late, so that `inject` can tell of a missing coverage.py in its own words. Not
    # `coverage.Coverage(config_file=…)`: making one in a process that the hook measures ends the
    # measuring of that process (`_prevent_sub_process_measurement`).
    from coverage.config import read_coverage_config  # noqa: PLC0415
    from coverage.exceptions import CoverageException  # noqa: PLC0415

    try:
        return read_coverage_config(config_file=str(path or ""), warn=lambda _: None)
    except (CoverageException, UnicodeDecodeError) as error:
        raise RcfileError(f"coverage.py cannot use {path}: {error}") from error


def _sections_of(
    path: Path, *, ours: bool, plugins: Iterable[str] = ()
) -> dict[str, dict[str, str]]:
    """Read the coverage.py sections of a file, as INI values.

    Args:
        path: The file.
        ours: Whether the file is coverage.py's own, so that its sections need no prefix.
        plugins: Plugins whose sections belong to the configuration too.
    """
    raw = _raw_sections(path)
    prefix = "tool.coverage." if path.suffix == ".toml" else "coverage:"
    sections = {}
    for name in (*_SECTIONS, *plugins):
        for candidate in (prefix + name, name) if ours else (prefix + name,):
            if candidate in raw:
                sections[name] = raw[candidate]
                break
    return sections


def _own_section(path: Path) -> Mapping[str, str]:
    """Read the section that coverage.py does not know, and so does not mind."""
    name = "tool.hcoverage" if path.suffix == ".toml" else "hcoverage"
    return _raw_sections(path).get(name, {})


def _raw_sections(path: Path) -> dict[str, dict[str, str]]:
    try:
        text = path.read_text(encoding="utf-8")
        return _toml_sections(text) if path.suffix == ".toml" else _ini_sections(text)
    except (configparser.Error, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RcfileError(f"coverage.py cannot use {path}: {error}") from error


def _ini_sections(text: str) -> dict[str, dict[str, str]]:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(text)
    return {name: dict(parser[name]) for name in parser.sections()}


def _toml_sections(text: str) -> dict[str, dict[str, str]]:
    tables = tomllib.loads(text)
    coverage = tables.get("tool", {}).get("coverage", {})
    named = {**tables, **{f"tool.coverage.{name}": table for name, table in coverage.items()}}
    named["tool.hcoverage"] = tables.get("tool", {}).get("hcoverage", {})
    return {
        name: {option: _ini_value(value) for option, value in table.items()}
        for name, table in named.items()
        if isinstance(table, dict)
    }


def _ini_value(value: Any) -> str:  # noqa: ANN401 - whatever TOML holds
    if isinstance(value, list):
        return "\n".join(["", *(_ini_item(str(item)) for item in value)])
    return str(value)


def _ini_item(item: str) -> str:
    # A line that starts so is a comment in INI; as a regex, which such items are, escaping the
    # character changes nothing.
    return "\\" + item if item.startswith(("#", ";")) else item


def _render(sections: Mapping[str, Mapping[str, str]]) -> str:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_dict(sections)
    text = io.StringIO()
    parser.write(text)
    return text.getvalue()


def _split(value: str) -> list[str]:
    """Split a list setting the way coverage.py does: at commas and line ends."""
    items = (item.strip() for item in value.replace(",", "\n").split("\n"))
    return [item for item in items if item]


def _absolute_files(directory: Path, items: list[str]) -> list[str]:
    return [item if _has_variable(item) else _literal(directory / item) for item in items]


def _absolute_sources(directory: Path, items: list[str]) -> list[str]:
    # In `source` a name that is no directory is a package, to be imported by that name.
    return [
        _literal(directory / item)
        if not _has_variable(item) and (directory / item).is_dir()
        else item
        for item in items
    ]


def _absolute_patterns(directory: Path, items: list[str]) -> list[str]:
    # coverage.py matches a relative pattern both as it is and made absolute (`prep_patterns`).
    absolute = []
    for item in items:
        absolute.append(item)
        if not item.startswith(("*", "?", "/")) and not _has_variable(item):
            absolute.append(_literal(directory / item))
    return absolute


def _literal(path: Path) -> str:
    """Write a path so that coverage.py takes no part of it for a variable."""
    return str(path).replace("$", "$$")


def _has_variable(item: str) -> bool:
    """Tell whether coverage.py or the shell's `~` will put another text in the item's place."""
    return "$" in item or item.startswith("~")


_ABSOLUTE: Final = {
    "source": _absolute_sources,
    "source_dirs": _absolute_files,
    "include": _absolute_patterns,
    "omit": _absolute_patterns,
    "debug_file": _absolute_files,
}
