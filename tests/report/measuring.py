"""Measure a small project by one of our ways, or by coverage.py alone, and take what is reported.

Everything runs as it does for a person: in processes, in an environment where packages are
installed and not linked to, with coverage.py's own hook in it. What measures is forked where it can
be, see `forks.py`; what is measured starts on its own, but for pytest that measures itself.
"""

from __future__ import annotations

import compileall
import dataclasses
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import venv
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Final

from tests.forks import forked

import hcoverage

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tests.report.layouts import Layout
    from tests.report.rcfiles import Rcfile

_INSTALLED: Final = (
    "click",
    "coverage",
    "dockerfile-parse",
    "iniconfig",
    "packaging",
    "pluggy",
    "pygments",
    "pytest",
    "pytest-cov",
)
_OWN: Final = ("hcov", "hcoverage", "hdocker")
# An installed plugin that takes a table of options, as coverage-conditional-plugin does.
_PLUGIN: Final = """\
from coverage import CoveragePlugin


class Conditional(CoveragePlugin):
    def __init__(self, table):
        self.table = table

    def configure(self, config):
        chosen = [name for condition, name in self.table.items() if eval(condition)]
        config.set_option("run:omit", [*(config.get_option("run:omit") or ()), *chosen])
        config.set_option("report:omit", [*(config.get_option("report:omit") or ()), *chosen])


def coverage_init(registry, options):
    registry.add_configurer(Conditional(options["omit"]))
"""
# An installed plugin that measures files which are no Python: `full.tmpl` is what `full.py` runs.
_TRACER: Final = """\
import pathlib

from coverage import CoveragePlugin, FileReporter, FileTracer


class Templates(CoveragePlugin):
    def file_tracer(self, filename):
        return Template(filename) if filename.endswith("full.py") else None

    def file_reporter(self, filename):
        return Reporter(filename)

    def find_executable_files(self, src_dir):
        yield from map(str, pathlib.Path(src_dir).rglob("*.tmpl"))


class Template(FileTracer):
    def __init__(self, filename):
        self.name = filename.removesuffix(".py") + ".tmpl"

    def source_filename(self):
        return self.name


class Reporter(FileReporter):
    def lines(self):
        return set(range(1, len(self.source().splitlines()) + 1))


def coverage_init(registry, options):
    registry.add_file_tracer(Templates())
"""
# What an editable install leaves in site-packages, of a project that differs from test to test.
_EDITABLE: Final = "import os, sys; sys.path += filter(None, [os.environ.get('MATRIX_EDITABLE')])\n"
# All of coverage.py's reports in one process, `matrix_reports`, which is quicker.
_REPORTS: Final = """\
import contextlib, glob, io, json, os, sys
sys.path += filter(None, [os.environ.get('MATRIX_EDITABLE')])
from coverage.cmdline import main
from coverage.config import read_coverage_config
def run(*arguments):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        status = main(list(arguments))
    return [status, out.getvalue()]
reports = {}
name = os.path.abspath(read_coverage_config(True, warn=print).data_file)
if sys.argv[1:] == ["combine"] and glob.glob(glob.escape(name) + ".*"):
    # pytest-cov has combined what there was by then.
    reports["combine"] = run("combine", "-q", *(["--append"] if os.path.exists(name) else []))
reports |= {"report": run("report"), "json": run("json", "-q", "-o", "-")}
print(json.dumps(reports))
"""
STEPS: Final = """\
import os, pathlib, shutil, subprocess, sys
import hcoverage
rcfile, *command = sys.argv[1:]
hcoverage.inject(rcfile)
try:
    for setup in hcoverage.coverage_subprocess_commands(coveragerc=rcfile):
        subprocess.run(["sh", "-ec", setup], check=True)
    status = subprocess.run(["coverage", "run", "--parallel-mode", *command]).returncode
finally:
    hcoverage.remove()
from_containers = list(pathlib.Path("coverage_data").glob(".coverage.*"))
for merge in hcoverage.combine_commands(reports=["report"]):
    if from_containers or not merge.startswith("cp "):
        status = status or subprocess.run(["sh", "-ec", merge]).returncode
shutil.rmtree("coverage_data")
sys.exit(status)
"""
# What differs in the names of files from process to process.
_PART: Final = re.compile(rf"(?<=\.){re.escape(socket.gethostname())}\..*")
_IGNORED: Final = ("__pycache__", ".pytest_cache")


