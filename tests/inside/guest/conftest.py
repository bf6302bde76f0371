"""Runs a program bare and measured, side by side: the measured one has to end as the other does."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final

import pytest

import hcoverage
from hcoverage._read.recording_files import DataDirectory, read_files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RCFILE: Final = "[run]\nparallel = True\nsource = .\n"
# Of a program that hangs; the machine may be busy.
_LIMIT: Final = 240.0  # seconds


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a process ended: its status, and what it printed."""

    status: int
    out: str
    err: str


@dataclasses.dataclass(frozen=True)
class Guests:
    """A project, and a session that measures in it.

    Attributes:
        project: The project's directory.
        data: The data directory.
        bare: An environment in which nothing is measured.
        measured: The session's.
    """

    project: Path
    data: Path
    bare: dict[str, str]
    measured: dict[str, str]

    def write(self, name: str, source: str) -> Path:
        """Write a file of the project."""
        file = self.project / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(source, encoding="utf-8")
        return file

    def run(self, environment: dict[str, str], *command: str, **options: Any) -> Ended:  # noqa: ANN401
        """Run an interpreter to its end."""
        done = subprocess.run(
            [sys.executable, *command],
            cwd=self.project,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=_LIMIT,
            **options,
        )
        return Ended(done.returncode, done.stdout, re.sub(r"0x[0-9a-f]+", "0x", done.stderr))

    def both(self, *command: str, **options: Any) -> tuple[Ended, Ended]:  # noqa: ANN401
        """Run it bare, and measured."""
        return (
            self.run(self.bare, *command, **options),
            self.run(self.measured, *command, **options),
        )

    def read(self) -> DataDirectory:
        """Read what was recorded."""
        return read_files(self.data.iterdir())

    def lines(self, file: Path) -> set[int]:
        """The lines of a source that ran, in all processes."""
        return {
            line
            for recording in self.read().recordings
            for source in recording.sources
            if source.path == str(file.resolve())
            for line in source.lines
        }


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The project; a module of tests has one with sources that are older than the run."""
    project = tmp_path / "project"
    project.mkdir()
    return project


@pytest.fixture
def guests(tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Guests]:
    """A project of the recorder's in which programs are run bare and measured."""
    with _session(tmp_path, project, monkeypatch, "recorder") as guests:
        yield guests


@pytest.fixture
def branching(tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Guests]:
    """A project of the recorder's in which branches are measured, too."""
    with _session(tmp_path, project, monkeypatch, "recorder", "branch = True\n") as guests:
        yield guests


@pytest.fixture
def covered(tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Guests]:
    """A project in which programs are measured by coverage.py in a session of ours."""
    with _session(tmp_path, project, monkeypatch, "coverage") as guests:
        yield guests


@contextlib.contextmanager
def _session(
    tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch, core: str, settings: str = ""
) -> Iterator[Guests]:
    monkeypatch.chdir(project)
    rcfile = project / ".coveragerc"
    rcfile.write_text(RCFILE + settings)
    own = ("COVERAGE", "COV_", "HCOVERAGE", "PYTHON")
    plain = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    plain["PYTHONDONTWRITEBYTECODE"] = "1"
    for name in [name for name in os.environ if name.startswith(own)]:
        monkeypatch.delenv(name)
    with hcoverage.open_session(rcfile, tmp_path / "data", core=core) as session:
        # An empty value says: none, not even an ancestor's.
        bare = {**plain, "HCOVERAGE_SESSION": ""}
        yield Guests(project, tmp_path / "data", bare, {**plain, **session.environment})
