"""What an order costs: quantity discounts, then the tax of the country it goes to."""

from dataclasses import dataclass

from shop.catalogue import Product

# Least quantity and the per cent off from there on, the best first.
DISCOUNTS = ((50, 15), (10, 5))

# Per cent of tax: on books, on everything else.
TAXES = {"de": (7, 19), "fr": (5, 20), "ch": (3, 8)}


@dataclass(frozen=True)
class Quote:
    net: int
    tax: int

    @property
    def total(self) -> int:
        return self.net + self.tax


def quote(product: Product, quantity: int, country: str) -> Quote:
    if quantity < 1:
        raise ValueError(f"cannot sell {quantity} of anything")
    net = percent(product.cents * quantity, 100 - discount(quantity))
    return Quote(net, percent(net, tax_rate(product, country)))


def discount(quantity: int) -> int:
    for least, off in DISCOUNTS:
        if quantity >= least:
            return off
    return 0


def tax_rate(product: Product, country: str) -> int:
    if country not in TAXES:
        return 0  # an export: taxed where it arrives
    on_books, on_the_rest = TAXES[country]
    return on_books if product.is_book else on_the_rest


def percent(cents: int, rate: int) -> int:
    """Take a percentage, half a cent rounded up."""
    return (cents * rate + 50) // 100
