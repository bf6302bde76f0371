"""Makes untrusted text harmless to print: no terminal escapes, no forged lines."""

from __future__ import annotations


def printable(text: str) -> str:
    r"""Escape unprintable characters as in a Python string: `\x1b`, `\n`, `\u202e`, `\udcff`.

    Args:
        text: A name or message that may come from anywhere.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode()
        for char in text
    )
