"""The example project, in containers of a plain image and of one with coverage.py baked in."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

import hcoverage

pytestmark = [pytest.mark.engine, pytest.mark.index]

EXAMPLE: Final = Path(__file__).parents[2] / "examples" / "shop"


@pytest.fixture
def shop(base_image: str, image_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The example project, to be built on the image that is here."""
    project = tmp_path / "shop"
    left = shutil.ignore_patterns("coverage_data", ".coverage*.*", "__pycache__", ".pytest_cache")
    shutil.copytree(EXAMPLE, project, ignore=left)
    monkeypatch.setenv("HCOVERAGE_BASE_IMAGE", base_image)
    monkeypatch.setenv("SHOP_BUILD_OPTIONS", "--network host")
    monkeypatch.setenv("SHOP_IMAGE", image_name)
    return project


def measure(project: Path, **environment: str) -> tuple[dict[str, Any], str]:
    """What coverage.py's JSON report has of each file, and what hcov said."""
    done = subprocess.run(
        [sys.executable, "-m", "hcov", "run", "--json", "--", sys.executable, "-m", "pytest", "-q"],
        cwd=project,
        env={**hcoverage.unmeasured_environment(os.environ), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    assert not re.search("[0-9] skipped", done.stdout)
    assert "not measured" not in done.stderr
    return json.loads((project / "coverage.json").read_text())["files"], done.stderr


def test_a_plain_image_gives_the_same_numbers_as_a_baked_one(shop: Path, kit_image: str) -> None:
    plain, said = measure(shop)
    baked, _ = measure(shop, SHOP_BAKED="1", HCOVERAGE_BASE_IMAGE=kit_image)
    assert plain == baked
    # Only the container runs it.
    assert plain["shop/service.py"]["executed_lines"]
    assert "coverage_data" not in {path.name for path in shop.iterdir()}
    assert "coverage.py: 1 process of image" in said or "recorder: 1 process of image" in said
