"""Checks a Python that tests may run in: what is well, and what prevents measuring.

Each check takes the facts that `interpreters` found, and touches nothing.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Final

from hcoverage._checkup.finding import Finding, Status
from hcoverage._page import Page

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hcoverage._checkup.interpreters import Interpreter

OLDEST: Final = (3, 8)
_NEW_ENVIRONMENT: Final = "python3 -m venv .venv && .venv/bin/python -m pip install hcoverage"


def check_interpreter(
    interpreter: Interpreter, recorder_since: tuple[int, int] | None
) -> Iterator[Finding]:
    """Check an interpreter.

    Args:
        interpreter: The interpreter.
        recorder_since: The first version with the recorder; None if coverage.py measures all.
    """
    if interpreter.error:
        yield _finding(
            interpreter,
            "version",
            Status.PROBLEM,
            f"it does not run: {interpreter.error}",
            "make the environment anew, or deactivate it",
            Page.PYTHON_BROKEN,
        )
        return
    yield _check_core(interpreter, recorder_since)
    if interpreter.version < OLDEST:
        return
    for check in _CHECKS:
        yield from check(interpreter)


def _check_core(interpreter: Interpreter, recorder_since: tuple[int, int] | None) -> Finding:
    """Check which core would measure it."""
    version = interpreter.version[:2]
    if version < OLDEST:
        return _finding(
            interpreter,
            "core",
            Status.NOTE,
            "Python before 3.8 is not measured",
            "use a newer one",
            Page.PYTHON_TOO_OLD,
        )
    if recorder_since is not None and version >= recorder_since:
        return _finding(interpreter, "core", Status.OK, "the recorder measures it")
    return _finding(interpreter, "core", Status.OK, "coverage.py measures it")


def _check_coverage(interpreter: Interpreter) -> Iterator[Finding]:
    """Check that coverage.py is there, and its version."""
    if interpreter.coverage:
        yield _finding(interpreter, "coverage.py", Status.OK, interpreter.coverage)
    elif interpreter.is_own:
        yield _finding(
            interpreter,
            "coverage.py",
            Status.PROBLEM,
            f"it cannot be imported ({interpreter.coverage_error})",
            _pip_install(interpreter, "coverage"),
            Page.MISSING_COVERAGE,
        )
    else:
        # In Pythons that hcoverage itself supports, the session's own coverage.py serves.
        yield _finding(interpreter, "coverage.py", Status.OK, "none; hcov's own is used")


def _check_hook(interpreter: Interpreter) -> Iterator[Finding]:
    """Check whether our hook is there, or can be written."""
    ours = [hook for hook in interpreter.hooks if hook.kind.startswith("ours")]
    for hook in ours:
        if hook.kind == "ours":
            detail = f"{hook.path}, until `hcov remove`"
            yield _finding(interpreter, "hook", Status.OK, detail)
        elif interpreter.is_held:
            yield _finding(interpreter, "hook", Status.OK, f"{hook.path}, held by a run")
        else:
            yield _finding(
                interpreter,
                "hook",
                Status.NOTE,
                f"{hook.path} is left over from a run that was killed; it does nothing",
                f"{shlex.quote(interpreter.path)} -m hcov remove",
                Page.HOOK_LEFT_OVER,
            )
    if ours:
        return
    if not interpreter.is_own:
        yield _check_without_hook(interpreter)
    elif interpreter.writable_directory is None:
        places = ", ".join(map(str, interpreter.site_directories)) or "any site-packages"
        yield _finding(
            interpreter,
            "hook",
            Status.PROBLEM,
            f"it cannot be written into {places}",
            _NEW_ENVIRONMENT,
            Page.HOOK_PERMISSION,
        )
    else:
        detail = f"for the length of a run, in {interpreter.writable_directory}"
        yield _finding(interpreter, "hook", Status.OK, detail)


def _check_without_hook(interpreter: Interpreter) -> Finding:
    detail = "none; with -I, -E or an empty environment it is not measured"
    if interpreter.is_target:
        return _finding(
            interpreter,
            "hook",
            Status.PROBLEM,
            "hcov is not the one of this environment, which is active: " + detail,
            f"{_pip_install(interpreter, 'hcoverage')}, and run that hcov",
            Page.HOOK_ELSEWHERE,
        )
    return _finding(interpreter, "hook", Status.OK, detail)


def _check_user_directory(interpreter: Interpreter) -> Iterator[Finding]:
    """Check whether the hook goes to a directory that `-I` and `-s` ignore."""
    if interpreter.is_own and str(interpreter.writable_directory) == interpreter.user_directory:
        yield _finding(
            interpreter,
            "user site-packages",
            Status.NOTE,
            "the hook goes there; a Python with -I, -s or another HOME does not read it",
            _NEW_ENVIRONMENT,
            Page.HOOK_OF_USER,
        )


def _check_other_hooks(interpreter: Interpreter) -> Iterator[Finding]:
    """Check whether another file starts coverage.py, or has our hook's place."""
    for hook in interpreter.hooks:
        if hook.kind == "coverage.py's":
            is_in_our_place = hook.path.name == "coverage.pth"
            detail = (
                f"{hook.path.name} is coverage.py's documented line: a run replaces it, and "
                "restores it at its end"
                if is_in_our_place
                else f"{hook.path.name} is coverage.py's own, and no problem"
            )
            if not interpreter.coverage:
                yield _finding(
                    interpreter,
                    "other hooks",
                    Status.NOTE,
                    f"{hook.path} is left over from a coverage.py that is gone",
                    f"rm {shlex.quote(str(hook.path))}",
                    Page.OTHER_HOOK,
                )
            else:
                yield _finding(interpreter, "other hooks", Status.OK, detail)
        elif hook.kind == "other":
            in_the_way = interpreter.is_own and hook.path.name == "coverage.pth"
            yield _finding(
                interpreter,
                "other hooks",
                Status.PROBLEM if in_the_way else Status.NOTE,
                f"{hook.path} was not written by hcoverage"
                + (
                    ", and has the name of hcov's hook"
                    if in_the_way
                    else "; it may start coverage.py too"
                ),
                f"rm {shlex.quote(str(hook.path))}",
                Page.FOREIGN_HOOK if in_the_way else Page.OTHER_HOOK,
            )


_CHECKS: Final[tuple[Callable[[Interpreter], Iterator[Finding]], ...]] = (
    _check_coverage,
    _check_hook,
    _check_user_directory,
    _check_other_hooks,
)


def _finding(  # noqa: PLR0917 - as a Finding has them
    interpreter: Interpreter, check: str, status: Status, detail: str, fix: str = "", slug: str = ""
) -> Finding:
    return Finding(interpreter.name, check, status, detail, fix, slug)


def _pip_install(interpreter: Interpreter, package: str) -> str:
    return f"{shlex.quote(interpreter.path)} -m pip install {package}"
