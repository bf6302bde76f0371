"""Compiles the code that runs in measured processes, once, and keeps it for later sessions.

A session hands its processes compiled code without docstrings, annotations and line numbers, which
each of them would have to load. Compiling takes longer than everything else at a session's start,
so the code is cached below the user's cache directory. Cached code is executed: it is trusted only
if nobody else can have written it.
"""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import marshal
import os
import stat
import sys
import tempfile
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

_NAME: Final = "guests-{tag}-{key}.bin"
_PATTERN: Final = "guests-*.bin"
_KEPT: Final = 8  # for other Pythons, and other versions of hcoverage
_OTHERS_MAY_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


# A module whose functions few processes call, in two pieces: what is bound as it is loaded, and the
# functions, which are unpacked when one is looked up. They find the module's names as they were.
NOW: Final = "{} now"
LATER: Final = "{} later"
_UNPACK: Final = """
from marshal import loads
def __getattr__(name):
    exec(loads(%r), globals())
    return globals()[name]
"""


def compiled(sources: Mapping[str, bytes], in_two: Collection[str] = ()) -> dict[str, bytes]:
    """Return the marshalled code of modules, compiled now or in an earlier session.

    Args:
        sources: The modules' texts, by name.
        in_two: The modules that are compiled in two pieces as well, see `NOW`. The first piece has
            the second one's name as a constant, in place of which its code is put (`placed`).
    """
    own = Path(__file__).read_bytes()  # the key covers how they are compiled, too
    names = " ".join(in_two).encode()
    texts = (part for name in sources for part in (name.encode(), sources[name]))
    text = b"\0".join([own, names, *texts])
    key = importlib.util.source_hash(importlib.util.MAGIC_NUMBER + text).hex()
    directory = _cache_directory()
    file = directory and directory / _NAME.format(tag=sys.implementation.cache_tag, key=key)
    found = _read(file) if file else None
    if found is not None and found.keys() >= sources.keys():
        return found
    codes = {name: _compile(name, ast.parse(source)) for name, source in sources.items()}
    for name in in_two:
        now, later = _split(ast.parse(sources[name]), LATER.format(name))
        codes[NOW.format(name)] = _compile(name, now)
        codes[LATER.format(name)] = _compile(name, later)
    if file:
        _keep(file, marshal.dumps(codes))
    return codes


def placed(code: CodeType, file: str, constants: Mapping[str, Any] | None = None) -> CodeType:
    """Return code with another file name, and with other constants in place of some strings.

    Imported modules do not need this: `import` sets the file name.
    """
    known = constants or {}
    replaced = (
        placed(each, file, known)
        if isinstance(each, CodeType)
        else known.get(each, each)
        if isinstance(each, str)
        else each
        for each in code.co_consts
    )
    return code.replace(co_filename=file, co_consts=tuple(replaced))


def _compile(name: str, tree: ast.Module) -> bytes:
    plain = ast.fix_missing_locations(_Unannotated().visit(tree))
    return marshal.dumps(_without_lines(compile(plain, name, "exec", optimize=2)))


def _without_lines(code: CodeType) -> CodeType:
    """Remove the line numbers of instructions: a fifth of the bytes that every process loads.

    All instructions then count as in the first line of their function: `inspect.stack`, which
    coverage.py calls as it starts, fails for a frame that has no line.
    """
    instructions = len(code.co_code) // 2
    # Entries without columns, each of up to eight instructions (Objects/locations.md of CPython).
    table = b"\xef\0" * (instructions // 8)
    if instructions % 8:
        table += bytes([0xE8 | (instructions % 8 - 1), 0])
    constants = (
        _without_lines(each) if isinstance(each, CodeType) else each for each in code.co_consts
    )
    return code.replace(co_linetable=table, co_consts=tuple(constants))


def _split(tree: ast.Module, later: str) -> tuple[ast.Module, ast.Module]:
    """Take the functions out of a module, but for `bind`, which is called as it is loaded."""
    functions = [
        each for each in tree.body if isinstance(each, ast.FunctionDef) and each.name != "bind"
    ]
    rest = [each for each in tree.body if each not in functions]
    unpack = ast.parse(_UNPACK % later).body
    return ast.Module([*rest, *unpack], []), ast.Module([*functions], [])


class _Unannotated(ast.NodeTransformer):
    """Removes annotations."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.stmt:
        if node.value is None:
            return ast.copy_location(ast.Pass(), node)
        return ast.copy_location(ast.Assign([node.target], node.value), node)


def _cache_directory() -> Path | None:
    """Find or make our cache directory; return None if others could write into it."""
    home = os.path.expanduser("~")  # noqa: PTH111 - `Path.home` raises where there is none
    usual = ("Library", "Caches") if sys.platform == "darwin" else (".cache",)
    base = Path(os.environ.get("XDG_CACHE_HOME") or os.path.join(home, *usual))  # noqa: PTH118
    directory = base / "hcoverage"
    try:
        if not directory.exists():
            # Not as root in a user's home (`sudo`): that user could not write there later.
            nearest = next(each for each in directory.parents if each.exists())
            if not base.is_absolute() or not _is_own(nearest.lstat()):
                return None
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = directory.lstat()
    except OSError:
        return None
    return directory if stat.S_ISDIR(status.st_mode) and _is_own(status) else None


def _is_own(status: os.stat_result) -> bool:
    return status.st_uid == os.geteuid() and not status.st_mode & _OTHERS_MAY_WRITE


def _read(file: Path) -> dict[str, bytes] | None:
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as opened:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or not _is_own(status):
                return None
            found = marshal.loads(opened.read())  # noqa: S302 - nobody else can have written it
    except (OSError, EOFError, ValueError, TypeError):
        return None
    return found if isinstance(found, dict) else None


def _keep(file: Path, content: bytes) -> None:
    with contextlib.suppress(OSError):
        older = sorted(file.parent.glob(_PATTERN), key=lambda each: each.lstat().st_mtime)
        for each in older[: 1 - _KEPT]:
            each.unlink(missing_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=file.parent)
        try:
            with os.fdopen(descriptor, "wb") as opened:
                opened.write(content)
            Path(temporary).replace(file)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
