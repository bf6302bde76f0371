"""Parses those options of `docker build`, passed by callers, that decide what is built.

Measuring is added to one stage for one platform. So we must know an option that chooses another
one, or the image would be built without coverage. Options are refused that only the engine's client
understands and that change which file, stage or platform is built, or where the result goes.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from hdocker._errors import BuildOptionError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_ELSEWHERE: Final = "the image has to be in the engine that is asked: leave it out"
_NO_BUILD: Final = "nothing would be built: leave it out"
_PLATFORM: Final = "name the platform with `--platform`"
_REFUSED: Final = {
    "--file": "name the Dockerfile as an argument",
    "--output": _ELSEWHERE,
    "--push": _ELSEWHERE,
    "--manifest": _ELSEWHERE,
    "--check": _NO_BUILD,
    "--call": _NO_BUILD,
    "--print": _NO_BUILD,
    "--from": "change FROM in the Dockerfile, or give its ARG a value",
    "--arch": _PLATFORM,
    "--os": _PLATFORM,
    "--variant": _PLATFORM,
    "--all-platforms": _PLATFORM,
}
_UNDERSTOOD: Final = ("--target", "--platform", "--build-arg", "--build-context")
# After one-letter switches, as in `-qf FILE`.
_SHORT: Final = "-q*([fo])"
_LONG_OF: Final = {"f": "--file", "o": "--output"}


@dataclass(frozen=True)
class BuildOptions:
    """The parsed options of `docker build`.

    Attributes:
        target: The stage to build.
        platform: The platform to build for.
        build_args: Values of ARGs.
        contexts: The names that `--build-context` redefines.
        others: The options that are passed to the client unchanged.
    """

    target: str | None
    platform: str | None
    build_args: Mapping[str, str]
    contexts: tuple[str, ...]
    others: tuple[str, ...]


def read_options(
    options: Sequence[str],
    *,
    target: str | None,
    platform: str | None,
    build_args: Mapping[str, str],
) -> BuildOptions:
    """Read the options of `docker build` that decide what is built.

    Args:
        options: The options.
        target: The stage to build, from the caller's argument.
        platform: The platform, from the caller's argument.
        build_args: Values of ARGs, from the caller's argument; those in the options win.

    Raises:
        BuildOptionError: One of them is refused, lacks its value, or contradicts the others.
    """
    found: dict[str, list[str]] = {name: [] for name in _UNDERSTOOD}
    others: list[str] = []
    words = iter(options)
    for word in words:
        name, equals, value = word.partition("=")
        _require_allowed(name)
        if name in found:
            found[name].append(value if equals else _next(words, name))
        else:
            others.append(word)
    args = dict(build_args)
    for item in found["--build-arg"]:
        name, equals, value = item.partition("=")
        if equals or name in os.environ:  # like the client
            args[name] = value if equals else os.environ[name]
    others += [f"--build-context={context}" for context in found["--build-context"]]
    return BuildOptions(
        target=_agreed("--target", target, found),
        platform=_agreed("--platform", platform, found),
        build_args=args,
        contexts=tuple(context.partition("=")[0] for context in found["--build-context"]),
        others=tuple(others),
    )


def _require_allowed(name: str) -> None:
    short = re.match(_SHORT, name) if not name.startswith("--") else None
    long = _LONG_OF[short[1]] if short else name
    if long in _REFUSED:
        raise BuildOptionError(
            f"the build option `{long}` changes what is built or where it goes, and the image "
            f"would not be measured: {_REFUSED[long]}"
        )


def _next(words: Iterator[str], name: str) -> str:
    value = next(words, None)
    if value is None:
        raise BuildOptionError(f"`{name}` at the end of the options lacks its value: add one")
    return value


def _agreed(name: str, given: str | None, found: Mapping[str, Sequence[str]]) -> str | None:
    # Like for the client, the last one counts, and an empty one counts as none.
    among = found[name][-1] or None if found[name] else None
    if given and among and given != among:
        raise BuildOptionError(f"`{name}` is both {given!r} and {among!r}: say one of them")
    return given or among
