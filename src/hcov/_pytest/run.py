"""`pytest --hcov`: does inside pytest what `hcov run -- pytest` does.

One process of a test run opens the session: the first one, unless a session exists already. With
`--cov` in the same run, pytest-cov measures this process and pytest-xdist's workers; the data of
all other processes is put beside pytest-cov's before it combines. In both cases `_commands.run`
sets up, merges and reports.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

import hcoverage
import hdocker
from hcov._commands import run as _run
from hcov._pytest import contexts as _pytest_contexts
from hcov._pytest.beside_cov import DATA_FILE_VARIABLE, MeasuredByPytestCov
from hcov._pytest.imports import not_rewritten
from hcov._pytest.options import REPORTS
from hcov._pytest.usage import usage_error
from hcov._tell import messages

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

_PYTEST_COV: Final = "_cov"
_TERM: Final = "term"
# pytest-cov's default, which means that coverage.py looks for an rcfile.
_NO_RCFILE: Final = ".coveragerc"


def begin(config: pytest.Config, *, beside_pytest_cov: bool) -> None:
    """Begin a session, before any test or conftest.py is loaded.

    Args:
        config: pytest's configuration, as far as it exists yet.
        beside_pytest_cov: Whether pytest-cov measures this process.

    Raises:
        UsageError: The session cannot begin; nothing has been run.
    """
    options = _read_options(config)
    if beside_pytest_cov:
        _refuse_reports_of_our_own(config)
    elif _is_measured_by_coverage():
        raise usage_error(
            "--hcov: coverage.py measures this process already: "
            "run `pytest --hcov` without `coverage run`"
        )
    kind = _BesidePytestCov if beside_pytest_cov else _WholeRun
    try:
        run = kind(config, options)
    except (hcoverage.HcoverageError, ImportError, OSError) as error:
        raise pytest.UsageError(f"--hcov: {messages.message_of(error)}") from error
    config.add_cleanup(run.close)
    config.pluginmanager.register(run, "hcov-run")
    if beside_pytest_cov:
        config.pluginmanager.register(MeasuredByPytestCov(), "hcov-beside-cov")
    _pytest_contexts.begin(config, run.at_end, with_this_process=not beside_pytest_cov)


class _WholeRun:
    """A run that has a session of its own, with all its processes in it."""

    measures_this_process = True
    reports = True

    def __init__(self, config: pytest.Config, options: _run.Options) -> None:
        """Begin.

        Raises:
            HcoverageError, ImportError, OSError: Measuring cannot be set up.
        """
        self._owner = os.getpid()
        self._options = options
        self._config = config
        self._pytest_session: pytest.Session | None = None
        self._has_finished = False
        self._told: list[str] = []
        self._directory = Path.cwd()
        with contextlib.ExitStack() as undo:
            self._open(undo)
            self._undo = undo.pop_all()

    def _open(self, undo: contextlib.ExitStack) -> None:
        watch = hcoverage.DetachedWatch()  # it starts while the session is prepared
        undo.callback(watch.close)
        self._session = undo.enter_context(
            hcoverage.open_session(self._options.rcfile, self._options.data_dir, self._options.core)
        )
        with messages.written_by(self._told.append):
            _run.tell_start(self._session, quiet=self._options.quiet or not self.reports)
        self._watch = undo.enter_context(watch)
        self._measuring = undo.enter_context(contextlib.ExitStack())
        environment = self._measuring.enter_context(
            _run.environment_of(self._session, self._options)
        )
        self._measuring.enter_context(
            hcoverage.joined(environment, measured=self.measures_this_process)
        )

    def at_end(self, call: Callable[[], None]) -> None:
        """Register a function to call when measuring ends."""
        self._measuring.callback(call)

    def close(self) -> None:
        """Close the session, however the run ended."""
        if os.getpid() == self._owner:
            self._undo.close()

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Keep pytest's session, which holds the exit status."""
        self._pytest_session = session

    @pytest.hookimpl(wrapper=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> Generator[None]:
        """Report, after all other plugins have printed and run everything."""
        yield
        if os.getpid() == self._owner:
            self._report(terminalreporter)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self) -> Generator[None]:
        """Merge, even if there is no terminal to report to."""
        yield
        if os.getpid() == self._owner and self._pytest_session is not None:
            self._finish()

    def _report(self, terminal: pytest.TerminalReporter) -> None:
        terminal.write_sep("=", "hcov")
        with messages.written_by(terminal.write):
            terminal.write("".join(self._told))
            self._finish()

    def _finish(self) -> None:
        if self._has_finished:
            return
        self._has_finished = True
        self._measuring.close()
        with self._where_it_began(), not_rewritten(self._config):
            status = _run.finish(self._session, self._options, os.getpid(), self._seen())
        if status:
            self._fail()
        self._undo.close()

    def _seen(self) -> list[hcoverage.SeenPython]:
        """End the watch; return the Pythons that started."""
        seen = self._watch.seen()
        if self._watch.is_lost:
            text = "not measured: which Pythons started is not known, as who watches that has ended"
            messages.tell(hcoverage.with_slug(text, hcoverage.Page.NOT_MEASURED))
        return seen

    @contextlib.contextmanager
    def _where_it_began(self) -> Generator[None]:
        """Change to the project's directory, in case tests have left or removed the current one."""
        now = None
        with contextlib.suppress(OSError):  # it may be gone
            now = Path.cwd()
        os.chdir(self._directory)
        try:
            yield
        finally:
            if now is not None:
                os.chdir(now)

    def _fail(self) -> None:
        session = self._pytest_session
        if session is not None and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


