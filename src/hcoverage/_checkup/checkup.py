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
    """What there is to be measured on this machine.

    Attributes:
        project: What a run in the current directory finds.
        interpreters: The Pythons that tests may start.
    """

    project: Project
    interpreters: tuple[Interpreter, ...]

    @property
    def can_start(self) -> bool:
        """Whether there is any point in trying: without coverage.py nothing starts."""
        return any(interpreter.is_own and interpreter.coverage for interpreter in self.interpreters)

    def findings(self) -> Iterator[Finding]:
        """Tell what is well and what is not, as far as looking tells."""
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

    Changes nothing. What keeps a run from being set up is told in the findings, not raised.

    Args:
        coveragerc: The rcfile; without one, what coverage.py finds here.
        data_dir: The data directory; without one, what a run would choose.
        core: `auto`, `recorder` or `coverage`; None for what HCOVERAGE_CORE or the rcfile says.
    """
    # Imported here: most who import hcoverage, such as each merge, do not look around.
    from hcoverage._checkup.interpreters import find_interpreters  # noqa: PLC0415
    from hcoverage._checkup.project import look_at_project  # noqa: PLC0415

    project = look_at_project(coveragerc, data_dir, core)
    return Checkup(project, tuple(find_interpreters()))
