"""The pages that explain messages other than errors; an error's page is named after its kind.

A message shows its slug, so that readers find `docs/messages/SLUG.md`.
"""

from __future__ import annotations

import enum


class Page(enum.StrEnum):
    """A page in docs/messages, by its slug."""

    # Shown at the end of a run, or of combining.
    CHANGED_SOURCE = "changed-source"
    IMPORTED_BEFORE = "imported-before"
    LAST_SECOND = "last-second"
    LEFT_OVER = "left-over"
    MODULE_NOT_IMPORTED = "module-not-imported"  # coverage.py's name for it
    NO_COMMON_FILE = "no-common-file"
    NOT_HERE = "not-here"
    NOT_MEASURED = "not-measured"
    NOT_MERGED = "not-merged"
    NOT_RECORDED = "not-recorded"
    NOT_TOLD_APART = "not-told-apart"
    OTHER_VERSION = "other-version"
    OUTSIDE_PROJECT = "outside-project"
    OWN_OPTIONS = "own-options"
    UNKNOWN_PLUGIN = "unknown-plugin"
    UNMAPPED = "unmapped"
    WITHOUT_CONTEXT = "without-context"

    # About how hcov is called, and where it is installed.
    MISSING_MODULE = "missing-module"
    SYSTEM = "system"
    USAGE = "usage"

    # Findings of a check-up.
    CONTAINERS_OFF = "containers-off"
    DATA_DIRECTORY = "data-directory"
    DATA_DIRECTORY_BUSY = "data-directory-busy"
    DISK = "disk"
    FOREIGN_HOOK = "foreign-hook"
    HOOK_ELSEWHERE = "hook-elsewhere"
    HOOK_LEFT_OVER = "hook-left-over"
    HOOK_OF_USER = "hook-of-user"
    HOOK_PERMISSION = "hook-permission"
    IMAGE_MISSING = "image-missing"
    MEASURED_ALREADY = "measured-already"
    MISSING_COVERAGE = "missing-coverage"
    NO_PYTHON = "no-python"
    NO_RCFILE = "no-rcfile"
    OTHER_HOOK = "other-hook"
    PYTHON_BROKEN = "python-broken"
    PYTHON_TOO_OLD = "python-too-old"
    RCFILE_CONCURRENCY = "rcfile-concurrency"
    RCFILE_PATHS = "rcfile-paths"
    RCFILE_SIGTERM = "rcfile-sigterm"
    RCFILE_SOURCE = "rcfile-source"
    RCFILE_SOURCE_PKGS = "rcfile-source-pkgs"
    SLOW_CORE = "slow-core"


def with_slug(text: str, slug: str) -> str:
    """Append the slug of its page to a message's first line: `there is nothing [no-data]`."""
    first, newline, rest = text.partition("\n")
    return f"{first} [{slug}]{newline}{rest}"
