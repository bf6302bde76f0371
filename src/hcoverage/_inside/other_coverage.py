"""Finds a module of the program's own that has the name of coverage.py.

If coverage.py measures such a program, the program would import coverage.py in place of its module.
And what starts coverage.py would import the program's module, before the program begins. So the
program is not measured.

It runs in any Python that the measured command starts, and stands alone: nothing in it is newer
than Python 3.8.
"""

import os
import sys
from _frozen_importlib_external import PathFinder

# Functions look builtins up in this copy, which stays as it is when the application replaces some.
if "__hcoverage__" not in __builtins__:  # type: ignore[operator, used-before-def]
    __builtins__ = {**__builtins__, "__hcoverage__": True}  # type: ignore[assignment, dict-item]

_NAME = "coverage"
# Options with another word as their value.
_WITH_VALUE = ("-W", "-X", "--check-hash-based-pycs")


def find_other() -> str:
    """Return the file of the program's module; empty if it has none."""
    if _NAME in sys.modules:
        return ""
    spec = PathFinder.find_spec(_NAME)
    for file in (*_files_beside_program(), spec.origin if spec else None):
        if file and os.path.isfile(file) and not _is_of_coverage(file):
            return os.path.abspath(file)
    return ""


def _is_of_coverage(file: str) -> bool:
    directory, name = os.path.split(file)
    return name.startswith("__init__.") and os.path.exists(os.path.join(directory, "control.py"))


def _files_beside_program() -> "tuple[str, ...]":
    """Return files that would be the module, in the directory that becomes the first to search."""
    if sys.flags.isolated or getattr(sys.flags, "safe_path", False):
        return ()
    beside = os.path.join(_program_directory(), _NAME)
    return (os.path.join(beside, "__init__.py"), beside + ".py")


def _program_directory() -> str:
    """Return the directory of the script; empty for the working directory."""
    words = iter(_command_line()[1:])
    for word in words:
        if word in _WITH_VALUE:
            next(words, "")
        elif word == "-" or _names_code(word):
            break
        elif not word.startswith("-"):
            return word if os.path.isdir(word) else os.path.dirname(os.path.realpath(word))
    return ""


def _names_code(word: str) -> bool:
    """Return whether an option, such as `-c` or `-Bm`, ends Python's own options."""
    letters = word[1:] if word[:1] == "-" and word[:2] != "--" else ""
    for letter in letters:
        if letter in "WX":
            return False
        if letter in "cm":
            return True
    return False


def _command_line() -> "list[str]":
    known = getattr(sys, "orig_argv", None)
    if known is not None:
        return list(known)
    with open("/proc/self/cmdline", "rb") as file:
        return [os.fsdecode(word) for word in file.read().split(b"\0")[:-1]]
