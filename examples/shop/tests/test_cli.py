"""The tool as users start it: a process of its own."""

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

RunShop = Callable[..., CompletedProcess[str]]


def test_lists_the_catalogue(run_shop: RunShop) -> None:
    done = run_shop("list")
    assert done.returncode == 0
    assert "kettle         39.00\n" in done.stdout


def test_runs_in_any_directory(run_shop: RunShop, tmp_path: Path) -> None:
    assert run_shop("list", cwd=tmp_path).stdout == run_shop("list").stdout


def test_tells_how_to_use_it(run_shop: RunShop) -> None:
    done = run_shop("sell")
    assert done.returncode == 2
    assert "invalid choice: 'sell'" in done.stderr


@pytest.fixture
def nowhere() -> Iterator[str]:
    """The address of a service that is not there: a port that is taken and not listened on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


def test_says_where_it_looked_for_the_service(run_shop: RunShop, nowhere: str) -> None:
    done = run_shop("price", "kettle", "--url", nowhere)
    assert done.returncode == 1
    assert f"no service at {nowhere}" in done.stderr
