"""What coverage.py is told where it measures for us: settings made for it, not the user's own text.

What counts is decided after the run (`_sources.choice`); a measured process may run in another
directory, or under other paths. So it is told to write down enough, under names that mean the same
wherever it runs, and into a file of its own. Which settings the user has is `_settings.rcfile`'s to
say.

Two forms hold them: what `CoverageConfig.serialize` gives, which loses nothing, for a coverage.py
on this machine that is new enough; and a `.coveragerc`, which any can read.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hcoverage._sources.project_files import project_files
from hcoverage._sources.roots import own_packages, roots

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from coverage.config import CoverageConfig

    from hcoverage._settings.rcfile import Rcfile

# The first line of an rcfile of ours.
MADE_BY_US: Final = (
    "# Made by hcoverage, for processes that it measures; the project's own rcfile counts."
)

# Each as an attribute of coverage.py's configuration and its name under `[run]`, in the order of
# its documentation: what counts while a process is measured.
_OPTIONS: Final = (
    ("branch", "branch"),
    ("concurrency", "concurrency"),
    ("context", "context"),
    ("core", "core"),
    ("cover_pylib", "cover_pylib"),
    ("data_file", "data_file"),
    ("debug", "debug"),
    ("debug_file", "debug_file"),
    ("disable_warnings", "disable_warnings"),
    ("dynamic_context", "dynamic_context"),
    ("parallel", "parallel"),
    ("patch", "patch"),
    ("plugins", "plugins"),
    ("relative_files", "relative_files"),
    ("run_include", "include"),
    ("run_omit", "omit"),
    ("sigterm", "sigterm"),
    ("source", "source"),
    ("source_pkgs", "source_pkgs"),
    ("timid", "timid"),
)
# Part of Debian's standard library, which has a link there, and run after the hook; coverage.py
# follows the link and takes it for the application's.
_DEBIANS_SITECUSTOMIZE: Final = "/etc/python3*/sitecustomize.py"
# In an item of a list they end it, or begin a comment; in a pattern `?` is any character.
_NOT_IN_ITEMS: Final = str.maketrans(dict.fromkeys(",\n\r#;", "?"))
# Of files here; with more, trying each name would cost more than it saves.
_MOST_NAMES: Final = 5000


@dataclasses.dataclass(frozen=True)
class GuestSettings:
    """The settings of one kind of process, in both forms.

    Attributes:
        rcfile_text: The text of a `.coveragerc`.
        serialized: What `CoverageConfig.serialize` gives, before it is encoded: JSON.
    """

    rcfile_text: str
    serialized: str

    @property
    def encoded(self) -> str:
        """The value of COVERAGE_PROCESS_CONFIG, by which coverage.py's own hook takes them."""
        return base64.b64encode(self.serialized.encode()).decode()


def for_processes_here(
    rcfile: Rcfile, directory: Path, data_file: Path, startup: Path | None = None
) -> GuestSettings:
    """Give the settings of processes on this machine, which have the paths that we have.

    Here coverage.py itself chooses what it measures, as it does for a run in one process: its
    tracer pays for each line of each file that it follows.

    Args:
        rcfile: The rcfile.
        directory: Where relative paths are taken from: the directory that the run starts in.
        data_file: The absolute path, without the parallel suffix, of every data file.
        startup: The session's startup directory, whose files are not the application's; None where
            no session is, but coverage.py's own hook alone.
    """
    from coverage.files import prep_patterns  # noqa: PLC0415 - with the rcfile, which is read late

    settings = _for_any_process(rcfile.settings)
    sources = [*(settings.source or ()), *settings.source_dirs]
    directories = [str(directory / name) for name in sources if (directory / name).is_dir()]
    packages = [name for name in sources if not (directory / name).is_dir()]
    settings.source = directories or None
    settings.source_pkgs = [*settings.source_pkgs, *packages]
    settings.source_dirs = []
    # Each as it is, and as it is from here.
    settings.run_include = prep_patterns(settings.run_include)
    settings.run_omit = prep_patterns(settings.run_omit)
    settings.data_file = str(data_file)
    if settings.debug_file:
        settings.debug_file = str(directory / settings.debug_file)
    settings.run_omit += [f"{package}/*" for package in own_packages(rcfile.settings)]
    if startup is not None:
        settings.run_omit += [f"{startup}/*", _DEBIANS_SITECUSTOMIZE]
        # Its part is done by the hook and `_inside.autosave`. And it sets COVERAGE_RCFILE in every
        # process, which sends a `coverage combine` of the command's own to our data.
        settings.concurrency = [name for name in settings.concurrency if name != "multiprocessing"]
    return _in_both_forms(settings)


