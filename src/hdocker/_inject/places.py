"""Where a session keeps what its containers mount; small, since each proxy imports it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

STARTUP: Final = "startup"


def startup_of(lasting: Path, identity: str) -> Path:
    """Return the path of an image's startup directory.

    Args:
        lasting: The session's directory for what outlives the session.
        identity: The image's id.
    """
    return lasting / f"image-{re.sub('[^0-9a-f]', '', identity)}" / STARTUP
