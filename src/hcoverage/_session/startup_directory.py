"""The startup directory: the files that the processes of a session run and read when they start.

It is private to the session, and not in the data directory: anybody may write there, and these
files are executed. Every file in it stands alone; their sources are modules of this package.
"""

from __future__ import annotations

import importlib.util
import json
import marshal
import os
import re
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from hcoverage._inside import recorder_writer
from hcoverage._session.guest_code import LATER, NOW, compiled, placed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import CodeType

COVERAGE_DIRECTORY: Final = "lib"
# A file that only copies for containers need, see `Settings.names`.
_NAMES: Final = "names.json"

# The coarsest time stamps of a file system, in nanoseconds: a file's stamp may be this much early.
_COARSEST_TIME: Final = 2 * 10**9

_AT_LEAST: Final = r">= *3\.([0-9]+)"

# In the directory of a Python's coverage.py: the note to write if that coverage.py is used.
_NOTE: Final = "note.txt"

_COPIES: Final = {
    "autosave": "_hcoverage_autosave.py",
    "context_reader": "_hcoverage_context_reader.py",
    "coverage_contexts": "_hcoverage_coverage_contexts.py",
    "coverage_marks": "_hcoverage_coverage_marks.py",
    "other_coverage": "_hcoverage_other_coverage.py",
    "process": "_hcoverage_process.py",
    "recorder": "_hcoverage_recorder.py",
    "recorder_arcs": "_hcoverage_recorder_arcs.py",
    "recorder_branch_contexts": "_hcoverage_recorder_branch_contexts.py",
    "recorder_branches": "_hcoverage_recorder_branches.py",
    "recorder_contexts": "_hcoverage_recorder_contexts.py",
    "recorder_flow": "_hcoverage_recorder_flow.py",
    "recorder_long_code": "_hcoverage_recorder_long_code.py",
    "recorder_requests": "_hcoverage_recorder_requests.py",
    "recorder_seldom": "_hcoverage_recorder_seldom.py",
    "recorder_sources": "_hcoverage_recorder_sources.py",
    "recorder_test_functions": "_hcoverage_recorder_test_functions.py",
    "recorder_writer": "_hcoverage_recorder_writer.py",
    "sitecustomize": "sitecustomize.py",
}
# Modules that only branches need, on the Python that they are compiled for.
_BRANCH_PARTS: Final = (
    ("_hcoverage_recorder_branches.py", "_hcoverage_recorder_flow.py")
    if sys.version_info < (3, 14)
    else ("_hcoverage_recorder_arcs.py",)
)
# Modules that are compiled together with `_inside.process`, see there; contexts load theirs later.
_PARTS: Final = (
    "_hcoverage_recorder.py",
    "_hcoverage_recorder_sources.py",
    "_hcoverage_recorder_writer.py",
)
# The same, but few processes call their functions.
_SELDOM_PARTS: Final = ("_hcoverage_recorder_long_code.py", "_hcoverage_recorder_seldom.py")
_PROCESS: Final = _COPIES["process"]


class Settings(NamedTuple):
    """The settings by which a process of the session measures itself.

    Attributes:
        recorder_since: The first Python version that records; None where all use coverage.py.
        data_dir: Where recordings go.
        rcfile: The rcfile for coverage.py, where that measures.
        serialized: The same settings as JSON (`guest_settings`).
        plugin_directory: Where the project's own plugins may be; None if there are none.
        branch: Whether branches are measured.
        test_functions: Whether contexts are test functions, by the rcfile's `dynamic_context`.
        context: The static context, or an empty string.
        began: When the session began, in nanoseconds since the epoch.
        skip: What is not worth recording, as `_inside.recorder.start` takes it.
        names: Ends of paths that identify the project's files in containers, even installed ones.
    """

    recorder_since: tuple[int, int] | None
    data_dir: Path
    rcfile: Path
    serialized: str
    plugin_directory: Path | None
    branch: bool
    test_functions: bool
    context: str
    began: int
    skip: Sequence[str]
    names: Sequence[str] = ()

    def text(self) -> str:
        """Return the text that is appended to `_inside.process`, to replace its defaults."""
        return (
            f"RECORDER_SINCE = {self.recorder_since!r}\n"
            f"DATA_DIR = {str(self.data_dir)!r}\n"
            f"RCFILE = {str(self.rcfile)!r}\n"
            f"SERIALIZED = {self.serialized!r}\n"
            f"PLUGIN_DIRECTORY = {str(self.plugin_directory or '')!r}\n"
            f"BRANCH = {self.branch!r}\n"
            f"TEST_FUNCTIONS = {self.test_functions!r}\n"
            f"CONTEXT = {self.context!r}\n"
            f"SETTLED_BEFORE = {self.began - _COARSEST_TIME!r}\n"
            f"SKIP = {tuple(self.skip)!r}\n"
        )


