"""Replaces compose's mark on a container: the hash of its configuration when it was created.

By it compose knows at the next `up` whether the container still is what the file describes. A
container that we measure has more mounts, and these are gone after the session. So it gets a mark
of the session's instead. Clients of the session are shown compose's own mark: `up` leaves the
container as it is. After the session they see the session's: `up` creates the container again.

The session's marks are as long as compose's, so that answers keep their length.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

LABEL: Final = "com.docker.compose.config-hash"
_MARK: Final = r"[0-9a-f]{64}"
_LENGTH: Final = 64
_SIGN_BYTES: Final = 16


class Marks:
    """The marks of a session; a file keeps them, as the proxy may have to be started again."""

    def __init__(self, path: Path) -> None:
        """Read the file, or begin it.

        Raises:
            OSError: It cannot be written.
        """
        self._lock = threading.Lock()
        self._path = path
        self._own: dict[bytes, bytes] = {}
        lines = path.read_bytes().splitlines() if path.exists() else []
        if not lines:
            lines = [secrets.token_hex(_SIGN_BYTES).encode()]
            path.write_bytes(lines[0] + b"\n")
        # Each mark of the session begins with it; nothing else in an engine's answers has it.
        self._sign = lines[0]
        for line in lines[1:]:
            session, _, own = line.partition(b" ")
            self._own[session] = own

    def changed(self, labels: Mapping[str, str]) -> dict[str, str]:
        """Return new values for those labels of a container that must change."""
        own = labels.get(LABEL)
        if not isinstance(own, str) or not re.fullmatch(_MARK, own):
            return {}
        rest = hashlib.sha256(own.encode()).hexdigest()[: _LENGTH - len(self._sign)]
        session = self._sign + rest.encode()
        with self._lock:
            if session not in self._own:
                self._own[session] = own.encode()
                with self._path.open("ab") as file:
                    file.write(session + b" " + own.encode() + b"\n")
        return {LABEL: session.decode()}

    def restored(self, received: bytes) -> tuple[bytes, bytes]:
        """Put compose's own marks back into an engine's answer.

        Args:
            received: The bytes that have come.

        Returns:
            The bytes to pass on, and the rest, which may be the beginning of a mark.
        """
        if not self._own:
            return received, b""
        parts: list[bytes] = []
        at = 0
        while (found := received.find(self._sign, at)) >= 0:
            if len(received) < found + _LENGTH:
                return b"".join([*parts, received[at:found]]), received[found:]
            mark = received[found : found + _LENGTH]
            parts += [received[at:found], self._own.get(mark, mark)]
            at = found + _LENGTH
        rest = received[at:]
        kept = next(n for n in range(len(self._sign), -1, -1) if rest.endswith(self._sign[:n]))
        return b"".join([*parts, rest[: len(rest) - kept]]), rest[len(rest) - kept :]
