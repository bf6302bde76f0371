"""Lines that make an image measure itself, to be appended to a Dockerfile by hand.

They are the recipe of the README. `hdocker` has the steps that fit themselves to any Dockerfile,
its user and its Python; this module knows only where containers have the data directory.
"""

from __future__ import annotations

import json
from typing import Final

from hcoverage._data_directory.directory import RCFILE_NAME
from hcoverage._session.guest_settings import container_rcfile_text
from hcoverage._session.hook import pth_text
from hcoverage._settings.environment import DEFAULT_DATA_DIR
from hcoverage._settings.rcfile import read_rcfile

_DATA_DIR: Final = f"/app/{DEFAULT_DATA_DIR}"
_PACKAGES: Final = "coverage pytest pytest-cov"
_PROGRAM: Final = """\
import coverage, pathlib
rcfile = pathlib.Path({path!r})
rcfile.write_text({rcfile!r}, encoding="utf-8")
rcfile.chmod(0o644)
hook = pathlib.Path(coverage.__file__).parents[1] / "coverage.pth"
hook.write_text({hook!r}, encoding="utf-8")
"""


def generate_coverage_dockerfile() -> str:
    """Return lines to append to a Dockerfile, so that its image measures itself.

    They install coverage.py and pytest, make `/app/coverage_data`, and write the rcfile and the
    hook, for the Python that `python3` starts. They must run as root. A container is measured if
    its COVERAGE_PROCESS_START names the rcfile; `hdocker.get_docker_base_cmd` sets that.

    Returns:
        The lines. They contain the rcfile that coverage.py would find in the current directory.

    Raises:
        OSError: The rcfile cannot be read, or coverage.py cannot use it (RcfileError).
    """
    rcfile = read_rcfile()
    places = [rcfile.path.parent] if rcfile.path else []
    program = _PROGRAM.format(
        path=f"{_DATA_DIR}/{RCFILE_NAME}",
        rcfile=container_rcfile_text(rcfile, *places),
        hook=pth_text(),
    )
    lines = (
        "",
        "# Coverage, added by hcoverage.",
        f"RUN PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install --no-cache-dir {_PACKAGES}",
        f"RUN mkdir -p {_DATA_DIR} && chmod 777 {_DATA_DIR}",
        # In exec form, which neither SHELL nor a variable of the Dockerfile changes.
        f"RUN {json.dumps(['python3', '-c', program])}",
        "",
    )
    return "\n".join(lines)
