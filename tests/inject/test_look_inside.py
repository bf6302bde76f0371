"""What looks into an image understands each Python there, whatever that prints as it starts."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

from hdocker._inject.image_pythons import _plausible_directories, _plausible_interpreters
from hdocker._inside import look_inside

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Venv


def test_a_python_that_says_something_as_it_starts(fresh_venv: Venv, tmp_path: Path) -> None:
    loud = "import sys; sys.stdout.write('welcome\\n')\n"
    (fresh_venv.site_packages / "loud.pth").write_text(loud)
    startup = tmp_path / "startup"
    startup.mkdir()
    (startup / "_hcoverage_process.py").touch()
    command = [sys.executable, look_inside.__file__, str(startup), str(fresh_venv.python)]
    (found,) = json.loads(subprocess.check_output(command, text=True))["interpreters"]
    assert (found["path"], found["version"]) == (str(fresh_venv.python), [*sys.version_info[:2]])


def test_a_path_may_have_any_characters_that_text_has() -> None:
    own = "/opt/my env~1,a=b#ü/lib/python3.13"
    said = {"path": own, "version": [3, 13], "soabi": "", "libc": "musl", "library": own}
    paths = [own, "lib", "/a\nb", "/a\0", "/\udcff", "/" + "a" * 5000, 3, None]
    assert _plausible_directories(paths) == (own,)
    (found,) = _plausible_interpreters([{**said, "path": path} for path in paths], own)
    assert (found.path, found.library, found.is_default) == (own, own, True)
