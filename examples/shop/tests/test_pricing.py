"""The code itself, called in this process."""

import pytest
from shop import catalogue, pricing


@pytest.mark.parametrize(("quantity", "net"), [(1, 2450), (10, 23275), (50, 104125)])
def test_many_are_cheaper(quantity: int, net: int) -> None:
    assert pricing.quote(catalogue.find("teapot"), quantity, "de").net == net


@pytest.mark.parametrize(("product", "tax"), [("kettle", 741), ("cookbook", 126)])
def test_books_are_taxed_less(product: str, tax: int) -> None:
    assert pricing.quote(catalogue.find(product), 1, "de").tax == tax


def test_the_total_includes_the_tax() -> None:
    assert pricing.Quote(net=1000, tax=190).total == 1190


def test_nothing_cannot_be_sold() -> None:
    with pytest.raises(ValueError, match="cannot sell 0"):
        pricing.quote(catalogue.find("kettle"), 0, "de")
