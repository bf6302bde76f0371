"""The check-up of containers: whether there is an engine, an image, and coverage from containers.

Looking changes nothing and starts nothing. Trying starts one container of each image, without a
network, in the session of a proof (`hcoverage.open_proof`); the container is removed at its end.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.resources
import json
import os
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hcoverage import (
    CONTAINERS_VARIABLE,
    SESSION_VARIABLE,
    Finding,
    Page,
    Status,
    problem_of,
    slug_of,
)
from hdocker._engine.clients import CLIENTS
from hdocker._engine.engine import Engine
from hdocker._engine.visibility import require_visible
from hdocker._errors import EngineError, EngineNotFoundError, PathMappingWarning
from hdocker._inject.injection import prepared_image
from hdocker._run import get_docker_base_cmd

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from hcoverage import CameBack, Proof

_OLDEST: Final = (3, 8)
_MOST_PYTHONS: Final = 10  # as in _inside.try_pythons


def look_at_engines(
    chosen: str = "docker", *, use_sudo: bool = False, is_needed: bool = False
) -> Iterator[Finding]:
    """Check whether there are engines, and whether they answer.

    Args:
        chosen: The engine to try images with.
        use_sudo: Whether to run it through `sudo`.
        is_needed: Whether a missing engine is a problem.
    """
    for name in CLIENTS:
        if name == chosen or shutil.which(name):
            needed = is_needed and name == chosen
            yield from _look_at_engine(Engine(name, use_sudo and name == chosen), is_needed=needed)


def _look_at_engine(engine: Engine, *, is_needed: bool) -> Iterator[Finding]:
    try:
        version = engine.run(*engine.facts.version).strip()
    except EngineError as error:
        finding = problem_of("containers", engine.name, error)
        # A user who sets the engine's address wants one; others may have no containers to measure.
        if is_needed or os.environ.get(engine.facts.host_variable):
            yield finding
        elif isinstance(error, EngineNotFoundError):
            yield dataclasses.replace(finding, status=Status.OK, fix="", slug="")
        else:
            yield dataclasses.replace(finding, status=Status.NOTE)
        return
    yield Finding("containers", engine.name, Status.OK, f"it answers, version {version}")
    yield from _look_at_files(engine)


def _look_at_files(engine: Engine) -> Iterator[Finding]:
    """Check whether the engine sees this machine's files, if it tells."""
    check = f"{engine.name}, files"
    with tempfile.TemporaryDirectory(prefix="hcov-doctor-") as scratch:
        try:
            require_visible(engine, Path(scratch), Path.cwd())
        except EngineError as error:
            detail, _, fix = str(error).partition(": ")
            yield Finding("containers", check, Status.PROBLEM, detail, fix, slug_of(error))
            return
    if engine.facts.looks_at_mounts:
        yield Finding("containers", check, Status.OK, "it sees the files of this machine")


def look_at_image(image: str, engine: str = "docker", *, use_sudo: bool = False) -> Finding:
    """Check whether an image is here."""
    program = Engine(engine, use_sudo)
    subject = f"image {image}"
    try:
        known = program.inspect_images(image)
    except EngineError as error:
        return problem_of(subject, "image", error)
    if image not in known:
        fix = f"{engine} pull {image}"
        detail = "it is not here"
        return Finding(subject, "image", Status.PROBLEM, detail, fix, Page.IMAGE_MISSING)
    config = known[image].get("Config") or {}
    user = config.get("User") or "root"
    return Finding(subject, "image", Status.OK, f"it is here; its user is {user}")


