"""Where a session keeps what its containers have mounted; each proxy imports it, so it is small."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

STARTUP: Final = "startup"


def startup_of(lasting: Path, identity: str) -> Path:
    """Name the startup directory of an image.

    Args:
        lasting: The session's directory of what outlives it.
        identity: The image's id.
    """
    return lasting / f"image-{re.sub('[^0-9a-f]', '', identity)}" / STARTUP
