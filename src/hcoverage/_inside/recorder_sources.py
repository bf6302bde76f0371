"""Finds and describes the file of a code object: the recorder's part for sources.

``recorder`` loads it at its start, from beside itself and under its own name, so that both can be
copied together. A file gets the name that coverage.py would give it. It is recorded with its size,
its time and, unless it is older than the session, its CRC-32, so that the reader knows whether the
file that it finds is the one that ran. Which files a report wants is not decided here.

Like the recorder it is a guest: no lock, no output, and no exception of its own reaches the
application.
"""

import os
import posix
import sys
from posix import O_CLOEXEC, O_RDONLY, close, getcwd, lstat, open as open_file, read, readlink, stat

# Functions look builtins up in this copy, which stays as it is when the application replaces some.
if "__hcoverage__" not in __builtins__:  # type: ignore[operator, used-before-def]
    __builtins__ = {**__builtins__, "__hcoverage__": True}  # type: ignore[assignment, dict-item]

# Before Python 3.11 it is written in Python.
normpath = getattr(posix, "_path_normpath", os.path.normpath)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable
    from typing import Any, Final

_SOURCE_FIXED: "Final" = 32  # bytes of a source's description, before its names
SOURCE_FOUND: "Final" = 1
SOURCE_READ: "Final" = 2

# Room is made for the first number of lines, or fewer in a shorter source, and for one more line
# per second number of bytes; a line has 35 on average. Lines past that get blocks of their own.
_SHORT_LINES: "Final" = 128
_BYTES_OF_A_LINE: "Final" = 24
OVERFLOW_LINES: "Final" = 256

# CRC-32 of four bits. For up to `_crc_room` bytes in all, loading `binascii` would take longer.
_CRC_TABLE: "Final" = (
    0x00000000, 0x1DB71064, 0x3B6E20C8, 0x26D930AC, 0x76DC4190, 0x6B6B51F4, 0x4DB26158, 0x5005713C,
    0xEDB88320, 0xF00F9344, 0xD6D6A3E8, 0xCB61B38C, 0x9B64C2B0, 0x86D3D2D4, 0xA00AE278, 0xBDBDF21C,
)  # fmt: skip
_crc_room = 1 << 10
_compiled_crc32: "Any" = None
_create_library: "Any" = None
_libraries = ""
if "binascii" in sys.builtin_module_names:
    from binascii import crc32 as _compiled_crc32
if sys.version_info >= (3, 12):
    from _imp import create_dynamic as _create_library, exec_dynamic, extension_suffixes

    # Where the interpreter's own lie.
    _libraries = "%s/%s/python%d.%d/lib-dynload/%%s%s" % (
        sys.base_exec_prefix, sys.platlibdir, *sys.version_info[:2], extension_suffixes()[0]
    )  # fmt: skip

_A_MILLISECOND: "Final" = 10**6  # nanoseconds
# `settled_before` allows for file systems whose times have steps of two seconds. Otherwise 20 ms
# are enough: the kernel's clock has steps of up to 10 ms.
_FINER: "Final" = 2 * 10**9 - 20 * 10**6
_MOST_LINKS: "Final" = 40  # as the kernel
_FILE_TYPE: "Final" = 0o170000
_REGULAR_FILE: "Final" = 0o100000
_LINK: "Final" = 0o120000
_ENCODING: "Final" = sys.getfilesystemencoding()
_ENCODING_ERRORS: "Final" = sys.getfilesystemencodeerrors()
_STANDARD_LIBRARY: "Final" = os.__file__.rpartition("/")[0]
_USERS: "Final" = getattr(sys.modules.get("site"), "USER_BASE", None)
# The beginnings of all paths of packages that are installed for this interpreter.
_PLACES_OF_PACKAGES: "Final" = tuple([
    "%s/%s" % (base, name)
    for base in {sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix, _USERS}
    for name in ("lib", "local/lib")
])  # fmt: skip
# pip removes them, with what it has installed for the build.
_BUILDS_OF_PIP: "Final" = "/pip-build-env-"
_PATHS: "Final" = (str, os.PathLike)


def is_ours(_error: BaseException) -> bool:
    """Return whether our code caused an error; if this module is used alone, it did."""
    return True


def bind(ours: "Callable[[BaseException], bool]", _part: "Any") -> None:
    """Take what this cannot import; see `recorder.part`."""
    global is_ours  # noqa: PLW0603 - once, as it is loaded
    is_ours = ours  # type: ignore[assignment]


