"""Lets a session's variables through tox, which clears the environment of what it runs.

tox 4 takes changes of its configuration from TOX_OVERRIDE. Where a project's environment has a
`pass_env` of its own, as `[testenv:NAME]` may, that one is not reached; what runs there is told as
not measured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_VARIABLE: Final = "TOX_OVERRIDE"
# What runs commands, and what builds the package: in `tox.ini` and `setup.cfg`, in `tox.toml`, and
# in `pyproject.toml`.
_SECTIONS: Final = (
    *("testenv", "pkgenv"),
    *("env_run_base", "env_pkg_base"),
    *("tool.tox.env_run_base", "tool.tox.env_pkg_base"),
)


def let_through_tox(environment: Mapping[str, str], inherited: Mapping[str, str]) -> dict[str, str]:
    """Return an environment whose changes tox passes on.

    Args:
        environment: The whole environment of a session's processes.
        inherited: The environment that they would have without us.

    Returns:
        `environment` as it is where the user has a PYTHONPATH, which tox keeps from what it runs.
    """
    if inherited.get("PYTHONPATH"):
        return {**environment}
    ours = [name for name, value in environment.items() if inherited.get(name) != value]
    passed = ",".join(sorted(name for name in ours if name != "PATH"))
    users = filter(None, [inherited.get(_VARIABLE)])
    overrides = [*users, *(f"{section}.pass_env+={passed}" for section in _SECTIONS)]
    return {**environment, _VARIABLE: ";".join(overrides)}
