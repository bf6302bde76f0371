"""What the recorder does not record: nothing that coverage.py would measure."""

from __future__ import annotations

import os
import site
import sys
import sysconfig
from itertools import product
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, cast

import pytest
from coverage.config import CoverageConfig
from coverage.inorout import InOrOut
from coverage.plugin_support import Plugins

from hcoverage._inside.recorder_sources import skipper
from hcoverage._session.core import worth_skipping

if TYPE_CHECKING:
    from pathlib import Path
    from types import FrameType

STANDARD: Final = os.path.dirname(os.path.realpath(os.__file__))  # noqa: PTH120 - as coverage.py's
INSTALLED: Final = sysconfig.get_path("purelib")
PATHS: Final = (
    "app/module.py",
    # Packages for the project alone, and environments that this interpreter is not of.
    "vendor/site-packages/module.py",
    "dist-packages/module.py",
    ".venv/lib/python3.9/site-packages/module.py",
    f"{INSTALLED}/package/module.py",
    f"{site.getuserbase()}/lib/python{sys.version[:4]}/site-packages/module.py",
    f"{STANDARD}/json/decoder.py",
    f"{STANDARD}/queue.py",
)
SETTINGS: Final[dict[str, dict[str, Any]]] = {
    "none": {},
    "source": {"source": ["."]},
    "packages": {"source_pkgs": ["json", "package"]},
    "include": {"run_include": ["app/*"]},
    "include-name": {"run_include": ["*/decoder.py", "*/module.py"]},
    "include-place": {"run_include": [f"{STANDARD}/json/*"]},
    "include-ignored": {"run_include": ["*/decoder.py"], "source": ["app"]},
    "omit": {"run_omit": ["*/queue.py"]},
    "pylib": {"cover_pylib": True},
}


@pytest.mark.any_python
@pytest.mark.parametrize("place", ["project", "site-packages/project"])
def test_what_coverage_measures_is_recorded(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / place
    (project / "app").mkdir(parents=True)
    monkeypatch.chdir(project)
    measured, lost = 0, []
    for name, path in product(SETTINGS, PATHS):
        file = str(project / path)
        if _measures(SETTINGS[name], file):
            measured += 1
            if skipper(worth_skipping(_config(SETTINGS[name])), (), ())(file):
                lost.append((name, path))
    assert lost == []
    assert measured > len(SETTINGS)


@pytest.mark.any_python
@pytest.mark.parametrize("name", ["none", "include", "include-ignored", "omit"])
def test_what_no_setting_asks_for_costs_nothing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    skips = skipper(worth_skipping(_config(SETTINGS[name])), (), ())
    assert skips(f"{STANDARD}/queue.py")
    is_installed_skipped = name in {"none", "omit"}
    assert skips(f"{INSTALLED}/package/module.py") is is_installed_skipped
    in_build = f"{tmp_path}/pip-build-env-x/overlay/lib/site-packages/package/module.py"
    assert skips(in_build) is is_installed_skipped


def _config(settings: dict[str, Any]) -> CoverageConfig:
    config = CoverageConfig()
    for name, value in settings.items():
        setattr(config, name, value)
    return config


def _measures(settings: dict[str, Any], file: str) -> bool:
    chooser = InOrOut(
        config=_config(settings),
        warn=lambda *_, **__: None,
        debug=None,
        include_namespace_packages=False,
    )
    chooser.plugins = Plugins()
    frame = SimpleNamespace(f_globals={"__name__": "module", "__file__": file})
    return bool(chooser.should_trace(file, cast("FrameType", frame)).trace)
