"""The pytest plugin's options: the only part that a run without `--hcov` loads.

pytest imports this file wherever hcoverage is installed. So, except the options' values, it imports
only modules that pytest has imported itself. The work of `--hcov` is in `run`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import pytest

from hcov._pytest.options import CONTEXTS, CORES, REPORTS

if TYPE_CHECKING:
    from collections.abc import Generator

# With these pytest shows something and runs no test.
_SHOWING: Final = (
    "help",
    "version",
    "collectonly",
    "markers",
    "showfixtures",
    "show_fixtures_per_test",
    "cacheshow",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options, each of them also for the configuration file."""
    group = parser.getgroup("hcov", "coverage of all processes and containers (hcoverage)")
    group.addoption(
        "--hcov",
        action="store_true",
        default=None,
        help="Measure this process, its subprocesses and containers, and report at the end. With "
        "--cov: add subprocesses and containers to pytest-cov's report.",
    )
    group.addoption(
        "--no-hcov", action="store_true", help="Measure nothing, whatever other options say."
    )
    group.addoption(
        "--hcov-report",
        action="append",
        choices=REPORTS,
        metavar="KIND",
        help="term (the default), html, xml, json or lcov; may be given several times. "
        "`--hcov-report=` for none.",
    )
    group.addoption(
        "--hcov-fail-under",
        type=float,
        metavar="PERCENT",
        help="Fail if the total is below. [default: the rcfile's fail_under]",
    )
    group.addoption("--hcov-core", choices=CORES, help="What measures. [default: auto]")
    group.addoption(
        "--hcov-context",
        choices=CONTEXTS,
        help="test: each line gets the node id of its test as coverage.py's context, also in "
        "subprocesses and containers.",
    )
    group.addoption(
        "--hcov-baggage",
        action="store_true",
        default=None,
        help="With --hcov-context=test: HTTP requests of tests (requests, httpx, urllib) name "
        "their test in the `baggage` header, for services with hcoverage.middleware.",
    )
    group.addoption(
        "--hcov-rcfile",
        metavar="FILE",
        help="coverage.py configuration. [default: the one that coverage.py finds]",
    )
    group.addoption(
        "--hcov-data-dir",
        metavar="DIR",
        help="Where processes and containers write their data. [default: coverage_data if "
        "it exists, else a private directory below TMPDIR]",
    )
    group.addoption(
        "--hcov-affected",
        action="store_true",
        help="Run only the tests that a change needs, from what an earlier run with "
        "--hcov-context=test recorded; `hcov affected --why TEST` prints why.",
    )
    group.addoption(
        "--hcov-since",
        metavar="REV",
        help="With --hcov-affected: also the tests for all changes since this git revision, even "
        "if they have passed.",
    )
    parser.addini("hcov", "As --hcov.", "bool", default=None)
    parser.addini("hcov_baggage", "As --hcov-baggage.", "bool", default=None)
    parser.addini("hcov_report", "As --hcov-report; a list.", "args", default=None)
    help_of_fail_under = "As --hcov-fail-under."
    if pytest.version_tuple >= (8, 4):
        parser.addini("hcov_fail_under", help_of_fail_under, "float", default=None)
    else:
        parser.addini("hcov_fail_under", help_of_fail_under, "string", default=None)
    for name in ("core", "rcfile", "data_dir", "context"):
        option = name.replace("_", "-")
        parser.addini(f"hcov_{name}", f"As --hcov-{option}.", "string", default=None)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None]:
    """Begin before the first conftest.py, if that is requested."""
    if _is_asked_for(early_config):
        # Imported here: only a run with `--hcov` needs it.
        from hcov._pytest.imports import not_rewritten  # noqa: PLC0415

        with not_rewritten(early_config):
            _begin(early_config)
    return (yield)


def pytest_configure(config: pytest.Config) -> None:
    """Choose the tests that a change needs, if that is requested."""
    if config.option.hcov_affected:
        from hcov._pytest.affected import choose  # noqa: PLC0415 - asleep unless asked

        choose(config)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Report options that had no effect because nothing was measured."""
    options = config.option
    if options.hcov_context and not (options.no_hcov or options.hcov or config.getini("hcov")):
        terminalreporter.write_line("hcov: --hcov-context does nothing without --hcov [usage]")
    if options.hcov_baggage and not (options.hcov_context or config.getini("hcov_context")):
        line = "hcov: --hcov-baggage does nothing without --hcov-context=test [usage]"
        terminalreporter.write_line(line)


def _begin(config: pytest.Config) -> None:
    beside_pytest_cov = _is_pytest_cov_asked_for(config)
    if os.environ.get("HCOVERAGE_SESSION"):
        from hcov._pytest.inside import join  # noqa: PLC0415 - as above

        join(config, beside_pytest_cov=beside_pytest_cov)
    else:
        from hcov._pytest.run import begin  # noqa: PLC0415 - as above

        begin(config, beside_pytest_cov=beside_pytest_cov)


def _is_asked_for(config: pytest.Config) -> bool:
    options = config.known_args_namespace
    if options.no_hcov or any(getattr(options, name, False) for name in _SHOWING):
        return False
    return bool(options.hcov or config.getini("hcov"))


def _is_pytest_cov_asked_for(config: pytest.Config) -> bool:
    options = config.known_args_namespace
    is_there = config.pluginmanager.hasplugin("pytest_cov")
    return is_there and bool(getattr(options, "cov_source", None)) and not options.no_cov
