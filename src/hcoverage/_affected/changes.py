"""Finds what has changed between two states of a project, as far as tests depend on it. Pure."""

from __future__ import annotations

import dataclasses
import enum
from typing import TYPE_CHECKING

from hcoverage._affected.statements import changed_parts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from hcoverage._affected.blocks import Shape
    from hcoverage._affected.facts import FileFacts


class Kind(enum.Enum):
    """How a file, or a part of it, has changed."""

    ADDED = "is new"
    DELETED = "is gone"
    TEXT = "has changed, though nothing that runs"
    BODY = "has changed"
    FRAME = "has changed at module level"
    CONTENT = "has changed and is no Python source"
    MANNER = "may be executed or not, or is another link, than before"


@dataclasses.dataclass(frozen=True, order=True)
class Change:
    """A change of a file, or of a part of it.

    Attributes:
        path: The file.
        kind: How it has changed.
        block: For `BODY`, the function whose body it is.
        parts: The first and last lines of the parts of the body that have changed, counted in the
            old file. Empty if anything else in the body may have changed.
    """

    path: str
    kind: Kind = dataclasses.field(compare=False)
    block: str = ""
    parts: tuple[tuple[int, int], ...] = ()


def changes(before: Mapping[str, FileFacts], after: Mapping[str, FileFacts]) -> list[Change]:
    """Return what has changed.

    Args:
        before: The files, by path.
        after: The files later.
    """
    found: list[Change] = []
    for path in sorted({*before, *after}):
        if path not in after:
            found.append(Change(path, Kind.DELETED))
        elif path not in before:
            found.append(Change(path, Kind.ADDED))
        else:
            if before[path].manner != after[path].manner:
                found.append(Change(path, Kind.MANNER))
            if not before[path].digest or before[path].digest != after[path].digest:
                found += _in_file(path, before[path], after[path])
    return found


def _in_file(path: str, before: FileFacts, after: FileFacts) -> Iterator[Change]:
    if not path.endswith(".py") and before.shape is None:
        yield Change(path, Kind.CONTENT)
        return
    old, new = before.shape, after.shape
    if old is None or new is None or not before.digest or _outline(old) != _outline(new):
        yield Change(path, Kind.FRAME)
        return
    yield Change(path, Kind.TEXT)
    for was, now in zip(old.blocks, new.blocks, strict=True):
        if was.digest != now.digest:
            yield Change(path, Kind.BODY, was.name, changed_parts(was.body, now.body))


def _outline(shape: Shape) -> tuple[str, list[str]]:
    return shape.frame, [block.name for block in shape.blocks]
