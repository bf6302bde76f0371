"""The files that lead a container's Pythons to the startup directory if PYTHONPATH does not.

A `.pth` file goes into each directory from which a Python of the image reads such files. A package
`sitecustomize` goes into each standard library, for virtual environments that are made in the
container: nobody knows their directories before, and with `-I`, or without PYTHONPATH as under tox,
Python reads `.pth` files only there; but they share the library. Python prefers a package to a
module of the same name, so the image's own `sitecustomize.py` can stay; ours runs it afterwards.
Not reached are `python -S`, and a standard library that is installed later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hdocker._inject.added import PLACE, SESSION_VARIABLE

if TYPE_CHECKING:
    from pathlib import Path

STARTUP_PLACE: Final = PLACE
PTH_NAME: Final = "hcoverage_injected.pth"
# In the startup directory, which has a `sitecustomize` of its own.
PACKAGE: Final = "_hcoverage_sitecustomize"

# Python runs this one line at each start. It measures if the variable names the startup directory,
# or is missing, as in a cleared environment; an empty variable says no. If Python has read
# PYTHONPATH, the startup directory's `sitecustomize` starts measuring instead.
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

# The application does not see it: its `import sitecustomize` gets the image's own, or none.
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
    """Write the package `sitecustomize` into an image's startup directory.

    Raises:
        OSError: It cannot be written.
    """
    package = startup / PACKAGE
    package.mkdir()
    file = package / "__init__.py"
    file.write_text(_SITECUSTOMIZE, "utf-8")
    # The container may run as another user.
    package.chmod(0o755)
    file.chmod(0o644)
