"""What leads a container's Pythons to the startup directory, where PYTHONPATH does not.

A `.pth` file, for each directory that a Python of the image reads such files from. And a package
`sitecustomize`, for each standard library: a virtual environment that is made in the container has
directories that nobody knew of, and what runs in it with `-I`, or without PYTHONPATH as under tox,
reads no other; but it has the library. A package comes before a module by its name, so that of the
image stays where it is, and runs after ours. Left are `python -S` and a library that comes later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hdocker._inject.added import PLACE, SESSION_VARIABLE

if TYPE_CHECKING:
    from pathlib import Path

STARTUP_PLACE: Final = PLACE
PTH_NAME: Final = "hcoverage_injected.pth"
PACKAGE_NAME: Final = "sitecustomize"
# In the startup directory, which has a `sitecustomize` of its own.
PACKAGE: Final = "_hcoverage_sitecustomize"

# One line, read at each start. A session is asked for by the variable or, where the environment was
# cleared, by the file being there at all; an empty variable says no. Where PYTHONPATH was read,
# `sitecustomize` is the door.
_START: Final = f"""
import sys
sys.path.insert(0, {STARTUP_PLACE!r})
try:
    import _hcoverage_process
    _hcoverage_process.start()
except Exception:
    pass
finally:
    sys.path.remove({STARTUP_PLACE!r})
"""
PTH: Final = (
    "# Mounted by hcoverage for this container alone.\n"
    f"import os, sys; os.getenv({SESSION_VARIABLE!r}, {STARTUP_PLACE!r}) == {STARTUP_PLACE!r}"
    f" and {STARTUP_PLACE!r} not in sys.path[:1] and exec({_START!r}, {{}})\n"
)

# No part of it may be seen: who asks for `sitecustomize` gets the one that is hidden, or none.
_SITECUSTOMIZE: Final = f"""\
# Mounted by hcoverage for this container alone.
import os
import sys

_library = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_ours = sys.modules.pop(__name__)


def _next():
    from _frozen_importlib import module_from_spec
    from _frozen_importlib_external import PathFinder, spec_from_file_location

    hidden = os.path.join(_library, __name__ + ".py")
    if os.path.exists(hidden):
        spec = spec_from_file_location(__name__, hidden)
    else:
        after = sys.path[sys.path.index(_library) + 1 :] if _library in sys.path else []
        spec = PathFinder.find_spec(__name__, after)
    if spec is None or spec.loader is None:
        # As where there is none; put back, or the import system misses it.
        sys.modules.setdefault(__name__, _ours)
        raise ModuleNotFoundError("No module named " + repr(__name__), name=__name__)
    module = sys.modules[__name__] = module_from_spec(spec)
    spec.loader.exec_module(module)


_session = os.getenv({SESSION_VARIABLE!r}, {STARTUP_PLACE!r})
if _session == {STARTUP_PLACE!r} and "_hcoverage_process" not in sys.modules:
    exec({_START!r}, {{}})
_next()
"""


def write_package(startup: Path) -> None:
    """Write the package into an image's startup directory.

    Raises:
        OSError: It cannot be written.
    """
    package = startup / PACKAGE
    package.mkdir()
    file = package / "__init__.py"
    file.write_text(_SITECUSTOMIZE, "utf-8")
    # The container's user is another.
    package.chmod(0o755)
    file.chmod(0o644)
