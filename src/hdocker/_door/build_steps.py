"""Finds the steps of builds that start a Python, in what an engine says while it builds.

A step cannot be measured: each mount or variable that a builder takes changes the image or its
cache. So the end of the run tells of these steps. Docker's classic builder and podman's write
lines about what they do. BuildKit sends its client messages (`Vertex` of `moby.buildkit.v1`), in
lines of JSON or in HTTP/2; of these only a step's name is read, and whether it was in the cache.
"""

from __future__ import annotations

import base64
import itertools
import json
import re
import shlex
from typing import Final

_LONGEST: Final = 1 << 14  # bytes; of a step's text
_LINE: Final = re.compile(
    rb'"stream":"(?:(?:\[[0-9/]+\] )?(?i:step) [0-9]+/[0-9]+ ?: (?P<step>(?:[^"\\]|\\.)*)"'
    rb"|(?P<cached>(?:[^\"\\]|\\.)*Using cache)|(?P<runs> ---> Running in ))"
)
_TRACE: Final = re.compile(rb'"moby\.buildkit\.trace","aux":"(?P<message>[A-Za-z0-9+/=]+)"')
# The third field of a vertex: its name, after the length of that. A fourth field says that it was
# in the cache; otherwise the fifth follows, which says when it was started.
_VERTEX: Final = re.compile(
    rb"\x1a(?P<length>[\x08-\x7f]|[\x80-\xff][\x01-\x7f])(?=\[[^\[\]\x00-\x1f]{1,200}\] RUN )"
)
_STARTED: Final = b"\x2a"
_RUN: Final = re.compile(r"RUN\s+((--\S+\s+)*)", re.IGNORECASE)

_PYTHON: Final = re.compile(r"(python|pypy)[0-9.]*")
_IN_PYTHON: Final = ("pytest", "py.test", "coverage", "tox", "nox", "django-admin")
# Modules that install packages: no program of the project's.
_INSTALLS: Final = (
    *("pip", "venv", "ensurepip", "virtualenv", "compileall", "site", "sysconfig", "pipx"),
    *("poetry", "uv", "pdm", "build", "wheel"),
)
_SAYS_ITS_VERSION: Final = ("-V", "-VV", "--version")
_SHELL: Final = re.compile(r"(ba|da|a|z|k)?sh")
_SCRIPT: Final = re.compile(r"-\w*c")
_BEFORE: Final = re.compile(r"\w+=.*|exec|time|env|sudo|nice|nohup|if|then|else|do|while|!|\{")
_RUNNERS: Final = ("poetry", "uv", "pdm", "pipenv", "hatch")
_IS_OPTION: Final = re.compile("-")
_BETWEEN: Final = re.compile(r"[;&|()]+")


class Steps:
    """Follows what an engine says about builds."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._rest = b""
        self._pending = ""
        self._told: set[bytes] = set()

    def take(self, some: bytes) -> list[str]:
        """Take the next bytes.

        Returns:
            The steps of which these show that they started a Python.
        """
        content = self._rest + some
        self._rest = content[-_LONGEST:]
        found = [*self._by_lines(content), *self._by_vertices(content)]
        for trace in _TRACE.finditer(content):
            found += self._by_vertices(base64.b64decode(trace["message"] + b"=="))
        return [step for step in found if starts_python(step)]

    def end(self) -> list[str]:
        """Return the last step, if it started a Python."""
        return [self._pending] if self._pending and starts_python(self._pending) else []

    def _by_lines(self, content: bytes) -> list[str]:
        found = []
        end = 0
        for line in _LINE.finditer(content):
            end = line.end()
            if self._pending and not line["cached"]:
                found.append(self._pending)
            self._pending = ""
            if line["step"]:
                self._pending = json.loads(b'"' + line["step"] + b'"')
        if end:
            self._rest = content[end:][-_LONGEST:]
        return found

    def _by_vertices(self, content: bytes) -> list[str]:
        found = []
        for vertex in _VERTEX.finditer(content):
            low, *high = vertex["length"]
            length = (low & 0x7F) + ((high[0] << 7) if high else 0)
            name = content[vertex.end() : vertex.end() + length]
            after = content[vertex.end() + length : vertex.end() + length + 1]
            if after == _STARTED and name not in self._told:
                self._told.add(name)
                found.append(name.decode(errors="replace").partition("] ")[2])
        return found


def starts_python(step: str) -> bool:
    """Return whether a step of a Dockerfile starts a Python program that is not an installer.

    Args:
        step: The instruction.
    """
    found = _RUN.match(step)
    if not found:
        return False
    text = step[found.end() :]
    if text.startswith("["):
        try:
            words = [str(word) for word in json.loads(text)]
        except (ValueError, TypeError):
            words = []
        return _command_starts_python(words)
    return _script_starts_python(text)


def _script_starts_python(script: str) -> bool:
    lexer = shlex.shlex(script.replace("\n", ";"), posix=True, punctuation_chars=";&|()")
    lexer.whitespace_split = True
    lexer.commenters = ""
    command: list[str] = []
    try:
        for word in lexer:
            if not _BETWEEN.fullmatch(word):
                command.append(word)
            elif _command_starts_python(command):
                return True
            else:
                command = []
    except ValueError:  # a quote that is not closed
        pass
    return _command_starts_python(command)


def _command_starts_python(words: list[str]) -> bool:
    while words and _BEFORE.fullmatch(words[0]):
        words = words[1:]
    if not words:
        return False
    program = words[0].rpartition("/")[2]
    if program in _RUNNERS and "run" in words[1:]:
        after = words[words.index("run") + 1 :]
        return _command_starts_python([*itertools.dropwhile(_IS_OPTION.match, after)])
    if _SHELL.fullmatch(program):
        script = next((at for at, word in enumerate(words, 1) if _SCRIPT.fullmatch(word)), 0)
        return bool(script) and any(map(_script_starts_python, words[script : script + 1]))
    if _PYTHON.fullmatch(program):
        return not _installs(words[1:])
    return program in _IN_PYTHON or program.endswith(".py")


def _installs(words: list[str]) -> bool:
    module = words[words.index("-m") + 1 :][:1] if "-m" in words else []
    return not words or words[0] in _SAYS_ITS_VERSION or bool(set(module) & set(_INSTALLS))
