"""Rcfiles as projects write them, in each form that coverage.py reads.

`<code>`, `<package>`, `<module>`, `<top>` and `<tests>` stand for what they are in the layout, and
`<here>` for the project's directory.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_RUN_HEADER: Final = re.compile(r"^\[(?:coverage:|tool\.coverage\.)?run\][^\n]*\n", re.MULTILINE)
_MEASURING: Final = re.compile(
    r"^(branch|parallel|data_file|concurrency|patch|sigterm|core|timid|(dynamic_)?context|debug"
    r"|disable_warnings|plugins|command_line|cover_pylib|relative_files) *=",
    re.MULTILINE,
)
_PATCH: Final = re.compile(r"^patch *= *(.*)\n", re.MULTILINE)
_HEADERS: Final = {
    ".coveragerc": "[run]",
    ".coveragerc.toml": "[run]",
    "setup.cfg": "[coverage:run]",
    "tox.ini": "[coverage:run]",
    "pyproject.toml": "[tool.coverage.run]",
}


@dataclass(frozen=True)
class Rcfile:
    """An rcfile, and what goes with it.

    Attributes:
        name: What to call it.
        text: Its text; None for no rcfile at all.
        file: Where it is in the project.
        files: What else is in the project, by path.
        environment: Variables that are set.
        directory: The name of the project's directory.
        by_init: Whether `hcov init` is to write it.
    """

    name: str
    text: str | None
    file: str = ".coveragerc"
    files: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    directory: str = "project"
    by_init: bool = False

    @property
    def loses_threads(self) -> bool:
        """Whether coverage.py does not measure threads under it."""
        found = re.search(r"^concurrency *= *(.*(?:\n +.*)*)", self.text or "", re.MULTILINE)
        return found is not None and "thread" not in found[1]

    @property
    def changes_measuring(self) -> bool:
        """Whether a process is measured in another way under it, and not only what is reported."""
        return bool(self.environment) or _MEASURING.search(self.text or "") is not None

    @property
    def has_plugin(self) -> bool:
        """Whether coverage.py has to import a plugin of the project for it."""
        return any(name.startswith("tools/") for name in self.files)

    def measuring_children(self, text: str) -> str:
        """Change the text of this rcfile so that coverage.py measures children as well."""
        header = _HEADERS.get(self.file, "[run]")
        toml = self.file.endswith(".toml")
        found = _PATCH.search(text)
        if found is not None:
            patches = re.findall(r"\w+", found[1])
            text = text.replace(found[0], "")
        else:
            patches = []
        names = [*patches, "subprocess"]
        value = f"[{', '.join(repr(name) for name in names)}]" if toml else ", ".join(names)
        if not _RUN_HEADER.search(text):
            text = f"{text}\n{header}\n"
        return _RUN_HEADER.sub(lambda match: f"{match[0]}patch = {value}\n", text, count=1)


CONFIGURER: Final = """\
from coverage import CoveragePlugin


class Exclude(CoveragePlugin):
    def configure(self, config):
        lines = config.get_option("report:exclude_lines")
        config.set_option("report:exclude_lines", [*lines, *self.lines])

    def __init__(self, lines):
        self.lines = lines


def coverage_init(registry, options):
    lines = options.get("lines", ["return f"])
    if isinstance(lines, str):
        lines = lines.split("|")
    registry.add_configurer(Exclude(lines))
"""
IDLE_CONFIGURER: Final = """\
from coverage import CoveragePlugin


class Idle(CoveragePlugin):
    def configure(self, config):
        pass


def coverage_init(registry, options):
    registry.add_configurer(Idle())
"""
# Other tools' sections have names of coverage.py's.
TOX: Final = """\
[tox]
envlist = py313

[testenv]
commands = coverage run -m pytest

[coverage:run]
source = <code>

[coverage:report]
show_missing = true

[report]
exclude_lines =
    def
    class
