"""`hcov init`: a `.coveragerc` that fits the project it stands in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

_TEXT: Final = """\
# coverage.py configuration for the host and for containers alike; https://coverage.readthedocs.io

[run]
# Every process writes a data file of its own; they are merged afterwards.
parallel = True
concurrency = multiprocessing
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


def write_rcfile(directory: Path, *, force: bool = False) -> Path:
    """Write a `.coveragerc` for the project in a directory.

    Args:
        directory: The project's root.
        force: Replace a `.coveragerc` that is there.

    Returns:
        The path of the rcfile.

    Raises:
        FileExistsError: There is a `.coveragerc`, and `force` is not set.
        OSError: It cannot be written.
    """
    path = directory / ".coveragerc"
    if path.exists() and not force:
        raise FileExistsError(f"{path} is there already: edit it, or replace it with --force")
    path.write_text(_text(directory), encoding="utf-8")
    return path


def _text(directory: Path) -> str:
    layout = omit = ""
    if (directory / "src").is_dir():
        # coverage.py takes the first entry under which the file exists here.
        layout = "src =\n    src\n    /app\n    */site-packages\n"
    tests = [name for name in ("tests", "test") if (directory / name).is_dir()]
    if tests:
        omit = "omit =\n" + "".join(f"    {name}/*\n" for name in tests)
    return _TEXT.format(layout=layout, omit=omit)
