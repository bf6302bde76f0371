#!/usr/bin/env python3
"""Checks that a guest calls nothing by a name that the application can replace (`make lint`).

    dev/guest_names.py [FILE...]    else those of the recorder, and what starts it

What a function of a guest's file uses has to be bound in the file when it is loaded: from a module
of the interpreter's own that is written in C, at the top; builtins in a dictionary of its own. So
in what runs after the start an attribute of a module, an import, and a function of the standard
library that is written in Python are errors. Prints them, and exits with 1 where there are any.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_SOURCES: Final = Path(__file__).parents[1] / "src" / "hcoverage" / "_inside"
# What runs at the start of a process alone, before the application does.
AT_START: Final = {
    "autosave.py": {
        "start", "_start_marks", "_Saving.__init__", "_keep_registered", "_save_before",
        "_Autosave.__init__", "_pause_during", "_DataFile.__init__", "_replace",
    },
    "context_reader.py": {"_map"},
    "coverage_contexts.py": {"follow"},
    "coverage_marks.py": {"start", "Marks.__init__", "_map_without_descriptor"},
    "other_coverage.py": {
        "find_other", "_is_of_coverage", "_files_beside_program", "_program_directory",
        "_command_line",
    },
    "process.py": {
        "start", "_start_recorder", "recorder_contexts", "requests", "_load_beside",
        "_start_coverage", "_name_of_container", "_tell_image", "_have_it_start",
        "_told_to_coverage", "_has_contexts", "_find_context", "_import_coverage", "_pass_on",
        "_import_installed_coverage", "_import_our_coverage", "_has_tracer", "_note", "_leave",
        "_is_here", "_is_subinterpreter", "_restore_environment",
    },
    "recorder.py": {"start", "_import_part", "_is_measured", "_private"},
    "recorder_arcs.py": set(),
    "recorder_branch_contexts.py": set(),
    "recorder_branches.py": set(),
    "recorder_contexts.py": set(),
    "recorder_flow.py": set(),
    "recorder_long_code.py": set(),
    # The middleware asks as the service is imported.
    "recorder_requests.py": {"of_process", "Requests.__init__"},
    "recorder_seldom.py": set(),
    "recorder_sources.py": {"load_map_file"},
    "recorder_test_functions.py": set(),
    "recorder_writer.py": {"_lasting_facts"},
    "sitecustomize.py": {"_load_compiled"},
    "startup.py": {"start", "of_ancestor", "of_parent"},
}  # fmt: skip
# Written in C, so that they call nothing else by its name.
_IN_C: Final = frozenset(
    (
        "_contextvars", "_imp", "_opcode_metadata", "_signal", "_thread", "atexit", "binascii",
        "marshal", "mmap", "posix", "resource", "sys", "time", "zlib", "_weakref",
    )
)  # fmt: skip
# Data of the application's, read as it is now.
_DATA: Final = frozenset({"sys.path", "sys.version_info"})
_OWN_BUILTINS: Final = "__builtins__"


def check(text: str, name: str) -> list[str]:
    """Tell what is wrong in a guest's file.

    Args:
        text: What is in it.
        name: Its name, by which is known what runs at the start alone.

    Returns:
        Lines such as `recorder.py:12: …`.
    """
    tree = ast.parse(text)
    top = [*_without_type_checking(tree.body)]
    modules = {
        alias.asname or alias.name
        for node in top
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    in_python = {
        alias.asname or alias.name
        for node in top
        if isinstance(node, ast.ImportFrom) and node.module not in _IN_C
        for alias in node.names
        if node.module != "__future__"
    }
    found = []
    binds = [node.lineno for node in top if _binds_builtins(node)]
    at_start = AT_START.get(name, set())
    late = [*_after_start(tree, at_start)]
    first = min((n.lineno for n in top if isinstance(n, ast.FunctionDef | ast.ClassDef)), default=0)
    if late and (not binds or binds[0] > first):
        found.append((first, "builtins are not bound before the first function"))
    for function in late:
        for node in ast.walk(function):
            if isinstance(node, ast.Import | ast.ImportFrom):
                found.append((node.lineno, "imports after the start"))
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                used = f"{node.value.id}.{node.attr}"
                if node.value.id in modules and used not in _DATA:
                    found.append((node.lineno, f"{used} is looked up when it is used"))
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                if node.func.id in in_python:
                    found.append((node.lineno, f"{node.func.id} calls others by their names"))
                elif node.func.id == "__import__":
                    found.append((node.lineno, "imports after the start"))
    return [f"{name}:{line}: {what}" for line, what in sorted(set(found))]


def _without_type_checking(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Give the statements of a module, also those of its conditions."""
    for node in body:
        yield node
        if isinstance(node, ast.If) and ast.unparse(node.test) != "TYPE_CHECKING":
            yield from _without_type_checking([*node.body, *node.orelse])
        elif isinstance(node, ast.Try):
            handlers = [each for handler in node.handlers for each in handler.body]
            yield from _without_type_checking([*node.body, *handlers])


def _binds_builtins(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == _OWN_BUILTINS


def _after_start(tree: ast.Module, at_start: set[str]) -> Iterator[ast.FunctionDef | ast.Lambda]:
    """Give the functions that run after the start, also those in such as do not."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            yield from _late_in(node, node.name, at_start)
        elif isinstance(node, ast.ClassDef):
            for each in node.body:
                if isinstance(each, ast.FunctionDef):
                    own = each.name if each.name in at_start else f"{node.name}.{each.name}"
                    yield from _late_in(each, own, at_start)


def _late_in(
    function: ast.FunctionDef, name: str, at_start: set[str]
) -> Iterator[ast.FunctionDef | ast.Lambda]:
    if name not in at_start:
        yield function
        return
    for node in ast.walk(function):
        if isinstance(node, ast.Lambda) or (
            isinstance(node, ast.FunctionDef) and node is not function and node.name not in at_start
        ):
            yield node


def main() -> int:
    """Check the files that are named, or all; give the exit status."""
    files = [Path(each) for each in sys.argv[1:]] or [_SOURCES / name for name in AT_START]
    wrong = [line for file in files for line in check(file.read_text("utf-8"), file.name)]
    sys.stdout.write("".join(f"{line}\n" for line in wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