def fill_startup_directory(directory: Path, settings: Settings) -> None:
    """Write everything that a process of the session needs to measure itself.

    Args:
        directory: An empty directory that other users may read but not write.
        settings: The settings for the processes.
    """
    inside = _directory_of("hcoverage._inside")
    sources = {name: _read(f"{inside}/{module}.py") for module, name in _COPIES.items()}
    told = f"{settings.text()}{_place()}"
    # Compiled here, not in each process: no process could keep the result if its user may not
    # write here, or if PYTHONDONTWRITEBYTECODE is set.
    codes = compiled(sources, _SELDOM_PARTS)
    parts = _parts(codes, directory, settings) if _records_here(settings) else {}
    codes[_PROCESS] = _told(codes[_PROCESS], directory / _PROCESS, told, parts)
    sources[_PROCESS] += f"\n\n{told}".encode()
    (directory / "__pycache__").mkdir()
    for name, source in sources.items():
        file = f"{directory}/{name}"
        _write(file, source)
        if name.removesuffix(".py") not in parts:
            _write(importlib.util.cache_from_source(file), _unchecked(source) + codes[name])
    _write(f"{directory}/{_NAMES}", json.dumps(settings.names).encode())
    # For an environment without coverage.py: a link to ours alone, not to its site-packages.
    (directory / COVERAGE_DIRECTORY).mkdir()
    (directory / COVERAGE_DIRECTORY / "coverage").symlink_to(_directory_of("coverage"))
    for place in (directory, directory / "__pycache__", directory / COVERAGE_DIRECTORY):
        place.chmod(0o755)


def _place() -> str:
    root = Path("/").stat()
    container = recorder_writer.container_id()  # the same that a process would find
    return f"ROOT = {(root.st_dev, root.st_ino)!r}\nCONTAINER = {container!r}\n"


def _records_here(settings: Settings) -> bool:
    return settings.recorder_since is not None and sys.version_info >= settings.recorder_since


def _parts(codes: Mapping[str, bytes], directory: Path, settings: Settings) -> dict[str, CodeType]:
    """Return the code of the recorder's modules, by their names."""
    parts = {}
    for name in (*_PARTS, *(_BRANCH_PARTS if settings.branch else ())):
        parts[Path(name).stem] = _code_in(codes[name], directory / name)
    for name in _SELDOM_PARTS:
        later = LATER.format(name)
        functions = marshal.dumps(_code_in(codes[later], directory / name))
        parts[Path(name).stem] = _code_in(
            codes[NOW.format(name)], directory / name, {later: functions}
        )
    return parts


def _code_in(code: bytes, file: Path, constants: Mapping[str, object] | None = None) -> CodeType:
    return placed(marshal.loads(code), str(file), constants)  # noqa: S302 - ours


def _told(process: bytes, file: Path, told: str, parts: Mapping[str, CodeType]) -> bytes:
    """Compile only the text that is appended to `_inside.process`, with parts of the recorder."""
    # No setting has a NUL byte.
    names = {name: f"\0{name}" for name in parts}
    text = f"exec('\\0')\n{told}PARTS = {names!r}\n"
    constants: dict[str, CodeType] = {names[name]: code for name, code in parts.items()}
    constants["\0"] = _code_in(process, file)
    code = placed(compile(text, "told", "exec"), str(file), constants)
    return marshal.dumps(code)


def _open_to_all(directory: Path) -> None:
    """Make a directory's files readable for every user, whatever the umask is.

    Containers have users of their own, and processes may drop their privileges.
    """
    for path in (directory, *directory.rglob("*")):
        if not path.is_symlink():  # a link leads to what is not ours
            path.chmod(0o755 if path.is_dir() else 0o644)


def _read(file: str) -> bytes:
    with open(file, "rb") as opened:  # noqa: PTH123 - there are many
        return opened.read()


def _write(file: str, content: bytes) -> None:
    """Write a new file that every user may read, whatever the umask is."""
    with open(file, "xb") as opened:  # noqa: PTH123 - there are many
        os.fchmod(opened.fileno(), 0o644)
        opened.write(content)


