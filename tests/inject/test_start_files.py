"""The `sitecustomize` that is mounted into a library: whoever asks for one gets what was there."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Final

import pytest

from hdocker._inject.added import PACKAGE_NAME
from hdocker._inject.start_files import PACKAGE, write_package

if TYPE_CHECKING:
    from pathlib import Path

# As `site` asks for it, and then an application.
PROGRAM: Final = """\
import sys
sys.path[:0] = sys.argv[1:]
for _ in range(2):
    try:
        import sitecustomize
    except Exception as error:
        print(type(error).__name__, error, getattr(error, "name", None))
    else:
        print(sitecustomize.__name__, sitecustomize.__file__, sitecustomize.who)
print(sys.modules.get("sitecustomize"))
"""
THEIRS: Final = "print('runs'); who = __name__, __file__, __spec__.origin\n"
HIDDEN: Final = {
    "none": {},
    "of the library": {"library/sitecustomize.py": THEIRS},
    "of a site directory": {"site/sitecustomize.py": THEIRS},
    "a package": {"site/sitecustomize/__init__.py": THEIRS},
    "both": {"library/sitecustomize.py": THEIRS, "site/sitecustomize.py": "raise SystemExit"},
    "one that fails": {"library/sitecustomize.py": "1 / 0"},
    "one that lacks something": {"site/sitecustomize.py": "import no_such_module"},
}


@pytest.mark.parametrize("hidden", HIDDEN)
def test_what_it_hides_runs_as_it_would(tmp_path: Path, hidden: str) -> None:
    for name in ("library", "site"):
        (tmp_path / name).mkdir()
    for name, text in HIDDEN[hidden].items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    plain = said(tmp_path)
    write_package(tmp_path)
    (tmp_path / PACKAGE).rename(tmp_path / "library" / PACKAGE_NAME)
    assert said(tmp_path) == plain


def said(directory: Path) -> tuple[int, str, str]:
    path = [str(directory / "library"), str(directory / "site")]
    command = [sys.executable, "-I", "-S", "-B", "-c", PROGRAM, *path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr
