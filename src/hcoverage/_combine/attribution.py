"""Which processes ran something for a test, and which for no test.

This uses the contexts that `_read.recording_batch` and `_read.data_file_batch` found. A process has
no context if it was started outside of a test, or could not learn which test is running, for
example because its environment was empty.
"""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING, Final

from hcoverage._data_directory.names import host_in_names, process_of, this_host
from hcoverage._read.origins import place_of
from hcoverage._result.outcome import NOBODY, Attribution
from hcoverage._settings.dynamic_contexts import has_dynamic_contexts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from coverage.config import CoverageConfig

    from hcoverage._read.data_file_batch import ReadFile
    from hcoverage._result.outcome import RecordedProcess

_LONGEST_COMMAND: Final = 80  # characters


def attribution(
    recorded: Iterable[RecordedProcess],
    files: Iterable[ReadFile],
    settings: CoverageConfig,
    command: int | None,
    asked_for_others: Iterable[tuple[str, int]] = (),
) -> Attribution:
    """Find out which processes ran something in a dynamic context.

    Args:
        recorded: The processes that the recorder measured.
        files: The data files of processes that coverage.py measured.
        settings: The rcfile's settings. If they define dynamic contexts, the result is empty.
        command: The process id of the command, which needs no context; None if it is not known.
        asked_for_others: Host and id of each process that coverage.py measured and that noted a
            request for another test than its context.
    """
    if has_dynamic_contexts(settings):
        return NOBODY
    here = this_host()
    places: dict[tuple[str, int], str] = {}
    contexts: dict[tuple[str, int], set[str]] = {}
    commands: dict[tuple[str, int], str] = {}
    together: set[tuple[str, int]] = set()
    for process in recorded:
        who = (host_in_names(process.host), process.pid)
        contexts.setdefault(who, set()).update(process.contexts)
        commands[who] = shlex.join(process.argv)
        places[who] = place_of(process.origin)
        if process.has_together:
            together.add(who)
    for who, origin, found in _of_files(files):
        places.setdefault(who, place_of(origin))
        contexts.setdefault(who, set()).update(found)
    static = {"", settings.context or ""}
    without = [who for who, found in contexts.items() if found and found <= static]

    def in_words(who: tuple[str, int]) -> str:
        return _in_words(who[1], places.get(who, ""), commands.get(who, ""))

    return Attribution(
        with_context=sum(not found <= static for found in contexts.values()),
        without_context=tuple(in_words(who) for who in without if who != (here, command)),
        together=tuple(map(in_words, sorted(together))),
        mixed=tuple(in_words((host_in_names(host), pid)) for host, pid in asked_for_others),
    )


def _of_files(
    files: Iterable[ReadFile],
) -> Iterator[tuple[tuple[str, int], str, frozenset[str]]]:
    for file in files:
        who = process_of(os.path.basename(file.path))  # noqa: PTH119
        if who is not None:
            yield who, file.origin, file.contexts


def _in_words(pid: int, place: str, command: str) -> str:
    if len(command) > _LONGEST_COMMAND:
        command = f"{command[:_LONGEST_COMMAND]}…"
    return " ".join(filter(None, [str(pid), place, f"(`{command}`)" if command else ""]))
