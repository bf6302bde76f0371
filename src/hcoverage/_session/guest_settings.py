"""The settings for coverage.py where it measures for us: made for it, not the user's own text.

What counts is decided after the run (`_sources.choice`). A measured process may run in another
directory, or see other paths, so its settings make it record enough, under names that mean the same
wherever it runs, into a file of its own. `_settings.rcfile` reads the user's settings.

They take two forms: the output of `CoverageConfig.serialize`, which loses nothing, for a recent
enough coverage.py on this machine; and a `.coveragerc`, which any version reads.
"""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from hcoverage._sources.project_files import project_files
from hcoverage._sources.roots import own_packages, roots

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from coverage.config import CoverageConfig

    from hcoverage._settings.rcfile import Rcfile

# The first line of each rcfile that we write.
MADE_BY_US: Final = (
    "# Made by hcoverage, for processes that it measures; the project's own rcfile counts."
)

# Settings that matter while a process is measured: each as an attribute of coverage.py's
# configuration and its name under `[run]`, in the order of coverage.py's documentation.
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
# Debian's standard library links to this file, which runs after the hook; coverage.py follows the
# link and takes the file for the application's.
_DEBIANS_SITECUSTOMIZE: Final = "/etc/python3*/sitecustomize.py"
# In a list these end an item or begin a comment; in a pattern `?` stands for any character.
_NOT_IN_ITEMS: Final = str.maketrans(dict.fromkeys(",\n\r#;", "?"))
# With more files, trying each name would cost more than it saves.
_MOST_NAMES: Final = 5000


class GuestSettings(NamedTuple):
    """The settings of one kind of process, in both forms.

    Attributes:
        rcfile_text: The text of a `.coveragerc`.
        serialized: The output of `CoverageConfig.serialize`, before it is encoded: JSON.
    """

    rcfile_text: str
    serialized: str

    @property
    def encoded(self) -> str:
        """The value for COVERAGE_PROCESS_CONFIG, which coverage.py's own hook reads."""
        return base64.b64encode(self.serialized.encode()).decode()


def for_processes_here(
    rcfile: Rcfile, directory: Path, data_file: Path, startup: Path | None = None
) -> GuestSettings:
    """Return the settings of processes on this machine, which see the same paths as we do.

    Here coverage.py itself chooses what it measures, as in a run of one process, because its
    tracer slows down each line of each file that it follows.

    Args:
        rcfile: The rcfile.
        directory: The directory that the run starts in, to which relative paths refer.
        data_file: The absolute path, without the parallel suffix, of every data file.
        startup: The session's startup directory, whose files are not the application's; None if
            there is no session, only coverage.py's own hook.
    """
    from coverage.files import prep_patterns  # noqa: PLC0415 - with the rcfile, which is read late

    settings = _for_any_process(rcfile.settings)
    sources = [*(settings.source or ()), *settings.source_dirs]
    directories = [str(directory / name) for name in sources if (directory / name).is_dir()]
    packages = [name for name in sources if not (directory / name).is_dir()]
    settings.source = directories or None
    settings.source_pkgs = [*settings.source_pkgs, *packages]
    settings.source_dirs = []
    # Each pattern as it stands, and made absolute from here.
    settings.run_include = prep_patterns(settings.run_include)
    settings.run_omit = prep_patterns(settings.run_omit)
    settings.data_file = str(data_file)
    if settings.debug_file:
        settings.debug_file = str(directory / settings.debug_file)
    settings.run_omit += [f"{package}/*" for package in own_packages(rcfile.settings)]
    if startup is not None:
        settings.run_omit += [f"{startup}/*", _DEBIANS_SITECUSTOMIZE]
        # The hook and `_inside.autosave` do its work. It would also set COVERAGE_RCFILE in every
        # process, and so make a `coverage combine` that the command runs read our data.
        settings.concurrency = [name for name in settings.concurrency if name != "multiprocessing"]
    return _in_both_forms(settings)


def for_containers(rcfile: Rcfile, names: Sequence[str], foreign: Iterable[str]) -> GuestSettings:
    """Return the settings of processes in containers, which have the same code under other paths.

    They measure each file whose path ends like that of a project's file, wherever it lies: below
    the working directory or elsewhere, installed or not.

    Args:
        rcfile: The rcfile.
        names: The ends of the project's paths, see `ends_of`.
        foreign: Patterns of files that are not the application's.
    """
    settings = _for_any_process(rcfile.settings)
    settings.source, settings.source_dirs, settings.source_pkgs = None, [], []
    settings.run_include = []
    if names and len(names) <= _MOST_NAMES:
        # Among installed files, the names find those of the project.
        sides = [side.rstrip("/") for side in rcfile.container_sides]
        sides = [f"{side}/*" for side in sides if not side.endswith("-packages")]
        settings.run_include = [*(f"*/{name}" for name in names), *sides]
    settings.run_omit = [*foreign]
    settings.data_file = ".coverage"  # the environment has the directory
    # Debug output would land in the container, or on the application's stderr.
    settings.debug, settings.debug_file = [], None
    return _in_both_forms(settings)


def container_rcfile_text(rcfile: Rcfile, *directories: str | os.PathLike[str]) -> str:
    """Return the text of the rcfile for containers that have the code of some directories.

    Args:
        rcfile: The rcfile of the project.
        directories: Directories with the code on this machine, beside those in the rcfile.
    """
    here = Path.cwd()
    places = [*roots(rcfile.settings, here), *(Path(place).resolve() for place in directories)]
    names = ends_of(
        (file for file, _ in project_files(places)), with_templates=bool(rcfile.settings.plugins)
    )
    return for_containers(rcfile, names, ()).rcfile_text


def ends_of(files: Iterable[str], *, with_templates: bool = False) -> list[str]:
    """Return the ends of paths by which the project's files are recognised in a container.

    That is the file's name alone, since a copy may lie in a directory with another name. As every
    package has `__init__.py` and `__main__.py`, these are recognised with the package's name.

    Args:
        files: Paths of the project's files.
        with_templates: Whether plugins also measure files that are not Python.
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
    """Return the settings of all processes: own data files, names that mean the same anywhere."""
    own = settings.copy()
    own.parallel = True
    own.relative_files = False
    # Our hook does its work; the patch would install another hook.
    own.patch = [name for name in own.patch if name != "subprocess"]
    # It would be the application's output; `_inside.autosave` notes it.
    own.disable_warnings = [*own.disable_warnings, "trace-changed"]
    return own


def _in_both_forms(settings: CoverageConfig) -> GuestSettings:
    public = {name: value for name, value in vars(settings).items() if not name.startswith("_")}
    # Types that TOML has and JSON lacks, such as dates, occur in plugins' options alone.
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
    """Return a value as INI text; empty for one that need not be written."""
    if isinstance(value, (list, tuple)):
        items = (str(item).translate(_NOT_IN_ITEMS).replace("$", "$$") for item in value)
        return "".join(f"\n    {item}" for item in items)
    if value is None or value is False:
        return ""
    return str(value).replace("$", "$$").replace("\n", "\n    ")
