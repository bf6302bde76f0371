"""The record of a file that was not merged, and why."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclasses.dataclass(frozen=True)
class SetAside:
    """A file that was not merged, or not wholly; it stays where it was.

    Attributes:
        path: The file.
        reason: Why, in words for a person.
        is_cut_short: Whether its process ended while it wrote the file.
    """

    path: Path
    reason: str
    is_cut_short: bool = False
