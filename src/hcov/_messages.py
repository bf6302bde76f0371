"""Messages: hcov's own words go to stderr, under its name, so that stdout is the command's."""

from __future__ import annotations

import click

import hcoverage


def tell(message: str) -> None:
    """Print a message for the person who runs hcov; names in it may come from anywhere."""
    lines = [hcoverage.printable(line) for line in message.split("\n")]
    click.echo("\n".join([f"hcov: {lines[0]}", *lines[1:]]), err=True)
