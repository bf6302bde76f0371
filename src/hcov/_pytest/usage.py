"""What is wrong with how `pytest --hcov` was asked for, in pytest's own way to say it."""

from __future__ import annotations

import pytest

from hcoverage import Page, with_slug


def usage_error(text: str) -> pytest.UsageError:
    """Make the error that ends pytest before it collects, its first line ending in the slug."""
    return pytest.UsageError(with_slug(text, Page.USAGE))
