"""What the application lets go of is gone at once: no frame of ours keeps it until a collection."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from tests.inside.recorder.conftest import Bench

pytestmark = pytest.mark.skipif(sys.version_info < (3, 12), reason="needs sys.monitoring")

# Each makes objects in frames that end in another way.
WAYS: Final = {
    "returns": "def f(thing):\n    if thing:\n        return 1\n    return 2\nf(Thing())\n",
    "has no branch": "def f(thing):\n    return thing\nf(Thing())\n",
    "is in one line": "def f(thing): return None if thing else 1\nf(Thing())\n",
    "raises": (
        "def f(thing):\n    if thing:\n        raise ValueError\n"
        "try:\n    f(Thing())\nexcept ValueError:\n    pass\n"
    ),
    "raises again": (
        "def f(thing):\n    try:\n        1 // 0\n    except KeyError:\n        pass\n"
        "    finally:\n        x = 1\n"
        "try:\n    f(Thing())\nexcept ZeroDivisionError:\n    pass\n"
    ),
    "is left by an exception, without a branch": (
        "def f(thing):\n    raise ValueError\ntry:\n    f(Thing())\nexcept ValueError:\n    pass\n"
    ),
    "yields": (
        "def f(thing):\n    for each in thing, 1:\n        yield each\n"
        "for each in f(Thing()):\n    pass\ndel each\n"
    ),
    "awaits": (
        "async def f(thing):\n    async for each in thing:\n        pass\n"
        "try:\n    f(Thing()).send(None)\nexcept TypeError:\n    pass\n"
    ),
    "is a module": "exec(compile('thing = Thing()\\nif thing: x = 1\\n', __file__, 'exec'),"
    " {'Thing': Thing})\n",
}
PROGRAM: Final = """\
import gc, weakref
gc.disable()
made = []
class Thing:
    def __init__(self):
        made.append(weakref.ref(self))
    def __aiter__(self):
        return self
for _ in range(3):
    {body}
print(len(made), [each() for each in made if each() is not None])
"""


@pytest.mark.parametrize("branch", ["0", "1"])
@pytest.mark.parametrize("body", WAYS.values(), ids=WAYS)
def test_what_a_frame_held_goes_with_it(bench: Bench, body: str, branch: str) -> None:
    bench.write(PROGRAM.format(body=body.replace("\n", "\n    ")))
    out = bench.run("app.py", env=bench.env | {"HCOVERAGE_RECORD_BRANCH": branch})
    assert out == bench.run("app.py", env=bench.plain_env)
    assert out == "3 []\n"
