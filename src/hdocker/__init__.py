"""Containers: images with coverage baked in, and `docker run` commands that bring the data home.

It knows nothing of pytest or of reports (`hcov`). It leaves processes and data to `hcoverage`, and
building and running to the engine (docker or podman).

PYTEST_DONT_REWRITE: pytest loads our plugin, and would warn if this was imported before.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from hcoverage import CONTAINERS_VARIABLE
    from hdocker._bake.build import build_container_image
    from hdocker._bake.dockerfile import BaseImage, add_coverage
    from hdocker._doctor import look_at_engines, look_at_image, try_image
    from hdocker._door.opening import containers_measured
    from hdocker._errors import (
        BuildContextError,
        BuildError,
        BuildOptionError,
        CommandError,
        DataDirectoryError,
        DockerfileError,
        EngineError,
        EngineNotFoundError,
        EnginePermissionError,
        EngineUnreachableError,
        ImageNameError,
        MeasureError,
        NoPythonError,
        NoPythonWarning,
        PathMappingWarning,
    )
    from hdocker._inject.injection import Injection, Mount
    from hdocker._run import get_docker_base_cmd, injection_for

__all__ = [
    "CONTAINERS_VARIABLE",
    "BaseImage",
    "BuildContextError",
    "BuildError",
    "BuildOptionError",
    "CommandError",
    "DataDirectoryError",
    "DockerfileError",
    "EngineError",
    "EngineNotFoundError",
    "EnginePermissionError",
    "EngineUnreachableError",
    "ImageNameError",
    "Injection",
    "MeasureError",
    "Mount",
    "NoPythonError",
    "NoPythonWarning",
    "PathMappingWarning",
    "add_coverage",
    "build_container_image",
    "containers_measured",
    "get_docker_base_cmd",
    "injection_for",
    "look_at_engines",
    "look_at_image",
    "try_image",
]

# As in hcoverage: PEP 562; a test compares this with the imports above, which mypy reads.
_NAMES: Final = {
    "hcoverage": ("CONTAINERS_VARIABLE",),
    "hdocker._bake.build": ("build_container_image",),
    "hdocker._bake.dockerfile": (
        "BaseImage",
        "add_coverage",
    ),
    "hdocker._doctor": (
        "look_at_engines",
        "look_at_image",
        "try_image",
    ),
    "hdocker._door.opening": ("containers_measured",),
    "hdocker._errors": (
        "BuildContextError",
        "BuildError",
        "BuildOptionError",
        "CommandError",
        "DataDirectoryError",
        "DockerfileError",
        "EngineError",
        "EngineNotFoundError",
        "EnginePermissionError",
        "EngineUnreachableError",
        "ImageNameError",
        "MeasureError",
        "NoPythonError",
        "NoPythonWarning",
        "PathMappingWarning",
    ),
    "hdocker._inject.injection": (
        "Injection",
        "Mount",
    ),
    "hdocker._run": (
        "get_docker_base_cmd",
        "injection_for",
    ),
}
_HOMES: Final = {name: module for module, names in _NAMES.items() for name in names}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(_HOMES[name]), name)
        globals()[name] = value  # found at once the next time
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
