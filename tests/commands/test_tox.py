"""A run's variables go through tox; `tests/real/test_environment_managers.py` has tox itself."""

from __future__ import annotations

import pytest

from hcov._commands.tox import let_through_tox

pytestmark = pytest.mark.any_python


def test_what_the_run_changes_is_let_through() -> None:
    inherited = {"PATH": "/bin", "HOME": "/root", "DOCKER_HOST": "unix:///a"}
    environment = {**inherited, "PATH": "/doors:/bin", "DOCKER_HOST": "unix:///b", "NEW": "1"}
    led = let_through_tox(environment, inherited)
    first, *_ = led.pop("TOX_OVERRIDE").split(";")
    assert first == "testenv.pass_env+=DOCKER_HOST,NEW"
    assert led == environment


def test_the_users_own_overrides_stay() -> None:
    inherited = {"TOX_OVERRIDE": "testenv.commands=true"}
    led = let_through_tox({"NEW": "1"}, inherited)
    assert led["TOX_OVERRIDE"].startswith("testenv.commands=true;testenv.pass_env+=NEW;")


def test_a_python_path_of_the_users_is_kept_from_tox_as_before() -> None:
    environment = {"PYTHONPATH": "/ours:/theirs"}
    assert let_through_tox(environment, {"PYTHONPATH": "/theirs"}) == environment
