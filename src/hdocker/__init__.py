"""Containers: images with measuring baked in, and `docker run` commands that bring the data home.

Knows nothing of pytest or of reports (`hcov`); leaves processes and data to `hcoverage`, and
building and running to the engine (docker or podman).

PYTEST_DONT_REWRITE: pytest has our plugin, and would warn where we are imported before it.
"""

from hcoverage import CONTAINERS_VARIABLE
from hdocker._build import build_container_image
from hdocker._compose import compose_override
from hdocker._dockerfile import BaseImage, add_coverage
from hdocker._doctor import look_at_engines, look_at_image, try_image
from hdocker._errors import (
    BuildContextError,
    BuildError,
    BuildOptionError,
    CommandError,
    ComposeError,
    ComposeNotFoundError,
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
    ServiceWarning,
)
from hdocker._injection import Injection, Mount
from hdocker._run import get_docker_base_cmd, injection_for
from hdocker._shims import measure_containers

__all__ = [
    "CONTAINERS_VARIABLE",
    "BaseImage",
    "BuildContextError",
    "BuildError",
    "BuildOptionError",
    "CommandError",
    "ComposeError",
    "ComposeNotFoundError",
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
    "ServiceWarning",
    "add_coverage",
    "build_container_image",
    "compose_override",
    "get_docker_base_cmd",
    "injection_for",
    "look_at_engines",
    "look_at_image",
    "measure_containers",
    "try_image",
]
