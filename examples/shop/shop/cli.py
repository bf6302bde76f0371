"""The command-line tool: `python -m shop.cli list`, `python -m shop.cli price kettle`."""

import argparse
import json
import sys
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import urlopen

from shop import catalogue


def list_products(_: argparse.Namespace) -> None:
    for product in catalogue.PRODUCTS:
        print(f"{product.name:12}{money(product.cents):>8}")


def price(arguments: argparse.Namespace) -> None:
    query = urlencode(
        {
            "product": arguments.product,
            "quantity": arguments.quantity,
            "country": arguments.country,
        }
    )
    try:
        with urlopen(f"{arguments.url}/price?{query}", timeout=10) as response:  # noqa: S310
            quote = json.load(response)
    except HTTPError as error:
        sys.exit(f"shop: {json.load(error)['error']}")
    except URLError as error:
        sys.exit(f"shop: no service at {arguments.url} ({error.reason}); name it with --url")
    print(f"{money(quote['total'])} ({money(quote['tax'])} of it tax)")


def money(cents: int) -> str:
    return f"{cents / 100:.2f}"


def parser() -> argparse.ArgumentParser:
    shop = argparse.ArgumentParser(prog="shop", description="Ask the shop.")
    commands = shop.add_subparsers(required=True)

    listing = commands.add_parser("list", help="print the catalogue")
    listing.set_defaults(run=list_products)

    pricing = commands.add_parser("price", help="ask the service what an order costs")
    pricing.add_argument("product")
    pricing.add_argument("--quantity", type=int, default=1)
    pricing.add_argument("--country", default="", help="where it goes to, such as de")
    pricing.add_argument("--url", default="http://127.0.0.1:8000", help="the service")
    pricing.set_defaults(run=price)
    return shop


def main() -> None:
    arguments = parser().parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
