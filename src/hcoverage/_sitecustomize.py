"""The second door: `sitecustomize` for interpreters that have no hook of ours in site-packages.

A copy of this file lies in the session's private directory, which is first on PYTHONPATH. It starts
measuring, gets itself out of the way, and runs the `sitecustomize` that it hides. Any Python at all
may read it: nothing in it is newer than Python 2.7.
"""

import os
import sys

_here = os.path.dirname(os.path.abspath(__file__))
_ours = sys.modules.pop(__name__)

if sys.version_info >= (3, 8):
    try:
        import _hcoverage_process  # type: ignore[import-not-found]

        _hcoverage_process.start()
    except Exception:  # noqa: BLE001, S110 - the application must not notice
        pass

sys.path[:] = [entry for entry in sys.path if entry != _here]
sys.path_importer_cache.pop(_here, None)

try:
    import sitecustomize  # type: ignore[import-not-found]  # noqa: F401 - such as Debian's
except ImportError as error:
    # Put back, or the import system misses the module that it is just importing.
    sys.modules.setdefault(__name__, _ours)
    if getattr(error, "name", __name__) != __name__:
        raise
