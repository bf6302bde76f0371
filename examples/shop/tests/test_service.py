"""The service as it is deployed: in a container, asked by the tool, ended by `docker stop`."""

from collections.abc import Callable
from subprocess import CompletedProcess

import pytest

RunShop = Callable[..., CompletedProcess[str]]


@pytest.mark.parametrize(
    ("order", "answer"),
    [
        (["kettle", "--quantity=2", "--country=de"], "92.82 (14.82 of it tax)"),
        (["teapot"], "24.50 (0.00 of it tax)"),
        (["samovar"], "shop: no product 'samovar'"),
        (["teapot", "--quantity=0"], "shop: bad query: cannot sell 0 of anything"),
    ],
)
def test_answers_the_tool(run_shop: RunShop, service: str, order: list[str], answer: str) -> None:
    done = run_shop("price", *order, "--url", service)
    assert done.stdout + done.stderr == f"{answer}\n"
