"""The rcfile: found as coverage.py finds it, refused where a run cannot work with it, rendered."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from coverage.config import read_coverage_config

import hcoverage

if TYPE_CHECKING:
    from pathlib import Path

    from coverage.config import CoverageConfig

PARALLEL = "[run]\nparallel = True\n"


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def as_coverage_reads(text: str, directory: Path) -> CoverageConfig:
    """What coverage.py makes of the text under the name that containers find it by."""
    path = write(directory / "rendered" / ".coveragerc", text)
    return read_coverage_config(config_file=str(path), warn=pytest.fail)


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

    @pytest.mark.parametrize(
        ("name", "text", "fix"),
        [
            (".coveragerc", "[run]\nbranch = True\n", r"`parallel = True` under \[run\]"),
            (
                "pyproject.toml",
                "[tool.coverage.run]\nbranch = true\n",
                r"`parallel = true` under \[tool\.coverage\.run\]",
            ),
        ],
    )
    def test_parallel_not_on_names_the_line_to_add(
        self, tmp_path: Path, name: str, text: str, fix: str
    ) -> None:
        with pytest.raises(hcoverage.RcfileError, match=fix):
            hcoverage.read_rcfile(write(tmp_path / name, text))


class TestRenderingForContainers:
    def test_toml_says_the_same_as_ini(self, tmp_path: Path) -> None:
        toml = write(
            tmp_path / "pyproject.toml",
            """
            [project]
            name = "x"
            [tool.coverage.run]
            parallel = true
            branch = true
            source = ["pkg", "other"]
            [tool.coverage.report]
            precision = 2
            fail_under = 87.5
            exclude_also = ["# never: here", "if DEBUG:", "; odd"]
            [tool.coverage.paths]
            app = [".", "/app"]
            """,
        )
        rcfile = hcoverage.read_rcfile(toml)
        read = as_coverage_reads(rcfile.text(), tmp_path)
        for attribute in ("parallel", "branch", "source", "precision", "fail_under", "paths"):
            assert getattr(read, attribute) == getattr(rcfile.settings, attribute)
        assert r"\# never: here" in read.exclude_list
        assert r"\; odd" in read.exclude_list

    def test_a_shared_ini_file_gives_only_its_coverage_sections(self, tmp_path: Path) -> None:
        cfg = write(
            tmp_path / "setup.cfg",
            "[metadata]\nname = x\n[run]\nodd = 1\n[coverage:run]\nparallel = True\n",
        )
        text = hcoverage.read_rcfile(cfg).text()
        assert "metadata" not in text
        assert "odd" not in text
        assert as_coverage_reads(text, tmp_path).parallel

    def test_a_percent_and_a_variable_survive(self, tmp_path: Path) -> None:
        rcfile = write(tmp_path / "rc", f"{PARALLEL}context = 100%$NOWHERE\n")
        assert "100%$NOWHERE" in hcoverage.read_rcfile(rcfile).text()

    def test_container_sides_are_all_but_the_first(self, tmp_path: Path) -> None:
        rcfile = write(tmp_path / "rc", f"{PARALLEL}[paths]\na =\n  .\n  /app\n  /srv\nb =\n  x\n")
        assert hcoverage.read_rcfile(rcfile).container_sides == ("/app", "/srv")


class TestRenderingForProcessesElsewhere:
    def shared(self, tmp_path: Path, settings: str) -> CoverageConfig:
        rcfile = hcoverage.read_rcfile(write(tmp_path / "rc", PARALLEL + settings))
        return as_coverage_reads(
            rcfile.shared_text(tmp_path, tmp_path / "data", tmp_path / "startup"), tmp_path
        )

    def test_the_data_file_is_where_the_run_wants_it(self, tmp_path: Path) -> None:
        assert self.shared(tmp_path, "data_file = mine\n").data_file == str(tmp_path / "data")

    def test_source_directories_are_absolute_and_packages_stay(self, tmp_path: Path) -> None:
        (tmp_path / "src").mkdir()
        shared = self.shared(tmp_path, "source =\n    src, pkg\n    .\n")
        assert shared.source == [str(tmp_path / "src"), "pkg", str(tmp_path)]

    def test_patterns_match_as_they_are_and_from_here(self, tmp_path: Path) -> None:
        shared = self.shared(tmp_path, "omit =\n    tests/*\n    */gen/*\n    /abs/*\n")
        assert shared.run_omit == [
            "tests/*",
            str(tmp_path / "tests/*"),
            "*/gen/*",
            "/abs/*",
            str(tmp_path / "startup/*"),
        ]

    def test_a_dollar_in_a_directory_is_no_variable(self, tmp_path: Path) -> None:
        here = tmp_path / "$HOME and more"
        (here / "src").mkdir(parents=True)
        shared = self.shared(here, "source = src\nomit = gen/*\n")
        assert shared.data_file == str(here / "data")
        assert shared.source == [str(here / "src")]
        assert shared.run_omit[1] == str(here / "gen/*")

    def test_variables_are_left_for_the_process_to_fill_in(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("WHERE", "/there")
        assert self.shared(tmp_path, "source = $WHERE/src\n").source == ["/there/src"]