def skipper(
    entries: "Iterable[str]", keep: "Collection[str]", own_files: "Collection[str]"
) -> "Callable[[str], bool]":
    """Return a test for file names that are not worth recording.

    Here only this interpreter's packages are installed ones, as for coverage.py: a project may have
    `site-packages` in its path, or packages for it there. In a container, with names to keep, all
    below such a directory are.

    Args:
        entries: As `recorder.start` takes them.
        keep: As `recorder.start` takes it.
        own_files: The recorder's own files; more may be added later.

    Returns:
        A function that returns whether a ``co_filename`` is not to be recorded.
    """
    names = set(entries)
    installed = "site-packages" in names
    places = ("",) if keep else _PLACES_OF_PACKAGES
    standard = _STANDARD_LIBRARY + "/" if "stdlib" in names else "\0"
    directories = [absolute(name) + "/" for name in names - {"stdlib", "site-packages"}]
    # Code that comes from no file has a name in angle brackets.
    beginnings = ("<", "memory:", *directories)

    def skips(filename: str) -> bool:
        if not filename or filename.startswith(beginnings) or filename in own_files:
            return True
        # site-packages is inside the standard library's directory, but is not a part of it.
        if "/site-packages/" in filename or "/dist-packages/" in filename:
            is_one = filename.startswith(places) or _BUILDS_OF_PIP in filename
            return installed and is_one and not _ends_in(filename, keep)
        return filename.startswith(standard)

    return skips


def _ends_in(filename: str, names: "Collection[str]") -> bool:
    """Return whether a file has one of some names; for `__init__.py` with its package's name."""
    above, _, name = filename.rpartition("/")
    if name.startswith("__"):
        name = above.rpartition("/")[2] + "/" + name
    return name in names


def describe_source(path: str, module: str, settled_before: int) -> bytes:
    """Return the description of a source file, when its first code starts.

    Args:
        path: Its absolute path.
        module: The name of the module, or an empty string.
        settled_before: As `recorder.start` takes it.

    Returns:
        What all records of the source have in common.
    """
    name = path.encode(_ENCODING, _ENCODING_ERRORS)
    facts = 0
    try:
        status = lstat(path)
        if status.st_mode & _FILE_TYPE == _LINK:
            path = _real_path(path)
            name = path.encode(_ENCODING, _ENCODING_ERRORS)
            status = stat(path)
        # Opening anything else can block or take what the application waits for: `python <(cmd)`.
        if status.st_mode & _FILE_TYPE == _REGULAR_FILE:
            facts = _facts(path, status, settled_before)
    except OSError as error:
        # Templates and zipped modules have names that are no files; coverage.py lists them too.
        if not is_ours(error):
            raise
    module_name = module.encode("utf-8", "backslashreplace")
    # Six numbers as one, which is quicker; the first is in the least significant bytes.
    facts |= len(name) << 192 | len(module_name) << 224
    return facts.to_bytes(_SOURCE_FIXED, "little") + name + module_name


def _facts(path: str, status: "os.stat_result", settled_before: int) -> int:
    modified = status.st_mtime_ns
    times = (modified & 0xFFFFFFFFFFFFFFFF) << 96
    # Unpacking an archive sets the time of modification, but not that of change.
    changed = status.st_ctime_ns
    if changed % _A_MILLISECOND:
        settled_before += _FINER  # the file system has the kernel clock's times
    # The session knows what the project's `.py` files contained, but not other sources.
    if modified < settled_before > changed and path.endswith(".py"):
        return SOURCE_FOUND | status.st_size << 32 | times
    descriptor = open_file(path, O_RDONLY | O_CLOEXEC)
    try:
        content = read(descriptor, status.st_size + 1)
    finally:
        close(descriptor)
    return SOURCE_FOUND | SOURCE_READ | len(content) << 32 | times | crc32(content) << 160


def line_room(source: bytes) -> int:
    """Return how many lines to make room for, from what `describe_source` returned."""
    size = int.from_bytes(source[4:12], "little")
    if size:
        return size // _BYTES_OF_A_LINE + min(size, _SHORT_LINES) + 2
    return OVERFLOW_LINES


def crc32(content: bytes) -> int:
    """Return the CRC-32. `binascii` may be a shared library, and take longer to load."""
    global _compiled_crc32, _crc_room  # noqa: PLW0603 - one process, one library
    if _compiled_crc32 is None and _crc_room >= 0:
        _crc_room -= len(content)
        if _crc_room < 0:
            _compiled_crc32 = _load_crc32()
    if _compiled_crc32 is not None:
        return int(_compiled_crc32(content))
    table = _CRC_TABLE
    value = 0xFFFFFFFF
    for byte in content:
        value ^= byte
        value = value >> 4 ^ table[value & 15]
        value = value >> 4 ^ table[value & 15]
    return value ^ 0xFFFFFFFF


def _load_crc32() -> "Callable[[bytes], int] | None":
    """Load `binascii.crc32`, if it is in a shared library."""
    try:
        return _load_library("binascii").crc32  # type: ignore[no-any-return]
    except BaseException as error:
        if not is_ours(error):
            raise
        return None


