"""The second door: `sitecustomize` for interpreters that have no hook of ours in site-packages.

A copy of this file lies in the session's private directory, which is first on PYTHONPATH. It starts
measuring, removes itself, and runs the `sitecustomize` that it hides. Any version of Python may
read it: nothing in it is newer than Python 2.7.
"""

import os
import sys

_here = os.path.dirname(os.path.abspath(__file__))
_ours = sys.modules.pop(__name__)
_PROCESS = "_hcoverage_process"


def _load_compiled():  # type: () -> None  # noqa: ANN202 - Python 2 reads this
    """Load the compiled code without the search of `import`, if this Python is the session's."""
    import marshal
    from _frozen_importlib_external import MAGIC_NUMBER

    name = "%s/__pycache__/%s.%s.pyc" % (_here, _PROCESS, sys.implementation.cache_tag)
    descriptor = os.open(name, os.O_RDONLY)
    try:
        content = os.read(descriptor, os.fstat(descriptor).st_size)
    finally:
        os.close(descriptor)
    if content[:4] != MAGIC_NUMBER:
        raise ImportError(name)
    module = sys.modules[_PROCESS] = type(sys)(_PROCESS)
    module.__file__ = os.path.join(_here, _PROCESS + ".py")
    exec(marshal.loads(memoryview(content)[16:]), module.__dict__)


if sys.version_info >= (3, 8):
    try:
        if _PROCESS not in sys.modules:
            try:
                _load_compiled()
            except (OSError, ImportError):
                __import__(_PROCESS)
        sys.modules[_PROCESS].start()
    except Exception:  # noqa: BLE001, S110 - the application must not notice
        pass

sys.path[:] = [entry for entry in sys.path if entry != _here]
sys.path_importer_cache.pop(_here, None)

try:
    import sitecustomize  # type: ignore[import-not-found]  # noqa: F401 - such as Debian's
except ImportError as error:
    # Put back: the import system needs the module that it is importing.
    sys.modules.setdefault(__name__, _ours)
    if getattr(error, "name", __name__) != __name__:
        raise