def try_image(
    image: str, proof: Proof, engine: str = "docker", *, use_sudo: bool = False
) -> list[Finding]:
    """Start a container of an image, and check which of its Pythons are measured.

    Args:
        image: The image, which must be here.
        proof: The proof.
        engine: `docker` or `podman`.
        use_sudo: Whether to run the engine through `sudo`.
    """
    subject = f"image {image}"
    if os.environ.get(CONTAINERS_VARIABLE) == "0":
        detail = f"containers are left alone, by {CONTAINERS_VARIABLE}=0"
        fix = f"unset {CONTAINERS_VARIABLE}"
        return [Finding(subject, "container", Status.PROBLEM, detail, fix, Page.CONTAINERS_OFF)]
    program = Engine(engine, use_sudo)
    for number in range(_MOST_PYTHONS):
        for way in range(len(proof.ways)):
            proof.write_probe(f"{number}-{way}.py")
    before = set(proof.session.problems())
    try:
        with _as_part_of(proof.session.environment):
            tried = _try_pythons(image, proof, program)
    except EngineError as error:
        return [problem_of(subject, "container", error)]
    measured = proof.collect()
    if not tried:
        return [
            Finding(
                subject,
                "container",
                Status.PROBLEM,
                "there is no Python in it to measure",
                "put one in, or leave the image out: it runs as it would",
                Page.NO_PYTHON,
            )
        ]
    notes = [note for note in proof.session.problems() if note not in before]
    return [
        _finding(subject, f"Python {python['version']} ({python['path']})", shut, core, notes)
        for number, python in enumerate(tried)
        for shut, core in [_came_back(number, proof, measured)]
    ]


def _try_pythons(image: str, proof: Proof, engine: Engine) -> list[dict[str, str]]:
    """Run the image's Pythons in a container, and return them."""
    session = Path(proof.session.environment[SESSION_VARIABLE])
    prepared = prepared_image(image, engine, session, proof.session.data_dir, fetch_all=True)
    able = [python.path for python in prepared.interpreters if python.version >= _OLDEST]
    if not able:
        return []
    options = [
        *("--network", "none"),
        *("--volume", f"{proof.directory}:{proof.container_directory}:ro"),
        *("--entrypoint", able[0]),
    ]
    with warnings.catch_warnings(action="ignore", category=PathMappingWarning):
        start = get_docker_base_cmd(
            engine.use_sudo, engine=engine.name, image=image, options=options
        )
    program = importlib.resources.files("hdocker").joinpath("_inside", "try_pythons.py")
    source = program.read_text("utf-8")
    arguments = start[len(engine.argv()) :]
    return _parse(engine.run(*arguments, image, "-c", source, proof.container_directory, *able))


def _parse(said: str) -> list[dict[str, str]]:
    """Parse a container's output, as far as it is a valid answer."""
    try:
        answer: Any = json.loads(said.strip().rpartition("\n")[2])
    except ValueError:
        return []
    found = answer if isinstance(answer, list) else []
    return [
        {key: str(python.get(key, "")) for key in ("path", "version")}
        for python in found[:_MOST_PYTHONS]
        if isinstance(python, dict)
    ]


def _came_back(number: int, proof: Proof, measured: CameBack) -> tuple[list[str], str]:
    """Return the ways in which a Python was not measured, and the core that measured it."""
    shut, core = [], ""
    for index, way in enumerate(proof.ways):
        told = measured.tells(f"{number}-{index}.py", way.lines)
        core = core or told
        if not told:
            shut.append(way.check)
    return shut, core


def _finding(
    subject: str, check: str, shut: Sequence[str], core: str, notes: Sequence[str]
) -> Finding:
    if not shut:
        return Finding(subject, check, Status.OK, f"measured by {core}, in every way")
    reason = f" ({notes[-1].partition(': ')[2]})" if notes else ""
    return Finding(
        subject,
        check,
        Status.PROBLEM,
        f"not measured: {', '.join(shut)}{reason}",
        "bake coverage.py in: `hcov docker build NAME Dockerfile`",
        Page.NOT_MEASURED,
    )


@contextlib.contextmanager
def _as_part_of(environment: Mapping[str, str]) -> Iterator[None]:
    """Join a session for the length of a `with` block, like tests under `hcov run`."""
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(environment)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
