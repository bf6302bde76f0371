"""The check-up of processes: look at everything that measuring needs, then prove that it works."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from hcoverage._checkup.finding import Finding
    from hcoverage._checkup.interpreters import Interpreter
    from hcoverage._checkup.project import Project


@dataclasses.dataclass(frozen=True)
class Checkup:
    """The facts about measuring on this machine.

    Attributes:
        project: The facts about the current directory.
        interpreters: The Pythons that tests may start.
    """

    project: Project
    interpreters: tuple[Interpreter, ...]

    @property
    def can_start(self) -> bool:
        """Whether a trial run can start at all: it needs coverage.py."""
        return any(interpreter.is_own and interpreter.coverage for interpreter in self.interpreters)

    def findings(self) -> Iterator[Finding]:
        """Yield what is well and what is not, as far as looking shows."""
        from hcoverage._checkup.check_interpreter import check_interpreter  # noqa: PLC0415
        from hcoverage._checkup.check_project import check_project  # noqa: PLC0415

        yield from check_project(self.project)
        choice = self.project.rcfile.choice
        for interpreter in self.interpreters:
            yield from check_interpreter(interpreter, choice.recorder_since if choice else None)


def look_around(
    coveragerc: str | os.PathLike[str] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    core: str | None = None,
) -> Checkup:
    """Look at the project in the current directory, and at the Pythons of this machine.

    It changes nothing. Reasons why a run cannot be set up become findings, not errors.

    Args:
        coveragerc: The rcfile; by default the one that coverage.py finds here.
        data_dir: The data directory; by default the one that a run would choose.
        core: `auto`, `recorder` or `coverage`; None for the value of HCOVERAGE_CORE or the rcfile.
    """
    # Imported here: most importers of hcoverage, such as each merge, need no check-up.
    from hcoverage._checkup.interpreters import find_interpreters  # noqa: PLC0415
    from hcoverage._checkup.project import look_at_project  # noqa: PLC0415

    project = look_at_project(coveragerc, data_dir, core)
    return Checkup(project, tuple(find_interpreters()))
