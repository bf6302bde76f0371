"""The rcfile for a project without one, as `hcov init` writes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

_TESTS: Final = ("tests", "test")
_TEXT: Final = """\
# coverage.py configuration for the host and for containers alike; https://coverage.readthedocs.io

[run]
# What is to be covered, also where no test imports it.
source =
{source}# Every process writes a data file of its own; they are merged afterwards.
parallel = True
# Threads are measured by default, but no longer once this setting names something else.
concurrency = multiprocessing, thread
# Save when ended by SIGTERM, as `docker stop` and CI time limits do.
sigterm = True

[paths]
# The same code in different places. The first is where it is here, the others where containers
# have it: add the directory of your Dockerfile's COPY if it is not /app.
app =
    .
    /app
{layout}
[report]
show_missing = True
skip_empty = True
{omit}"""


def default_rcfile_text(directory: Path) -> str:
    """Return settings that suit the project in a directory, if it has none of its own.

    Args:
        directory: The project's root. The settings depend on its `src`, packages and `tests`.

    Returns:
        The text of a `.coveragerc`, with comments for the person who will change it.
    """
    layout = omit = ""
    source = "".join(f"    {name}\n" for name in _sources(directory))
    if (directory / "src").is_dir():
        # coverage.py takes the first entry under which the file exists here.
        layout = "src =\n    src\n    /app\n    */site-packages\n"
    tests = [name for name in _TESTS if (directory / name).is_dir()]
    if tests:
        omit = "omit =\n" + "".join(f"    {name}/*\n" for name in tests)
    return _TEXT.format(source=source, layout=layout, omit=omit)


def _sources(directory: Path) -> list[str]:
    """Return the directory that holds the packages, else the packages, else the whole project."""
    if (directory / "src").is_dir():
        return ["src"]
    packages = (file.parent.name for file in directory.glob("*/__init__.py"))
    return sorted({*packages} - {*_TESTS}) or ["."]
