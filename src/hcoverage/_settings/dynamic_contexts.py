"""Whether an rcfile has dynamic contexts of its own, which come before all others.

It imports nothing, since commands that read no rcfile load it, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from coverage.config import CoverageConfig

TEST_FUNCTION: Final = "test_function"
"""The only `dynamic_context` that coverage.py has by itself, and that the recorder has as well."""


def has_dynamic_contexts(settings: CoverageConfig) -> bool:
    """Return whether the rcfile has dynamic contexts, as `Coverage._init_for_start` decides it."""
    return (settings.dynamic_context or "none") != "none"
