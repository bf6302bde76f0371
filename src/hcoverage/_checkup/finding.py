"""What a check-up finds: one thing that was looked at or tried, and how it is."""

from __future__ import annotations

import dataclasses
import enum

from hcoverage._errors import slug_of


class Status(enum.StrEnum):
    """How it is: as it should be, worth knowing, or in the way of measuring."""

    OK = "ok"
    NOTE = "note"
    PROBLEM = "problem"


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that was looked at or tried.

    Attributes:
        subject: What it is about: the rcfile, an interpreter, an image.
        check: What of it.
        status: How it is.
        detail: What was found.
        fix: What to do, a command where there is one; every problem has it.
        slug: The page in docs/messages that explains it; empty where all is as it should be.
    """

    subject: str
    check: str
    status: Status
    detail: str
    fix: str = ""
    slug: str = ""


def problem_of(subject: str, check: str, error: Exception) -> Finding:
    """Make a finding of an error; a message of ours ends in what to do, after a colon."""
    if isinstance(error, OSError) and error.filename is not None:
        fix = f"make {error.filename} accessible for you"
        return Finding(subject, check, Status.PROBLEM, str(error), fix, slug_of(error))
    # An OSError with a number puts that before the message.
    text = (isinstance(error, OSError) and error.strerror) or str(error)
    detail, _, fix = text.rpartition(": ")
    return Finding(subject, check, Status.PROBLEM, detail or text, fix, slug_of(error))
