"""On a Python without `sys.monitoring` the recorder does nothing, and says nothing."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.inside.recorder.conftest import Bench


@pytest.mark.parametrize(
    "customization",
    [
        pytest.param(
            "import hcrecorder\nprint(hcrecorder.start())\n",
            id="before 3.12",
            marks=pytest.mark.skipif(sys.version_info >= (3, 12), reason="has sys.monitoring"),
        ),
        pytest.param(
            "import sys\nvars(sys).pop('monitoring', None)\n"
            "import hcrecorder\nprint(hcrecorder.start())\n",
            id="taken away",
        ),
    ],
)
def test_does_nothing_without_monitoring(bench: Bench, customization: str) -> None:
    bench.customize(customization)
    bench.write("print('fine')\n")
    assert bench.run("app.py") == "False\nfine\n"
    assert list(bench.data.iterdir()) == []
