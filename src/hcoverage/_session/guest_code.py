"""The compiled code of what runs in measured processes: compiled once, and kept for later sessions.

A session gives its processes code that is compiled, without docstrings and annotations, which each
of them would load. Compiling takes longer than all else that a session begins with, so it is kept
below the user's cache directory. What is read there is executed: it is believed only where nobody
else can have written it.
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
    from collections.abc import Mapping

_NAME: Final = "guests-{tag}-{key}.bin"
_PATTERN: Final = "guests-*.bin"
_KEPT: Final = 8  # of other Pythons, and of other versions of ours
_OTHERS_MAY_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


def compiled(sources: Mapping[str, bytes]) -> dict[str, bytes]:
    """Give the code of modules, compiled now or in an earlier session, as `marshal` writes it.

    Args:
        sources: Their texts, by their names.
    """
    own = Path(__file__).read_bytes()  # how they are compiled is part of what comes of it
    text = b"\0".join([own, *(part for name in sources for part in (name.encode(), sources[name]))])
    key = importlib.util.source_hash(importlib.util.MAGIC_NUMBER + text).hex()
    directory = _cache_directory()
    file = directory and directory / _NAME.format(tag=sys.implementation.cache_tag, key=key)
    found = _read(file) if file else None
    if found is not None and found.keys() == sources.keys():
        return found
    codes = {name: marshal.dumps(_compile(name, source)) for name, source in sources.items()}
    if file:
        _keep(file, marshal.dumps(codes))
    return codes


def placed(code: CodeType, file: str, constants: Mapping[str, Any] | None = None) -> CodeType:
    """Give code as that of another file, and with other constants in place of some strings.

    What is imported need not be placed: `import` does that.
    """
    known = constants or {}
    replaced = (
        placed(each, file)
        if isinstance(each, CodeType)
        else known.get(each, each)
        if isinstance(each, str)
        else each
        for each in code.co_consts
    )
    return code.replace(co_filename=file, co_consts=tuple(replaced))


def _compile(name: str, source: bytes) -> CodeType:
    tree = _Unannotated().visit(ast.parse(source))
    return compile(ast.fix_missing_locations(tree), name, "exec", optimize=2)


class _Unannotated(ast.NodeTransformer):
    """Takes annotations away."""

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
    """Find, or make, the directory for what we keep; None where others could write into it."""
    home = os.path.expanduser("~")  # noqa: PTH111 - `Path.home` raises where there is none
    usual = ("Library", "Caches") if sys.platform == "darwin" else (".cache",)
    base = Path(os.environ.get("XDG_CACHE_HOME") or os.path.join(home, *usual))  # noqa: PTH118
    directory = base / "hcoverage"
    try:
        if not directory.exists():
            # Not as root in somebody's home (`sudo`), where that one could not write later.
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