class _BesidePytestCov(_WholeRun):
    """A run in which pytest-cov measures this process and reports everything."""

    measures_this_process = False
    reports = False

    def _open(self, undo: contextlib.ExitStack) -> None:
        self._options = self._options._replace(
            rcfile=_rcfile_for_pytest_cov(self._config, self._options),
            result_name="pytest-cov's data",
            imported_before=(),  # what it says of these files stays
        )
        data_file = os.environ.get(DATA_FILE_VARIABLE)
        super()._open(undo)
        if data_file is not None:  # pytest-cov has yet to read it
            os.environ[DATA_FILE_VARIABLE] = data_file

    @pytest.hookimpl(wrapper=True, trylast=True)  # inside pytest-cov's wrapper, which combines
    def pytest_runtestloop(self) -> Generator[None, object, object]:
        """Put the measured data beside pytest-cov's."""
        result = yield
        if os.getpid() == self._owner:
            self._measuring.close()
            told = messages.written_by(self._told.append)
            with self._where_it_began(), not_rewritten(self._config), told:
                self._hand_over()
        return result

    def _report(self, terminal: pytest.TerminalReporter) -> None:
        if self._told:
            terminal.write_sep("=", "hcov")
            terminal.write("".join(self._told))

    def _finish(self) -> None:
        self._undo.close()

    def _hand_over(self) -> None:
        controller: Any = self._config.pluginmanager.getplugin(_PYTEST_COV).cov_controller
        controller.cov.stop()  # as pytest-cov would do next: merging is no part of the tests
        beside = Path(controller.combining_cov.config.data_file)
        name = f"{beside.name}.{socket.gethostname()}.pid{os.getpid()}.Xhcov{os.urandom(3).hex()}x"
        try:
            beside.parent.mkdir(parents=True, exist_ok=True)  # as coverage.py will
            with tempfile.TemporaryDirectory(dir=beside.parent, prefix=".hcov-") as directory:
                merged = Path(directory) / ".coverage"
                # Without this process, which pytest-cov measures.
                seen = [python for python in self._seen() if os.getpid() not in python.pids]
                result = _run.merge(self._session, merged, self._options, os.getpid(), seen).result
                merged.rename(beside.with_name(name))
        except hcoverage.NoDataError:
            return  # no subprocess and no container ran: the report is complete
        except (hcoverage.CombineError, OSError) as error:
            messages.tell(f"error: {messages.message_of(error)}")
            self._fail()
        else:
            if not _run.is_whole(result):
                self._fail()

    def _fail(self) -> None:
        if self._pytest_session is not None:  # like pytest-cov: there is no status yet
            self._pytest_session.testsfailed += 1


