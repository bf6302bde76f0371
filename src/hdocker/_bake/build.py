"""Builds images with coverage baked in, and only when something changed.

An image's tag has its architecture and a digest of its input, so an image is up to date if it
exists. `dockerfile` defines what is added to a Dockerfile, `build_context` what counts as a change
in a build context.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import platform as host
import re
import shutil
import sys
import tempfile
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hcoverage import DATA_DIR_VARIABLE, MADE_BY_US, RCFILE_NAME, container_rcfile_text, read_rcfile
from hdocker._bake.build_context import digest_of, ignore_file_of
from hdocker._bake.build_options import read_options
from hdocker._bake.dockerfile import (
    BaseImage,
    Stage,
    add_coverage,
    base_of,
    bases_of,
    find_stage,
    parse_stages,
)
from hdocker._engine.engine import Engine
from hdocker._errors import (
    BuildContextError,
    BuildError,
    BuildOptionError,
    CommandError,
    DockerfileError,
    ImageNameError,
    NoPythonError,
    NoPythonWarning,
)
from hdocker._measure import is_automatic, is_measured

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import TextIO

    from hdocker._measure import Measure

_BASES_LABEL: Final = "hdocker.bases"
_NAME_LABEL: Final = "hdocker.image"
# On an image without coverage: the digest of the one that could not be built, for lack of a Python.
_NO_PYTHON_LABEL: Final = "hdocker.no-python"
_DIGEST_LENGTH: Final = 12

# The grammar of names in github.com/distribution/reference; `(?:…)` is its `path-component`.
_COMPONENT: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_DOMAIN: Final = r"[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?(?::[0-9]+)?"
_NAME: Final = rf"(?:{_DOMAIN}/)?{_COMPONENT}(?:/{_COMPONENT})*(?::(?P<tag>\w[\w.-]*))?"
_NAME_LENGTH: Final = 255
_TAG_LENGTH: Final = 128

# Go's names for the values of Python's `platform.machine`.
_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}

# `find_python.sh` and `bake.py` begin their last line with this.
_REASON: Final = "hdocker: "
# Builders show a failed command in full; ours is all of `find_python.sh` and `bake.py`.
_PROGRAM_BEGINS: Final = "/bin/sh -c umask 022"
_PROGRAM_ENDS: Final = "main(["
_SHOWN_WIDTH: Final = 200
_TOLD_LINES: Final = 40


@dataclass(frozen=True)
class _Recipe:
    """All that decides what is built.

    Attributes:
        text: The Dockerfile's text.
        file: The Dockerfile's path, if it is a file.
        context: The build context, if there is one.
        rcfile: The text of the rcfile.
        build_args: Values of ARGs.
        target: The stage to build.
        platform: The platform to build for.
        python: The image's Python to measure.
        packages: Further packages to install.
        options: Further options of `docker build`.
        is_measured: Whether coverage is added.
    """

    text: str
    file: Path | None
    context: Path | None
    rcfile: str
    build_args: Mapping[str, str]
    target: str | None
    platform: str | None
    python: str | None
    packages: tuple[str, ...]
    options: tuple[str, ...]
    is_measured: bool = True

    def stages(self) -> list[Stage]:
        return parse_stages(self.text, self.build_args)

    def dockerfile(self, base: BaseImage | None = None) -> str:
        if not self.is_measured:
            return self.text.removeprefix("\ufeff")
        return add_coverage(
            self.text,
            self.rcfile,
            base=base,
            target=self.target,
            build_args=self.build_args,
            python=self.python,
            packages=self.packages,
        )

    def ignore_file(self) -> Path | None:
        return ignore_file_of(self.context, self.file) if self.context else None

    @functools.cached_property  # computing it reads the whole context
    def digest(self) -> str:
        context = digest_of(self.context, self.ignore_file()) if self.context else ""
        inputs = [
            self.dockerfile(),
            context,
            sorted(self.build_args.items()),
            self.target,
            self.platform,
            self.options,
        ]
        return hashlib.sha256(json.dumps(inputs).encode()).hexdigest()


def build_container_image(
    image_name: str,
    dockerfile: str | os.PathLike[str],
    force_rebuild: bool = False,  # noqa: FBT001, FBT002 - the signature that callers are written against
    use_sudo: bool = False,  # noqa: FBT001, FBT002
    *,
    use_cache: bool = True,
    engine: str = "docker",
    context: str | os.PathLike[str] | None = None,
    rcfile: str | os.PathLike[str] | None = None,
    build_args: Mapping[str, str] | None = None,
    target: str | None = None,
    platform: str | None = None,
    python: str | None = None,
    packages: Sequence[str] = (),
    options: Sequence[str] = (),
    quiet: bool = False,
    output: TextIO | None = None,
    measure: Measure | None = None,
) -> str:
    """Build an image with coverage baked in, unless an image of the same content is there already.

    Entry point, command, user, working directory and shell stay as in the Dockerfile.

    Args:
        image_name: The image's name, such as `shop` or `registry.example.com/team/shop:test`; a
            tag becomes the start of the built image's tag.
        dockerfile: The path of the Dockerfile; a `str` of more than one line is its text.
        force_rebuild: Build, even if an image of the same content is there.
        use_sudo: Run the engine's client through `sudo`.
        use_cache: Let the engine reuse layers of earlier builds.
        engine: `docker` or `podman`.
        context: The build context; by default the directory of the Dockerfile, or none if the
            Dockerfile is text.
        rcfile: The rcfile; by default that of the run that this process is part of (`hcov run`),
            else the one that coverage.py would find in the current directory.
        build_args: Values of ARGs in the Dockerfile.
        target: The stage to build; the last by default.
        platform: The platform to build for, such as `linux/arm64`; the host's by default.
        python: The image's Python to measure, by name or path. By default the one that ENTRYPOINT
            or CMD lead to, else the first on PATH.
        packages: Further packages to install, such as the plugins that the rcfile names.
        options: Further options of `docker build`. `--target`, `--platform` and `--build-arg` among
            them have the same effect as the arguments.
        quiet: Do not show the build's output.
        output: Where to show the build's output as it comes; stderr by default.
        measure: `always`, or `auto` for scripts that are also called in production: if no run is
            being measured (see `get_docker_base_cmd`), the image is built without coverage. So is
            an image without Python during a run, with a warning. By default the value of
            HCOVERAGE_MEASURE, else `always`.

    Returns:
        The image's full name, whose tag ends in `architecture-digest`. To remove all unused images
        that were built under a name, run
        `docker image prune --all --filter label=hdocker.image=NAME`.

    Raises:
        ImageNameError: No engine would accept the name.
        DockerfileError: The Dockerfile is missing, empty or without FROM, or there is no such
            target.
        OSError: The context or the rcfile is missing or cannot be read.
        RcfileError: The rcfile cannot be used.
        EngineError: The client is not on PATH, no engine answers it, or the engine denies access.
        NoPythonError: The image has no Python that coverage.py could run in, or not the `python`
            that was named.
        BuildError: The build failed otherwise.
        BuildOptionError: An option would build another image, or put the result elsewhere.
        MeasureError: `measure` or HCOVERAGE_MEASURE has another value.

    Warns:
        NoPythonWarning: The image has no Python, and is built without coverage.
    """
    _check_name(image_name)
    measured = is_measured(measure)
    text, file = _read_dockerfile(dockerfile)
    asked = read_options(options, target=target, platform=platform, build_args=build_args or {})
    recipe = _Recipe(
        text=text,
        file=file,
        context=_context_directory(context, file),
        rcfile=_rcfile_text(rcfile) if measured else "",
        build_args=asked.build_args,
        target=asked.target,
        platform=asked.platform,
        python=python,
        packages=tuple(packages),
        options=asked.others,
        is_measured=measured,
    )
    _check_contexts(asked.contexts, recipe.stages())
    shown = _Shown(None if quiet else output or sys.stderr)
    job = _Job(Engine(engine, use_sudo), image_name, shown, force_rebuild, use_cache)
    # If the caller names a Python, the image must have it.
    if measured and python is None and is_automatic(measure):
        return _built_or_plain(job, recipe)
    return _built(job, recipe)


@dataclass(frozen=True)
class _Job:
    """How an image is built, independent of its content.

    Attributes:
        program: The engine.
        image_name: The name that the caller gives the image.
        shown: Receives the build's output.
        force_rebuild: Build, even if an image of the same content is there.
        use_cache: Let the engine reuse layers of earlier builds.
    """

    program: Engine
    image_name: str
    shown: _Shown
    force_rebuild: bool
    use_cache: bool


def _built_or_plain(job: _Job, recipe: _Recipe) -> str:
    """Build an image with coverage, or without if it has no Python."""
    plain = replace(recipe, rcfile="", is_measured=False)
    digest = recipe.digest
    name = _full_name(job.image_name, plain.platform, plain.digest)
    # An earlier attempt failed; with the same input it would fail again.
    here = job.program.inspect_images(name)
    labels = here[name]["Config"].get("Labels") or {} if name in here else {}
    is_known = labels.get(_NO_PYTHON_LABEL) == digest and not job.force_rebuild
    if not is_known:
        try:
            return _built(job, recipe)
        except NoPythonError:
            job = replace(job, force_rebuild=True)
    built = _built(job, plain, {_NO_PYTHON_LABEL: digest})
    warnings.warn(
        f"the image {job.image_name} has no Python that coverage.py could run in: it is built as it"
        " is, and what runs in it is not measured; if there is one, name it with `python`",
        NoPythonWarning,
        stacklevel=3,
    )
    return built


def _built(job: _Job, recipe: _Recipe, labels: Mapping[str, str] | None = None) -> str:
    """Build an image, unless one of the same content is there; return its full name."""
    program = job.program
    full_name = _full_name(job.image_name, recipe.platform, recipe.digest)
    bases = bases_of(recipe.stages())
    here = program.inspect_images(full_name, *bases)
    if not job.force_rebuild and full_name in here and _same_bases(here, full_name, bases):
        return full_name
    base = _base_image(program, recipe, here, job.shown) if recipe.is_measured else None
    told = {
        _NAME_LABEL: job.image_name,
        _BASES_LABEL: json.dumps(_ids(here, bases)),
        **(labels or {}),
    }
    settings = [
        *("--tag", full_name),
        *(f"--label={name}={value}" for name, value in told.items()),
        *([] if job.use_cache else ["--no-cache"]),
    ]
    _build(program, recipe, recipe.dockerfile(base), settings, job.shown)
    if full_name in here:
        _remove_replaced(program, here[full_name]["Id"])
    return full_name


def _check_contexts(names: Sequence[str], stages: Sequence[Stage]) -> None:
    """Refuse a build context that replaces an image or stage from which a stage starts."""
    for name in names:
        if any(
            name.lower() in {stage.base.lower(), (stage.name or "").lower()} for stage in stages
        ):
            raise BuildOptionError(
                f"`--build-context {name}=…` replaces {name}, which the Dockerfile starts from, by"
                " something that hcov cannot see: change FROM, or leave the option out"
            )


def _check_name(image_name: str) -> None:
    match = re.fullmatch(_NAME, image_name)
    if not match or len(image_name) > _NAME_LENGTH:
        raise ImageNameError(
            f"{image_name!r} is no image name: use lower-case letters and digits, single `.`, `_` "
            "or `-` between them, `/` between parts, as in `shop` or `example.com/team/shop:test`"
        )


def _full_name(image_name: str, platform: str | None, digest: str) -> str:
    match = re.fullmatch(_NAME, image_name)
    given = (match["tag"] if match else None) or ""
    machine = host.machine().lower()
    architecture = (
        platform.split("/")[1:2] or [platform]
        if platform
        else [_ARCHITECTURES.get(machine, machine)]
    )[0]
    suffix = f"{architecture}-{digest[:_DIGEST_LENGTH]}"
    if not given:
        return f"{image_name}:{suffix}"
    kept = given[: _TAG_LENGTH - len(suffix) - 1]
    return f"{image_name.removesuffix(given)}{kept}-{suffix}"


def _read_dockerfile(dockerfile: str | os.PathLike[str]) -> tuple[str, Path | None]:
    if isinstance(dockerfile, str) and ("\n" in dockerfile or not dockerfile.strip()):
        return dockerfile, None
    path = Path(dockerfile)
    try:
        return path.read_text(encoding="utf-8-sig"), path
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise DockerfileError(
            f"cannot read the Dockerfile {path.absolute()} ({reason}): name the file, "
            "or hand its text over as a string of several lines"
        ) from error


def _context_directory(context: str | os.PathLike[str] | None, file: Path | None) -> Path | None:
    chosen = Path(context) if context is not None else file.parent if file else None
    if chosen is not None and not chosen.is_dir():
        raise BuildContextError(
            f"the build context {chosen.absolute()} is no directory: "
            "name the one that COPY takes its files from"
        )
    return chosen


def _rcfile_text(rcfile: str | os.PathLike[str] | None) -> str:
    data_dir = os.environ.get(DATA_DIR_VARIABLE)
    in_run = Path(data_dir or os.devnull, RCFILE_NAME)
    if rcfile is None and in_run.is_file():
        text = in_run.read_text(encoding="utf-8")
        if text.startswith(MADE_BY_US):
            return text
        rcfile = in_run
    read = read_rcfile(rcfile)
    return container_rcfile_text(read, *(path.parent for path in [read.path] if path))


def _ids(here: Mapping[str, Any], bases: Sequence[str]) -> dict[str, str]:
    return {base: here[base]["Id"] for base in bases if base in here}


def _same_bases(here: Mapping[str, Any], full_name: str, bases: Sequence[str]) -> bool:
    """Return whether an image was built from the base images that are here now."""
    labels = here[full_name]["Config"].get("Labels") or {}
    built_from = json.loads(labels.get(_BASES_LABEL, "{}"))
    return all(built_from.get(base, now) == now for base, now in _ids(here, bases).items())


def _base_image(
    program: Engine, recipe: _Recipe, here: dict[str, dict[str, Any]], shown: _Shown
) -> BaseImage | None:
    """Return what an image inherits from its base; pull the base first if it is not here."""
    stages = recipe.stages()
    name = base_of(stages, find_stage(stages, recipe.target))
    if name == "scratch":
        return None
    if name not in here:
        _pull(program, name, recipe.platform, shown)
        here.update(program.inspect_images(name))
    config = here.get(name, {}).get("Config") or {}
    return BaseImage(
        user=config.get("User") or "",
        entrypoint=tuple(config.get("Entrypoint") or ()),
        command=tuple(config.get("Cmd") or ()),
        onbuild=tuple(config.get("OnBuild") or ()),
    )


def _pull(program: Engine, name: str, platform: str | None, shown: _Shown) -> None:
    try:
        program.stream(
            "pull", *(["--platform", platform] if platform else []), name, show=shown.line
        )
    except CommandError as error:
        raise BuildError(
            f"the base image {name} is not here and cannot be pulled: correct its name in the "
            f"Dockerfile, or log in to its registry\n{error.output.strip()}",
            error.argv,
            error.returncode,
            error.output,
        ) from None


def _build(
    program: Engine, recipe: _Recipe, text: str, settings: Sequence[str], shown: _Shown
) -> None:
    before = _dangling(program)
    with tempfile.TemporaryDirectory(prefix="hdocker-") as scratch:
        file = Path(scratch) / "Dockerfile"
        file.write_text(text, encoding="utf-8")
        ignore_file = recipe.ignore_file()
        if ignore_file is not None:
            shutil.copy(ignore_file, f"{file}.dockerignore")
        context = recipe.context
        if context is None:
            context = Path(scratch) / "context"
            context.mkdir()
        try:
            with _told_as_build_error(shown):
                program.stream(
                    "build",
                    *("--file", str(file)),
                    # Otherwise the classic builder leaves a failed step's container behind.
                    "--force-rm",
                    *(["--platform", recipe.platform] if recipe.platform else []),
                    *(["--target", recipe.target] if recipe.target else []),
                    *(f"--build-arg={name}={value}" for name, value in recipe.build_args.items()),
                    *settings,
                    *recipe.options,
                    str(context),
                    show=shown.line,
                )
        except BaseException:
            _remove_unfinished(program, shown.lines, before)
            raise


@contextlib.contextmanager
def _told_as_build_error(shown: _Shown) -> Iterator[None]:
    """Turn the failure of a build into an error that names and shows the failed step."""
    try:
        yield
    except CommandError as error:
        # Without duplicates: BuildKit repeats the failing step's output at the end.
        reasons = list(dict.fromkeys(filter(None, map(_our_reason, shown.lines))))
        kind = BuildError
        if any(reason.startswith("no Python") for reason in reasons):
            kind = NoPythonError
            reasons.append(
                "name it with `python`, or install it in the Dockerfile, for example with "
                "`RUN apt-get update && apt-get install -y python3-pip`"
            )
        elif any('"/bin/sh": stat /bin/sh: no such file' in line for line in shown.lines):
            kind = NoPythonError
            reasons.append(
                "the image has no /bin/sh to look for a Python with; base it on one that has"
            )
        told = ["the image could not be built", *reasons, "the failing step:"]
        message = ": ".join(told) + "\n" + "".join(_failing_step(shown.lines)).rstrip()
        raise kind(message, error.argv, error.returncode, error.output) from None


def _our_reason(line: str) -> str:
    return line.partition(_REASON)[2].strip()


def _failing_step(lines: Sequence[str]) -> list[str]:
    starts = [number for number, line in enumerate(lines) if _begins_step(line)]
    step = lines[starts[-1] :] if starts else lines
    told = step if len(step) <= _TOLD_LINES else [step[0], "…\n", *step[-_TOLD_LINES:]]
    return [_shortened(line) for line in told]


def _begins_step(line: str) -> bool:
    # `Step 3/7 : RUN …` from docker's classic builder, `STEP 3/7: RUN …` from podman,
    # `#7 [3/7] RUN …` from BuildKit.
    number, _, rest = line.partition(" ")
    return number.upper() == "STEP" or (number.startswith("#") and rest.startswith("["))


def _shortened(line: str) -> str:
    # Builders show a RUN in one line, and ours contains a whole program.
    return line if len(line) <= _SHOWN_WIDTH else f"{line[:_SHOWN_WIDTH].rstrip()} …\n"


def _dangling(program: Engine) -> set[str]:
    return set(program.run("images", "--quiet", "--no-trunc", "--filter", "dangling=true").split())


def _remove_unfinished(program: Engine, lines: Sequence[str], before: set[str]) -> None:
    """Remove the nameless image that the classic builder leaves after a failed build."""
    made = {
        line.split()[1] for line in lines if line.startswith(" ---> ") and len(line.split()) > 1
    }
    with contextlib.suppress(CommandError):
        for image in _dangling(program) - before:
            if image.removeprefix("sha256:")[:_DIGEST_LENGTH] in made:
                program.run("image", "rm", image)


def _remove_replaced(program: Engine, image: str) -> None:
    """Remove the image whose name a new one has taken, unless it is still in use."""
    found = program.inspect_images(image)
    if image in found and not found[image].get("RepoTags"):
        with contextlib.suppress(CommandError):
            program.run("image", "rm", image)


class _Shown:
    """The output of a build: shown as it comes, and kept for the error if it fails."""

    def __init__(self, output: TextIO | None) -> None:
        self.lines: list[str] = []
        self._output = output
        self._in_our_program = False

    def line(self, line: str) -> None:
        if self._in_our_program:
            self._in_our_program = not line.startswith(_PROGRAM_ENDS)
            return
        self._in_our_program = line.rstrip().endswith(_PROGRAM_BEGINS)
        self.lines.append(line)
        if self._output is not None:
            self._output.write(_shortened(line))
            self._output.flush()
