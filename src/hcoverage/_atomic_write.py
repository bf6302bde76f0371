"""Write a small text file whole or not at all, whoever else writes it meanwhile."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_atomically(path: Path, content: str | bytes) -> None:
    """Put a file in place, mode 644 whatever the umask, never writing through a link of its name.

    Args:
        path: The file; its directory must be there.
        content: What it will hold; text as UTF-8.

    Raises:
        OSError: It cannot be written; what was there before is untouched.
    """
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            os.fchmod(descriptor, 0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
