"""Errors in the use of `pytest --hcov`, reported in pytest's own way."""

from __future__ import annotations

import pytest

from hcoverage import Page, with_slug


def usage_error(text: str) -> pytest.UsageError:
    """Return the error that ends pytest before it collects; its first line ends with the slug."""
    return pytest.UsageError(with_slug(text, Page.USAGE))
