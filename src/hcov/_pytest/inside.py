"""`pytest --hcov` inside an existing session: it takes part, and begins no session of its own.

This happens under `hcov run`, in pytest-xdist's workers, and in a pytest that a test starts. The
process that began the session merges and reports.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


def join(config: pytest.Config, *, beside_pytest_cov: bool) -> None:
    """Take part in the session around this process.

    Args:
        config: pytest's configuration, as far as it exists yet.
        beside_pytest_cov: Whether pytest-cov measures this process.
    """
    is_worker = "PYTEST_XDIST_WORKER" in os.environ
    if is_worker and beside_pytest_cov:
        import hcoverage  # noqa: PLC0415 - few need it

        hcoverage.leave_this_process()
    if beside_pytest_cov:
        from hcov._pytest.beside_cov import MeasuredByPytestCov  # noqa: PLC0415 - with hcoverage

        config.pluginmanager.register(MeasuredByPytestCov(), "hcov-beside-cov")
    if not is_worker:
        config.pluginmanager.register(_Inside(), "hcov-inside")
    if config.known_args_namespace.hcov_context or config.getini("hcov_context"):
        from hcov._pytest.contexts import begin  # noqa: PLC0415 - with hcoverage

        begin(config, config.add_cleanup, with_this_process=not beside_pytest_cov)


class _Inside:
    """Reports that there is a session around this run."""

    def pytest_report_header(self) -> str:
        """Say why there will be no report."""
        return "hcov: a session is around this run; who began it reports"