def _read_options(config: pytest.Config) -> _run.Options:
    given = config.known_args_namespace
    reports = given.hcov_report
    if reports is None:
        reports = _ini(config, "hcov_report")
    if reports is None:
        reports = [_TERM]
    unknown = [name for name in reports if name not in REPORTS]
    if unknown:
        raise usage_error(
            f"hcov_report: no such report: {unknown[0]!r}; there are {', '.join(REPORTS[:-1])}"
        )
    fail_under = given.hcov_fail_under
    if fail_under is None:
        fail_under = _number(config, "hcov_fail_under")
    if fail_under is not None and not 0 <= fail_under <= 100:  # noqa: PLR2004 - percent
        raise usage_error(f"--hcov-fail-under: {fail_under:g} is not between 0 and 100")
    return _run.Options(
        imported_before=_imported_files(),
        rcfile=_path(config, given.hcov_rcfile, "hcov_rcfile"),
        data_dir=_path(config, given.hcov_data_dir, "hcov_data_dir"),
        append=False,
        containers=os.environ.get(hdocker.CONTAINERS_VARIABLE) != "0",
        fail_under=fail_under,
        reports=tuple(name for name in reports if name not in (_TERM, "")),
        printed=_TERM in reports,
        quiet=False,
        core=given.hcov_core or _ini(config, "hcov_core"),
        contexts=bool(given.hcov_context or _ini(config, "hcov_context")),
    )


def _imported_files() -> tuple[str, ...]:
    """Return the files of the modules that are imported already.

    pytest has loaded its plugins, perhaps with the project itself, as a plugin or imported by one.
    """
    files = (getattr(module, "__file__", None) for module in [*sys.modules.values()])
    return tuple(file for file in files if isinstance(file, str) and file.endswith(".py"))


def _refuse_reports_of_our_own(config: pytest.Config) -> None:
    given = config.known_args_namespace
    if any(given.hcov_report or ()) or given.hcov_fail_under is not None:
        raise usage_error(
            "--hcov-report, --hcov-fail-under: with --cov the report is pytest-cov's: "
            "use --cov-report and --cov-fail-under"
        )


def _ini(config: pytest.Config, name: str) -> Any:  # noqa: ANN401 - the option's type
    try:
        return config.getini(name)
    except (TypeError, ValueError, pytest.UsageError) as error:
        raise usage_error(f"{name}: {error}") from error


def _number(config: pytest.Config, name: str) -> float | None:
    value = _ini(config, name)
    try:
        return None if value is None else float(value)  # pytest before 8.4 has only text options
    except ValueError as error:
        raise usage_error(f"{name}: {error}") from error


def _path(config: pytest.Config, given: str | None, ini: str) -> Path | None:
    """Return a path relative to the current directory, or to the ini file's."""
    if given is not None:
        return Path(given)
    text = _ini(config, ini)
    return config.rootpath / text if text else None


def _is_measured_by_coverage() -> bool:
    coverage = sys.modules.get("coverage")
    return coverage is not None and coverage.Coverage.current() is not None


def _rcfile_for_pytest_cov(config: pytest.Config, options: _run.Options) -> hcoverage.Rcfile:
    """Read the rcfile, and apply pytest-cov's options to it."""
    given = config.known_args_namespace
    named = None if given.cov_config == _NO_RCFILE else Path(given.cov_config)
    rcfile = hcoverage.as_rcfile(options.rcfile or named)
    changed: dict[str, Any] = {}
    sources = [source for source in given.cov_source if source is not True]
    if sources:
        changed["source"] = sources
    if given.cov_branch:
        changed["branch"] = True
    return rcfile.changed(**changed)
