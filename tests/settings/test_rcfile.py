"""The rcfile: found and read as coverage.py does, whatever it says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import hcoverage

if TYPE_CHECKING:
    from pathlib import Path

PARALLEL = "[run]\nparallel = True\n"


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


class TestFinding:
    def test_coverages_own_file_comes_first(self, tmp_path: Path) -> None:
        write(tmp_path / "pyproject.toml", "[tool.coverage.run]\nparallel = true\n")
        own = write(tmp_path / ".coveragerc", PARALLEL)
        assert hcoverage.find_rcfile(tmp_path) == own

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("setup.cfg", "[coverage:run]\nparallel = True\n"),
            ("tox.ini", "[coverage:paths]\napp = .\n"),
            ("pyproject.toml", "[tool.coverage.report]\nprecision = 2\n"),
        ],
    )
    def test_a_shared_file_counts_where_it_has_coverage_settings(
        self, tmp_path: Path, name: str, text: str
    ) -> None:
        assert hcoverage.find_rcfile(tmp_path) is None
        path = write(tmp_path / name, text)
        assert hcoverage.find_rcfile(tmp_path) == path

    def test_a_shared_file_without_coverage_settings_does_not_count(self, tmp_path: Path) -> None:
        write(tmp_path / "setup.cfg", "[metadata]\nname = x\n")
        write(tmp_path / "pyproject.toml", "[project]\nname = 'x'\n")
        assert hcoverage.find_rcfile(tmp_path) is None

    def test_what_the_variable_names_comes_before_all(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write(tmp_path / ".coveragerc", PARALLEL)
        named = write(tmp_path / "ci" / "cov.ini", "[run]\nbranch = True\n")
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("COVERAGE_RCFILE", "ci/cov.ini")
        assert hcoverage.find_rcfile(tmp_path) == named
        assert hcoverage.read_rcfile().settings.branch

    def test_what_the_variable_names_has_to_be_there(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("COVERAGE_RCFILE", "ci/cov.ini")
        with pytest.raises(FileNotFoundError, match="unset COVERAGE_RCFILE"):
            hcoverage.read_rcfile()

    def test_without_any_it_is_coverages_defaults(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        rcfile = hcoverage.read_rcfile()
        assert rcfile.path is None
        assert rcfile.settings.source is None
        assert rcfile.settings.exclude_list


class TestReading:
    @pytest.mark.parametrize(
        ("name", "text"),
        [
            (".coveragerc", "[run]\nbranch = True\n"),
            ("setup.cfg", "[coverage:run]\nbranch = True\n"),
            ("tox.ini", "[coverage:run]\nbranch = True\n"),
            ("pyproject.toml", "[tool.coverage.run]\nbranch = true\n"),
            (".coveragerc.toml", "[run]\nbranch = true\n"),
        ],
    )
    def test_what_coverage_accepts_is_accepted(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str
    ) -> None:
        path = write(tmp_path / name, text)
        monkeypatch.chdir(tmp_path)
        assert hcoverage.read_rcfile().settings.branch
        assert hcoverage.read_rcfile().path == path
        assert hcoverage.read_rcfile(path).settings.branch

    def test_a_section_of_another_tool_counts_only_where_the_file_was_named(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        text = "[coverage:run]\nbranch = True\n[report]\nprecision = 2\n"
        path = write(tmp_path / "tox.ini", text)
        monkeypatch.chdir(tmp_path)
        assert hcoverage.read_rcfile().settings.precision == 0
        assert hcoverage.read_rcfile().options == []
        assert hcoverage.read_rcfile(path).settings.precision == 2
        assert hcoverage.read_rcfile(path).options == [f"--rcfile={path}"]

    def test_container_sides_are_all_but_the_first(self, tmp_path: Path) -> None:
        rcfile = write(tmp_path / "rc", f"{PARALLEL}[paths]\na =\n  .\n  /app\n  /srv\nb =\n  x\n")
        assert hcoverage.read_rcfile(rcfile).container_sides == ("/app", "/srv")


class TestRefusing:
    def test_a_missing_file_names_the_way_to_make_one(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match="hcov init"):
            hcoverage.read_rcfile(tmp_path / ".coveragerc")

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            (".coveragerc", "[run\nparallel"),
            (".coveragerc", "[run]\nparallel = perhaps\n"),
            (".coveragerc", "[run]\nparallel = True\nconcurrency = telepathy\n"),
            (".coveragerc", "[report]\nexclude_lines = (\n"),
            ("pyproject.toml", "[tool.coverage.run\n"),
            ("pyproject.toml", "[tool.coverage.run]\nparallel = 'perhaps'\n"),
        ],
    )
    def test_what_coverage_cannot_parse(self, tmp_path: Path, name: str, text: str) -> None:
        path = write(tmp_path / name, text)
        with pytest.raises(hcoverage.RcfileError, match=name):
            hcoverage.read_rcfile(path)

    def test_bytes_that_are_no_text(self, tmp_path: Path) -> None:
        path = tmp_path / ".coveragerc"
        path.write_bytes(b"\xff\xfe[run]")
        with pytest.raises(hcoverage.RcfileError, match="cannot use"):
            hcoverage.read_rcfile(path)

    def test_a_directory_in_its_place(self, tmp_path: Path) -> None:
        with pytest.raises(IsADirectoryError):
            hcoverage.read_rcfile(tmp_path)
