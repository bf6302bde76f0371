"""Imports what a run needs as any program would, with pytest out of the way.

pytest looks at each imported module, and rewrites the assertions in all files of its plugins: in
each of ours. It keeps the result beside the file. Where it may not write there, as in an image's
site-packages, each run would compile all of them again.
"""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest


@contextlib.contextmanager
def not_rewritten(config: pytest.Config) -> Iterator[None]:
    """Keep pytest out of what is imported in a `with` block, in which no test is."""
    hook: object = config.pluginmanager.rewrite_hook
    place = next((at for at, finder in enumerate(sys.meta_path) if finder is hook), None)
    if place is None:  # as with `--assert=plain`
        yield
        return
    finder = sys.meta_path.pop(place)
    try:
        yield
    finally:
        sys.meta_path.insert(place, finder)
