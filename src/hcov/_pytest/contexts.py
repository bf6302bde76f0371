"""`--hcov-context=test`: tells all processes of a run which test is running."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import hcoverage
from hcov._pytest.options import CONTEXTS
from hcov._pytest.usage import usage_error
from hcov._tell.messages import message_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator


def begin(
    config: pytest.Config,
    at_end: Callable[[Callable[[], None]], object],
    *,
    with_this_process: bool,
) -> None:
    """Make tests contexts, in a session, if that is requested.

    Args:
        config: pytest's configuration, as far as it exists yet.
        at_end: Registers a function to call at the end.
        with_this_process: Whether we measure this process, too.

    Raises:
        UsageError: Contexts are not possible.
    """
    if not _is_wanted(config):
        return
    from hcov._pytest.test_notes import note_tests  # noqa: PLC0415 - few runs have contexts

    is_worker = "PYTEST_XDIST_WORKER" in os.environ
    if with_this_process:
        note_tests(config, with_state=not is_worker)
    has_baggage = bool(config.known_args_namespace.hcov_baggage or config.getini("hcov_baggage"))
    if _distributes(config) and not is_worker:
        # Each worker runs its own tests; a service that this process starts serves them all.
        if has_baggage:
            at_end(_announced())
        return
    try:
        contexts = _TestContexts(with_this_process=with_this_process)
    except (hcoverage.ContextError, OSError) as error:
        raise pytest.UsageError(f"--hcov-context: {message_of(error)}") from error
    at_end(contexts.end)
    if has_baggage:
        from hcov._pytest.baggage import send_with_requests  # noqa: PLC0415 - fewer have that

        at_end(send_with_requests(contexts.name_of_test))
    config.pluginmanager.register(contexts, "hcov-contexts")


def _is_wanted(config: pytest.Config) -> bool:
    """Return whether tests become contexts here.

    They do not in a pytest that a test runs: all it runs belongs to that test.
    """
    options = config.known_args_namespace
    wanted = options.hcov_context or config.getini("hcov_context")
    if wanted and wanted not in CONTEXTS:
        raise usage_error(f"hcov_context: no such context: {wanted!r}; there is 'test'")
    is_inner = hcoverage.CONTEXT_FILE_VARIABLE in os.environ
    return bool(wanted) and not is_inner


def _announced() -> Callable[[], None]:
    """Let processes that start here have contexts, since requests will name tests.

    Returns:
        A function that undoes this.
    """
    if hcoverage.CONTEXT_VARIABLE in os.environ:
        return lambda: None
    os.environ[hcoverage.CONTEXT_VARIABLE] = ""

    def undo() -> None:
        os.environ.pop(hcoverage.CONTEXT_VARIABLE, None)

    return undo


def _distributes(config: pytest.Config) -> bool:
    """Return whether pytest-xdist runs the tests in other processes."""
    options = config.known_args_namespace
    # With `-n0` the other options of pytest-xdist mean nothing.
    processes = getattr(options, "numprocesses", None)
    return bool(getattr(options, "tx", None) if processes is None else processes)


class _TestContexts:
    """Makes each test's node id the context of all that runs for it."""

    def __init__(self, *, with_this_process: bool) -> None:
        """Begin, in a session.

        Args:
            with_this_process: Whether we measure this process, too.

        Raises:
            ContextError: The core that measures this process has no contexts.
            OSError: The data directory cannot be written.
        """
        data_dir = Path(os.environ[hcoverage.DATA_DIR_VARIABLE])
        self._contexts = hcoverage.Contexts(data_dir, with_this_process=with_this_process)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(
        self, item: pytest.Item, nextitem: pytest.Item | None
    ) -> Generator[None, object, object]:
        """Attribute all that runs from here to the next test to this test."""
        self._contexts.switch(item.nodeid)
        try:
            return (yield)
        finally:
            if nextitem is None:
                self._contexts.switch("")

    def name_of_test(self) -> str:
        """Return the context of the running test; empty if no test runs."""
        return self._contexts.current

    def end(self) -> None:
        """Stop attributing."""
        self._contexts.end()
