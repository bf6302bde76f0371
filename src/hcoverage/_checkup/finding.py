"""A finding of the check-up: one thing that was looked at or tried, and its status."""

from __future__ import annotations

import dataclasses
import enum

from hcoverage._errors import slug_of


class Status(enum.StrEnum):
    """The status of a finding: fine, worth knowing, or preventing measuring."""

    OK = "ok"
    NOTE = "note"
    PROBLEM = "problem"


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that was looked at or tried.

    Attributes:
        subject: What was checked: the rcfile, an interpreter, an image.
        check: Which property of it.
        status: The result.
        detail: What was found.
        fix: What to do, as a command if there is one; every problem has a fix.
        slug: The page in docs/messages that explains it; empty if all is fine.
    """

    subject: str
    check: str
    status: Status
    detail: str
    fix: str = ""
    slug: str = ""


def problem_of(subject: str, check: str, error: Exception) -> Finding:
    """Turn an error into a finding; our own messages end with what to do, after a colon."""
    if isinstance(error, OSError) and error.filename is not None:
        fix = f"make {error.filename} accessible for you"
        return Finding(subject, check, Status.PROBLEM, str(error), fix, slug_of(error))
    # An OSError with an errno puts it before the message.
    text = (isinstance(error, OSError) and error.strerror) or str(error)
    detail, _, fix = text.rpartition(": ")
    return Finding(subject, check, Status.PROBLEM, detail or text, fix, slug_of(error))
