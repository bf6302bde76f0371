"""Where an image that measures has what it measures with."""

from __future__ import annotations

from typing import Final

APP_DIR: Final = "/app"
CONTAINER_DATA_DIR: Final = f"{APP_DIR}/coverage_data"
