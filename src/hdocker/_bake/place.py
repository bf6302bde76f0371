"""The paths of the application and the data directory in a baked image."""

from __future__ import annotations

from typing import Final

APP_DIR: Final = "/app"
CONTAINER_DATA_DIR: Final = f"{APP_DIR}/coverage_data"