@dataclass(frozen=True)
class Result:
    """What came of measuring a project.

    Attributes:
        status: The exit status of what measured.
        out: What it printed.
        err: What it told.
        new: The names of what it left in the project.
        report: `coverage report` afterwards: exit status and text.
        json: `coverage json` afterwards: exit status, and all that does not change with time.
    """

    status: int
    out: str
    err: str
    new: frozenset[str]
    report: tuple[int, str]
    json: tuple[int, Any]


@dataclass(frozen=True)
class Environment:
    """A virtual environment in which hcoverage, coverage.py and pytest are installed.

    Attributes:
        directory: Where it is.
    """

    directory: Path

    @property
    def python(self) -> str:
        """Its interpreter."""
        return str(self.directory / "bin" / "python")

    @classmethod
    def make(cls, directory: Path, layouts: Iterable[Layout]) -> Environment:
        """Make it of what the tests themselves run with.

        Args:
            directory: Where.
            layouts: What is laid out in it; the code of some is installed.
        """
        venv.create(directory, symlinks=True)
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        site_packages = directory / "lib" / version / "site-packages"
        for name in _INSTALLED:
            _install(metadata.distribution(name), site_packages)
        own = metadata.distribution("hcoverage")
        for package in _OWN:
            shutil.copytree(Path(hcoverage.__file__).parents[1] / package, site_packages / package)
        dist_info = f"hcoverage-{own.version}.dist-info"
        shutil.copytree(str(own.locate_file(dist_info)), site_packages / dist_info)
        (site_packages / "matrix_plugin.py").write_text(_PLUGIN)
        (site_packages / "matrix_tracer.py").write_text(_TRACER)
        (site_packages / "matrix_reports.py").write_text(_REPORTS)
        (site_packages / "zz_editable.pth").write_text(_EDITABLE)
        for layout in filter(lambda layout: layout.installed, layouts):
            for name, text in layout.files.items():
                if name.startswith(layout.package):
                    _write(site_packages / PurePath(name).relative_to(layout.code), text)
        for package in _OWN:
            compileall.compile_dir(site_packages / package, quiet=2)
        made = cls(directory)
        for name in ("coverage", "hcov"):
            script = directory / "bin" / name
            script.write_text(f"#!/bin/sh\nexec '{made.python}' -m {name} \"$@\"\n")
            script.chmod(0o755)
        return made


def _install(distribution: metadata.Distribution, site_packages: Path) -> None:
    tops = {file.parts[0] for file in distribution.files or () if file.parts[0] != ".."}
    for top in tops - {"__pycache__"}:
        source = Path(str(distribution.locate_file(top)))
        if source.is_dir():
            shutil.copytree(source, site_packages / top)
        else:
            shutil.copy2(source, site_packages / top)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    encoding = "latin-1" if "coding: latin-1" in text else "utf-8"
    path.write_text(text, encoding=encoding, newline="")


@dataclass(frozen=True)
class Project:
    """A project that was laid out.

    Attributes:
        directory: Where it is.
        layout: How it is laid out.
        rcfile: Its rcfile.
        python: What it runs on.
        variables: The environment.
    """

    directory: Path
    layout: Layout
    rcfile: Rcfile
    python: Environment
    variables: Mapping[str, str]

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the project."""
        return subprocess.run(
            command,
            cwd=self.directory,
            env=self.variables,
            capture_output=True,
            text=True,
            check=False,
        )

    def measured_by(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run what measures it: a module by its name, or a program, of the project's Python."""
        kind, name, *rest = arguments
        if kind != "-m" or self.layout.editable:  # which is seen as a Python starts
            return self.run(self.python.python, *arguments)
        return forked(
            name, *rest, env=self.variables, directory=self.directory, python=self.python.python
        )

    def listed(self) -> frozenset[str]:
        """Give the names of all files and directories in it."""
        names: set[str] = set()
        for directory, subdirectories, files in os.walk(self.directory):
            subdirectories[:] = [name for name in subdirectories if name not in _IGNORED]
            below = Path(directory).relative_to(self.directory)
            names.update(str(below / _PART.sub("*", name)) for name in [*subdirectories, *files])
        return frozenset(names)


