"""Whether any pytest of a run noted its tests: most do not, and need nothing else of this."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from hcoverage._settings.environment import SESSION_VARIABLE

if TYPE_CHECKING:
    from hcoverage._session.session import Session

PREFIX: Final = "hcov-tests."


def are_tests_noted(session: Session) -> bool:
    """Tell whether a session, still open, has what `record_tests` makes a record of."""
    return bool(notes_in(Path(session.environment[SESSION_VARIABLE])))


def notes_in(directory: Path) -> list[Path]:
    """List the notes in a session's startup directory."""
    return sorted(directory.glob(f"{PREFIX}*"))