def _unchecked(source: bytes) -> bytes:
    """Return the head of compiled code that `import` takes without a look at its source."""
    flags = (1).to_bytes(4, "little")
    return importlib.util.MAGIC_NUMBER + flags + importlib.util.source_hash(source)


def copy_startup_directory(
    source: Path, target: Path, *, place: str, data_dir: str, rcfile: str, image: str = ""
) -> None:
    """Copy a session's startup directory for processes that see other paths, as in a container.

    Nothing in the copy is compiled: only the Python that will run it can do that. The copy has no
    coverage.py either, see `add_coverage_for`.

    Args:
        source: The startup directory of a running session.
        target: The copy; it must not exist.
        place: Where those processes see the copy.
        data_dir: Where they see the data directory.
        rcfile: Where they see the rcfile that coverage.py reads.
        image: The image that is their origin if their environment does not name one.
    """
    shutil.copytree(
        source, target, ignore=shutil.ignore_patterns("__pycache__", COVERAGE_DIRECTORY, _NAMES)
    )
    names = json.loads((source / _NAMES).read_text(encoding="utf-8"))
    with (target / _PROCESS).open("a", encoding="utf-8") as process:
        process.write(
            f"\n\nROOT = None\nDATA_DIR = {data_dir!r}\nRCFILE = {rcfile!r}\n"
            f"SERIALIZED = PLUGIN_DIRECTORY = ''\nDATA_FILE = {data_dir + '/.coverage'!r}\n"
            f"SKIP += ({place!r},)\nKEEP = frozenset({names!r})\nIMAGE = {image!r}\n"
        )
    _open_to_all(target)


def add_coverage_for(
    version: tuple[int, int], startup: Path, package: str | os.PathLike[str] | None = None
) -> None:
    """Put a coverage.py into a copied startup directory, for one version of Python alone.

    Args:
        version: The version.
        startup: The copy.
        package: The directory of the package `coverage`; by default the one that runs here.

    Raises:
        OSError: It cannot be copied.
        ImportError: The coverage.py that runs here does not run on that version.
    """
    if package is None:
        reason = _why_own_coverage_does_not_run_on(version)
        if reason:
            raise ImportError(reason)
        package = _directory_of("coverage")
    target = _library_for(version, startup) / "coverage"
    shutil.copytree(package, target, ignore=shutil.ignore_patterns("__pycache__", "htmlfiles"))
    _open_to_all(target.parent)


def add_note_for(version: tuple[int, int], startup: Path, name: str, text: str) -> None:
    """Make processes of one version write a note, if coverage.py measures them.

    Args:
        version: The version of Python.
        startup: The copy of a startup directory.
        name: The name of the note in the data directory.
        text: The note.
    """
    library = _library_for(version, startup)
    library.mkdir(exist_ok=True)
    (library / _NOTE).write_text(f"{name}\n{text}", encoding="utf-8")
    _open_to_all(library)


def own_coverage_runs_on(version: tuple[int, int]) -> bool:
    """Return whether the coverage.py that runs here runs on another version of Python."""
    return not _why_own_coverage_does_not_run_on(version)


def _why_own_coverage_does_not_run_on(version: tuple[int, int]) -> str:
    # Imported here: it takes as long as all the rest, and only images need it.
    from importlib import metadata  # noqa: PLC0415

    wanted = metadata.metadata("coverage")["Requires-Python"]
    oldest = re.search(_AT_LEAST, wanted)
    runs = oldest is not None and version >= (3, int(oldest[1]))
    return "" if runs else f"coverage.py {metadata.version('coverage')} needs Python {wanted}"


def _library_for(version: tuple[int, int], startup: Path) -> Path:
    return startup / f"{COVERAGE_DIRECTORY}-{version[0]}.{version[1]}"


def recorder_since(startup: Path) -> tuple[int, int] | None:
    """Return from which Python version on a session's processes use the recorder.

    Returns:
        The version; None if all use coverage.py.
    """
    import runpy  # noqa: PLC0415

    told = runpy.run_path(str(startup / _PROCESS))
    since: tuple[int, int] | None = told["RECORDER_SINCE"]
    return since


def _origin(module: str) -> str:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ImportError(f"{module} is missing: install hcoverage again")
    return spec.origin


def _directory_of(package: str) -> str:
    return os.path.dirname(_origin(package))  # noqa: PTH120 - a str in, a str out
