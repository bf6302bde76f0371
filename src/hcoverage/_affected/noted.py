"""Finds pytest's notes of a run; small, since most runs have none and need nothing else here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from hcoverage._settings.environment import SESSION_VARIABLE

if TYPE_CHECKING:
    from hcoverage._session.session import Session

PREFIX: Final = "hcov-tests."


def are_tests_noted(session: Session) -> bool:
    """Return whether a session, still open, has notes for `record_tests`."""
    return bool(notes_in(Path(session.environment[SESSION_VARIABLE])))


def notes_in(directory: Path) -> list[Path]:
    """Return the notes in a session's startup directory."""
    return sorted(directory.glob(f"{PREFIX}*"))
