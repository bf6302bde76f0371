"""Writes a small file whole or not at all, even if others write it at the same time."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_atomically(path: Path, content: str | bytes) -> None:
    """Put a file in place, with mode 644 whatever the umask; never write through a link.

    Args:
        path: The file; its directory must exist.
        content: Its content; text is encoded as UTF-8.

    Raises:
        OSError: It cannot be written; the old file is untouched.
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
