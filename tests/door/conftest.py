"""What several of the door's tests share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.door import second_engine as second

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.door.second_engine import SecondEngine


@pytest.fixture(scope="session")
def second_engine(python_image: str, image_without_python: str) -> Iterator[SecondEngine]:
    """A dockerd of the tests' own, with the two images; who wants it is of `door-engines`."""
    with second.started(python_image, image_without_python) as engine:
        yield engine