def lay_out(
    parent: Path, layout: Layout, rcfile: Rcfile, python: Environment, *, alone: bool
) -> Project:
    """Write a project.

    Args:
        parent: Where to.
        layout: How.
        rcfile: Its rcfile.
        python: What it runs on.
        alone: Whether coverage.py alone measures it, and has to be told to measure children.
    """
    directory = parent / rcfile.directory
    elsewhere = parent / "elsewhere"
    elsewhere.mkdir(parents=True)

    def filled(text: str) -> str:
        return layout.filled(text).replace("<here>", str(directory))

    for name, text in layout.files.items():
        _write(directory / name, text)
    for name, target in layout.links.items():
        (directory / name).symlink_to(target)
    for name, text in rcfile.files.items():
        _write(directory / filled(name), text)
    variables = hcoverage.unmeasured_environment(os.environ)
    path = [str(directory / name) for name in layout.path]
    if alone and layout.children:
        path.append(str(directory))  # coverage.py loads plugins in it before the tests' own path is
    variables |= {
        "PATH": f"{python.directory / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(path),
        "PYTHONDONTWRITEBYTECODE": "1",
        "MATRIX_EDITABLE": str(directory / layout.editable) if layout.editable else "",
        "MATRIX_ELSEWHERE": str(directory if alone else elsewhere),
        "HCOVERAGE_CONTAINERS": "0",
        **{name: filled(value) for name, value in rcfile.environment.items()},
    }
    variables.pop("PYTEST_ADDOPTS", None)
    project = Project(directory, layout, rcfile, python, variables)
    if rcfile.by_init:
        done = project.run("hcov", "init")
        assert done.returncode == 0, done.stderr
    written = directory / rcfile.file
    if alone and layout.children:
        found = written.read_text() if rcfile.by_init else rcfile.text
        _write(written, filled(rcfile.measuring_children(found or "")))
    elif rcfile.text is not None:
        _write(written, filled(rcfile.text))
    return project


def measure(project: Project, *command: str) -> Result:
    """Measure a project by one of our ways, and report."""
    before = project.listed()
    done = project.measured_by(*command)
    new = project.listed() - before
    return _reported(project, done, new)


def measure_alone(project: Project, *command: str) -> Result:
    """Measure a project by coverage.py's own command, combine if there is a need to, and report."""
    before = project.listed()
    done = project.measured_by(*command)
    new = project.listed() - before
    result = _reported(project, done, new, "combine")
    return dataclasses.replace(result, new=result.new | project.listed() - before)


def _reported(
    project: Project,
    done: subprocess.CompletedProcess[str],
    new: frozenset[str],
    *arguments: str,
) -> Result:
    reported = forked(
        "matrix_reports",
        *arguments,
        env=project.variables,
        directory=project.directory,
        python=project.python.python,
    )
    assert reported.returncode == 0, reported.stderr
    here = str(project.directory)
    reports = json.loads(reported.stdout)
    status, text = reports["json"]
    content: Any = text
    if text.startswith("{"):
        content, _ = json.JSONDecoder().raw_decode(text)  # what it says of `fail_under` comes after
        del content["meta"]["timestamp"]
        content = json.loads(json.dumps(content).replace(json.dumps(here)[1:-1], "<here>"))
    report_status, report = reports["report"]
    return Result(
        done.returncode,
        done.stdout.replace(here, "<here>"),
        done.stderr.replace(here, "<here>"),
        new,
        (report_status, report.replace(here, "<here>")),
        (status, content),
    )
