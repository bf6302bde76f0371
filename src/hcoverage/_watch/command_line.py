"""Reads the command line of a Python: its own options, and what it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# Options whose value is the next word, unless it is in the same one.
_WITH_VALUE: Final = "WX"
_LONG_WITH_VALUE: Final = "--check-hash-based-pycs"
_END_OF_OPTIONS: Final = "cm"


class CommandLine(NamedTuple):
    """The command line of a Python.

    Attributes:
        options: The letters of the options that Python itself was started with.
        main: What it runs: with `-c` code, with `-m` the name of a module, else the script's path;
            empty if it reads its standard input.
    """

    options: frozenset[str]
    main: str


def command_line(argv: Iterable[str]) -> CommandLine:
    """Read the command line of a Python.

    Args:
        argv: All of its words; the first is the program.
    """
    letters: set[str] = set()
    words = iter(tuple(argv)[1:])
    for word in words:
        if word == _LONG_WITH_VALUE:
            next(words, None)
        elif not word.startswith("-") or word == "-":
            return CommandLine(frozenset(letters), "" if word == "-" else word)
        elif word == "--":
            break
        elif (value := _read_letters(word, words, letters)) is not None:
            return CommandLine(frozenset(letters), value)
    return CommandLine(frozenset(letters), next(words, ""))


def _read_letters(word: str, words: Iterator[str], letters: set[str]) -> str | None:
    """Add the letters of a word of options, and return what the last one says is to be run."""
    for position, letter in enumerate(word[1:], 2):
        letters.add(letter)
        if letter in _END_OF_OPTIONS:
            return word[position:] or next(words, "")
        if letter in _WITH_VALUE:
            if position == len(word):
                next(words, None)
            break
    return None
