"""The command line of `hcov docker`: makes `hdocker` available to shell scripts."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

import hdocker

engine_option = click.option(
    "--engine", type=click.Choice(("docker", "podman")), default="docker", show_default=True
)
_measure_option = click.option(
    "--measure",
    type=click.Choice(("always", "auto")),
    help="auto: measure only inside a measured run. [default: HCOVERAGE_MEASURE, else always]",
)
sudo_option = click.option("--sudo", "use_sudo", is_flag=True, help="Run the engine through sudo.")


@click.group(short_help="Measure containers: build measured images, and run them.")
def docker() -> None:
    """Measure containers: build images with coverage in them, and run them.

    \b
    image=$(hcov docker build shop Dockerfile)
    $(hcov docker cmd) -p 8000:8000 "$image"
    """


@docker.command(short_help="Print the start of a measured `docker run` command.")
@engine_option
@sudo_option
@click.option(
    "--user",
    metavar="USER",
    help="The user in the container; `own` for yourself. [default: the image's]",
)
@click.option(
    "--image",
    metavar="IMAGE",
    help="The image that you will run: inside `hcov run` it need not be built with coverage.",
)
@_measure_option
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The data directory on the host. [default: that of the run, else coverage_data]",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def cmd(arguments: tuple[str, ...], **options: Any) -> None:  # noqa: ANN401 - as click has them
    """Print the start of a `docker run` command whose container is measured.

    \b
    $(hcov docker cmd) -p 8000:8000 shop:1

    ARGUMENTS, such as the image and the container's command, are added at the end.
    """
    click.echo(shlex.join([*hdocker.get_docker_base_cmd(**options), *arguments]))


@docker.command(context_settings={"ignore_unknown_options": True})
@engine_option
@sudo_option
@click.option("--force-rebuild", is_flag=True, help="Build even if nothing has changed.")
@click.option("--no-cache", is_flag=True, help="Do not reuse layers of earlier builds.")
@click.option(
    "--rcfile",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="coverage.py configuration. [default: the run's, else the one that coverage.py finds]",
)
@click.option(
    "--context",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The build context. [default: the Dockerfile's directory]",
)
@click.option(
    "--build-arg",
    "build_args",
    multiple=True,
    metavar="NAME=VALUE",
    help="A build argument; may be given several times.",
)
@click.option("--target", metavar="STAGE", help="The stage to build. [default: the last]")
@click.option("--platform", metavar="OS/ARCH", help="[default: the host's]")
@click.option(
    "--python", metavar="PATH", help="The image's Python to measure. [default: the one it runs]"
)
@click.option(
    "--package",
    "packages",
    multiple=True,
    metavar="NAME",
    help="A package to install in addition, such as a plugin; may be given several times.",
)
@_measure_option
@click.option("-q", "--quiet", is_flag=True, help="Do not show the build's output.")
@click.argument("image_name")
@click.argument("dockerfile", type=click.Path(path_type=Path), default="Dockerfile")
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def build(
    build_args: tuple[str, ...],
    no_cache: bool,  # noqa: FBT001 - click passes it by name
    **arguments: Any,  # noqa: ANN401
) -> None:
    """Build an image with coverage in it, and print its name.

    \b
    image=$(hcov docker build shop Dockerfile)

    Nothing is built if an image of the same content exists. OPTIONS after `--` go to the engine's
    build; --target, --platform and --build-arg mean the same there as before `--`.
    """
    values = dict(_name_and_value(item) for item in build_args)
    image = hdocker.build_container_image(use_cache=not no_cache, build_args=values, **arguments)
    click.echo(image)


def _name_and_value(item: str) -> tuple[str, str]:
    name, equals, value = item.partition("=")
    if not (name and equals):
        raise click.BadParameter(f"{item!r} is not NAME=VALUE", param_hint="--build-arg")
    return name, value