def _load_library(name: str) -> "Any":
    """Load a shared library of the interpreter's own, without the import system.

    That would take three times as long. Later, the application may be in the middle of an import,
    with its locks held, or be an importer.

    Raises:
        ImportError: It is not where such libraries are.
    """
    spec = type(sys)(name)
    spec.name = name  # type: ignore[attr-defined]
    spec.origin = _libraries % name  # type: ignore[attr-defined]
    module = _create_library(spec)
    exec_dynamic(module)
    return module


def load_map_file() -> "Any":
    """Return `mmap.mmap`, or None in a minimal build, which has none."""
    if _libraries and "mmap" not in sys.builtin_module_names:
        try:
            return _load_library("mmap").mmap
        except ImportError:
            pass  # It is elsewhere.
    try:
        from mmap import mmap
    except ImportError:
        return None
    return mmap


def find_source(
    filename: str, module_globals: "dict[str, Any]", real_directories: "dict[str, str]"
) -> "tuple[str, str]":
    """Name a file and its module as coverage.py would, at the time its first code starts.

    Args:
        filename: The ``co_filename``, as it was when the code was compiled.
        module_globals: The globals the code runs with.
        real_directories: Absolute directories resolved so far; extended here.

    Returns:
        The path, and the name of the module or an empty string.

    Raises:
        OSError: The name is relative and the working directory is gone.
        ValueError: The name cannot be the name of a file.
    """
    get = dict.get  # The globals may be of a class of the application's, with a `get` of its own.
    path = filename
    loaded_from = get(module_globals, "__file__")
    if loaded_from != filename and loaded_from and isinstance(loaded_from, _PATHS):
        loaded_from = loaded_from if type(loaded_from) is str else _text_of(loaded_from)
        if loaded_from.endswith((".pyc", ".pyo")):
            loaded_from = loaded_from[:-1]
        # A .pyc can be moved after it is compiled, but not renamed: another name means `exec`.
        if loaded_from and loaded_from.rpartition("/")[2] == path.rpartition("/")[2]:
            path = loaded_from
    module = get(module_globals, "__name__")
    if module == "__main__":
        # `python -m` says which module it runs in the spec.
        module = _name_of(get(module_globals, "__spec__")) or module
    path = _in_real_directory(path, real_directories)
    return path, module if isinstance(module, str) else ""


def _text_of(path: "Any") -> str:
    try:
        return str(path)
    except Exception:  # noqa: BLE001 - it may be of a class of the application's
        return ""


def _name_of(spec: "Any") -> "Any":
    try:
        return spec.name
    except Exception:  # noqa: BLE001 - likewise
        return None


def _in_real_directory(path: str, real_directories: "dict[str, str]") -> str:
    """Return the absolute path with its directory resolved; its last part may still be a link.

    To resolve each file on its own would take many times as long.
    """
    directory, _, name = path.rpartition("/")
    real = real_directories.get(directory)
    if real is not None and name not in ("", ".", ".."):
        return real + name
    if directory[:1] != "/" or "/." in path or "//" in path or not name:
        if path[:1] != "/":
            path = _find_relative(path)
        directory, _, name = absolute(path).rpartition("/")
        real = real_directories.get(directory)
    if real is None:
        real = real_directories[directory] = _real_directory(directory, real_directories)
    return real + name


def _real_directory(path: str, real_directories: "dict[str, str]") -> str:
    """Resolve an absolute directory; in a package, all but its last part is known."""
    parent, _, name = path.rpartition("/")
    above = real_directories.get(parent)
    if above is not None:
        try:
            if lstat(path).st_mode & _FILE_TYPE != _LINK:
                return above + name + "/"
        except OSError as error:
            if not is_ours(error):
                raise
    real = _real_path(path)
    return real if real == "/" else real + "/"


# Like functions of `os.path`; but those call others by names that the application can replace.


def absolute(path: str) -> str:
    """Return the absolute form of a path, without resolving links."""
    if path[:1] != "/":
        path = getcwd() + "/" + path
    return normpath(path)


def _real_path(path: str) -> str:
    """Resolve all links in an absolute path, as far as it exists."""
    left = path.split("/")[::-1]
    real = ""
    links = 0
    while left:
        name = left.pop()
        if name == "..":
            real = real.rpartition("/")[0]
        elif name not in ("", "."):
            place = real + "/" + name
            target = _target_of(place) if links < _MOST_LINKS else ""
            if target:
                links += 1
                left += target.split("/")[::-1]
                if target[0] == "/":
                    real = ""
            else:
                real = place
    return real or "/"


def _target_of(path: str) -> str:
    """Return the target of a link; empty if the path is no link."""
    try:
        return readlink(path) if lstat(path).st_mode & _FILE_TYPE == _LINK else ""
    except OSError as error:
        if not is_ours(error):
            raise
        return ""


def _find_relative(path: str) -> str:
    for directory in (".", *sys.path):
        candidate = str(directory) + "/" + path
        if _exists(candidate):
            return candidate
    return path


def _exists(path: str) -> bool:
    try:
        stat(path)
    except (OSError, ValueError) as error:
        if not is_ours(error):
            raise
        return False
    return True