"""
PYPROJECT: Final = '[build-system]\nrequires = ["hatchling"]\n\n[project]\nname = "app"\n\n'
_Options = Mapping[str, object]


def _run(name: str, *lines: str, **more: object) -> Rcfile:
    return Rcfile(name, "\n".join(["[run]", *lines, ""]), **more)  # type: ignore[arg-type]


def _toml(name: str, text: str, **more: object) -> Rcfile:
    return Rcfile(name, PYPROJECT + text, "pyproject.toml", **more)  # type: ignore[arg-type]


RCFILES: Final = (
    # None, and ours.
    Rcfile("none", None),
    Rcfile("init", None, by_init=True),
    Rcfile("none-in-comma", None, directory="a,b"),
    # What counts.
    _run("parallel", "parallel = True", "source = <code>"),
    _run("empty"),
    _run("code", "source = <code>"),
    _run("dot", "source = ."),
    _run("package", "source = <package>"),
    _run("module", "source = <module>"),
    _run("absolute", "source = <here>/<code>"),
    _run("slash", "source = ./<code>/"),
    _run("two", "source =", "    <package>", "    <testdir>"),
    _run("source-pkgs", "source_pkgs = <module>"),
    _run("source-pkgs-top", "source_pkgs = <top>", "branch = True"),
    _run("source-dirs", "source_dirs = <code>"),
    _run("source-and-pkgs", "source = <testdir>", "source_pkgs = <module>"),
    _run("omit-dot", "source = ./<code>", "omit = ./<tests>"),
    _run("include", "include = <package>/*"),
    _run("include-star", "include =", "    */half.py", "    */never.py"),
    _run("omit", "source = <code>", "omit = <tests>"),
    _run("omit-star", "source = .", "omit =", "    */test_*.py", "    */__main__.py"),
    _run("omit-only", "omit = <package>/half.py"),
    _run("omit-absolute", "omit = <here>/<package>/half.py", "source = ."),
    _run("include-omit", "include = <package>/*", "omit = */half.py"),
    Rcfile("report-omit", "[run]\nsource = <code>\n[report]\nomit = <tests>\n    */never.py\n"),
    Rcfile("report-include", "[run]\nsource = .\n[report]\ninclude = <package>/*\n"),
    _run("relative-files", "relative_files = True", "source = <code>"),
    _run("relative-files-none", "relative_files = True", "branch = True"),
    Rcfile(
        "paths",
        "[run]\nsource = <code>\n[paths]\nsource =\n    <code>\n    */site-packages\n    /app\n",
    ),
    Rcfile(
        "namespace-packages",
        "[run]\nsource = <code>\n[report]\ninclude_namespace_packages = True\n",
    ),
    # How it is measured.
    _run("branch", "branch = True", "source = <code>"),
    _run("branch-parallel", "branch = True", "parallel = True", "omit = <tests>"),
    _run("data-file", "data_file = build/cov/.coverage", "source = <code>"),
    _run("data-file-name", "data_file = elsewhere.cov", "branch = True"),
    _run("multiprocessing", "concurrency = multiprocessing", "source = <code>"),
    _run("thread", "concurrency = thread", "source = <code>"),
    _run("both", "concurrency = multiprocessing,thread", "parallel = true", "sigterm = true"),
    _run("patch", "patch = subprocess", "source = <code>"),
    _run("patch-exit", "patch = _exit, subprocess", "source_pkgs = <module>"),
    _run("sigterm", "sigterm = True", "source = ."),
    _run("sysmon", "core = sysmon", "source = <code>"),
    _run("ctrace", "core = ctrace", "branch = True"),
    _run("pytrace", "core = pytrace", "source = <code>"),
    _run("timid", "timid = True", "source = <code>"),
    Rcfile(
        "dynamic-context",
        "[run]\ndynamic_context = test_function\nsource = .\n[json]\nshow_contexts = True\n",
    ),
    Rcfile("context", "[run]\ncontext = nightly\nsource = .\n[json]\nshow_contexts = True\n"),
    _run("warnings", "disable_warnings = no-data-collected", "source = <code>"),
    _run("debug", "debug = sys", "debug_file = debug.out", "source = <code>"),
    # Plugins.
    _run(
        "plugin",
        "plugins = tools.p",
        "source = <code>",
        files={"tools/__init__.py": "", "tools/p.py": IDLE_CONFIGURER},
    ),
    Rcfile(
        "plugin-options",
        "[run]\nplugins = tools.p\n[tools.p]\nlines = return f|raise Not\n",
        files={"tools/__init__.py": "", "tools/p.py": CONFIGURER},
    ),
    _toml(
        "plugin-options-toml",
        '[tool.coverage.run]\nplugins = ["tools.p"]\nsource = ["<code>"]\n'
        '[tool.coverage.tools.p]\nlines = ["return f", "raise Not"]\n',
        files={"tools/__init__.py": "", "tools/p.py": CONFIGURER},
    ),
    _toml(
        "plugin-installed",
        '[tool.coverage.run]\nplugins = ["matrix_plugin"]\nsource = ["<code>"]\n'
        '[tool.coverage.matrix_plugin.omit]\n"1 < 2" = "*/full.py"\n"2 < 1" = "*/half.py"\n',
    ),
    _run(
        "tracer",
        "plugins = matrix_tracer",
        "source = <code>",
        files={"<package>/full.tmpl": "one\ntwo\nthree\n", "<package>/never.tmpl": "one\n"},
    ),
    # What is reported.
    Rcfile(
        "exclude-also",
        "[report]\nexclude_also =\n    def __repr__\n    raise NotImplementedError\n"
        "    if TYPE_CHECKING:\n    # comments, too\n",
    ),
    Rcfile(
        "exclude-lines", "[run]\nbranch = on\n[report]\nexclude_lines =\n    def (home|later)\n"
    ),
    Rcfile("fail-under", "[run]\nsource = <code>\n[report]\nfail_under = 80\nprecision = 2\n"),
    Rcfile("fail-under-met", "[run]\nsource = <code>\n[report]\nfail_under = 20\n"),
    Rcfile("skip", "[run]\nsource = .\n[report]\nskip_empty = True\nskip_covered = True\n"),
    Rcfile(
        "missing",
        "[run]\nbranch = True\nsource = .\n[report]\nshow_missing = True\nprecision = 1\n"
        "sort = -Cover\n",
    ),
    Rcfile("markdown", "[run]\nsource = <code>\n[report]\nformat = markdown\n"),
    Rcfile("total", "[run]\nsource = <code>\n[report]\nformat = total\n"),
    Rcfile(
        "html",
        "[run]\nsource = <code>\n[html]\ndirectory = build/html\ntitle = 100% of it\n"
        "[xml]\noutput = build/cov.xml\n",
    ),
    # In which file.
    Rcfile(
        "setup-cfg",
        "[metadata]\nname = app\n\n[coverage:run]\nbranch = True\nsource = <code>\n"
        "[coverage:report]\nomit = <tests>\n[flake8]\nmax-line-length = 100\n",
        "setup.cfg",
    ),
    Rcfile("tox-ini", TOX, "tox.ini"),
    _toml(
        "pyproject",
        '[tool.coverage.run]\nbranch = true\nsource = ["<code>"]\n'
        '[tool.coverage.report]\nfail_under = 100\nexclude_also = ["if TYPE_CHECKING:", "#x"]\n',
    ),
    _toml(
        "pyproject-strings",
        '[tool.coverage.run]\nsource = ["<code>"]\nbranch = "true"\nomit = ["<tests>"]\n'
        '[tool.coverage.report]\nprecision = "1"\nfail_under = 55.5\n',
    ),
    _toml(
        "pyproject-pkgs",
        '[tool.coverage.run]\nsource_pkgs = ["<module>", "tests"]\nparallel = true\n'
        '[tool.coverage.paths]\nsource = ["<code>", ".tox/*/lib/python*/site-packages"]\n'
        "[tool.coverage.report]\nshow_missing = true\nskip_covered = true\n",
    ),
    Rcfile(
        "coveragerc-toml",
        '[run]\nsource = ["<code>"]\nbranch = true\n[report]\nexclude_also = ["def __repr__"]\n',
        ".coveragerc.toml",
    ),
    Rcfile(
        "named-by-variable",
        "[run]\nsource = <code>\n[report]\nomit = */never.py\n",
        "conf/cover.ini",
        environment={"COVERAGE_RCFILE": "conf/cover.ini"},
    ),
    _run("data-file-by-variable", "source = .", environment={"COVERAGE_FILE": "build/of-variable"}),
    _run("core-by-variable", "source = <code>", environment={"COVERAGE_CORE": "pytrace"}),
    # What other settings ask for.
    _run("command-line", "command_line = -m unittest", "source = <code>"),
    _run("pylib", "cover_pylib = True", "source = <code>"),
    _run("absent-source", "source =", "    <package>", "    nowhere"),
    Rcfile(
        "report-contexts",
        "[run]\ncontext = nightly\nsource = .\n[report]\ncontexts = night.*\n",
    ),
    _toml(
        "exclude-lines-many",
        '[tool.coverage.report]\nexclude_also = ["def show[\\\\s\\\\S]*?here", "; odd", "100%"]\n'
        "[tool.coverage.html]\nshow_contexts = true\n",
    ),
    # How it is written.
    _run(
        "variables",
        "source = ${MATRIX_CODE}",
        "omit = ${MATRIX_UNSET-*/full.py}",
        "data_file = $MATRIX_DATA",
        environment={"MATRIX_CODE": "<code>", "MATRIX_DATA": "measured.cov"},
    ),
    Rcfile(
        "comments",
        "# Ours\n[run]\n; of this\nsource =\n    # the code\n    <code>\n\n[report]\n# nothing\n",
    ),
    _run("comma-in-directory", "source = <code>", directory="one, two"),
    _run("space-in-directory", "branch = True", "source = <package>", directory="one two"),
    _run("brackets-in-directory", "source = .", "omit = <tests>", directory="one [x]"),
    _run("dollar-in-directory", "source = <code>", "omit = <tests>", directory="a$HOME"),
)


def generated(number: int) -> Iterator[Rcfile]:
    """Write rcfiles by chance, the same each time."""
    for seed in range(number):
        yield _by_chance(random.Random(seed), f"chance-{seed}")  # noqa: S311 - nothing secret


_WHAT: Final[tuple[_Options, ...]] = (
    {},
    {"source": ["<code>"]},
    {"source": ["."]},
    {"source": ["<package>"]},
    {"source": ["<module>"]},
    {"source": ["<code>", "<testdir>"]},
    {"source": ["<here>"]},
    {"source_pkgs": ["<top>"]},
    {"source_pkgs": ["<module>", "tests"]},
    {"source_dirs": ["<package>"]},
    {"source_dirs": [".", "<code>"]},
    {"source_pkgs": ["<module>"], "source_dirs": ["."]},
    {"include": ["<package>/*", "<tests>"]},
    {"include": ["*/half.py", "never.py"]},
    {"include": ["<here>/*"]},
)
_LESS: Final[tuple[_Options, ...]] = (
    {},
    {},
    {"omit": ["<tests>"]},
    {"omit": ["*/tests/*", "**/never.py"]},
    {"omit": ["<package>/full.py", "*/__main__.py"]},
    {"omit": ["<here>/<code>/*never*"]},
    {"omit": ["**/sub/*", "setup.py", "conftest.py"]},
)
_HOW: Final[tuple[_Options, ...]] = (
    {},
    {},
    {"parallel": True},
    {"parallel": True, "concurrency": ["multiprocessing", "thread"], "sigterm": True},
    {"concurrency": ["thread"]},
    {"concurrency": ["multiprocessing"]},
    {"relative_files": True},
    {"relative_files": True, "parallel": True},
    {"data_file": "out/.cov"},
    {"data_file": "<here>/.coverage.main"},
    {"patch": ["subprocess"]},
    {"core": "ctrace"},
    {"context": "ci"},
    {"disable_warnings": ["module-not-imported", "no-data-collected"]},
)
_REPORT: Final[tuple[_Options, ...]] = (
    {},
    {"show_missing": True},
    {"omit": ["<tests>"], "precision": 2},
    {"include": ["<package>/*"], "skip_empty": True},
    {"exclude_also": ["def __repr__", "raise NotImplementedError", "@overload"]},
    {"exclude_lines": ["pragma: no cover", "if TYPE_CHECKING:"], "fail_under": 60},
    {"skip_covered": True, "sort": "Miss"},
    {"fail_under": 90, "precision": 1},
    {"ignore_errors": True, "include_namespace_packages": True},
    {"partial_branches": ["pragma: no branch", "for number"]},
)
_PATHS: Final[tuple[_Options, ...]] = (
    {},
    {},
    {"source": ["<code>", "*/site-packages"]},
    {"source": ["<package>", ".tox/*/lib/python*/site-packages/<top>"], "tests": ["tests", "/t"]},
)


def _by_chance(chance: random.Random, name: str) -> Rcfile:
    run = {**chance.choice(_WHAT), **chance.choice(_LESS), **chance.choice(_HOW)}
    if chance.random() < 0.5:
        run["branch"] = True
    sections = {"run": run, "report": chance.choice(_REPORT), "paths": chance.choice(_PATHS)}
    file = chance.choice([".coveragerc", *_HEADERS])
    return Rcfile(f"{name}", _written(sections, file), file)


def _written(sections: Mapping[str, Mapping[str, object]], file: str) -> str:
    prefix = _HEADERS[file][1:].removesuffix("run]")
    write = _toml_value if file.endswith(".toml") else _ini_value
    lines = []
    for section, options in sections.items():
        if options:
            lines.append(f"[{prefix}{section}]")
            lines += [f"{option} = {write(value)}" for option, value in options.items()]
    return "\n".join([*lines, ""])


def _ini_value(value: object) -> str:
    if isinstance(value, list):
        return "".join(f"\n    {item}" for item in value)
    return str(value)


def _toml_value(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_toml_value, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)