def for_containers(rcfile: Rcfile, names: Sequence[str], foreign: Iterable[str]) -> GuestSettings:
    """Give the settings of processes in containers, which have the same code under other paths.

    They measure what ends as a file of the project does, wherever it is: below the working
    directory or elsewhere, installed or not.

    Args:
        rcfile: The rcfile.
        names: The ends of paths that files of the project have, see `ends_of`.
        foreign: Patterns of what is not the application's.
    """
    settings = _for_any_process(rcfile.settings)
    settings.source, settings.source_dirs, settings.source_pkgs = None, [], []
    settings.run_include = []
    if names and len(names) <= _MOST_NAMES:
        # Of what is installed the project's own is found by its names.
        sides = [side.rstrip("/") for side in rcfile.container_sides]
        sides = [f"{side}/*" for side in sides if not side.endswith("-packages")]
        settings.run_include = [*(f"*/{name}" for name in names), *sides]
    settings.run_omit = [*foreign]
    settings.data_file = ".coverage"  # the environment says where
    # It would be in the container, or on the application's stderr.
    settings.debug, settings.debug_file = [], None
    return _in_both_forms(settings)


def container_rcfile_text(rcfile: Rcfile, *directories: str | os.PathLike[str]) -> str:
    """Give the text of the rcfile for containers that have the code of some directories.

    Args:
        rcfile: The rcfile of the project.
        directories: Where the code is here, beside where the rcfile says it is.
    """
    here = Path.cwd()
    places = [*roots(rcfile.settings, here), *(Path(place).resolve() for place in directories)]
    names = ends_of(
        (file for file, _ in project_files(places)), with_templates=bool(rcfile.settings.plugins)
    )
    return for_containers(rcfile, names, ()).rcfile_text


def ends_of(files: Iterable[str], *, with_templates: bool = False) -> list[str]:
    """Give the ends of paths by which files of the project are known in a container.

    That is the name: what is copied may be in a directory of another name. `__init__.py` and
    `__main__.py` are everywhere, and known with the package that they are of.

    Args:
        files: Paths of the project's files.
        with_templates: Whether plugins measure other files than Python's.
    """
    return sorted({_end_of(file) for file in files if with_templates or _is_python(file)})


def _end_of(file: str) -> str:
    parent, name = os.path.split(file)
    return f"{os.path.basename(parent)}/{name}" if name.startswith("__") else name  # noqa: PTH119


def _is_python(file: str) -> bool:
    extension = os.path.splitext(file)[1]  # noqa: PTH122
    if extension:
        return extension in (".py", ".pyw")
    return os.access(file, os.X_OK)  # a script


def _for_any_process(settings: CoverageConfig) -> CoverageConfig:
    """What every process is told: to write a file of its own, under names that mean the same."""
    own = settings.copy()
    own.parallel = True
    own.relative_files = False
    # The hook is in its place; and it would write another.
    own.patch = [name for name in own.patch if name != "subprocess"]
    return own


def _in_both_forms(settings: CoverageConfig) -> GuestSettings:
    public = {name: value for name, value in vars(settings).items() if not name.startswith("_")}
    # What TOML has and JSON has not, such as dates, is for plugins alone.
    return GuestSettings(_rcfile_text(settings), json.dumps(public, default=str))


def _rcfile_text(settings: CoverageConfig) -> str:
    run = {name: _value(getattr(settings, attribute, None)) for attribute, name in _OPTIONS}
    sections = {
        "run": run,
        "paths": {name: _value(sides) for name, sides in settings.paths.items()},
        **{
            plugin: {name: _value(value) for name, value in options.items()}
            for plugin, options in settings.plugin_options.items()
        },
    }
    return "\n".join([MADE_BY_US, "", *_lines(sections)])


def _lines(sections: dict[str, dict[str, str]]) -> Iterator[str]:
    for section, options in sections.items():
        told = {name: value for name, value in options.items() if value}
        if told or section == "run":
            yield f"[{section}]"
            yield from (f"{name} = {value}" for name, value in told.items())
            yield ""


def _value(value: Any) -> str:  # noqa: ANN401 - whatever a setting, or an option of a plugin, is
    """Write a value as INI; nothing for one that need not be told."""
    if isinstance(value, (list, tuple)):
        items = (str(item).translate(_NOT_IN_ITEMS).replace("$", "$$") for item in value)
        return "".join(f"\n    {item}" for item in items)
    if value is None or value is False:
        return ""
    return str(value).replace("$", "$$").replace("\n", "\n    ")
