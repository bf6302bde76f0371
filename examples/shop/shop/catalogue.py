"""What the shop sells. Money is in cents throughout, so that nothing is lost to rounding."""

from dataclasses import dataclass


class UnknownProductError(LookupError):
    """The catalogue has no product of that name."""


@dataclass(frozen=True)
class Product:
    name: str
    cents: int
    is_book: bool = False


PRODUCTS = (
    Product("kettle", 3900),
    Product("teapot", 2450),
    Product("cookbook", 1800, is_book=True),
)


def find(name: str) -> Product:
    for product in PRODUCTS:
        if product.name == name:
            return product
    raise UnknownProductError(f"no product {name!r}")
