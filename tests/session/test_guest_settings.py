"""What coverage.py is told where it measures for us: what the rcfile says, wherever it runs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from coverage.config import CoverageConfig, read_coverage_config
from coverage.files import GlobMatcher

import hcoverage
from hcoverage._session.guest_settings import (
    GuestSettings,
    ends_of,
    for_containers,
    for_processes_here,
)

if TYPE_CHECKING:
    from pathlib import Path


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def both_read(settings: GuestSettings, directory: Path) -> list[CoverageConfig]:
    """What coverage.py makes of both forms."""
    rcfile = write(directory / "rendered" / ".coveragerc", settings.rcfile_text)
    return [
        read_coverage_config(config_file=str(rcfile), warn=pytest.fail),
        CoverageConfig.deserialize(settings.encoded),
    ]


class TestHere:
    @pytest.fixture(autouse=True)
    def _in_project(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)

    def both(self, directory: Path, rcfile: str, name: str = "rc") -> list[CoverageConfig]:
        read = hcoverage.read_rcfile(write(directory / name, rcfile))
        startup = directory / "startup"
        return both_read(
            for_processes_here(read, directory, directory / "data", startup), directory
        )

    def test_every_process_has_a_data_file_of_its_own(self, tmp_path: Path) -> None:
        for read in self.both(tmp_path, "[run]\ndata_file = mine\n"):
            assert read.parallel
            assert read.data_file == str(tmp_path / "data")

    def test_what_debian_links_to_from_its_standard_library_is_left_out(
        self, tmp_path: Path
    ) -> None:
        for read in self.both(tmp_path, ""):
            omitted = GlobMatcher(read.run_omit or [])
            assert omitted.match("/etc/python3.11/sitecustomize.py")
            assert not omitted.match(str(tmp_path / "etc" / "python3.11" / "sitecustomize.py"))

    def test_source_directories_are_absolute_and_the_rest_are_packages(
        self, tmp_path: Path
    ) -> None:
        (tmp_path / "src").mkdir()
        for read in self.both(tmp_path, "[run]\nsource =\n    src, pkg\n    .\n"):
            assert read.source == [str(tmp_path / "src"), str(tmp_path)]
            assert read.source_pkgs == ["pkg"]

    def test_patterns_match_as_they_are_and_from_here(self, tmp_path: Path) -> None:
        rcfile = "[run]\nomit =\n    tests/*\n    */gen/*\n    /abs/*\n"
        for read in self.both(tmp_path, rcfile):
            assert {"tests/*", str(tmp_path / "tests/*"), "*/gen/*", "/abs/*"} < {*read.run_omit}
            assert f"{tmp_path}/startup/*" in read.run_omit

    @pytest.mark.parametrize("name", ["$HOME and more", "a [b]", "ü ; #"])
    def test_odd_directories_stay_what_they_are(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        here = tmp_path / name
        (here / "src").mkdir(parents=True)
        monkeypatch.chdir(here)
        _, serialized = self.both(here, "[run]\nsource = src\nomit = gen/*\n")
        assert serialized.data_file == str(here / "data")
        assert serialized.source == [str(here / "src")]
        assert str(here / "gen/*") in serialized.run_omit

    def test_a_comma_in_a_directory_is_no_end_of_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        here = tmp_path / "one, two"
        (here / "src").mkdir(parents=True)
        monkeypatch.chdir(here)
        _, serialized = self.both(here, "[run]\nsource = src\n")
        assert serialized.source == [str(here / "src")]

    def test_variables_are_filled_in(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "there").mkdir()
        monkeypatch.setenv("WHERE", str(tmp_path))
        for read in self.both(tmp_path, "[run]\nsource = $WHERE/there\n"):
            assert read.source == [str(tmp_path / "there")]

    def test_options_of_plugins_keep_their_types(self, tmp_path: Path) -> None:
        rcfile = """
            [tool.coverage.run]
            plugins = ["p"]
            [tool.coverage.p]
            names = ["a", "b, c"]
            table = { x = 1 }
            since = 2020-01-01
        """
        _, serialized = self.both(tmp_path, rcfile, "pyproject.toml")
        told: dict[str, Any] = {"names": ["a", "b, c"], "table": {"x": 1}, "since": "2020-01-01"}
        assert serialized.get_plugin_options("p") == told

    def test_what_we_do_ourselves_is_not_asked_for(self, tmp_path: Path) -> None:
        rcfile = "[run]\nconcurrency = multiprocessing, thread\npatch = subprocess, _exit\n"
        for read in self.both(tmp_path, rcfile):
            assert read.concurrency == ["thread"]
            assert read.patch == ["_exit"]


class TestInContainers:
    def told(self, tmp_path: Path, rcfile: str, *names: str) -> CoverageConfig:
        read = hcoverage.read_rcfile(write(tmp_path / "rc", rcfile))
        ini, serialized = both_read(for_containers(read, names, ["/opt/x/*"]), tmp_path)
        assert json.dumps(ini.run_include) == json.dumps(serialized.run_include)
        return ini

    @pytest.mark.parametrize(
        "rcfile",
        ["", "[run]\nsource = src\n", "[run]\nsource_pkgs = shop\n", "[run]\ninclude = src/*\n"],
    )
    def test_the_ends_of_names_are_measured_whatever_counts_here(
        self, tmp_path: Path, rcfile: str
    ) -> None:
        read = self.told(tmp_path, rcfile, "cart.py", "shop/__init__.py")
        assert read.run_include == ["*/cart.py", "*/shop/__init__.py"]
        assert [*(read.source or ()), *read.source_pkgs, *read.source_dirs] == []
        assert read.run_omit == ["/opt/x/*"]

    def test_what_paths_has_is_measured_whole_but_for_what_is_installed(
        self, tmp_path: Path
    ) -> None:
        rcfile = "[paths]\napp =\n    .\n    /app/\n    */site-packages\n"
        read = self.told(tmp_path, rcfile, "cart.py")
        assert read.run_include == ["*/cart.py", "/app/*"]
        assert read.paths == {"app": [".", "/app/", "*/site-packages"]}

    def test_names_that_ini_cannot_have_are_found_all_the_same(self, tmp_path: Path) -> None:
        read = self.told_ini(tmp_path, "a,b.py")
        assert read.run_include == ["*/a?b.py"]

    def told_ini(self, tmp_path: Path, name: str) -> CoverageConfig:
        read = hcoverage.read_rcfile(write(tmp_path / "rc", ""))
        ini, _ = both_read(for_containers(read, [name], []), tmp_path)
        return ini


def test_files_end_in_their_names_and_in_packages_where_all_have_one(tmp_path: Path) -> None:
    script = write(tmp_path / "tool", "#!/usr/bin/python3\n")
    script.chmod(0o755)
    files = [
        "/p/src/shop/cart.py",
        "/p/src/shop/__init__.py",
        "/p/README.md",
        "/p/Makefile",
        str(script),
    ]
    assert ends_of(files) == ["cart.py", "shop/__init__.py", "tool"]
    assert "README.md" in ends_of(files, with_templates=True)
