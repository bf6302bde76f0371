"""Messages: hcov's own words go to stderr, under its name, so that stdout is the command's."""

from __future__ import annotations

import click


def tell(message: str) -> None:
    """Print a message for the person who runs hcov."""
    click.echo(f"hcov: {message}", err=True)
