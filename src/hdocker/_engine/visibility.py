"""Checks whether an engine sees this machine's files: it may run elsewhere, or be confined.

To find out, it asks for a container of an image that does not exist: an engine looks for the mounts
before it looks for the image. So no image is needed, and nothing is created.
"""

from __future__ import annotations

import contextlib
import functools
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hdocker._errors import CommandError, DataDirectoryError, EngineError

if TYPE_CHECKING:
    from hdocker._engine.engine import Engine

# RFC 2606 reserves `.invalid`: no registry can have that name.
_NO_IMAGE: Final = "hcoverage.invalid/none"
# What docker 20.10 to 28 and Docker Desktop say if a path is missing, or not shared.
_NOT_SEEN: Final = ("invalid mount config", "mounts denied")
_SELINUX: Final = Path("/sys/fs/selinux/enforce")


def require_visible(engine: Engine, data_dir: Path, *others: Path) -> None:
    """Check that an engine sees directories of this machine.

    podman is not checked: without an image it does not look at mounts.

    Args:
        engine: The engine.
        data_dir: The data directory. The engine's host may have another one of the same name.
        others: Directories with unique names.

    Raises:
        DataDirectoryError: The engine does not see one of them.
    """
    if not engine.facts.looks_at_mounts:
        return
    with contextlib.ExitStack() as undo:
        sign = data_dir
        with contextlib.suppress(OSError):  # another user's directory
            file = tempfile.NamedTemporaryFile(dir=data_dir, prefix=".seen.")  # noqa: SIM115
            sign = Path(undo.enter_context(file).name)
        for path, seen in ((data_dir, sign), *zip(others, others, strict=True)):
            _require(engine, path, seen)


def require_visible_once(engine: Engine, data_dir: Path) -> None:
    """Check like `require_visible`, but only once for each engine and directory."""
    chosen = tuple(os.environ.get(name) for name in ("DOCKER_HOST", "DOCKER_CONTEXT"))
    _require_visible_once(engine, chosen, data_dir)


@functools.cache
def _require_visible_once(
    engine: Engine,
    chosen: tuple[str | None, ...],  # noqa: ARG001 - the same client, another engine
    data_dir: Path,
) -> None:
    require_visible(engine, data_dir)


def why_not_seen(engine: Engine) -> str:
    """Say why an engine's containers may not see files, and what to do about it."""
    address = _address(engine)
    kept_out = _security(engine)
    reasons = [f"it is at {address}"] if address else []
    reasons.append(
        "run the tests on the engine's own machine, or keep the project and TMPDIR in directories "
        "that it has under the same names; what clients start under `hcov run` is measured "
        "there all the same, by volumes of the engine"
    )
    if "selinux" in kept_out or _is_enforcing():
        reasons.append(
            "SELinux keeps containers out of files that are not labelled for them: label the data "
            "directory, and one for TMPDIR, with `chcon -Rt container_file_t DIRECTORY`, as `:z` "
            "does for a volume, or start containers with `--security-opt label=disable`"
        )
    if "rootless" in kept_out:
        reasons.append(
            "it runs without root, so the directories have to be ones that its user may enter"
        )
    if "userns" in kept_out:
        reasons.append(
            "its users are others on this machine (userns-remap): every directory on the way has "
            "to be one that others may enter (`chmod o+x`), or start containers with "
            "`--userns host`"
        )
    return "; ".join(reasons)


def _require(engine: Engine, path: Path, seen: Path) -> None:
    mount = f'type=bind,"source={seen}",target=/seen'
    try:
        engine.run("create", "--pull", "never", "--mount", mount, _NO_IMAGE)
    except CommandError as error:
        said = error.output.strip()
        if any(phrase in said.lower() for phrase in _NOT_SEEN):
            raise DataDirectoryError(
                f"the {engine.name} engine does not see {path} of this machine: "
                f"{why_not_seen(engine)}. It said: {said.splitlines()[0]}"
            ) from error
    except (EngineError, OSError):
        # The command that needs the engine will report that.
        pass


def _address(engine: Engine) -> str:
    """Return the address of an engine that is not behind a socket in the file system."""
    with contextlib.suppress(EngineError, OSError):
        said = engine.run("context", "inspect", "--format", "{{.Endpoints.docker.Host}}").strip()
        return "" if said.startswith(("unix:", "npipe:")) else said
    return ""


def _security(engine: Engine) -> str:
    with contextlib.suppress(EngineError, OSError):
        return engine.run("info", "--format", engine.facts.security).lower()
    return ""


def _is_enforcing() -> bool:
    try:
        return _SELINUX.read_text().strip() == "1"
    except OSError:
        return False
